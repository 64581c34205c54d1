"""The books: what a gateway worker writes down, and how it gets into the ledger.

`journal`, `records`, `framing`, `segments`, `snapshot` and `status` know no database: gateways import them.
"""
