"""The gate: admits a call if every limit and budget that counts it has room for its worst case, or refuses it."""
