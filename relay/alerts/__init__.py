"""Alerts: who is told when something needs a person, and when that is over."""
