"""Integer money.

One credit is 1,000,000 micro-credits. Everything in the books is a whole number of micro-credits;
names of amounts end in `_micro`. Only people see credits, and only as text.
"""

MICRO_PER_CREDIT = 1_000_000
MAX_MICRO = 10**18
"""No single amount exceeds this, so sums of millions of amounts stay far from overflow anywhere."""


def format_credits(amount_micro: int) -> str:
    """`1_500_000` -> `'1.5'`; exact, for people."""
    sign = "-" if amount_micro < 0 else ""
    whole, part = divmod(abs(amount_micro), MICRO_PER_CREDIT)
    fraction = f"{part:06d}".rstrip("0")
    return f"{sign}{whole:,}" + (f".{fraction}" if fraction else "")
