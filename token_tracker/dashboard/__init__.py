"""The page people look at: Dash behind a login, reading through `services`, never over HTTP."""
