"""The flat journal: a whole file verifies, and `verify` detects every change."""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gensyn_ray.domain import canonical, signing
from gensyn_ray.domain.evidence import Verdict
from gensyn_ray.domain.merkle import root_of
from gensyn_ray.domain.signing import Envelope, SigningKey
from ledger.core import accounts
from ledger.core import checkpoint as checkpoints
from ledger.core.checkpoint import Checkpoint
from ledger.core.commands import Bond, CloseJob, Record
from ledger.core.events import Moved
from ledger.core.journal import CorruptJournal, Entry, make_entry, parse_entry
from ledger.core.orders import Order, read
from ledger.export.flat import HEADER, verify, write_flat
from tests.kits.ledger_kit import (
    PRICE_MICRO,
    Kit,
    found,
    key_of,
    kit_with_parties,
    parameters,
    party_of,
    slot_of,
)

KEY = key_of("network")
PUBLIC = KEY.public


def history(kit: Kit) -> Kit:
    """About sixty entries: two jobs, segments, evidence, pay, a slash, a closed job."""
    kit.join("op-cheat", "operator", deposit_micro=300, bond_micro=200)
    kit.open_job("job-1", "task-0", "task-1", "task-2")
    for number in range(5):
        kit.earn("op-a", slot_of("job-1", "task-0", number))
        kit.commit("op-b", slot_of("job-1", "task-1", number))
        kit.accept(
            "verifier",
            "verifier",
            Record(evidence=Verdict(job="job-1", slot=f"{number}", result="ab")),
        )
        kit.settle("job-1", {slot_of("job-1", "task-1", number): number != 3})
    kit.commit("op-cheat", slot_of("job-1", "task-2", 0))
    kit.slash("job-1", "op-cheat", slot_of("job-1", "task-2", 0), slot_of("job-1", "task-1", 4))
    kit.settle("job-1", {slot_of("job-1", "task-2", 0): False})
    kit.accept("submitter", "submitter", CloseJob(job="job-1"))
    kit.open_job("job-2", "task-0")
    kit.earn("op-b", slot_of("job-2", "task-0", 0))
    return kit


@functools.cache
def kit() -> Kit:
    return history(kit_with_parties())


def lines_of(one: Kit) -> list[bytes]:
    return [entry.line for entry in one.entries]


def flat(lines: Sequence[bytes], key: SigningKey = KEY, origin: str = "testnet") -> bytes:
    """The bytes of a flat journal with a checkpoint that `key` signed."""
    head = Checkpoint(origin=origin, size=len(lines), root=root_of(lines))
    body = HEADER + b"".join(line + b"\n" for line in lines) + b"\n"
    return body + checkpoints.sign(head, key).encode()


@functools.cache
def whole() -> bytes:
    return flat(lines_of(kit()))


def with_lines(data: bytes, lines: Sequence[bytes]) -> bytes:
    """The file with other lines and its old checkpoint."""
    _, _, note = data.partition(b"\n\n")
    return HEADER + b"".join(line + b"\n" for line in lines) + b"\n" + note


def head_after(size: int, one: Kit | None = None) -> Checkpoint:
    lines = lines_of(one or kit())[:size]
    return Checkpoint(origin="testnet", size=size, root=root_of(lines))


def assert_corrupt(data: bytes, match: str | None = None, **options: Checkpoint) -> None:
    with pytest.raises(CorruptJournal, match=match):
        verify(data, PUBLIC, **options)


# -- whole -----------------------------------------------------------------------------------


def test_a_whole_journal_verifies_and_gives_the_books_back(tmp_path: Path) -> None:
    path = tmp_path / "journal.flat"
    head = write_flat(iter(lines_of(kit())), KEY, "testnet", path)
    followed: list[Entry] = []
    verified = verify(path.read_bytes(), PUBLIC, follow=followed.append)
    assert verified.head == head
    assert head.size == len(kit().entries) >= 55
    assert verified.entries == kit().entries == followed
    assert dict(verified.journal.book.balances) == kit().balances()
    assert verified.journal.tree.root() == kit().journal.tree.root() == head.root
    assert path.read_bytes() == whole()


def test_a_journal_of_one_entry_verifies() -> None:
    verified = verify(flat(lines_of(kit())[:1]), PUBLIC)
    assert verified.head.size == 1
    assert verified.journal.book.founded is not None


def test_every_earlier_state_of_a_journal_verifies_too() -> None:
    lines = lines_of(kit())
    for size in range(1, len(lines) + 1, 7):
        assert verify(flat(lines[:size]), PUBLIC).head == head_after(size)


def test_a_line_gives_its_entry_back() -> None:
    for entry in kit().entries:
        assert parse_entry(entry.line) == entry


# -- changed bytes ---------------------------------------------------------------------------


def another_digit(byte: int) -> int:
    """A plausible other printable character: a digit for a digit, else a letter."""
    if chr(byte).isdigit():
        return ord("0") + (byte - ord("0") + 1) % 10
    return ord("a") if byte != ord("a") else ord("b")


@pytest.mark.parametrize("change", [lambda byte: byte ^ 1, another_digit], ids=["bit", "character"])
def test_every_fiftieth_byte_counts(change: Callable[[int], int]) -> None:
    data = whole()
    last = [len(data) - 1]
    for at in [*range(0, len(data), 50), *last]:
        assert_corrupt(data[:at] + bytes([change(data[at])]) + data[at + 1 :])


def test_every_byte_of_the_header_and_the_checkpoint_counts() -> None:
    data = whole()
    note = data.index(b"\n\n")
    for at in [*range(len(HEADER)), *range(note, len(data))]:
        for byte in {data[at] ^ 1, data[at] ^ 0x80, another_digit(data[at]), 0, 10, 32}:
            if byte != data[at]:
                assert_corrupt(data[:at] + bytes([byte]) + data[at + 1 :])


def test_nothing_can_be_added_or_taken_away() -> None:
    data = whole()
    note = data.index(b"\n\n")
    places = [0, 5, len(HEADER), len(HEADER) + 40, note, note + 1, note + 2, note + 9, len(data)]
    for at in places:
        for extra in (b"\n", b" ", b"x", b"\r", b"\x00"):
            assert_corrupt(data[:at] + extra + data[at:])
        if at < len(data):
            assert_corrupt(data[:at] + data[at + 1 :])


def test_a_witnesss_line_which_nothing_in_the_file_covers_is_refused() -> None:
    lines, _, note = whole().partition(b"\n\n")
    witness = SigningKey(bytes(32))
    cosigned = checkpoints.cosign(note.decode(), name="w", key=witness, time_s=1)
    assert checkpoints.read(cosigned, PUBLIC), "a note of its own may have such a line"
    assert_corrupt(lines + b"\n\n" + cosigned.encode(), "more than the network's signature")
    unknown = note + "— nobody AAAAAAA=\n".encode()
    assert_corrupt(lines + b"\n\n" + unknown)


@pytest.mark.parametrize("cut", [0, 1, 10, len(HEADER), 500, -200, -100, -2, -1])
def test_a_cut_file_is_noticed(cut: int) -> None:
    assert_corrupt(whole()[:cut])


@pytest.mark.parametrize("data", [b"", b"\n", HEADER, HEADER + b"\n", HEADER + b"\n\n", b"\xff"])
def test_what_is_no_journal_is_refused(data: bytes) -> None:
    assert_corrupt(data)


def test_line_ends_of_another_system_are_refused() -> None:
    assert_corrupt(whole().replace(b"\n", b"\r\n"))


# -- changed lines ---------------------------------------------------------------------------


def test_a_dropped_line_is_noticed() -> None:
    lines = lines_of(kit())
    for at in range(len(lines)):
        assert_corrupt(with_lines(whole(), lines[:at] + lines[at + 1 :]), "counts")


def test_swapped_lines_are_noticed() -> None:
    lines = lines_of(kit())
    for at in range(len(lines) - 1):
        swapped = [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]
        assert_corrupt(with_lines(whole(), swapped), "root")


def test_a_repeated_line_is_noticed() -> None:
    lines = lines_of(kit())
    assert_corrupt(with_lines(whole(), [*lines, lines[-1]]), "counts")
    assert_corrupt(with_lines(whole(), [*lines[:-1], lines[-2]]), "root")


def test_missing_last_lines_are_noticed() -> None:
    lines = lines_of(kit())
    for size in (0, 1, 10, len(lines) - 1):
        assert_corrupt(with_lines(whole(), lines[:size]))


def test_a_line_of_another_network_is_noticed() -> None:
    other = lines_of(history(kit_with_parties(found(parameters=parameters(reserve_micro=99)))))
    mine = lines_of(kit())
    assert len(other) == len(mine)
    for at in (0, 1, 20, len(mine) - 1):
        assert mine[at] != other[at]
        assert_corrupt(with_lines(whole(), [*mine[:at], other[at], *mine[at + 1 :]]), "root")


def test_a_checkpoint_of_another_journal_is_noticed() -> None:
    lines = lines_of(kit())
    _, _, note = flat(lines[:-1]).partition(b"\n\n")
    data, _, _ = whole().partition(b"\n\n")
    assert_corrupt(data + b"\n\n" + note, "counts")


# -- changed amounts -------------------------------------------------------------------------


def with_another_amount(lines: Sequence[bytes]) -> list[bytes]:
    """The journal with the last payment ten times as high."""
    changed = list(lines)
    at = max(index for index, line in enumerate(lines) if b'"memo":"earn"' in line)
    old, new = (f'"amount_micro":"{amount}"'.encode() for amount in (PRICE_MICRO, 100))
    assert old in changed[at]
    changed[at] = changed[at].replace(old, new)
    return changed


def test_another_amount_is_noticed() -> None:
    assert_corrupt(with_lines(whole(), with_another_amount(lines_of(kit()))), "root")


def test_another_amount_under_its_own_root_lacks_the_networks_signature() -> None:
    changed = with_another_amount(lines_of(kit()))
    old, new = (signing.to_base64(root_of(lines)) for lines in (lines_of(kit()), changed))
    data = with_lines(whole(), changed).replace(old.encode(), new.encode())
    assert new.encode() in data
    assert_corrupt(data, "signature does not hold")


def test_another_amount_under_another_keys_checkpoint_is_noticed() -> None:
    forger = key_of("forger")
    data = flat(with_another_amount(lines_of(kit())), forger)
    assert_corrupt(data, "signed by another key")


def test_not_even_the_network_itself_can_change_an_amount() -> None:
    assert_corrupt(flat(with_another_amount(lines_of(kit()))), "are not those of its command")


# -- a network that rewrites its own journal, and signs it -----------------------------------


def order_of(envelope: Envelope) -> Order:
    order = read(envelope)
    assert isinstance(order, Order)
    return order


def rewritten(at: int, change: Callable[[Entry], Entry]) -> bytes:
    entries = [*kit().entries]
    entries[at] = change(entries[at])
    return flat([entry.line for entry in entries])


def test_a_network_cannot_drop_an_entry() -> None:
    lines = lines_of(kit())
    for at in range(0, len(lines) - 1, 3):
        assert_corrupt(flat(lines[:at] + lines[at + 1 :]))


def test_a_network_cannot_reorder_entries() -> None:
    lines = lines_of(kit())
    for at in range(0, len(lines) - 1, 3):
        assert_corrupt(flat([*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]))


def test_a_network_cannot_journal_a_command_twice() -> None:
    entries = kit().entries
    last = entries[-1]
    again = make_entry(len(entries), last.time_ms, order_of(last.envelope), last.events)
    assert_corrupt(flat([*lines_of(kit()), again.line]))


def test_a_network_cannot_forge_commands_of_others() -> None:
    def forge(entry: Entry) -> Entry:
        body = canonical.decode(entry.envelope.body)
        data = canonical.encode({**body, "nonce": "another"})
        envelope = Envelope(body=data, signature=KEY.sign(signing.COMMAND, data))
        order = replace(order_of(entry.envelope), envelope=envelope)
        return make_entry(entry.index, entry.time_ms, order, entry.events)

    for at, entry in list(enumerate(kit().entries))[::5]:
        if f'"key":"{PUBLIC.hex()}"'.encode() not in entry.envelope.body:
            assert_corrupt(rewritten(at, forge), "should have been refused: bad signature")


def test_a_network_cannot_add_a_payment_to_an_entry() -> None:
    gift = Moved(
        debit=accounts.EXTERNAL,
        credit=accounts.available(party_of("op-a")),
        amount_micro=1,
        memo="gift",
    )

    def give(entry: Entry) -> Entry:
        order = order_of(entry.envelope)
        return make_entry(entry.index, entry.time_ms, order, [*entry.events, gift])

    for at in range(0, len(kit().entries), 6):
        assert_corrupt(rewritten(at, give), "are not those of its command")


def test_a_network_cannot_leave_out_events() -> None:
    def hush(entry: Entry) -> Entry:
        order = order_of(entry.envelope)
        return make_entry(entry.index, entry.time_ms, order, entry.events[:-1])

    for at in range(0, len(kit().entries), 6):
        assert_corrupt(rewritten(at, hush), "are not those of its command")


def test_a_network_cannot_accept_a_command_that_must_be_refused() -> None:
    one = kit_with_parties()
    envelope = one.sign("op-a", "operator", Bond(amount_micro=10**6))
    moved = Moved(
        debit=accounts.available(party_of("op-a")),
        credit=accounts.free_stake(party_of("op-a")),
        amount_micro=10**6,
        memo="bond",
    )
    entry = make_entry(len(one.entries), one.clock(), order_of(envelope), [moved])
    assert_corrupt(flat([*lines_of(one), entry.line]), "insufficient funds")


def test_a_network_cannot_accept_a_command_after_its_expiry() -> None:
    def late(entry: Entry) -> Entry:
        order = order_of(entry.envelope)
        return make_entry(entry.index, entry.time_ms + 10**6, order, entry.events)

    assert_corrupt(rewritten(5, late), "expired")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"5",
        b"null",
        b'{"envelope":{},"events":[],"index":1,"time_ms":1}',
        b'{"envelope":{"body":"","signature":""},"events":5,"index":1,"time_ms":1}',
        b'{"envelope":{"body":"","signature":""},"events":[5],"index":1,"time_ms":1}',
        b'{"envelope":{"body":"","signature":""},"events":[{}],"index":1,"time_ms":1}',
        b'{"envelope":{"body":"","signature":""},"events":[],"index":1,"time_ms":1}',
        b'{"envelope":{"body":"","signature":""},"events":[],"index":1,"more":1,"time_ms":1}',
    ],
)
def test_a_network_cannot_write_an_invalid_entry(line: bytes) -> None:
    assert_corrupt(flat([lines_of(kit())[0], line]))


def test_a_network_cannot_sign_for_another_name() -> None:
    assert_corrupt(flat(lines_of(kit()), origin="mainnet"), "another network")


def test_a_network_cannot_begin_without_its_founding() -> None:
    assert_corrupt(flat(lines_of(kit())[1:]), "wrong network")


# -- keys ------------------------------------------------------------------------------------


def test_another_key_than_the_pinned_one_does_not_verify() -> None:
    for key in (key_of("forger").public, bytes(32), b"", PUBLIC[:-1]):
        with pytest.raises(CorruptJournal, match="signed by another key"):
            verify(whole(), key)


def test_a_network_that_another_key_founded_is_not_this_one() -> None:
    forger = key_of("forger")
    with pytest.raises(CorruptJournal, match="founded by another key"):
        verify(flat(lines_of(kit()), forger), forger.public)


# -- remembered checkpoints ------------------------------------------------------------------


def test_a_journal_that_grew_from_the_remembered_one_verifies() -> None:
    for size in (0, 1, 17, len(kit().entries)):
        assert verify(whole(), PUBLIC, since=head_after(size)).head.size == len(kit().entries)


def test_a_rolled_back_journal_is_whole_but_not_new_enough() -> None:
    older = flat(lines_of(kit())[:40])
    assert verify(older, PUBLIC).head.size == 40
    assert_corrupt(older, "rolled back", since=head_after(41))
    assert_corrupt(older, "rolled back", since=head_after(len(kit().entries)))
    assert verify(older, PUBLIC, since=head_after(40)).head.size == 40


def test_a_forked_journal_is_whole_but_of_another_past() -> None:
    fork = history(kit_with_parties())
    seen = head_after(len(fork.entries), fork)
    assert verify(whole(), PUBLIC, since=seen).head == seen
    fork.accept("op-a", "operator", Bond(amount_micro=1))
    mine = kit_with_parties()
    history(mine).accept("op-a", "operator", Bond(amount_micro=2))
    data = flat(lines_of(mine))
    assert verify(data, PUBLIC, since=seen).head.size == seen.size + 1
    assert_corrupt(
        data, "does not continue the remembered", since=head_after(len(fork.entries), fork)
    )


def test_a_fork_is_noticed_however_much_was_added_since() -> None:
    one, two = kit_with_parties(), kit_with_parties()
    one.accept("op-a", "operator", Bond(amount_micro=1))
    two.accept("op-a", "operator", Bond(amount_micro=2))
    seen = head_after(len(one.entries), one)
    data = flat(lines_of(history(two)))
    assert verify(data, PUBLIC).head.size > seen.size
    assert_corrupt(data, "does not continue the remembered", since=seen)


# -- the checkpoint itself -------------------------------------------------------------------


def test_a_checkpoint_is_a_signed_note() -> None:
    head = Checkpoint(origin="testnet", size=3, root=b"r" * 32)
    note = checkpoints.sign(head, KEY)
    assert checkpoints.read(note, PUBLIC) == head
    assert re.fullmatch(r"testnet\n3\n[A-Za-z0-9+/]{43}=\n\n— testnet [A-Za-z0-9+/]{91}=\n", note)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n3\n", "\n03\n"),
        ("\n3\n", "\n+3\n"),
        ("\n3\n", "\n 3\n"),
        ("\n3\n", "\n٣\n"),
        ("\n3\n", "\n4\n"),
        ("testnet\n", "mainnet\n"),
        ("— testnet", "— mainnet"),
        ("— ", "- "),
        ("\n\n", "\n\n\n"),
        ("\n\n", "\n"),
        ("=\n\n", "\n\n"),
    ],
)
def test_a_checkpoint_that_is_written_otherwise_is_refused(old: str, new: str) -> None:
    note = checkpoints.sign(Checkpoint(origin="testnet", size=3, root=b"r" * 32), KEY)
    assert old in note
    with pytest.raises(ValueError, match="checkpoint"):
        checkpoints.read(note.replace(old, new, 1), PUBLIC)
