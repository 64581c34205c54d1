"""Token Tracker: a self-hosted gateway for LLM APIs whose books balance."""

__version__ = "0.1.0"
