"""Providers that take a whole message over HTTPS, by an API of their own: Microsoft Graph and Gmail."""
