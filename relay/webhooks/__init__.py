"""Webhooks: programs that are told what becomes of messages, signed, in order and at least once."""
