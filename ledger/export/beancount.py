"""Export of the books as a beancount file, for `bean-check`, `bean-query` and Fava.

    external                          Equity:External
    burn                              Expenses:Burn
    escrow/sweep-1                    Assets:Escrow:Sweep-1
    holdback/Job_7/0af3               Assets:Holdback:Z4AobZ5F7:0af3

Each entry with postings is one transaction, dated by its UTC day, with exact amounts in CREDIT to
six decimals. Each account's balance is asserted on the day after the last entry.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path

from gensyn_ray.domain.money import MICRO_PER_CREDIT
from ledger.core.accounts import Balances
from ledger.core.journal import Entry
from ledger.export.postings import Posting, postings_of

_ROOTS = {"external": "Equity", "burn": "Expenses"}
_OTHER_ROOT = "Assets"
_EPOCH = date(1970, 1, 1)
_MS_PER_DAY = 86_400_000
# A component is a capital letter or a digit, then letters, digits and dashes. `Z` marks escapes.
# The first letter is always made a capital, so a capital in that place is escaped, too.
_ESCAPED = re.compile(r"^[^0-9a-y]|(?<!^)[^0-9A-Ya-z-]")
_ESCAPE = re.compile(r"(?:Z[0-9A-F]{2})+")
_QUOTED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})


def beancount_text(entries: Iterable[Entry]) -> str:
    """A whole journal as beancount text.

    Raises `Overdrawn` if the entries take an account below zero.
    """
    return "".join(_directives(entries))


def write_beancount(entries: Iterable[Entry], path: Path) -> None:
    """Write `beancount_text` to a file, one entry in memory at a time."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(_directives(entries))


def beancount_name(account: str) -> str:
    """The beancount name of an account; different accounts have different names."""
    parts = account.split("/")
    return ":".join([_ROOTS.get(parts[0], _OTHER_ROOT), *map(_raise, parts)])


def account_of(name: str) -> str:
    """The inverse of `beancount_name`. Raises `ValueError` for any other name."""
    account = "/".join(map(_lower, name.split(":")[1:]))
    if beancount_name(account) != name:
        raise ValueError(f"not an account of the ledger: {name!r}")
    return account


def _raise(part: str) -> str:
    escaped = _ESCAPED.sub(lambda found: _escape(found[0]), part)
    return escaped[:1].upper() + escaped[1:]


def _lower(part: str) -> str:
    lowered = part if part.startswith("Z") else part[:1].lower() + part[1:]
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[0].replace("Z", "")).decode(), lowered)


def _escape(character: str) -> str:
    return "".join(f"Z{byte:02X}" for byte in character.encode())


def _directives(entries: Iterable[Entry]) -> Iterator[str]:
    balances = Balances()
    opened: set[str] = set()
    day = _EPOCH
    for entry in entries:
        day = _EPOCH + timedelta(days=entry.time_ms // _MS_PER_DAY)
        if entry.index == 0:
            yield _head(entry, day)
        moved = list(postings_of(entry))
        for posting in moved:
            balances.move(
                debit=posting.debit, credit=posting.credit, amount_micro=posting.amount_micro
            )
            for account in (posting.debit, posting.credit):
                if account not in opened:
                    opened.add(account)
                    yield f"{day} open {beancount_name(account)} CREDIT\n"
        if moved:
            yield _transaction(entry, day, moved)
    with_below_micro = _with_below(balances)
    for account, _ in balances:
        # Without `~ 0` beancount tolerates one unit of the last decimal, which is a micro-credit.
        amount = _credits(with_below_micro[account])
        name = beancount_name(account)
        yield f"{day + timedelta(days=1)} balance {name}  {amount} ~ 0.000000 CREDIT\n"


def _head(entry: Entry, day: date) -> str:
    title = _quoted(f"{entry.header.network}, founded by {entry.envelope.body_hash}")
    return f'option "title" {title}\noption "operating_currency" "CREDIT"\n{day} commodity CREDIT\n'


def _transaction(entry: Entry, day: date, moved: list[Posting]) -> str:
    memos = dict.fromkeys(posting.memo for posting in moved)
    legs = (
        leg
        for posting in moved
        for leg in (
            _leg(posting.debit, -posting.amount_micro, posting),
            _leg(posting.credit, posting.amount_micro, posting),
        )
    )
    return (
        f"\n{day} * {_quoted(entry.header.party)} {_quoted(', '.join(memos))}\n"
        f"  entry: {entry.index}\n"
        f"  time_ms: {entry.time_ms}\n"
        f"  operation: {_quoted(entry.header.operation)}\n"
    ) + "".join(legs)


def _leg(account: str, amount_micro: int, posting: Posting) -> str:
    leg = (
        f"  {beancount_name(account)}  {_credits(amount_micro)} CREDIT\n"
        f"    memo: {_quoted(posting.memo)}\n"
    )
    return leg + (f"    slot: {_quoted(posting.slot)}\n" if posting.slot else "")


def _credits(amount_micro: int) -> str:
    """`-1_500_000` gives `'-1.500000'`. Six decimals, because beancount tolerates half a unit of
    the last one: less than a micro-credit."""
    whole, part = divmod(abs(amount_micro), MICRO_PER_CREDIT)
    return f"{'-' if amount_micro < 0 else ''}{whole}.{part:06d}"


def _quoted(text: str) -> str:
    """A quoted string on one line. Untrusted text cannot end it early."""
    return f'"{text.translate(_QUOTED)}"'


def _with_below(balances: Balances) -> Counter[str]:
    """Micro-credits in each account and its sub-accounts, as beancount's assertions count."""
    sums: Counter[str] = Counter()
    for account, amount_micro in balances:
        parts = account.split("/")
        for depth in range(1, len(parts) + 1):
            sums["/".join(parts[:depth])] += amount_micro
    return sums
