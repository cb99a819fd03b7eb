"""Tests of relay/web: mostly with a real browser before a real relay."""
