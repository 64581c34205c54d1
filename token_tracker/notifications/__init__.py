"""Tells people: composes messages, sends them through channels, and drains the outbox."""
