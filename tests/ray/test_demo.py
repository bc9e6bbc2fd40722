"""`gensyn-ray demo`: the cheat is slashed, the other operators are paid, the books are correct."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gensyn_ray.domain.money import MICRO_PER_CREDIT
from ledger.core.events import Moved
from ledger.export.flat import verify

CLI = [sys.executable, "-m", "gensyn_ray.cli.main"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("demo")
    file = folder / "report.json"
    command = [*CLI, "demo", "--seed", "3", "--trials", "8"]
    command += ["--report", str(file), "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ledger verify" in done.stdout
    return json.loads(file.read_text())


def test_the_search_finishes_with_all_its_trials_and_a_replayed_winner(
    report: dict[str, Any],
) -> None:
    job = report["job"]
    assert (job["state"], job["trials"], job["kind"]) == ("done", 8, "sweep")
    assert job["best"]["value"] > 0.95
    assert set(job["best"]["config"]) == {"lr", "momentum", "width"}
    assert job["winner"]["replayed"] == job["winner"]["segments"] > 0


def test_only_the_cheat_is_slashed_and_tombstoned(report: dict[str, Any]) -> None:
    by_name = {one["name"]: one for one in report["operators"]}
    cheat = by_name.pop("volunteer-2")
    assert cheat["adversary"] == "lazy"
    assert cheat["state"] == "tombstoned"
    assert cheat["slashed_micro"] == 50 * MICRO_PER_CREDIT
    assert cheat["earned_micro"] == 0
    assert report["detection"]["bad_segments"] >= 12
    assert report["detection"]["probability"] >= 0.99
    assert {one["at_fault"] for one in report["rulings"]} == {cheat["id"]}
    assert len({one["numerics"] for one in report["operators"]}) == 2
    for honest in by_name.values():
        assert (honest["state"], honest["slashed_micro"]) == ("active", 0)
        assert honest["earned_micro"] == honest["committed"] * MICRO_PER_CREDIT > 0


def test_segments_are_counted_to_the_last_one(report: dict[str, Any]) -> None:
    segments = report["segments"]
    outcomes = ("accepted", "rejected", "inconclusive", "unavailable")
    assert segments["audited"] == sum(segments[one] for one in outcomes)
    assert segments["rejected"] >= 1
    assert segments["inconclusive"] == segments["unavailable"] == 0
    assert segments["committed"] == sum(one["committed"] for one in report["operators"])


def test_every_payment_is_traceable_to_a_slot_and_the_books_sum_to_zero(
    report: dict[str, Any],
) -> None:
    books = report["ledger"]
    assert books["conserved"]
    checked = verify(Path(books["journal"]).read_bytes(), bytes.fromhex(books["public_key"]))
    assert checked.head.size == books["entries"]
    moves = [m for entry in checked.entries for m in entry.events if isinstance(m, Moved)]
    paid = [move for move in moves if move.memo == "release"]
    assert all(move.slot in checked.journal.book.jobs[report["job"]["id"]].slots for move in paid)
    assert len({move.slot for move in paid}) == len(paid)
    earned = sum(one["earned_micro"] for one in report["operators"])
    assert sum(move.amount_micro for move in paid) == earned
    assert sum(amount for _, amount in checked.journal.book.balances) == 0


def test_ledger_verify_passes_and_fails_after_a_change(
    report: dict[str, Any], tmp_path: Path
) -> None:
    books = report["ledger"]
    command = [*CLI, "ledger", "verify", "--key", books["public_key"], "--draws"]
    whole = subprocess.run(
        [*command, books["journal"]], capture_output=True, text=True, check=False
    )
    assert whole.returncode == 0, whole.stderr
    assert "every draw is right" in whole.stdout
    data = bytearray(Path(books["journal"]).read_bytes())
    data[len(data) // 3] ^= 1
    changed = tmp_path / "journal"
    changed.write_bytes(data)
    broken = subprocess.run([*command, str(changed)], capture_output=True, text=True, check=False)
    assert broken.returncode == 1
    assert "is not whole" in broken.stderr
    assert len(broken.stderr.strip().splitlines()) == 1


def test_no_one_byte_of_the_journal_can_change_unseen(report: dict[str, Any]) -> None:
    """Changes a byte of most entries; `tests/soak/test_tamper.py` changes all bytes."""
    books = report["ledger"]
    data, key = Path(books["journal"]).read_bytes(), bytes.fromhex(books["public_key"])
    for position in range(0, len(data), 500):
        changed = bytearray(data)
        changed[position] ^= 1
        with pytest.raises(ValueError, match=r"\w"):
            verify(bytes(changed), key)
