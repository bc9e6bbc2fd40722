"""`kill -9` at random times of a loaded service.

No acknowledged command is lost or applied twice.

    python -m pytest -m soak tests/soak/test_kill.py                      1,000 kills
    GENSYN_KILLS=10000 python -m pytest -m soak tests/soak/test_kill.py   10,000
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gensyn_ray.domain.errors import GensynError
from gensyn_ray.domain.signing import Envelope
from gensyn_ray.runtime.wall_clock import now_ms
from gensyn_ray.services.home import Config, Secrets, prepare
from ledger.client import LedgerClient, Signer, check_receipt
from ledger.core import accounts, invariants
from ledger.core.commands import Bond, Deposit, Join
from ledger.core.journal import Journal, parse_entry
from ledger.storage.sqlite import SqliteJournal
from tests.kits.amounts import soak_or_proof
from tests.kits.ledger_kit import key_of, parameters, party_of

PROOF_KILLS = int(os.environ.get("GENSYN_KILLS", "1000"))
KILLS_PER_JOURNAL = 50
LONGEST_LIFE_S = 0.2
CALLERS = 4
SECRETS = Secrets(network_seed="aa" * 32, beacon_seed="bb" * 32)


class Caller(threading.Thread):
    """An operator that bonds single micro-credits and repeats commands without an answer."""

    def __init__(self, name: str, address: str, genesis: str, network_key: bytes) -> None:
        super().__init__(daemon=True)
        self.party = party_of(name)
        self.acknowledged: dict[str, int] = {}
        """Body hash -> number of its entry."""
        self.sent: set[str] = set()
        self.stopping = threading.Event()
        self.wrong: list[str] = []
        self._client = LedgerClient(address, timeout_s=2)
        self._network_key = network_key
        self._signer = Signer(
            key_of(name), role="operator", network="testnet", genesis=genesis, clock=now_ms
        )

    def run(self) -> None:
        previous: Envelope | None = None
        while not self.stopping.is_set():
            envelope = self._signer.sign(Bond(amount_micro=1))
            self.sent.add(envelope.body_hash)
            self._until_answered(envelope)
            if previous is not None and random.random() < 0.2:
                self._until_answered(previous)
            previous = envelope
        self._client.close()

    def _until_answered(self, envelope: Envelope) -> None:
        while not self.stopping.is_set():
            try:
                receipt = self._client.submit(envelope)["receipt"]
            except GensynError as error:
                if getattr(error, "reason", "overloaded") != "overloaded":
                    self.wrong.append(str(error))
                    return
                time.sleep(0.002)
                continue
            body = check_receipt(receipt, self._network_key)
            before = self.acknowledged.setdefault(envelope.body_hash, body["index"])
            if before != body["index"] or body["command"] != envelope.body_hash:
                self.wrong.append(f"acknowledged at {before}, then at {body['index']}")
            self._signer.saw(body["head"])
            return


class Zygote:
    """Starts authorities by forks."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kits.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, home: Path, address: str) -> int:
        """The pid of an authority that is starting."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{home} {address}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def zygote() -> Iterator[Zygote]:
    one = Zygote()
    try:
        yield one
    finally:
        one.close()


def new_network(home: Path) -> None:
    config = Config(
        network="testnet",
        treasury_keys=[key_of("treasury").public.hex()],
        treasury_threshold=1,
        vetted=[],
        parameters=parameters(),
    )
    prepare(home, config, SECRETS)


def kill(pid: int) -> None:
    """`kill -9`, and wait for the end, because no authority starts beside a running one."""
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.001)


def wait_until_it_answers(client: LedgerClient) -> None:
    for _ in range(2_000):
        try:
            client.read("health")
        except GensynError:
            time.sleep(0.005)
        else:
            return
    raise AssertionError("the authority does not answer")


def callers_of(address: str, home: Path) -> list[Caller]:
    """Operators with credits, each in its own thread."""
    import json

    client = LedgerClient(address)
    wait_until_it_answers(client)
    facts = json.loads((home / "network.json").read_text())
    names = [f"op-{number}" for number in range(CALLERS)]

    def signer(name: str, role: str) -> Signer:
        return Signer(
            key_of(name), role=role, network="testnet", genesis=facts["genesis"], clock=now_ms
        )

    for name in names:
        client.submit(signer(name, "operator").sign(Join(name=name)))
        deposit = Deposit(party=party_of(name), amount_micro=10**12)
        client.submit(signer("treasury", "treasury").sign(deposit))
    client.close()
    key = bytes.fromhex(facts["network_key"])
    return [Caller(name, address, facts["genesis"], key) for name in names]


def kill_again_and_again(
    kills: int, home: Path, zygote: Zygote, chance: random.Random
) -> list[Caller]:
    """One journal under load with repeated kills; ends with an authority that may answer."""
    address = f"unix:{home}/s"
    new_network(home)
    pid = zygote.start(home, address)
    callers = callers_of(address, home)
    for caller in callers:
        caller.start()
    client = LedgerClient(address)
    for number in range(kills):
        if number % 2:
            # A short time may end before the start on a busy machine, so every second one is long.
            wait_until_it_answers(client)
        time.sleep(chance.uniform(0, LONGEST_LIFE_S))
        kill(pid)
        pid = zygote.start(home, address)
    wait_until_it_answers(client)
    for caller in callers:
        caller.stopping.set()
    for caller in callers:
        caller.join(timeout=10)
    client.close()
    kill(pid)
    return callers


def check(home: Path, callers: list[Caller]) -> int:
    """Check that each acknowledged command is in the journal once, at its acknowledged place."""
    entries = [
        parse_entry(line) for line in SqliteJournal(home / "journal.sqlite", read_only=True).read()
    ]
    times = Counter(entry.envelope.body_hash for entry in entries)
    assert set(times.values()) == {1}, "a command was applied twice"
    journal = Journal()
    for entry in entries:
        again = journal.propose(entry.envelope, entry.time_ms)
        assert getattr(again, "line", None) == entry.line
        journal.apply(entry)
    assert invariants.check(journal.book) == []
    for caller in callers:
        assert caller.wrong == []
        for body_hash, index in caller.acknowledged.items():
            assert entries[index].envelope.body_hash == body_hash, "an acknowledged command is lost"
        applied = sum(times[body_hash] for body_hash in caller.sent)
        assert journal.book.balances[accounts.free_stake(caller.party)] == applied
        assert len(caller.acknowledged) <= applied <= len(caller.sent)
    return sum(len(caller.acknowledged) for caller in callers)


def run(kills: int, folder: Path, seed: int) -> int:
    """The number of acknowledged commands of all journals."""
    chance = random.Random(seed)
    acknowledged = 0
    with zygote() as starter:
        for number in range(0, kills, KILLS_PER_JOURNAL):
            home = folder / str(number)
            part = min(KILLS_PER_JOURNAL, kills - number)
            callers = kill_again_and_again(part, home, starter, chance)
            acknowledged += check(home, callers)
    return acknowledged


def test_nothing_acknowledged_is_lost_and_nothing_done_twice(tmp_path: Path) -> None:
    assert run(20, tmp_path, seed=1) > 20


@pytest.mark.parametrize("kills", soak_or_proof(soak=200, proof=PROOF_KILLS))
def test_the_same_over_many_kills(tmp_path: Path, kills: int) -> None:
    seed = int(time.time())
    print(f"seed {seed}")
    acknowledged = run(kills, tmp_path, seed)
    print(f"{kills} kills, {acknowledged} commands acknowledged")
    assert acknowledged > kills
