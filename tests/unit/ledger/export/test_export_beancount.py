"""The beancount file: `bean-check` accepts it, gets the book's balances, and detects changes."""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from beancount import loader
from beancount.core import realization
from beancount.core.data import Balance, Commodity, Open, Transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from gensyn_ray.domain.ids import is_safe_id
from ledger.core import accounts
from ledger.core.events import Moved
from ledger.core.journal import Entry
from ledger.export.beancount import (
    account_of,
    beancount_name,
    beancount_text,
    write_beancount,
)
from ledger.export.postings import postings
from tests.kits.long_history import TWO_YEARS_MS, kit

BEAN_CHECK = Path(sys.executable).with_name("bean-check")
SAFE_IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)

HOSTILE = [
    '"',
    "\\",
    '\\"',
    '\\\\"',
    "\n",
    "\r\n",
    "\t",
    "\x00",
    "\x1b[2J",
    "\u2028\u0085\ufeff",
    "Zürich 😀",
    "; a comment",
    "^link #tag",
    "\n" * 100,
    "x" * 100_000,
    '"\n2023-11-14 open Assets:Mine\n',
    '"\n2023-11-14 * "gift"\n  Assets:Available:Mine  1 CREDIT\n  Equity:External\n',
    '"\nplugin "os"\ninclude "/etc/passwd"\noption "title" "mine"\n;',
    '\\n"\npushtag #mine\n',
]


def bean_check(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "books.beancount"
    path.write_bytes(text.encode())
    command = [BEAN_CHECK, "--no-cache", path]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def problems(text: str) -> list[str]:
    """The errors that beancount finds."""
    _, errors, _ = loader.load_string(text)
    return [error.message for error in errors]


def balances_micro(text: str) -> dict[str, int]:
    """Account -> balance by beancount, without the accounts below it."""
    loaded, errors, _ = loader.load_string(text)
    assert not errors
    found: dict[str, int] = {}
    for real in realization.iter_children(realization.realize(loaded)):
        if real.txn_postings:
            micro = real.balance.get_currency_units("CREDIT").number * 10**6
            assert micro == int(micro)
            found[account_of(real.account)] = int(micro)
    return found


def legs_of(one: Transaction) -> Iterator[tuple[str, int, str, str]]:
    """(account, micro-credits, memo, slot) of each posting of a transaction."""
    for leg in one.postings:
        assert leg.units is not None
        assert leg.units.number is not None
        assert leg.meta is not None
        amount_micro = int(leg.units.number * 10**6)
        yield account_of(leg.account), amount_micro, leg.meta["memo"], leg.meta.get("slot", "")


def moved(*amounts: tuple[str, str, int], memo: str = "test", slot: str = "") -> list[Entry]:
    """The first entry of a journal, with these postings."""
    events = [
        Moved(debit=debit, credit=credit, amount_micro=amount_micro, memo=memo, slot=slot)
        for debit, credit, amount_micro in amounts
    ]
    return [replace(kit().entries[0], events=events)]


# -- whole -----------------------------------------------------------------------------------


def test_bean_check_accepts_the_books(tmp_path: Path) -> None:
    done = bean_check(beancount_text(kit().entries), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_account_has_the_books_balance() -> None:
    ours = kit().balances()
    kinds = {account.split("/")[0] for account in ours}
    assert kinds >= {"external", "available", "stake", "escrow", "holdback", "slashed", "burn"}
    assert ours[accounts.EXTERNAL] < -3 * 10**18
    assert balances_micro(beancount_text(kit().entries)) == ours


def test_every_state_of_the_books_is_accepted() -> None:
    entries = kit().entries
    for size in range(0, len(entries), 5):
        assert problems(beancount_text(entries[:size])) == []


def test_a_file_holds_the_same_text_and_entries_are_read_once(tmp_path: Path) -> None:
    path = tmp_path / "books.beancount"
    write_beancount(iter(kit().entries), path)
    assert path.read_bytes().decode() == beancount_text(kit().entries)


def test_each_entry_that_moves_credits_is_one_transaction() -> None:
    loaded, _, options = loader.load_string(beancount_text(kit().entries))
    transactions = [one for one in loaded if isinstance(one, Transaction)]
    moving = {posting.entry: posting for posting in postings(kit().entries)}
    assert [int(one.meta["entry"]) for one in transactions] == list(moving)
    for one in transactions:
        posting = moving[int(one.meta["entry"])]
        assert (one.payee, one.meta["operation"]) == (posting.signer, posting.operation)
        assert one.date.year == (2025 if posting.time_ms > 1_750_000_000_000 else 2023)
    assert [leg for one in transactions for leg in legs_of(one)] == [
        (account, amount_micro, posting.memo, posting.slot)
        for posting in postings(kit().entries)
        for account, amount_micro in (
            (posting.debit, -posting.amount_micro),
            (posting.credit, posting.amount_micro),
        )
    ]
    assert options["title"] == f"testnet, founded by {kit().journal.genesis}"


def test_days_are_utc_days() -> None:
    gift = moved(("external", "treasury", 1))[0]
    for time_ms, day in [
        (0, "1970-01-01"),
        (1_709_164_799_999, "2024-02-28"),
        (1_709_164_800_000, "2024-02-29"),
    ]:
        text = beancount_text([replace(gift, time_ms=time_ms)])
        assert f"\n{day} * " in text
        assert problems(text) == []


def test_every_account_is_asserted_the_day_after_the_last_entry() -> None:
    late = replace(kit().entries[-1], time_ms=kit().entries[-1].time_ms + TWO_YEARS_MS, events=[])
    for entries, day in [(kit().entries, "2025-11-14"), ([*kit().entries, late], "2027-11-14")]:
        loaded, _, _ = loader.load_string(beancount_text(entries))
        asserted = {one.account: str(one.date) for one in loaded if isinstance(one, Balance)}
        assert asserted == dict.fromkeys(map(beancount_name, kit().balances()), day)


# -- a micro-credit ----------------------------------------------------------------------------


def one_more(text: str, amount: re.Match[str]) -> str:
    """The text with this amount one micro-credit higher."""
    digits = amount[0].replace(".", "")
    raised = f"{int(digits) + 1:07d}"
    return text[: amount.start()] + f"{raised[:-6]}.{raised[-6:]}" + text[amount.end() :]


def test_one_micro_more_on_one_side_is_noticed(tmp_path: Path) -> None:
    text = beancount_text(kit().entries)
    amounts = list(re.finditer(r"(?<=  )\d+\.\d{6}(?= CREDIT)", text))
    assert len(amounts) > 30
    for amount in amounts[::3]:
        assert any("does not balance" in problem for problem in problems(one_more(text, amount)))
    assert bean_check(one_more(text, amounts[-1]), tmp_path).returncode == 1


def test_one_micro_more_on_both_sides_is_noticed(tmp_path: Path) -> None:
    text = beancount_text(kit().entries).replace(" 0.000077 CREDIT", " 0.000078 CREDIT")
    text = text.replace(" -0.000077 CREDIT", " -0.000078 CREDIT")
    found = problems(text)
    assert len(found) == 2
    assert all("0.000001 too" in problem for problem in found)
    assert bean_check(text, tmp_path).returncode == 1


def test_one_micro_more_in_an_assertion_is_noticed(tmp_path: Path) -> None:
    text = beancount_text(kit().entries)
    amounts = list(re.finditer(r"(?<=  )\d+\.\d{6}(?= ~ )", text))
    assert len(amounts) > 10
    for amount in amounts:
        assert len(problems(one_more(text, amount))) == 1
    assert bean_check(one_more(text, amounts[0]), tmp_path).returncode == 1


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "name"),
    [
        ("external", "Equity:External"),
        ("burn", "Expenses:Burn"),
        ("treasury", "Assets:Treasury"),
        ("escrow/sweep-1", "Assets:Escrow:Sweep-1"),
        ("escrow/Sweep-1", "Assets:Escrow:Z53weep-1"),
        ("escrow/zebra", "Assets:Escrow:Z7Aebra"),
        ("escrow/Zebra", "Assets:Escrow:Z5Aebra"),
        ("escrow/Z7Aebra", "Assets:Escrow:Z5A7Aebra"),
        ("holdback/Job_7/0af3", "Assets:Holdback:Z4AobZ5F7:0af3"),
        ("stake/free/a.b_c-Z", "Assets:Stake:Free:AZ2EbZ5Fc-Z5A"),
        ("new/kind/of/account", "Assets:New:Kind:Of:Account"),
    ],
)
def test_names_go_both_ways(account: str, name: str) -> None:
    assert beancount_name(account) == name
    assert account_of(name) == account


@given(st.lists(SAFE_IDS, min_size=1, max_size=4).map("/".join))
def test_any_safe_account_comes_back_from_its_name(account: str) -> None:
    assert all(map(is_safe_id, account.split("/")))
    name = beancount_name(account)
    assert re.fullmatch(r"(Assets|Equity|Expenses)(:[A-Z0-9][A-Za-z0-9-]*)+", name)
    assert account_of(name) == account


@given(st.text(min_size=1))
def test_any_text_comes_back_from_its_name(text: str) -> None:
    name = beancount_name(f"escrow/{text}")
    assert name.isascii()
    assert account_of(name) == f"escrow/{text}"


@given(st.from_regex(r"(Assets|Equity|Expenses)(:[A-Z0-9][A-Za-z0-9-]{0,5}){1,3}", fullmatch=True))
def test_no_two_names_are_one_account(name: str) -> None:
    try:
        account = account_of(name)
    except ValueError:
        return
    assert beancount_name(account) == name


@pytest.mark.parametrize(
    "name",
    ["", "Assets", "Assets:External", "Equity:Treasury", "Assets:a", "Assets:ZFF", "Assets:É"],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"not an account|decode"):
        account_of(name)


@settings(max_examples=50, deadline=None)
@given(st.sets(SAFE_IDS, min_size=1, max_size=20))
def test_beancount_distinguishes_all_ids(ids: Iterable[str]) -> None:
    amounts = [
        (accounts.EXTERNAL, accounts.escrow(one), number) for number, one in enumerate(ids, 1)
    ]
    found = balances_micro(beancount_text(moved(*amounts)))
    del found[accounts.EXTERNAL]
    assert found == {account: amount_micro for _, account, amount_micro in amounts}


def test_an_account_may_lie_below_another() -> None:
    amounts = [
        ("external", "pool", 5),
        ("external", "pool/a", 7),
        ("external", "pool/a/b", 11),
        ("pool", "burn/b", 2),
    ]
    assert balances_micro(beancount_text(moved(*amounts))) == {
        "external": -23,
        "pool": 3,
        "pool/a": 7,
        "pool/a/b": 11,
        "burn/b": 2,
    }


# -- text from users ---------------------------------------------------------------------------


def hostile_books(text: str) -> str:
    """Books in which all text from users is this text."""
    entry = moved(("external", "treasury", 1), memo=text, slot=text)[0]
    header = replace(entry.header, operation=text, network=text)
    return beancount_text([replace(entry, header=header)])


def assert_harmless(text: str) -> None:
    loaded, errors, options = loader.load_string(hostile_books(text))
    assert not errors
    kinds = [type(one) for one in loaded]
    assert sorted(kinds, key=str) == [Balance, Balance, Commodity, Open, Open, Transaction]
    assert options["title"].startswith(f"{text}, founded by ")
    assert (options["include"], options["plugin"]) == ([], [])
    only = next(one for one in loaded if isinstance(one, Transaction))
    assert (only.meta["operation"], only.narration) == (text, text)
    for leg in only.postings:
        assert leg.meta is not None
        assert (leg.meta["memo"], leg.meta.get("slot", "")) == (text, text)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_text(text: str) -> None:
    assert_harmless(text)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.one_of(st.sampled_from('"\\\n\r\t;*'), st.characters(codec="utf-8"))))
def test_any_text_stays_text(text: str) -> None:
    assert_harmless(text)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_on_its_line(text: str) -> None:
    def starts(books: str) -> list[str]:
        return [line[:8] for line in re.split(r"[\r\n]", books)]

    assert starts(hostile_books(text)) == starts(hostile_books("harmless"))


def test_bean_check_accepts_hostile_text(tmp_path: Path) -> None:
    for text in HOSTILE:
        done = bean_check(hostile_books(text), tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
