"""Cosigned checkpoints and the witness, which cosigns only logs that continue the seen one."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import replace

import nacl.signing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gensyn_ray.domain import signing
from gensyn_ray.domain.merkle import EMPTY_ROOT, MerkleTree
from gensyn_ray.domain.signing import SigningKey
from ledger.core import checkpoint
from ledger.core.checkpoint import Checkpoint
from ledger.core.witness import Cosigned, Refusal, Witness


def key_of(name: str) -> SigningKey:
    return SigningKey(hashlib.sha256(name.encode()).digest())


NETWORK = key_of("network")
ALICE, BOB = key_of("alice"), key_of("bob")
WITNESSES = {"alice.example/w": ALICE.public, "bob.example/w": BOB.public}
NOW_S = 1_700_000_000

# A head of a public log, its witnesses' cosignatures, and the published key of one witness.
PUBLIC_NOTE = """\
arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3\
urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI7\
5MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcq\
oXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u\
5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5\
XeU/zZ0WBxtqB0DrAWfBw==
— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TU\
FucgKi7lI7cUiOvKFYe/TmN9DAg==
"""
REMORA = base64.b64decode("BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2")[1:]


def tree_of(count: int, fork_at: int | None = None) -> MerkleTree:
    tree = MerkleTree()
    for number in range(count):
        tree.append(b"forked" if number == fork_at else b"entry %d" % number)
    return tree


LOG = tree_of(100)
FORK = tree_of(100, fork_at=3)


def head_of(size: int, tree: MerkleTree = LOG, origin: str = "testnet") -> Checkpoint:
    return Checkpoint(origin=origin, size=size, root=tree.root_at(size))


def note_of(size: int, tree: MerkleTree = LOG, key: SigningKey = NETWORK) -> str:
    return checkpoint.sign(head_of(size, tree), key)


def note_by(*names: str, size: int = 3) -> str:
    """A note cosigned by these witnesses, one second apart."""
    note = note_of(size)
    for later, name in enumerate(names):
        note = checkpoint.cosign(note, name=f"{name}.example/w", key=key_of(name), time_s=1 + later)
    return note


def alice(seen: Checkpoint | None = None) -> Witness:
    return Witness(name="alice.example/w", key=ALICE, network_key=NETWORK.public, seen=seen)


def cosigned(witness: Witness, note: str, proof: Sequence[bytes] = (), now_s: int = NOW_S) -> str:
    """The cosigned note. The witness must cosign."""
    answer = witness.cosign(note, proof, now_s)
    assert isinstance(answer, Cosigned)
    assert answer.seen == checkpoint.read(note, NETWORK.public)
    return answer.note


def changed(data: bytes, at: int) -> list[bytes]:
    """Copies of the data with another byte at one place."""
    others = {data[at] ^ 1, data[at] ^ 0x80, ord("A"), ord("0"), ord("\n"), ord(" ")} - {data[at]}
    return [data[:at] + bytes([other]) + data[at + 1 :] for other in others]


# -- the text of a cosigned checkpoint -------------------------------------------------------


def test_a_cosignature_is_what_c2sp_says() -> None:
    head = head_of(3)
    note = note_by("alice")
    first, second = note.removeprefix(head.text() + "\n").splitlines()
    assert note_of(3).endswith(f"\n{first}\n")
    dash, name, blob_text = second.split(" ")
    blob = base64.b64decode(blob_text)
    assert (dash, name, len(blob)) == ("—", "alice.example/w", 4 + 8 + 64)
    key_id = hashlib.sha256(b"alice.example/w\n\x04" + ALICE.public).digest()[:4]
    assert blob[:12] == key_id + b"\0\0\0\0\0\0\0\x01"
    message = b"cosignature/v1\ntime 1\n" + head.text().encode()
    assert nacl.signing.VerifyKey(ALICE.public).verify(message, blob[12:]) == message


def test_a_cosignature_of_a_public_witness_holds() -> None:
    found = checkpoint.cosigners(PUBLIC_NOTE, {"remora.n621.de": REMORA, **WITNESSES})
    assert found == {"remora.n621.de": 0x6A122120}
    forged = PUBLIC_NOTE.replace("1432088532", "1432088533")
    with pytest.raises(ValueError, match=r"remora\.n621\.de under the checkpoint does not hold"):
        checkpoint.cosigners(forged, {"remora.n621.de": REMORA})


def test_a_note_is_read_with_signatures_of_others() -> None:
    for names in [(), ("alice",), ("bob", "alice"), ("carol", "alice", "dave", "bob")]:
        note = note_by(*names)
        assert checkpoint.read(note, NETWORK.public) == head_of(3)
        known = [name for name in names if name in ("alice", "bob")]
        assert checkpoint.cosigners(note, WITNESSES) == {
            f"{name}.example/w": 1 + names.index(name) for name in known
        }
        assert checkpoint.cosigners(note, {}) == {}


def test_a_witness_that_cosigns_again_has_one_line_with_the_later_time() -> None:
    note = checkpoint.cosign(
        note_by("alice", "bob"), name="alice.example/w", key=ALICE, time_s=NOW_S
    )
    assert note.count("alice.example/w") == 1
    assert checkpoint.cosigners(note, WITNESSES) == {"alice.example/w": NOW_S, "bob.example/w": 2}


def test_a_key_counts_under_its_own_name_and_kind_alone() -> None:
    note = note_by("alice")
    for others in [
        {"alice.example/w": BOB.public},
        {"alice.example/v": ALICE.public},
        {"testnet": NETWORK.public},
        {"alice.example/w": b""},
    ]:
        assert checkpoint.cosigners(note, others) == {}
    own = checkpoint.cosign(note_of(3), name="testnet", key=NETWORK, time_s=5)
    assert checkpoint.cosigners(own, {"testnet": NETWORK.public}) == {"testnet": 5}
    assert checkpoint.read(own, NETWORK.public) == head_of(3)


def test_no_key_counts_twice() -> None:
    twice = checkpoint.cosign(note_by("alice"), name="bob.example/w", key=ALICE, time_s=1)
    both = {"alice.example/w": ALICE.public, "bob.example/w": ALICE.public}
    with pytest.raises(ValueError, match="two witnesses have one key"):
        checkpoint.cosigners(twice, both)


def test_a_cosignature_that_does_not_hold_is_refused() -> None:
    line = note_by("alice", size=4).splitlines()[-1]
    with pytest.raises(ValueError, match="does not hold"):
        checkpoint.cosigners(note_of(3) + line + "\n", WITNESSES)
    key_id = hashlib.sha256(b"alice.example/w\n\x04" + ALICE.public).digest()[:4]
    for rest in (b"\0", bytes(8), bytes(72), bytes(73), b"\xff" * 72):
        text = signing.to_base64(key_id + rest)
        with pytest.raises(ValueError, match="does not hold"):
            checkpoint.cosigners(f"{note_of(3)}— alice.example/w {text}\n", WITNESSES)


@pytest.mark.parametrize("time_s", [0, 1, 2**32, 2**63 - 1])
def test_a_cosignature_carries_any_time_that_it_can_have(time_s: int) -> None:
    note = checkpoint.cosign(note_of(3), name="alice.example/w", key=ALICE, time_s=time_s)
    assert checkpoint.cosigners(note, WITNESSES) == {"alice.example/w": time_s}


def test_a_time_that_no_cosignature_can_have_is_refused_even_if_it_is_signed() -> None:
    for time_s in (-1, 2**63):
        with pytest.raises(ValueError, match="no time"):
            checkpoint.cosign(note_of(3), name="alice.example/w", key=ALICE, time_s=time_s)
    time_s = 2**63
    body = f"time {time_s}\n{head_of(3).text()}".encode()
    key_id = hashlib.sha256(b"alice.example/w\n\x04" + ALICE.public).digest()[:4]
    blob = key_id + time_s.to_bytes(8, "big") + ALICE.sign(b"cosignature/v1\n", body)
    with pytest.raises(ValueError, match="does not hold"):
        checkpoint.cosigners(
            f"{note_of(3)}— alice.example/w {signing.to_base64(blob)}\n", WITNESSES
        )


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u00a0b", "a\x01b", "a\ud800", " a"])
def test_a_name_that_no_key_can_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a key"):
        checkpoint.cosign(note_of(3), name=name, key=ALICE, time_s=1)
    with pytest.raises(ValueError, match="checkpoint"):
        checkpoint.read(f"{note_of(3)}— {name} AAAAAAA=\n", NETWORK.public)


@pytest.mark.parametrize(
    "line",
    [
        "\n",
        "— carol\n",
        "— carol AAAAAAA=",
        "- carol AAAAAAA=\n",
        "—  carol AAAAAAA=\n",
        "— carol  AAAAAAA=\n",
        "— carol AAAAAAA= \n",
        "— carol AAAAAAA=\r\n",
        "— carol AAAAAAA\n",
        "— carol AAAAAAB=\n",
        "— carol AAAA_AA=\n",
        "— carol AAAAAA==\n",
        "— carol \n",
        "— carol AAAAAAA=\n\n",
        "— carol AAAAAAA=\n— carol AAAAAAA=\n",
        "— carol AAAAAAA=\n— carol AAAAAAE=\n",
    ],
)
def test_a_line_that_is_written_otherwise_is_refused(line: str) -> None:
    note = note_of(3) + "— carol AAAAAAA=\n"
    assert checkpoint.read(note, NETWORK.public) == head_of(3)
    with pytest.raises(ValueError, match="checkpoint"):
        checkpoint.read(note_of(3) + line, NETWORK.public)


def test_the_networks_signature_is_the_first_line() -> None:
    own, other = note_by("alice").splitlines()[-2:]
    text = head_of(3).text()
    for lines in ([other, own], [other], [own, own], []):
        with pytest.raises(ValueError, match="checkpoint"):
            checkpoint.read(text + "\n" + "".join(f"{line}\n" for line in lines), NETWORK.public)


@pytest.mark.parametrize(("size", "root"), [(-1, bytes(32)), (3, b""), (3, bytes(31))])
def test_what_is_no_tree_head_is_refused_though_the_network_signed_it(
    size: int, root: bytes
) -> None:
    note = checkpoint.sign(Checkpoint(origin="testnet", size=size, root=root), NETWORK)
    with pytest.raises(ValueError, match="not a signed checkpoint"):
        checkpoint.read(note, NETWORK.public)


def test_every_byte_of_the_networks_part_counts() -> None:
    data = note_by("alice", "bob").encode()
    for at in range(len(note_of(3).encode())):
        for one in changed(data, at):
            with pytest.raises(ValueError):  # noqa: PT011  (also where it is no text any more)
                checkpoint.read(one.decode(), NETWORK.public)


def test_no_changed_byte_makes_another_cosignature() -> None:
    """The note is refused, or the changed witness does not count."""
    data = note_by("alice", "bob").encode()
    whole = checkpoint.cosigners(data.decode(), WITNESSES)
    assert len(whole) == 2
    for at in range(len(data)):
        for one in changed(data, at):
            try:
                checkpoint.read(one.decode(), NETWORK.public)
                left = checkpoint.cosigners(one.decode(), WITNESSES)
            except ValueError:
                continue
            assert left.items() < whole.items()


def test_no_missing_or_added_byte_makes_another_cosignature() -> None:
    data = note_by("alice", "bob").encode()
    whole = checkpoint.cosigners(data.decode(), WITNESSES)
    for at in range(len(data) + 1):
        for one in (data[:at] + data[at + 1 :], data[:at] + b"A" + data[at:], data[:at]):
            try:
                checkpoint.read(one.decode(), NETWORK.public)
                left = checkpoint.cosigners(one.decode(), WITNESSES)
            except ValueError:
                continue
            assert left.items() < whole.items() or one == data


# -- the witness -----------------------------------------------------------------------------


def test_a_witness_cosigns_a_log_that_grows() -> None:
    witness = alice()
    for later, (old, size) in enumerate([(0, 1), (1, 1), (1, 2), (2, 7), (7, 64), (64, 100)]):
        proof = LOG.consistency_proof(old, size) if old else []
        answer = witness.cosign(note_of(size), proof, NOW_S + later)
        assert isinstance(answer, Cosigned)
        assert answer.seen == head_of(size) == checkpoint.read(answer.note, NETWORK.public)
        assert answer.note.startswith(note_of(size))
        assert checkpoint.cosigners(answer.note, WITNESSES) == {"alice.example/w": NOW_S + later}
        witness = replace(witness, seen=answer.seen)


def test_witnesses_cosign_one_after_another() -> None:
    note = cosigned(alice(), note_of(7))
    note = cosigned(replace(alice(), name="bob.example/w", key=BOB), note, now_s=NOW_S + 1)
    assert checkpoint.cosigners(note, WITNESSES) == {
        "alice.example/w": NOW_S,
        "bob.example/w": NOW_S + 1,
    }


def test_a_witness_cosigns_the_same_head_again() -> None:
    witness = alice(seen=head_of(7))
    note = cosigned(witness, cosigned(witness, note_of(7)), now_s=NOW_S + 9)
    assert checkpoint.cosigners(note, WITNESSES) == {"alice.example/w": NOW_S + 9}


def test_an_empty_log_is_continued_by_any() -> None:
    empty = Checkpoint(origin="testnet", size=0, root=EMPTY_ROOT)
    cosigned(alice(), checkpoint.sign(empty, NETWORK))
    cosigned(alice(seen=empty), note_of(5))
    other = checkpoint.sign(replace(empty, root=bytes(32)), NETWORK)
    assert alice().cosign(other, [], NOW_S) == Refusal.FORKED
    assert alice(seen=head_of(1)).cosign(checkpoint.sign(empty, NETWORK), [], NOW_S) == (
        Refusal.ROLLED_BACK
    )


def test_a_first_head_and_the_same_head_need_no_proof_and_take_none() -> None:
    for witness in (alice(), alice(seen=head_of(7))):
        assert witness.cosign(note_of(7), [], NOW_S) != Refusal.UNPROVEN
        assert witness.cosign(note_of(7), [LOG.root()], NOW_S) == Refusal.UNPROVEN


def test_a_log_that_was_rolled_back_is_refused() -> None:
    witness = alice(seen=head_of(50))
    for size in (1, 2, 32, 49):
        assert witness.cosign(note_of(size), [], NOW_S) == Refusal.ROLLED_BACK
        proof = LOG.consistency_proof(size, 50)
        assert witness.cosign(note_of(size), proof, NOW_S) == Refusal.ROLLED_BACK


@pytest.mark.parametrize("seen", [4, 5, 32, 50])
def test_a_fork_is_refused(seen: int) -> None:
    witness = alice(seen=head_of(seen))
    assert witness.cosign(note_of(seen, FORK), [], NOW_S) == Refusal.FORKED
    for size in range(seen + 1, 100, 7):
        for proof in ([], FORK.consistency_proof(seen, size), LOG.consistency_proof(seen, size)):
            assert witness.cosign(note_of(size, FORK), proof, NOW_S) == Refusal.UNPROVEN


def test_a_fork_after_the_seen_head_is_cosigned() -> None:
    witness = alice(seen=head_of(3))
    cosigned(witness, note_of(50, FORK), FORK.consistency_proof(3, 50))


@settings(deadline=None)
@given(st.integers(1, 99), st.data())
def test_a_forged_proof_is_refused(seen: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(seen + 1, 100))
    witness, note = alice(seen=head_of(seen)), note_of(size)
    proof = LOG.consistency_proof(seen, size)
    cosigned(witness, note, proof)
    at = data.draw(st.integers(0, len(proof) - 1))
    bit = data.draw(st.integers(0, 255))
    one = bytearray(proof[at])
    one[bit // 8] ^= 1 << bit % 8
    forged = [
        [*proof[:at], bytes(one), *proof[at + 1 :]],
        [*proof[:at], *proof[at + 1 :]],
        [*proof[:at], proof[at], *proof[at:]],
        [*proof[:at], proof[at][:-1], *proof[at + 1 :]],
        [],
    ]
    for claim in forged:
        assert witness.cosign(note, claim, NOW_S) == Refusal.UNPROVEN


def test_a_proof_from_another_size_is_refused() -> None:
    witness = alice(seen=head_of(20))
    for first in (19, 21, 16, 32):
        proof = LOG.consistency_proof(first, 50)
        assert witness.cosign(note_of(50), proof, NOW_S) == Refusal.UNPROVEN


def test_a_note_that_another_key_signed_is_refused() -> None:
    forged = note_of(7, key=key_of("forger"))
    assert alice().cosign(forged, [], NOW_S) == Refusal.NOT_SIGNED
    assert replace(alice(), network_key=ALICE.public).cosign(note_of(7), [], NOW_S) == (
        Refusal.NOT_SIGNED
    )
    for text in ("", "\n", head_of(7).text(), head_of(7).text() + "\n"):
        assert alice().cosign(text, [], NOW_S) == Refusal.NOT_SIGNED


def test_signatures_of_witnesses_do_not_replace_that_of_the_network() -> None:
    head = head_of(7)
    note = checkpoint.cosign(checkpoint.sign(head, BOB), name="testnet", key=NETWORK, time_s=NOW_S)
    assert alice().cosign(note, [], NOW_S) == Refusal.NOT_SIGNED


def test_every_byte_that_a_witness_is_shown_counts() -> None:
    data = note_of(7).encode()
    witness = alice(seen=head_of(5))
    proof = LOG.consistency_proof(5, 7)
    cosigned(witness, data.decode(), proof)
    for at in range(len(data)):
        for one in changed(data, at):
            text = one.decode(errors="surrogateescape")
            assert witness.cosign(text, proof, NOW_S) == Refusal.NOT_SIGNED


def test_a_head_of_another_log_is_refused() -> None:
    other = checkpoint.sign(head_of(7, origin="mainnet"), NETWORK)
    assert alice(seen=head_of(7)).cosign(other, [], NOW_S) == Refusal.ANOTHER_LOG
    assert alice(seen=head_of(50)).cosign(other, [], NOW_S) == Refusal.ANOTHER_LOG


def test_the_first_reason_that_holds_is_given() -> None:
    """Each note has its own fault and all possible faults of later checks."""
    witness = alice(seen=head_of(20))
    bad_proof = [bytes(32)]
    notes: list[tuple[str, Refusal]] = [
        (checkpoint.sign(head_of(7, FORK, "mainnet"), BOB), Refusal.NOT_SIGNED),
        (checkpoint.sign(head_of(7, FORK, "mainnet"), NETWORK), Refusal.ANOTHER_LOG),
        (note_of(7, FORK), Refusal.ROLLED_BACK),
        (note_of(20, FORK), Refusal.FORKED),
        (note_of(21, FORK), Refusal.UNPROVEN),
    ]
    assert [refusal for _, refusal in notes] == list(Refusal)
    for note, refusal in notes:
        assert witness.cosign(note, bad_proof, NOW_S) == refusal


def test_the_time_is_the_one_that_is_given() -> None:
    for now_s in (0, NOW_S, 2**63 - 1):
        note = cosigned(alice(), note_of(7), now_s=now_s)
        assert checkpoint.cosigners(note, WITNESSES) == {"alice.example/w": now_s}
    for now_s in (-1, 2**63):
        with pytest.raises(ValueError, match="no time"):
            alice().cosign(note_of(7), [], now_s)


def test_another_time_is_not_what_the_witness_signed() -> None:
    note = cosigned(alice(), note_of(7))
    head, _, text = note.rstrip("\n").rpartition(" ")
    blob = base64.b64decode(text)
    for time_s in (0, NOW_S - 1, NOW_S + 1, 2**64 - 1):
        other = blob[:4] + time_s.to_bytes(8, "big") + blob[12:]
        with pytest.raises(ValueError, match="does not hold"):
            checkpoint.cosigners(f"{head} {signing.to_base64(other)}\n", WITNESSES)


def test_the_same_input_gives_the_same_answer() -> None:
    assert alice().cosign(note_of(7), [], NOW_S) == alice().cosign(note_of(7), [], NOW_S)
