"""The rules: pure values and arithmetic. No I/O, no clock, no framework."""
