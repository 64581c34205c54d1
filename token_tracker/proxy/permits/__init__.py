"""Between the gateway and its gate: what a call asks for, what it is granted, and what has become of it."""
