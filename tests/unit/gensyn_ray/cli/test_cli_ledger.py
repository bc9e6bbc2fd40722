"""`gensyn-ray ledger` with a running authority, with its journal, and without both."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gensyn_ray.domain.money import MICRO_PER_CREDIT
from gensyn_ray.testnet.local import LocalNetwork, Member
from ledger.core.commands import Bond
from ledger.storage.sqlite import SqliteJournal


def cli(*arguments: str) -> str:
    """The output of a command that must succeed."""
    code, out, error = run(*arguments)
    assert code == 0, error
    return out


def run(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "gensyn_ray.cli.main", "ledger", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "COLUMNS": "160"},
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def network() -> Iterator[LocalNetwork]:
    """An authority without Ray, and an operator with stake."""
    with LocalNetwork(seed=31) as local:
        local.start_authority()
        member = Member(name="op", role="operator", key=local.key("op"), numerics="x")
        local.enrol(member, funds_micro=7 * MICRO_PER_CREDIT, stake_micro=3 * MICRO_PER_CREDIT)
        yield local


@pytest.fixture(scope="module")
def flat(network: LocalNetwork) -> Path:
    path = network.home / "flat"
    home = network.home / "authority"
    said = cli("export", str(path), "--home", str(home))
    assert network.facts["network_key"] in said
    return path


def sources(network: LocalNetwork, flat: Path) -> list[list[str]]:
    key = ["--key", network.facts["network_key"]]
    return [["--ledger", network.facts["address"]], ["--journal", str(flat), *key]]


def test_balances_and_history_are_the_same_online_and_offline(
    network: LocalNetwork, flat: Path
) -> None:
    party = network.key("op").party
    for command in ("balance", "history"):
        online, offline = (cli(command, party, *source) for source in sources(network, flat))
        assert online == offline
        assert f"stake/free/{party}" in online
    assert "│ available/" in cli("balance", party, *sources(network, flat)[0])


def test_a_flat_journal_verifies_and_a_changed_one_does_not(
    network: LocalNetwork, flat: Path, tmp_path: Path
) -> None:
    key = network.facts["network_key"]
    assert "whole" in cli("verify", str(flat), "--key", key, "--draws")
    changed = tmp_path / "changed"
    changed.write_bytes(flat.read_bytes().replace(b"deposit", b"Deposit", 1))
    code, _, error = run("verify", str(changed), "--key", key)
    assert code == 1
    assert "not whole" in error
    code, _, error = run("verify", str(flat), "--key", "00" * 32)
    assert code == 1


def test_why_answers_for_a_receipts_file_and_its_page_is_proven_anywhere(
    network: LocalNetwork, flat: Path, tmp_path: Path
) -> None:
    key = network.facts["network_key"]
    envelope = network.sign(network.key("op"), "operator", Bond(amount_micro=1))
    receipt = network.ledger.submit(envelope)["receipt"]
    kept = tmp_path / "receipts"
    kept.write_text(json.dumps(receipt) + "\n")
    ledger = ["--ledger", network.facts["address"]]
    shown = cli("why", str(kept), *ledger, "--key", key)
    assert "bond" in shown
    assert "inclusion proofs hold" in shown
    page = tmp_path / "page.json"
    page.write_text(cli("why", network.key("op").party, *ledger, "--json"))
    assert "inclusion proofs hold" in cli("check", str(page), "--key", key)
    page.write_text(page.read_text().replace("joined", "Joined"))
    code, _, error = run("check", str(page), "--key", key)
    assert code == 1
    assert "does not hold" in error


def test_the_books_go_to_accountants_and_analysts(network: LocalNetwork, tmp_path: Path) -> None:
    home = ["--home", str(network.home / "authority")]
    cli("export", str(tmp_path / "books.beancount"), *home, "--format", "beancount")
    checker = Path(sys.executable).parent / "bean-check"
    subprocess.run([checker, tmp_path / "books.beancount"], check=True, timeout=60)
    cli("export", str(tmp_path / "parquet"), *home, "--format", "parquet")
    assert {path.name for path in (tmp_path / "parquet").iterdir()} == {
        "postings.parquet",
        "receipts.parquet",
    }


def test_a_witness_cosigns_what_continues_and_refuses_an_old_backup(tmp_path: Path) -> None:
    with LocalNetwork(seed=32) as network:
        network.start_authority()
        home = network.home / "authority"
        backup = tmp_path / "backup"
        shutil.copytree(home, backup)
        key = network.facts["network_key"]
        asked = ["--name", "w1", "--key", key, "--ledger", network.facts["address"]]
        first = cli("witness", "--home", str(tmp_path / "w"), *asked)
        assert "— w1 " in first
        member = Member(name="op", role="operator", key=network.key("op"), numerics="x")
        network.enrol(member, funds_micro=5)
        second = cli("witness", "--home", str(tmp_path / "w"), *asked)
        assert int(second.split("\n")[1]) > int(first.split("\n")[1])
        assert (
            cli("witness", "--home", str(tmp_path / "w"), *asked).split("\n")[:3]
            == (second.split("\n")[:3])
        )
        network.stop_authority()
        flat = tmp_path / "flat"
        cli("export", str(flat), "--home", str(home))
        seen = str(tmp_path / "w" / "seen.note")
        assert "whole" in cli("verify", str(flat), "--key", key, "--since", seen)
        cli("export", str(flat), "--home", str(backup))
        code, _, error = run("verify", str(flat), "--key", key, "--since", seen)
        assert code == 1
        assert "rolled back" in error
        # The authority remembers its newest head, too, and refuses an older database.
        shutil.copy(backup / "journal.sqlite", home / "journal.sqlite")
        for left in ("journal.sqlite-wal", "journal.sqlite-shm"):
            (home / left).unlink(missing_ok=True)
            if (backup / left).exists():
                shutil.copy(backup / left, home / left)
        code, _, error = run("serve", str(home), f"unix:{tmp_path}/s")
        assert code == 1
        assert "restore the newest" in error


def test_a_served_ledger_stops_gracefully_and_starts_from_its_snapshot(tmp_path: Path) -> None:
    with LocalNetwork(seed=33) as network:
        network.start_authority()
        entries = network.ledger.read("health")["entries"]
        network.stop_authority()
        store = SqliteJournal(network.journal, read_only=True)
        found = store.load_snapshot()
        assert found is not None
        assert found[0] == store.count() == entries
        network.start_authority()
        assert network.ledger.read("health")["entries"] == entries


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["balance", "x"], 2, "GENSYN_LEDGER"),
        (["balance", "x", "--journal", "none"], 2, "--key"),
        (["balance", "x", "--ledger", "unix:/nowhere/at/all"], 1, "no ledger answers"),
        (["why", "x", "--ledger", "ftp://x"], 1, "ftp"),
        (["serve", "/nowhere/at/all", "unix:x"], 1, "not an authority's home"),
        (["export", "x", "--home", "/nowhere/at/all"], 1, "not an authority's home"),
        (["check", "/nowhere/at/all", "--key", "00"], 2, "not a page"),
        (["witness", "--home", "x", "--name", "w", "--key", "zz"], 2, "--key"),
        (["verify"], 2, ""),
    ],
)
def test_a_mistake_gets_one_clear_line(arguments: list[str], code: int, says: str) -> None:
    given, _, error = run(*arguments)
    assert given == code, error
    assert says in error
    assert len(error.strip().splitlines()) == 1, error


def test_an_unknown_party_is_reported(network: LocalNetwork, flat: Path) -> None:
    for command in ("balance", "why"):
        for source in sources(network, flat):
            code, _, error = run(command, "nobody", *source)
            assert code == 1
            assert "nobody" in error
