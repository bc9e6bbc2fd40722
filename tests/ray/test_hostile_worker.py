"""Hostile code on the relay's node kills, impersonates and floods the relay. No credit moves
without a signature, and honest commands succeed afterwards."""

import contextlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from ray.exceptions import RayError

from gensyn_ray.api.network import Network
from gensyn_ray.cluster import placement
from gensyn_ray.domain.errors import GensynError, OperationError
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.testnet.local import LocalNetwork, wait_for
from ledger.actor import NAMESPACE, RELAY_NAME
from ledger.core import invariants, orders
from ledger.core.commands import Deposit, Settle, Withdraw
from ledger.core.journal import Journal, parse_entry
from ledger.storage.sqlite import SqliteJournal

ATTACK_S = 60.0
THIEF = SigningKey(b"thief".ljust(32, b"."))


class Impostor:
    """An actor under the relay's name. It gives false answers and records its calls."""

    def __init__(self, facts: dict[str, str]) -> None:
        self._facts = facts
        self.stolen: list[Any] = []

    def facts(self) -> dict[str, str]:
        return self._facts

    def submit(self, envelope: dict[str, str]) -> dict[str, Any]:
        self.stolen.append(envelope)
        return {"receipt": {"body": envelope["body"], "signature": envelope["signature"]}}

    def read(self, view: str, parameters: dict[str, str]) -> Any:
        return {"joined": True, "available_micro": 10**15}


def forged(facts: dict[str, str]) -> list[dict[str, str]]:
    """Forged commands that would move money."""
    made: list[dict[str, str]] = []
    for number, role in enumerate(("treasury", "network", "operator", "submitter")):
        for command in (
            Deposit(party=THIEF.party, amount_micro=10**9),
            Settle(job="job", items=[]),
            Withdraw(amount_micro=10**6),
        ):
            envelope = orders.write(
                THIEF,
                command,
                network=facts["network"],
                genesis=facts["genesis"],
                role=role,
                nonce=f"{number}-{type(command).__name__}-{time.time_ns()}",
                expiry_ms=time.time_ns() // 10**6 + 60_000,
            )
            made.append(envelope.to_json())
    return made


def attack(seconds: float) -> dict[str, int]:
    """Runs as a Ray task on the head: every attack on the relay that a cluster member can make."""
    end = time.monotonic() + seconds
    done = {"killed": 0, "impersonated": 0, "relayed": 0, "posted": 0, "accepted": 0}
    facts: dict[str, str] = ray.get(ray.get_actor(RELAY_NAME, namespace=NAMESPACE).facts.remote())

    def repeat(work: Callable[[], None]) -> None:
        while time.monotonic() < end:
            with contextlib.suppress(RayError, ValueError, httpx.HTTPError):
                work()

    def kill_and_replace() -> None:
        ray.kill(ray.get_actor(RELAY_NAME, namespace=NAMESPACE))
        done["killed"] += 1
        options: dict[str, Any] = {"lifetime": "detached", "namespace": NAMESPACE, "num_cpus": 0}
        ray.remote(Impostor).options(name=RELAY_NAME, **options).remote(facts)
        done["impersonated"] += 1
        time.sleep(1.5)

    def flood_the_relay() -> None:
        relay = ray.get_actor(RELAY_NAME, namespace=NAMESPACE)
        sent = [relay.submit.remote(one) for one in forged(facts) * 4]
        for answer in ray.get(sent, timeout=5):
            done["relayed"] += 1
            done["accepted"] += "refused" not in answer and answer["receipt"]["body"] == ""

    def flood_the_authority() -> None:
        path = facts["address"].removeprefix("unix:")
        transport = httpx.HTTPTransport(uds=path)
        with httpx.Client(transport=transport, base_url="http://ledger", timeout=2) as http:
            for one in [*forged(facts), {"body": "x" * 10**5, "signature": "AA=="}]:
                done["accepted"] += http.post("/v1/commands", json=one).status_code == 200
                done["posted"] += 1

    work = [kill_and_replace, flood_the_relay, flood_the_authority, flood_the_authority]
    threads = [threading.Thread(target=repeat, args=[one]) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


def entries_of(network: LocalNetwork) -> list[bytes]:
    return list(SqliteJournal(Path(network.journal), read_only=True).read())


@pytest.mark.soak
def test_a_hostile_worker_on_the_relays_node_moves_nothing() -> None:
    with LocalNetwork(seed=71) as network:
        network.start([])
        client = Network(network.key("submitter"))
        client.join("submitter")
        network.fund(client.party, 10 * MICRO_PER_CREDIT)
        before = entries_of(network)
        hostile = ray.remote(attack).options(max_retries=0, **placement.on_head())
        running = hostile.remote(ATTACK_S)
        honest, betrayed = 0, 0
        while not ray.wait([running], timeout=0.5)[0]:
            # Under attack a submitter may get false answers or none, but loses no credits.
            with contextlib.suppress(GensynError):
                reached = Network(network.key("submitter"))
                try:
                    reached.submit(Withdraw(amount_micro=1))
                    honest += 1
                except OperationError:
                    betrayed += 1
        done = ray.get(running)
        print(f"{json.dumps(done)}, honest commands through {honest}, answers refused {betrayed}")
        assert done["killed"] > 10
        assert done["posted"] > 1_000
        assert done["accepted"] == 0
        check_nothing_unauthorised(entries_of(network), len(before), client.party)
        wait_for(lambda: goes_through(network), timeout_s=30, what="an honest command")
        verdict = network.ledger.read("statement", owner=client.party)
        assert verdict["standing"] == "active"


def goes_through(network: LocalNetwork) -> bool:
    with contextlib.suppress(GensynError, RayError):
        Network(network.key("submitter")).submit(Withdraw(amount_micro=1))
        return True
    return False


def check_nothing_unauthorised(lines: list[bytes], known: int, submitter: str) -> None:
    """All entries since then were signed by the submitter, and all decisions are correct."""
    journal = Journal()
    for number, line in enumerate(lines):
        entry = parse_entry(line)
        if number >= known:
            assert entry.header.party == submitter
            assert entry.header.operation == "Withdraw"
        again = journal.propose(entry.envelope, entry.time_ms)
        assert getattr(again, "line", None) == line
        journal.apply(entry)
    assert invariants.check(journal.book) == []
