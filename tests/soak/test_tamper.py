"""Changes of a flat journal of 2,000 entries: `verify` finds each of them.

A check of the whole file for each of two million bytes would take days. `verify` accepts a file
only if the Merkle root of its lines is the signed one. So it finds a changed byte in a line exactly
if the changed line is not in the tree, which is tested for every byte. Tests on whole files show
that `verify` compares the root and covers all bytes outside the lines.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gensyn_ray.domain.merkle import MerkleTree, verify_inclusion
from ledger.core import checkpoint
from ledger.core.checkpoint import Checkpoint
from ledger.core.commands import Bond, CloseJob, Unbond, Withdraw
from ledger.core.journal import CorruptJournal
from ledger.export.flat import HEADER, verify, write_flat
from tests.kits.amounts import soak_or_proof
from tests.kits.ledger_kit import NETWORK, Kit, key_of, kit_with_parties, slot_of

ENTRIES = soak_or_proof(soak=500, proof=2_000)
KEY = key_of("network")


def history(entries: int, seed: int) -> list[bytes]:
    """Lines of a network with many kinds of events."""
    chance = random.Random(seed)
    kit = kit_with_parties()
    number = 0
    while len(kit.entries) < entries:
        number += 1
        _one_thing(kit, chance, number)
    return [entry.line for entry in kit.entries[:entries]]


def _one_thing(kit: Kit, chance: random.Random, number: int) -> None:
    kit.clock.advance(chance.randint(0, 5))
    if chance.random() < 0.02:
        job = f"job-{number}"
        kit.open_job(job, "task-0", budget_micro=50)
        for segment in range(3):
            kit.earn("op-a", slot_of(job, "task-0", segment))
        kit.accept("driver", "driver", CloseJob(job=job))
        return
    command = chance.choice([Bond, Unbond, Withdraw])(amount_micro=1)
    kit.send(chance.choice(["op-a", "op-b"]), "operator", command)


@dataclass(frozen=True)
class Flat:
    """The parts of a flat journal."""

    lines: list[bytes]
    note: str

    def bytes(self) -> bytes:
        return HEADER + b"".join(line + b"\n" for line in self.lines) + b"\n" + self.note.encode()


def flat_of(lines: list[bytes], folder: Path) -> Flat:
    """The parts of a journal that the export wrote."""
    path = folder / "flat"
    write_flat(lines, KEY, NETWORK, path)
    note = path.read_bytes().rpartition(b"\n\n")[0].rpartition(b"\n\n")[2]
    flat = Flat(lines, path.read_text().partition("\n\n")[2])
    assert note
    assert flat.bytes() == path.read_bytes()
    return flat


@pytest.fixture(scope="module", params=ENTRIES)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Flat:
    flat = flat_of(history(request.param, seed=1), tmp_path_factory.mktemp("flat"))
    assert verify(flat.bytes(), KEY.public).head.size == request.param
    return flat


def is_found(data: bytes, since: Checkpoint | None = None) -> bool:
    try:
        verify(data, KEY.public, since=since)
    except CorruptJournal:
        return True
    return False


def head_of(lines: list[bytes]) -> Checkpoint:
    tree = MerkleTree()
    for line in lines:
        tree.append(line)
    return Checkpoint(origin=NETWORK, size=len(lines), root=tree.root())


def test_a_change_of_any_byte_of_any_entry_is_found(whole: Flat) -> None:
    chance = random.Random(2)
    tree = MerkleTree()
    for line in whole.lines:
        tree.append(line)
    tried = 0
    for index, line in enumerate(whole.lines):
        proof = tree.inclusion_proof(index)

        def holds(leaf: bytes, index: int = index, proof: list[bytes] = proof) -> bool:
            return verify_inclusion(
                leaf=leaf, index=index, size=len(whole.lines), proof=proof, root=tree.root()
            )

        assert holds(line)
        changed = bytearray(line)
        for at in range(len(line)):
            changed[at] ^= chance.randint(1, 255)
            assert not holds(bytes(changed)), (index, at)
            changed[at] = line[at]
            tried += 1
    print(f"{tried} bytes changed, {tried} found")


def test_a_changed_byte_makes_the_whole_file_fail(whole: Flat) -> None:
    """Changes one random byte of each entry, and each byte outside of entries."""
    chance = random.Random(3)
    data = whole.bytes()
    outside = [*range(len(HEADER)), *range(len(data) - len(whole.note.encode()) - 1, len(data))]
    inside: list[int] = []
    at = len(HEADER)
    for line in whole.lines:
        inside.append(at + chance.randrange(len(line) + 1))
        at += len(line) + 1
    for position in (*outside, *inside):
        changed = bytearray(data)
        changed[position] ^= chance.randint(1, 255)
        assert is_found(bytes(changed)), position


def other_lines(lines: list[bytes], chance: random.Random) -> Iterator[list[bytes]]:
    """The entries with some dropped, repeated, reordered or cut off."""
    for _ in range(200):
        at, other = sorted(chance.sample(range(len(lines)), 2))
        yield lines[:at] + lines[at + 1 :]
        yield lines[:at] + lines[other:]
        yield [*lines[:at], lines[at], *lines[at:]]
        yield [*lines[:at], lines[other], *lines[at + 1 : other], lines[at], *lines[other + 1 :]]
        yield lines[:at]
        yield [*lines, lines[at]]


def test_entries_dropped_repeated_reordered_or_cut_off_are_found(whole: Flat) -> None:
    for lines in other_lines(whole.lines, random.Random(4)):
        assert is_found(Flat(lines, whole.note).bytes())


def test_bytes_cut_off_or_added_anywhere_are_found(whole: Flat) -> None:
    chance, data = random.Random(5), whole.bytes()
    for _ in range(300):
        at = chance.randrange(len(data))
        assert is_found(data[:at])
        assert is_found(data[:at] + chance.randbytes(chance.randint(1, 9)) + data[at:])
    assert is_found(data + b"\n")
    assert is_found(b"")


def test_a_splice_from_another_journal_of_the_same_key_is_found(
    whole: Flat, tmp_path: Path
) -> None:
    other = flat_of(history(len(whole.lines), seed=7), tmp_path)
    for at in range(100, len(whole.lines), 97):
        spliced = whole.lines[:at] + other.lines[at:]
        assert spliced not in (whole.lines, other.lines)
        assert is_found(Flat(spliced, whole.note).bytes())
        assert is_found(Flat(spliced, other.note).bytes())


@pytest.mark.parametrize(
    "forge",
    [
        lambda lines: lines[:-1],
        lambda lines: lines[: len(lines) // 2] + lines[len(lines) // 2 + 1 :],
        lambda lines: lines[:400] + lines[401:402] + lines[400:401] + lines[402:],
        lambda lines: lines + lines[-1:],
        lambda lines: lines[:350],
    ],
    ids=["last dropped", "one dropped", "two swapped", "one repeated", "rolled back"],
)
def test_the_network_cannot_sign_a_different_history(
    whole: Flat, tmp_path: Path, forge: Callable[[list[bytes]], list[bytes]]
) -> None:
    """The file has the true key. The decisions in it or a remembered head show the forgery."""
    forged = flat_of(forge(whole.lines), tmp_path)
    assert is_found(forged.bytes(), since=head_of(whole.lines))


def test_an_old_backup_is_whole_and_found_by_any_later_head(whole: Flat, tmp_path: Path) -> None:
    for size in range(100, len(whole.lines), 211):
        backup = flat_of(whole.lines[:size], tmp_path)
        assert not is_found(backup.bytes())
        assert is_found(backup.bytes(), since=head_of(whole.lines[: size + 1]))


def test_a_fork_is_found_by_a_head_of_the_other_branch(whole: Flat, tmp_path: Path) -> None:
    for seed in range(20, 25):
        fork = flat_of(history(len(whole.lines), seed=seed), tmp_path)
        assert not is_found(fork.bytes())
        assert is_found(fork.bytes(), since=head_of(whole.lines[: 3 * len(whole.lines) // 4]))


def test_a_file_signed_by_another_key_is_found(whole: Flat) -> None:
    thief = key_of("thief")
    note = checkpoint.sign(head_of(whole.lines), thief)
    assert is_found(Flat(whole.lines, note).bytes())
    with pytest.raises(CorruptJournal):
        verify(Flat(whole.lines, note).bytes(), thief.public)
