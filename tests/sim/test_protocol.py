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

from gensyn_ray.domain import canonical, merkle
from gensyn_ray.domain.clock import ManualClock
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.signing import Envelope, SigningKey
from gensyn_ray.services.authority import Authority
from gensyn_ray.services.home import Config, Secrets, default_parameters
from gensyn_ray.settlement.state import Settlement
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
from ledger.core.entries import SlashState
from ledger.core.events import JobClosed, Recorded, SlotCommitted, SlotSettled, Tombstoned
from ledger.core.journal import Entry
from ledger.core.refusals import Reason
from ledger.export import flat as export
from ledger.storage.journal import MemoryJournal
from verifier_actors.core import beacon
from verifier_actors.core.outcome import Outcome, result_digest

SEEDS = int(os.environ.get("GENSYN_SIM_SEEDS", "30"))
SOAK_SEEDS = 300
PRICE, RESERVE, DEPOSIT = 1_000, 50_000, 1_000_000
LINKS = 256
SEGMENTS = 4
CLASSES = ("c1", "c2")
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
    bonded: int
    alive: bool = True

    @property
    def party(self) -> str:
        return self.key.party


@dataclass(kw_only=True)
class Run:
    """One attempt at a task by one operator: at most two segments that are not committed yet."""

    operator: Operator
    job: str
    task: str
    attempt: int
    segment: int
    state: str
    ready: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


@dataclass(kw_only=True)
class JobSide:
    """What the job's driver knows: its tasks, each with the task that it grows from, its links."""

    name: str
    secret: bytes
    base: dict[str, str]
    withholds: float
    revealed: int = 0


class World:
    """A network, its jobs and everyone who takes part, driven by one seed.

    `batches`: verdicts reach the authority several at a time, as under load.
    """

    def __init__(self, seed: int, *, jobs: int = 1, batches: bool = False) -> None:
        self.random = chance = random.Random(seed)
        self.clock = ManualClock(now_ms=1_000_000)
        self.store = MemoryJournal()
        self.nonces = 0
        self.treasury, self.submitter, self.driver = map(self.key, ("bank", "submitter", "driver"))
        self.config = Config(
            network="sim",
            treasury_keys=[self.treasury.public.hex()],
            treasury_threshold=1,
            vetted=[BUNDLE],
            parameters=default_parameters(RESERVE),
        )
        self.secrets = Secrets(network_seed=sha("network"), beacon_seed=sha("beacon", seed))
        self.authority = self.boot()
        self.batches = batches
        self.jobs: dict[str, JobSide] = {}
        for number in range(jobs):
            tasks = [f"t{n:03d}" for n in range(chance.randint(2, 5))]
            self.jobs[f"job-{seed}-{number}"] = JobSide(
                name=f"job-{seed}-{number}",
                secret=bytes.fromhex(sha("secret", seed, number)),
                base={task: chance.choice(["", *tasks[:n]]) for n, task in enumerate(tasks)},
                withholds=chance.choice((0.0, 0.0, 0.5, 1.0)),
            )
        kinds = [0.0, *(chance.choice((0.0, 0.0, 0.3, 1.0)) for _ in range(chance.randint(2, 5)))]
        self.operators = [
            Operator(
                key=self.key(f"operator {seed} {n}"),
                name=f"op-{n}",
                cheats=cheats,
                numerics=chance.choice(CLASSES),
                bonded=RESERVE * (jobs if n == 0 else chance.randint(1, jobs + 1)),
            )
            for n, cheats in enumerate(kinds)
        ]
        self.verifiers = [self.key(f"verifier {seed} {n}") for n in range(chance.randint(2, 4))]
        self.keys = {key.party: key for key in self.verifiers}
        self.audit_pace, self.churn = chance.choice((2, 6, 15)), chance.choice((2, 10))
        self.runs: list[Run] = []
        self.made_up: set[str] = set()
        self.acknowledged: dict[str, str] = {}

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
        return self.authority.read(view, parameters)

    def record(self, kind: str, **content: Any) -> None:
        """Evidence from the driver."""
        self.must(self.driver, "driver", Record(kind=kind, content=content))

    # -- beginning ---------------------------------------------------------------------------

    def open(self) -> None:
        """Everyone joins, pays in and bonds; the jobs open."""
        joins: list[tuple[SigningKey, str, str, str]] = [
            (self.submitter, "submitter", "sub", ""),
            *((one.key, "operator", one.name, one.numerics) for one in self.operators),
            # The first two verifiers replay every class, so that there is always a referee.
            *(
                (key, "verifier", f"v-{n}", ",".join(CLASSES[: 2 if n < 2 else 1]))
                for n, key in enumerate(self.verifiers)
            ),
        ]
        for key, role, name, numerics in joins:
            self.must(key, role, Join(name=name, numerics=numerics))
        for key in (self.submitter, *(one.key for one in self.operators)):
            self.must(self.treasury, "treasury", Deposit(party=key.party, amount_micro=DEPOSIT))
        for one in self.operators:
            self.must(one.key, "operator", Bond(amount_micro=one.bonded))
        for job in self.jobs.values():
            command = OpenJob(
                job=job.name,
                kind="sweep",
                bundle=BUNDLE,
                data_digest=DATA,
                budget_micro=DEPOSIT // len(self.jobs),
                price_micro=PRICE,
                audit_ppm=self.random.choice((0, 100_000, 300_000, 1_000_000)),
                draw_batch=self.random.randint(1, 5),
                secret_anchor=beacon.anchor_of(job.secret, LINKS).hex(),
                driver_key=self.driver.public.hex(),
            )
            self.must(self.submitter, "submitter", command)

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
            weights=(15, 25, 25, self.audit_pace, 8, 10, self.churn, 3, 1, 3),
        )[0]()

    def task_of(self, job: JobSide, task: str) -> dict[str, Any] | None:
        """The task's reading, None before its first start."""
        if task not in self.read("tasks", job=job.name):
            return None
        return self.read("task", job=job.name, trial=f"trial {task}")

    def assign(self) -> None:
        """The driver starts a task that nobody works on; the node asks where it stands."""
        taken = [(run.job, run.task) for run in self.runs]
        busy = [run.operator.party for run in self.runs]
        idle = [one for one in self.operators if one.alive and one.party not in busy]
        free = [
            (job, task)
            for job in self.jobs.values()
            for task in job.base
            if (job.name, task) not in taken
        ]
        if not idle or not free:
            return
        (job, name), operator = self.random.choice(free), self.random.choice(idle)
        before = self.task_of(job, name)
        if before is not None and before["good"] >= SEGMENTS:
            return
        attempt = 0 if before is None else before["attempt"] + 1
        command = StartTask(
            job=job.name,
            task=name,
            trial=f"trial {name}",
            spec=sha("spec", name),
            attempt=attempt,
        )
        self.must(self.driver, "driver", command)
        task = self.read("task", job=job.name, trial=f"trial {name}")
        state = task["state"]
        if not state and job.base[name] and (base := self.task_of(job, job.base[name])):
            state = base["state"]
        self.runs.append(
            Run(
                operator=operator,
                job=job.name,
                task=name,
                attempt=attempt,
                segment=task["good"],
                state=state,
            )
        )

    def request(self) -> None:
        """A node asks for its next slot and computes, or pretends to."""
        runs = [run for run in self.runs if len(run.ready) < 2 and run.segment < SEGMENTS]
        if not runs:
            return
        run = self.random.choice(runs)
        operator = run.operator
        slot = Slot(job=run.job, task=run.task, segment=run.segment, attempt=run.attempt)
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
                Reason.INSUFFICIENT_STAKE,
            ), reason

    def answer_audits(self) -> None:
        """Verifiers replay open audits, honestly."""
        waiting = self.read("audits")
        if waiting:
            count = self.random.randint(1, len(waiting)) if self.batches else 1
            answers = [self.answer(audit) for audit in self.random.sample(waiting, count)]
            assert set(self.send_all(answers)) == {""}

    def answer(self, audit: dict[str, Any]) -> Envelope:
        shown = {"job", "slot", "party", "numerics", "spec", "state_before", "urgent"}
        assert set(audit) == shown, "nothing of what was claimed"
        slot = Slot.parse(audit["slot"])
        assert audit["spec"] == sha("spec", slot.task)
        result = result_digest(*train(audit["state_before"], slot.task, slot.segment))
        verdict = {"job": audit["job"], "slot": audit["slot"], "result": result}
        return self.sign(
            self.keys[audit["party"]], "verifier", Record(kind="verdict", content=verdict)
        )

    def pass_time(self) -> None:
        self.clock.advance(self.random.choice((50, 500, 3_000, 40_000)))
        self.authority.tick()

    def reveal(self) -> None:
        """The driver shows links for rounds that wait for one, unless it withholds them."""
        for job in self.jobs.values():
            for round_ in self.read("unrevealed", job=job.name):
                if self.random.random() >= job.withholds:
                    job.revealed += 1
                    link = beacon.link_of(job.secret, LINKS, job.revealed).hex()
                    self.record("reveal", job=job.name, round=round_, link=link)

    def lose_operator(self) -> None:
        """A node drops off the network with what it had not committed; some come back."""
        if self.runs:
            run = self.runs.pop(self.random.randrange(len(self.runs)))
            # The first one stays, so that somebody can always do the work.
            run.operator.alive = run.operator is self.operators[0] or self.random.random() < 0.7

    def finish_tasks(self) -> None:
        for job in self.jobs:
            for name, task in self.read("tasks", job=job).items():
                if task["good"] >= SEGMENTS:
                    self.must(self.driver, "driver", FinishTask(job=job, task=name))

    def harden(self) -> None:
        job = self.random.choice(list(self.jobs))
        if started := list(self.read("tasks", job=job)):
            self.record("harden", job=job, tasks=[self.random.choice(started)])

    def misbehave(self) -> None:
        """Somebody asks for what is not theirs, and is refused without any effect."""
        if not self.acknowledged:
            return
        before = self.read("health")
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
        verdict = {"job": slot.job, "slot": str(slot), "result": "00" * 32}
        reveal = {"job": slot.job, "round": f"{slot.job}/round-0", "link": "00" * 32}
        ruling = {**verdict, "outcome": "REJECT"}
        tries: list[tuple[SigningKey, str, Command]] = [
            (operator.key, "operator", commitment(leaf)),
            (operator.key, "operator", Bond(amount_micro=10 * DEPOSIT)),
            (operator.key, "verifier", Record(kind="verdict", content=verdict)),
            (self.driver, "driver", Record(kind="verdict", content=verdict)),
            (self.driver, "driver", Record(kind="reveal", content=reveal)),
            (self.driver, "network", Record(kind="ruling", content=ruling)),
            (self.treasury, "submitter", CloseJob(job=slot.job)),
        ]
        for run in (run for run in self.runs if run.ready):
            forgeries: list[dict[str, Any]] = [
                {"state_before": "00" * 32},
                {"segment": run.segment + 1},
                {"numerics": "c9"},
                {"data_digest": "00" * 32},
                {"metrics": None},
                {"operator": self.submitter.party},
            ]
            tries += [
                (run.operator.key, "operator", commitment({**run.ready[0], **forgery}))
                for forgery in forgeries
            ]
            other = self.random.choice([one for one in self.operators if one is not run.operator])
            tries.append((other.key, "operator", commitment(run.ready[0])))
        for key, role, command in tries:
            assert self.send(key, role, command) != "", command
        assert self.read("health") == before

    # -- ending ------------------------------------------------------------------------------

    def crash(self) -> None:
        """The authority's process dies and another starts from the journal."""
        before = self.read("health")
        self.authority = self.boot()
        assert self.read("health") == before

    def train_to_the_end(self) -> None:
        """The driver does not give up before every task has all its segments, all judged."""
        for _ in range(300):
            if all(self.is_whole(job) for job in self.jobs.values()):
                return
            for what in (self.assign, self.request, self.request, self.commit, self.commit):
                what()
            self.settle_down()
        raise AssertionError("the jobs do not end")

    def is_whole(self, job: JobSide) -> bool:
        tasks = self.read("tasks", job=job.name)
        return len(tasks) == len(job.base) and all(
            task["good"] == SEGMENTS and not task["unjudged"] for task in tasks.values()
        )

    def settle_down(self) -> None:
        """Have everything drawn and every audit answered."""
        for job in self.jobs:
            self.record("harden", job=job, tasks=[])
        self.reveal()
        self.clock.advance(6_000)
        self.authority.tick()
        while self.read("audits"):
            self.answer_audits()

    def close(self) -> None:
        for job in self.jobs:
            self.must(self.driver, "driver", CloseJob(job=job))

    def let_appeals_lapse(self) -> None:
        self.clock.advance(self.config.parameters.appeal_ms)
        self.authority.tick()


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


def check_the_guilty_were_caught(world: World, entries: list[Entry]) -> None:
    events = [event for entry in entries for event in entry.events]
    records = [event for event in events if isinstance(event, Recorded)]
    drawn = {
        one["slot"] for event in records if event.kind == "draw" for one in event.content["drawn"]
    }
    rounds = {event.content["round"]: event.content for event in records if event.kind == "round"}
    for draw in (event.content for event in records if event.kind == "draw"):
        round_ = rounds[draw["round"]]
        if not draw["secret"] or round_["rate_ppm"] == 1_000_000:
            assert [one["slot"] for one in draw["drawn"]] == round_["slots"]
    rulings = [event.content for event in records if event.kind == "ruling"]
    outcomes = {ruling["slot"]: ruling["outcome"] for ruling in rulings}
    assert len(outcomes) == len(rulings), "a segment is ruled on once"
    assert all(ruling["verifier"] != ruling["referee"] for ruling in rulings)
    assert set(outcomes) <= drawn, "only what was drawn is ruled on"
    assert set(outcomes.values()) <= {Outcome.ACCEPT, Outcome.REJECT}
    for slot, outcome in outcomes.items():
        assert (outcome == Outcome.REJECT) == (slot in world.made_up), slot
    guilty = {world.acknowledged[slot] for slot in world.made_up & drawn}
    ruled = {world.acknowledged[slot] for slot in world.made_up & set(outcomes)}
    tombstoned = set(world.authority.settlement.tombstoned)
    assert tombstoned == guilty == ruled
    honest = {operator.party for operator in world.operators if not operator.cheats}
    assert not tombstoned & honest, "an honest operator is never slashed"


def check_everyone_was_paid(world: World, entries: list[Entry]) -> None:
    settled: Counter[str] = Counter()
    unpaid: set[str] = set()
    released: Counter[str] = Counter()
    caught: set[str] = set()
    committed: set[str] = set()
    for event in (event for entry in entries for event in entry.events):
        match event:
            case SlotCommitted():
                committed.add(event.slot)
            case SlotSettled():
                settled[event.slot] += 1
                if not event.paid:
                    unpaid.add(event.slot)
            case Tombstoned():
                caught.add(event.operator)
            case JobClosed():
                for slot, party in world.acknowledged.items():
                    if slot.startswith(f"{event.job}/") and party not in caught:
                        assert slot not in unpaid, "whoever was not caught is paid for everything"
                        released[party] += PRICE
            case _:
                pass
    assert committed == set(world.acknowledged), "acknowledged is what is in the journal"
    assert settled == Counter(committed), "each acknowledged segment is settled exactly once"
    listed = {one["id"]: one for one in world.read("operators")}
    for operator in world.operators:
        one, is_caught = listed[operator.party], operator.party in caught
        assert one["state"] == ("tombstoned" if is_caught else "active")
        assert one["held_micro"] == 0
        assert one["earned_micro"] == (0 if is_caught else released[operator.party])
        assert one["available_micro"] == DEPOSIT - operator.bonded + released[operator.party]
        assert one["slashed_micro"] == (RESERVE if is_caught else 0)
        assert one["stake_micro"] == operator.bonded - one["slashed_micro"]

    book = world.authority.journal.book
    assert book.balances.total_micro() == 0
    assert book.balances[accounts.EXTERNAL] == -(1 + len(world.operators)) * DEPOSIT
    assert {slash.state for slash in book.slashes.values()} <= {SlashState.DISTRIBUTED}
    kept = book.balances[accounts.JACKPOT] + book.balances[accounts.BURN]
    made_good = RESERVE * len(caught) - kept
    jobs = [world.authority.settlement.jobs[name] for name in world.jobs]
    void = sum(segment.void for job in jobs for segment in job.segments.values())
    assert 0 <= made_good <= PRICE * void, "only work that was spoilt is made good"
    spent = DEPOSIT - book.balances[accounts.available(world.submitter.party)]
    assert spent == sum(released.values()) - made_good


def check_chains(world: World) -> None:
    """What the data scientist gets: unbroken chains without a proven cheat's inventions."""
    tombstoned = world.authority.settlement.tombstoned
    for job in (world.authority.settlement.jobs[name] for name in world.jobs):
        for name, task in job.tasks.items():
            before = None
            for number, slot in enumerate(task.good):
                segment = job.segments[slot]
                assert (segment.slot.task, segment.slot.segment) == (name, number)
                assert before is None or segment.leaf["state_before"] == before
                before = segment.leaf["state_after"]
                assert not segment.void
                if slot in world.made_up:
                    assert segment.operator not in tombstoned
                    assert segment.drawn is False


def check_restart(world: World) -> None:
    """The journal alone gives the same network."""
    again = world.boot()
    again.tick()
    views: list[tuple[str, dict[str, str]]] = [("health", {}), ("operators", {}), ("audits", {})]
    for job in world.jobs:
        views += [(view, {"job": job}) for view in ("job", "tasks", "operators", "receipts")]
        views += [
            ("task", {"job": job, "trial": f"trial {task}"})
            for task in world.read("tasks", job=job)
        ]
    views += [
        ("balance", {"party": key.party})
        for key in (world.submitter, *(one.key for one in world.operators))
    ]
    for view, parameters in views:
        assert again.read(view, parameters) == world.authority.read(view, parameters), view


def simulate(seed: int, path: Path, *, jobs: int = 1, batches: bool = False) -> World:
    """One whole life of a network; raises `AssertionError` at the first thing that is wrong."""
    world = World(seed, jobs=jobs, batches=batches)
    world.open()
    steps = world.random.randint(60, 140) * jobs
    crash_at = world.random.randrange(2 * steps)
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
    world.let_appeals_lapse()
    check_books(world)
    entries = entries_of(world, path)
    check_the_guilty_were_caught(world, entries)
    check_everyone_was_paid(world, entries)
    check_chains(world)
    check_restart(world)
    return world


@pytest.mark.parametrize("seed", range(SEEDS))
def test_everyone_gets_what_is_theirs(seed: int, tmp_path: Path) -> None:
    jobs, batches = 1 + (seed % 3 == 1), seed % 2 == 1
    try:
        simulate(seed, tmp_path / "flat", jobs=jobs, batches=batches)
    except (AssertionError, RuntimeError) as error:
        raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.soak
def test_everyone_gets_what_is_theirs_over_many_more_seeds(tmp_path: Path) -> None:
    for seed in range(1_000, 1_000 + SOAK_SEEDS):
        try:
            simulate(seed, tmp_path / "flat", jobs=1 + (seed % 3 == 1), batches=seed % 2 == 1)
        except (AssertionError, RuntimeError) as error:
            raise AssertionError(f"seed {seed}: {error}") from error
