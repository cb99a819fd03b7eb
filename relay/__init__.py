"""Relay: the local SMTP submission service that lets every channel and agent of a company send as itself."""

__version__ = "0.1.0"
