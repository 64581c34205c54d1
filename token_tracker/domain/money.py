"""Money is integers: whole nano-US-dollars, and decimal strings with nine places outside."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

NANO_PER_USD = 1_000_000_000


def to_nano_usd(usd: Decimal) -> int:
    """Whole nano-dollars, rounded half to even; the only place where an amount is rounded."""
    return int((usd * NANO_PER_USD).to_integral_value(rounding=ROUND_HALF_EVEN))


def format_usd(nano_usd: int) -> str:
    """`'1.234567890'`: the contract's form of an amount, exact, always nine places."""
    sign = "-" if nano_usd < 0 else ""
    whole, nano = divmod(abs(nano_usd), NANO_PER_USD)
    return f"{sign}{whole}.{nano:09d}"
