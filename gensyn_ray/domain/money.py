"""Amounts of money as integers.

One credit is 1,000,000 micro-credits. The books hold only whole micro-credits; names of amounts end
in `_micro`. Credits appear only as text for people.
"""

MICRO_PER_CREDIT = 1_000_000
MAX_MICRO = 10**18
"""The largest single amount in micro-credits."""


def format_credits(amount_micro: int) -> str:
    """Micro-credits as exact text in credits: `1_500_000` gives `'1.5'`."""
    sign = "-" if amount_micro < 0 else ""
    whole, part = divmod(abs(amount_micro), MICRO_PER_CREDIT)
    fraction = f"{part:06d}".rstrip("0")
    return f"{sign}{whole:,}" + (f".{fraction}" if fraction else "")
