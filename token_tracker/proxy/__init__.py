"""The gateway: admits, forwards and meters calls; never opens a database, never imports LiteLLM in its own process."""
