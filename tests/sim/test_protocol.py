"""The whole protocol in one process, at random: every run must end with the right people paid.

`GENSYN_SIM_SEEDS=1000 pytest tests/sim` runs more seeds.
"""

import hashlib
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gensyn_ray.authority import Authority, Config, Secrets
from gensyn_ray.domain import canonical, merkle
from gensyn_ray.domain.clock import ManualClock
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.signing import Envelope, SigningKey
from gensyn_ray.settlement import Settlement
from ledger import export
from ledger.client import check_receipt
from ledger.core import accounts, invariants, orders
from ledger.core.commands import (
    Bond,
    CloseJob,
    Command,
    Commit,
    Deposit,
    FinishTask,
    Join,
    OpenJob,
    Record,
    RequestSlot,
    StartTask,
)
from ledger.core.events import Recorded, SlotCommitted, SlotSettled
from ledger.core.journal import Entry
from ledger.core.refusals import Reason
from ledger.storage.journal import MemoryJournal
from verifier_actors.core import beacon
from verifier_actors.core.outcome import Outcome, result_digest

SEEDS = int(os.environ.get("GENSYN_SIM_SEEDS", "30"))
PRICE, RESERVE, DEPOSIT = 1_000, 50_000, 1_000_000
LINKS = 256
SEGMENTS = 4
BUNDLE, DATA = "bb" * 32, "dd" * 32


def sha(*parts: str | int) -> str:
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()


def train(state_before: str, task: str, segment: int) -> tuple[str, dict[str, float]]:
    """What a segment comes to: `training` that anyone can repeat."""
    after = sha("state", state_before, task, segment)
    return after, {"score": int(after[:6], 16) / 2**24}


@dataclass(kw_only=True)
class Operator:
    key: SigningKey
    name: str
    cheats: float
    """Probability with which it makes a segment up."""
    numerics: str
    alive: bool = True

    @property
    def party(self) -> str:
        return self.key.party


@dataclass(kw_only=True)
class Run:
    """One attempt at a task by one operator: at most two segments that are not committed yet."""

    operator: Operator
    task: str
    attempt: int
    segment: int
    state: str
    ready: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


class World:
    """A network, a job and everyone who takes part, driven by one seed."""

    def __init__(self, seed: int) -> None:
        self.random = chance = random.Random(seed)
        self.clock = ManualClock(now_ms=1_000_000)
        self.store = MemoryJournal()
        self.nonces = 0
        self.treasury, self.submitter, self.driver = map(self.key, ("bank", "submitter", "driver"))
        self.config = Config(
            network="sim",
            treasury_key=self.treasury.public.hex(),
            vetted=[BUNDLE],
            reserve_micro=RESERVE,
        )
        self.secrets = Secrets(network_seed=sha("network"), beacon_seed=sha("beacon", seed))
        self.authority = self.boot()
        self.job = f"job-{seed}"
        self.secret = bytes.fromhex(sha("secret", seed))
        self.links_revealed = 0
        self.withholds = chance.choice((0.0, 0.0, 0.5, 1.0))
        kinds = [0.0, *(chance.choice((0.0, 0.0, 0.3, 1.0)) for _ in range(chance.randint(2, 5)))]
        self.operators = [
            Operator(
                key=self.key(f"operator {seed} {n}"),
                name=f"op-{n}",
                cheats=cheats,
                numerics=chance.choice(("c1", "c2")),
            )
            for n, cheats in enumerate(kinds)
        ]
        self.verifiers = [self.key(f"verifier {seed} {n}") for n in range(chance.randint(2, 4))]
        self.keys = {key.party: key for key in self.verifiers}
        self.runs: list[Run] = []
        self.base: dict[str, str] = {}
        """Task -> the task that it grows from, if any."""
        self.made_up: set[str] = set()
        self.acknowledged: dict[str, str] = {}
        self.tampered = 0

    # -- plumbing ----------------------------------------------------------------------------

    def key(self, name: str) -> SigningKey:
        return SigningKey(hashlib.sha256(name.encode()).digest())

    def boot(self) -> Authority:
        return Authority(
            config=self.config, secrets=self.secrets, store=self.store, clock=self.clock
        )

    def sign(self, key: SigningKey, role: str, command: Command) -> Envelope:
        self.nonces += 1
        return orders.write(
            key,
            command,
            network="sim",
            genesis=self.authority.genesis,
            role=role,
            nonce=f"{self.nonces:016x}",
            expiry_ms=self.clock() + 60_000,
        )

    def send(self, key: SigningKey, role: str, command: Command) -> str:
        """Submit one command; the reason if it was refused, otherwise empty."""
        return self.send_all([self.sign(key, role, command)])[0]

    def send_all(self, envelopes: Sequence[Envelope]) -> list[str]:
        answers = self.authority.submit(envelopes)
        for envelope, answer in zip(envelopes, answers, strict=True):
            if "receipt" in answer:
                body = check_receipt(answer["receipt"], self.authority.public_key)
                assert body["command"] == envelope.body_hash
        return [answer.get("refused", "") for answer in answers]

    def must(self, key: SigningKey, role: str, command: Command) -> None:
        refused = self.send(key, role, command)
        assert refused == "", f"{type(command).__name__}: {refused}"

    def read(self, view: str, **parameters: str) -> Any:
        return self.authority.read(view, {"job": self.job, **parameters})

    # -- beginning ---------------------------------------------------------------------------

    def open(self, *, budget: int = 400 * PRICE) -> None:
        """Everyone joins, the job opens with its tasks; some tasks grow from others."""
        joins: list[tuple[SigningKey, str, str, str]] = [
            (self.submitter, "submitter", "sub", ""),
            *((one.key, "operator", one.name, one.numerics) for one in self.operators),
            *((key, "verifier", f"v-{n}", "c1,c2") for n, key in enumerate(self.verifiers)),
        ]
        for key, role, name, numerics in joins:
            self.must(key, role, Join(name=name, numerics=numerics))
        for key in (self.submitter, *(one.key for one in self.operators)):
            self.must(self.treasury, "treasury", Deposit(party=key.party, amount_micro=DEPOSIT))
        for one in self.operators:
            self.must(one.key, "operator", Bond(amount_micro=2 * RESERVE))
        self.must(
            self.submitter,
            "submitter",
            OpenJob(
                job=self.job,
                kind="sweep",
                bundle=BUNDLE,
                data_digest=DATA,
                budget_micro=budget,
                price_micro=PRICE,
                audit_ppm=self.random.choice((0, 100_000, 300_000, 1_000_000)),
                draw_batch=self.random.randint(1, 5),
                secret_anchor=beacon.anchor_of(self.secret, LINKS).hex(),
                driver_key=self.driver.public.hex(),
            ),
        )
        names = [f"t{n:03d}" for n in range(self.random.randint(2, 5))]
        for n, name in enumerate(names):
            self.base[name] = self.random.choice(["", "", *names[:n]])

    # -- what anyone may do next -------------------------------------------------------------

    def step(self) -> None:
        """One random thing happens."""
        self.random.choices(
            (
                self.assign,
                self.request,
                self.commit,
                self.answer_audits,
                self.pass_time,
                self.reveal,
                self.lose_operator,
                self.finish_tasks,
                self.harden,
                self.misbehave,
            ),
            weights=(10, 25, 25, 15, 8, 10, 2, 3, 1, 3),
        )[0]()

    def task_of(self, name: str) -> dict[str, Any] | None:
        """The task's reading, None before its first start."""
        if name not in self.read("tasks"):
            return None
        return self.read("task", trial=f"trial {name}")

    def assign(self) -> None:
        """The driver starts a task that nobody works on; the node asks where it stands."""
        idle = [
            one
            for one in self.operators
            if one.alive and not any(run.operator is one for run in self.runs)
        ]
        names = [name for name in self.base if not any(run.task == name for run in self.runs)]
        if not idle or not names:
            return
        name, operator = self.random.choice(names), self.random.choice(idle)
        before = self.task_of(name)
        if before is not None and before["good"] >= SEGMENTS:
            return
        attempt = 0 if before is None else before["attempt"] + 1
        spec = sha("spec", name)
        command = StartTask(
            job=self.job, task=name, trial=f"trial {name}", spec=spec, attempt=attempt
        )
        self.must(self.driver, "driver", command)
        task = self.read("task", trial=f"trial {name}")
        state = task["state"]
        if not state and self.base[name] and (base := self.task_of(self.base[name])):
            state = base["state"]
        self.runs.append(
            Run(operator=operator, task=name, attempt=attempt, segment=task["good"], state=state)
        )

    def request(self) -> None:
        """A node asks for its next slot and computes, or pretends to."""
        runs = [run for run in self.runs if len(run.ready) < 2 and run.segment < SEGMENTS]
        if not runs:
            return
        run = self.random.choice(runs)
        operator = run.operator
        slot = Slot(job=self.job, task=run.task, segment=run.segment, attempt=run.attempt)
        command = RequestSlot(
            job=slot.job, task=slot.task, segment=slot.segment, attempt=slot.attempt
        )
        refused = self.send(operator.key, "operator", command)
        if refused:
            self.stop(run, refused)
            return
        after, metrics = train(run.state, run.task, run.segment)
        if self.random.random() < operator.cheats:
            if self.random.random() < 0.5:
                after = sha("made up", str(slot))
            else:
                metrics = {"score": 1.0}
            self.made_up.add(str(slot))
        run.ready.append(
            {
                "job": slot.job,
                "task": slot.task,
                "segment": slot.segment,
                "attempt": slot.attempt,
                "state_before": run.state,
                "state_after": after,
                "metrics": metrics,
                "data_digest": DATA,
                "numerics": operator.numerics,
                "operator": operator.party,
            }
        )
        run.segment, run.state = run.segment + 1, after

    def commit(self) -> None:
        """A node commits its oldest computed segment."""
        runs = [run for run in self.runs if run.ready]
        if not runs:
            return
        run = self.random.choice(runs)
        leaf = run.ready.pop(0)
        refused = self.send(run.operator.key, "operator", commitment(leaf))
        if refused:
            self.stop(run, refused)
            return
        self.acknowledged[slot_of(leaf)] = run.operator.party
        if run.segment >= SEGMENTS and not run.ready:
            self.runs.remove(run)

    def stop(self, run: Run, reason: str) -> None:
        """A node that is refused gives up its task; only these reasons may occur."""
        self.runs.remove(run)
        if reason == Reason.OPERATOR_TOMBSTONED:
            run.operator.alive = False
        else:
            # What its work grew from was judged bad, or the driver thought the task finished.
            assert reason in (
                Reason.WRONG_PREDECESSOR,
                Reason.TASK_FINISHED,
                Reason.SLOT_NOT_OPEN,
                Reason.BUDGET_EXHAUSTED,
            ), reason

    def answer_audits(self) -> None:
        """Some verifier replays one open audit, honestly."""
        if waiting := self.read("audits"):
            self.answer(self.random.choice(waiting))

    def answer(self, audit: dict[str, Any]) -> None:
        assert "claimed" not in audit
        assert "state_after" not in audit
        slot = Slot.parse(audit["slot"])
        assert audit["spec"] == sha("spec", slot.task)
        result = result_digest(*train(audit["state_before"], slot.task, slot.segment))
        content = {"job": self.job, "slot": audit["slot"], "result": result}
        self.must(self.keys[audit["party"]], "verifier", Record(kind="verdict", content=content))

    def pass_time(self) -> None:
        self.clock.advance(self.random.choice((50, 500, 3_000, 40_000)))
        self.authority.tick()

    def reveal(self) -> None:
        """The driver shows links for rounds that wait for one, unless it withholds them."""
        for round_ in self.read("job")["unrevealed"]:
            if self.random.random() < self.withholds:
                continue
            self.links_revealed += 1
            link = beacon.link_of(self.secret, LINKS, self.links_revealed).hex()
            content = {"job": self.job, "round": round_, "link": link}
            self.must(self.driver, "driver", Record(kind="reveal", content=content))

    def lose_operator(self) -> None:
        """A node drops off the network with what it had not committed."""
        if self.runs:
            run = self.runs.pop(self.random.randrange(len(self.runs)))
            if len([one for one in self.operators if one.alive and not one.cheats]) > 1:
                run.operator.alive = self.random.random() < 0.7

    def finish_tasks(self) -> None:
        for name, task in self.read("tasks").items():
            if task["good"] >= SEGMENTS:
                self.must(self.driver, "driver", FinishTask(job=self.job, task=name))

    def harden(self) -> None:
        if started := list(self.read("tasks")):
            content = {"job": self.job, "tasks": [self.random.choice(started)]}
            self.must(self.driver, "driver", Record(kind="harden", content=content))

    def misbehave(self) -> None:
        """Somebody asks for what is not theirs, and is refused without any effect."""
        if not self.acknowledged:
            return
        before = self.authority.read("health", {})
        slot = Slot.parse(self.random.choice(list(self.acknowledged)))
        operator = self.random.choice(self.operators)
        after = sha("again", str(slot))
        leaf = {
            "job": slot.job,
            "task": slot.task,
            "segment": slot.segment,
            "attempt": slot.attempt,
            "state_before": "",
            "state_after": after,
            "metrics": {"score": 1.0},
            "data_digest": DATA,
            "numerics": operator.numerics,
            "operator": operator.party,
        }
        verdict = {"job": self.job, "slot": str(slot), "result": "00" * 32}
        reveal = {"job": self.job, "round": f"{self.job}/round-0", "link": "00" * 32}
        ruling = {**verdict, "outcome": "REJECT"}
        tries: list[tuple[SigningKey, str, Command]] = [
            (operator.key, "operator", commitment(leaf)),
            (operator.key, "operator", Bond(amount_micro=10 * DEPOSIT)),
            (operator.key, "verifier", Record(kind="verdict", content=verdict)),
            (self.driver, "driver", Record(kind="verdict", content=verdict)),
            (self.driver, "driver", Record(kind="reveal", content=reveal)),
            (self.driver, "network", Record(kind="ruling", content=ruling)),
            (self.treasury, "submitter", CloseJob(job=self.job)),
        ]
        for key, role, command in tries:
            assert self.send(key, role, command) != "", command
        assert self.authority.read("health", {}) == before
        self.tampered += 1

    # -- ending ------------------------------------------------------------------------------

    def crash(self) -> None:
        """The authority's process dies and another starts from the journal."""
        before = self.authority.read("health", {})
        self.authority = self.boot()
        assert self.authority.read("health", {}) == before

    def train_to_the_end(self) -> None:
        """The driver does not give up before every task has all its segments, all judged."""
        for _ in range(300):
            tasks = self.read("tasks")
            whole = [task for task in tasks.values() if task["good"] == SEGMENTS]
            if len(whole) == len(self.base) and not any(task["unjudged"] for task in whole):
                return
            for what in (self.assign, self.request, self.commit, self.commit):
                what()
            self.settle_down()
        raise AssertionError(f"the job does not end: {self.read('tasks')}")

    def settle_down(self) -> None:
        """Have everything drawn and every audit answered."""
        self.must(
            self.driver, "driver", Record(kind="harden", content={"job": self.job, "tasks": []})
        )
        self.reveal()
        self.clock.advance(6_000)
        self.authority.tick()
        while waiting := self.read("audits"):
            self.answer(self.random.choice(waiting))

    def close(self) -> None:
        self.must(self.driver, "driver", CloseJob(job=self.job))


def slot_of(leaf: dict[str, Any]) -> str:
    return f"{leaf['job']}/{leaf['task']}/{leaf['segment']}/{leaf['attempt']}"


def commitment(leaf: dict[str, Any]) -> Commit:
    return Commit(root=merkle.root_of([canonical.encode(leaf)]).hex(), leaves=[leaf])


# -- what must hold ------------------------------------------------------------------------------


def check_books(world: World) -> None:
    broken = invariants.check(world.authority.journal.book)
    assert broken == [], broken


def entries_of(world: World, path: Path) -> list[Entry]:
    """The journal as anyone checks it offline: every byte, every decision, every draw."""
    key = SigningKey(bytes.fromhex(world.secrets.network_seed))
    export.write_flat(world.store.read(), key, "sim", path)
    settlement = Settlement()

    def follow(entry: Entry) -> None:
        for event in entry.events:
            if isinstance(event, Recorded) and event.kind == "draw":
                assert settlement.check_draw(event.content) == ""
        settlement.fold(entry.events, entry.time_ms)

    return export.verify(path.read_bytes(), key.public, follow=follow).entries


def check_everyone_got_what_is_theirs(world: World, entries: list[Entry]) -> None:
    events = [event for entry in entries for event in entry.events]
    settled = Counter(event.slot for event in events if isinstance(event, SlotSettled))
    paid = {event.slot for event in events if isinstance(event, SlotSettled) and event.paid}
    committed = {event.slot for event in events if isinstance(event, SlotCommitted)}
    assert committed == set(world.acknowledged), "acknowledged is what is in the journal"
    assert settled == Counter(committed), "each acknowledged segment is settled exactly once"

    drawn = {
        one["slot"]
        for event in events
        if isinstance(event, Recorded) and event.kind == "draw"
        for one in event.content["drawn"]
    }
    rulings = {
        event.content["slot"]: event.content
        for event in events
        if isinstance(event, Recorded) and event.kind == "ruling"
    }
    outcomes = {slot: ruling["outcome"] for slot, ruling in rulings.items()}
    assert set(outcomes) <= drawn
    assert set(outcomes.values()) <= {Outcome.ACCEPT, Outcome.REJECT}
    for slot, outcome in outcomes.items():
        assert (outcome == Outcome.REJECT) == (slot in world.made_up), slot

    guilty = {world.acknowledged[slot] for slot in drawn & world.made_up}
    ruled = {world.acknowledged[slot] for slot in world.made_up & set(rulings)}
    listed = {one["id"]: one for one in world.authority.read("operators", {})}
    tombstoned = {party for party, one in listed.items() if one["state"] == "tombstoned"}
    assert tombstoned == guilty == ruled == set(world.authority.settlement.tombstoned)

    for operator in world.operators:
        one, mine = listed[operator.party], world.acknowledged
        due = sum(PRICE for slot in paid if mine[slot] == operator.party)
        assert one["held_micro"] == 0
        if operator.party in tombstoned:
            assert one["earned_micro"] == 0
            assert one["available_micro"] == DEPOSIT - 2 * RESERVE
            assert one["stake_micro"] == RESERVE
            assert one["slashed_micro"] == RESERVE
        else:
            acknowledged = sum(PRICE for party in mine.values() if party == operator.party)
            assert one["earned_micro"] == due == acknowledged, "whoever was not caught is paid all"
            assert one["available_micro"] == DEPOSIT - 2 * RESERVE + due
            assert one["stake_micro"] == 2 * RESERVE
            assert one["slashed_micro"] == 0
        if not operator.cheats:
            assert operator.party not in tombstoned, "an honest operator is never slashed"


def check_chains(world: World, rejected_parties: set[str]) -> None:
    """What the data scientist gets: unbroken chains without a proven cheat's inventions."""
    job = world.authority.settlement.jobs[world.job]
    for name, task in job.tasks.items():
        before = None
        for number, slot in enumerate(task.good):
            segment = job.segments[slot]
            assert (segment.slot.task, segment.slot.segment) == (name, number)
            assert before is None or segment.leaf["state_before"] == before
            before = segment.leaf["state_after"]
            assert not segment.void
            if slot in world.made_up:
                assert segment.operator not in rejected_parties
                assert segment.drawn is False


def check_money(world: World) -> None:
    book = world.authority.journal.book
    assert book.balances.total_micro() == 0
    deposited = (1 + len(world.operators)) * DEPOSIT
    assert book.balances[accounts.EXTERNAL] == -deposited
    tombstoned = world.authority.settlement.tombstoned
    earned = sum(one["earned_micro"] for one in world.authority.read("operators", {}))
    slashed = book.balances[accounts.slashed(world.job)]
    made_good = RESERVE * len(tombstoned) - slashed
    submitter = book.balances[accounts.available(world.submitter.party)]
    assert submitter == DEPOSIT - earned + made_good
    assert 0 <= made_good <= earned
    assert book.balances[accounts.escrow(world.job)] == 0


def check_restart(world: World) -> None:
    """The journal alone gives the same network."""
    again = world.boot()
    again.tick()
    trials = [{"trial": f"trial {name}"} for name in world.read("tasks")]
    parties = [{"party": key.party} for key in (world.submitter, world.operators[0].key)]
    for view, others in (
        ("health", [{}]),
        ("job", [{}]),
        ("tasks", [{}]),
        ("operators", [{}]),
        ("receipts", [{}]),
        ("audits", [{}]),
        ("task", trials),
        ("balance", parties),
    ):
        for other in others:
            parameters = {"job": world.job, **other}
            assert again.read(view, parameters) == world.authority.read(view, parameters), view


def simulate(seed: int, path: Path) -> World:
    world = World(seed)
    world.open()
    steps = world.random.randint(60, 140)
    crash_at = world.random.randrange(steps)
    for step in range(steps):
        world.step()
        check_books(world)
        if step == crash_at:
            world.crash()
    if seed % 3:
        world.train_to_the_end()
    else:
        world.settle_down()
    check_books(world)
    world.close()
    check_books(world)
    entries = entries_of(world, path)
    check_everyone_got_what_is_theirs(world, entries)
    check_chains(world, set(world.authority.settlement.tombstoned))
    check_money(world)
    check_restart(world)
    return world


@pytest.mark.parametrize("seed", range(SEEDS))
def test_everyone_gets_what_is_theirs(seed: int, tmp_path: Path) -> None:
    try:
        simulate(seed, tmp_path / "flat")
    except (AssertionError, RuntimeError) as error:
        raise AssertionError(f"seed {seed}: {error}") from error
