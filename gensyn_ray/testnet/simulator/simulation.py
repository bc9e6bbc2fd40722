"""One simulated network: its parties, a random schedule of their steps, and the end of a run."""

import random
from pathlib import Path
from typing import Any

from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.testnet.simulator import checks
from gensyn_ray.testnet.simulator.drivers import Driver
from gensyn_ray.testnet.simulator.invalid import send_invalid
from gensyn_ray.testnet.simulator.network import (
    BUNDLE,
    DATA,
    DEPOSIT_MICRO,
    LINKS,
    PRICE_MICRO,
    RESERVE_MICRO,
    Network,
    key_of,
)
from gensyn_ray.testnet.simulator.operators import BEHAVIOURS, HONEST, Operator, Operators
from gensyn_ray.testnet.simulator.training import digest_of
from gensyn_ray.testnet.simulator.verifiers import Verifier
from ledger.core.commands import Bond, Deposit, Join, OpenJob
from verifier_actors.core import beacon

CLASSES = ("c1", "c2")
"""Numerics classes of operators and verifiers."""


class Simulation:
    """A network, its jobs and its parties, driven by one seed.

    `batches`: verdicts reach the authority several at a time, as under load.
    """

    def __init__(self, seed: int, *, jobs: int = 1, batches: bool = False) -> None:
        self.random = chance = random.Random(seed)
        self.network = Network(seed)
        self.batches = batches
        self.drivers = {
            driver.job: driver for driver in (self._driver(seed, number) for number in range(jobs))
        }
        behaviours = [HONEST, *(chance.choice(BEHAVIOURS) for _ in range(chance.randint(2, 5)))]
        cast = [
            Operator(
                key=key_of(f"operator {seed} {n}"),
                name=f"op-{n}",
                behaviour=behaviour,
                numerics=chance.choice(CLASSES),
                bonded_micro=RESERVE_MICRO * (jobs if n == 0 else chance.randint(1, jobs + 1)),
            )
            for n, behaviour in enumerate(behaviours)
        ]
        self.operators = Operators(self.network, chance, cast)
        verifiers = [
            Verifier(
                self.network,
                key=key_of(f"verifier {seed} {n}"),
                name=f"v-{n}",
                # The first two replay every class: there is always a referee.
                numerics=",".join(CLASSES[: 2 if n < 2 else 1]),
            )
            for n in range(chance.randint(2, 4))
        ]
        self.verifiers = {verifier.key.party: verifier for verifier in verifiers}
        audit_pace, churn = chance.choice((2, 6, 15)), chance.choice((2, 10))
        self._schedule = {
            self.assign: 15,
            self.operators.request: 25,
            self.operators.commit: 25,
            self.answer_audits: audit_pace,
            self.pass_time: 8,
            self.show_links: 10,
            self.operators.lose_one: churn,
            self.finish_tasks: 3,
            self.audit_fully: 1,
            self.send_invalid: 3,
        }

    def _driver(self, seed: int, number: int) -> Driver:
        tasks = [f"t{n:03d}" for n in range(self.random.randint(2, 5))]
        return Driver(
            self.network,
            job=f"job-{seed}-{number}",
            secret=bytes.fromhex(digest_of("secret", seed, number)),
            base={task: self.random.choice(["", *tasks[:n]]) for n, task in enumerate(tasks)},
            withholds=self.random.choice((0.0, 0.0, 0.5, 1.0)),
        )

    # -- the beginning -----------------------------------------------------------------------

    def open(self) -> None:
        """All parties join, pay in and bond; the jobs open."""
        network, operators = self.network, self.operators.all
        joins: list[tuple[SigningKey, str, str, str]] = [
            (network.submitter, "submitter", "sub", ""),
            *((one.key, "operator", one.name, one.numerics) for one in operators),
            *((one.key, "verifier", one.name, one.numerics) for one in self.verifiers.values()),
        ]
        for key, role, name, numerics in joins:
            network.must(key, role, Join(name=name, numerics=numerics))
        for key in (network.submitter, *(one.key for one in operators)):
            deposit = Deposit(party=key.party, amount_micro=DEPOSIT_MICRO)
            network.must(network.treasury, "treasury", deposit)
        for one in operators:
            network.must(one.key, "operator", Bond(amount_micro=one.bonded_micro))
        for driver in self.drivers.values():
            network.must(network.submitter, "submitter", self._open_job(driver))

    def _open_job(self, driver: Driver) -> OpenJob:
        return OpenJob(
            job=driver.job,
            kind="sweep",
            bundle=BUNDLE,
            data_digest=DATA,
            budget_micro=DEPOSIT_MICRO // len(self.drivers),
            price_micro=PRICE_MICRO,
            audit_ppm=self.random.choice((0, 100_000, 300_000, 1_000_000)),
            draw_batch=self.random.randint(1, 5),
            secret_anchor=beacon.anchor_of(driver.secret, LINKS).hex(),
            driver_key=self.network.driver.public.hex(),
        )

    # -- steps -------------------------------------------------------------------------------

    def step(self) -> None:
        """One random party takes one random step."""
        (step,) = self.random.choices(list(self._schedule), list(self._schedule.values()))
        step()

    def assign(self) -> None:
        """A driver starts a task that has no node, on an idle operator."""
        taken = [(one.job, one.task) for one in self.operators.attempts]
        idle = self.operators.idle()
        free = [
            (driver, task)
            for driver in self.drivers.values()
            for task in driver.base
            if (driver.job, task) not in taken
        ]
        if not idle or not free:
            return
        (driver, task), operator = self.random.choice(free), self.random.choice(idle)
        if (attempt := driver.start(task, operator)) is not None:
            self.operators.attempts.append(attempt)

    def answer_audits(self) -> None:
        """Verifiers answer one open audit, or with `batches` several at once."""
        waiting: list[dict[str, Any]] = self.network.read("audits")
        if waiting:
            count = self.random.randint(1, len(waiting)) if self.batches else 1
            verdicts = [
                self.verifiers[audit["party"]].answer(audit)
                for audit in self.random.sample(waiting, count)
            ]
            assert set(self.network.send_all(verdicts)) == {""}

    def pass_time(self) -> None:
        """Some time passes: milliseconds, or more than most deadlines."""
        self.network.pass_time(self.random.choice((50, 500, 3_000, 40_000)))

    def show_links(self) -> None:
        for driver in self.drivers.values():
            driver.show_links(self.random)

    def finish_tasks(self) -> None:
        for driver in self.drivers.values():
            driver.finish_tasks()

    def audit_fully(self) -> None:
        self.random.choice(list(self.drivers.values())).audit_fully(self.random)

    def send_invalid(self) -> None:
        send_invalid(self.network, self.operators, self.random)

    # -- the end -----------------------------------------------------------------------------

    def train_to_the_end(self) -> None:
        """Continue until every task has all its segments, all judged."""
        for _ in range(300):
            if all(driver.is_whole() for driver in self.drivers.values()):
                return
            self.assign()
            for step in (self.operators.request, self.operators.commit):
                step()
                step()
            self.settle_down()
        raise AssertionError("the jobs do not end")

    def settle_down(self) -> None:
        """Have every batch drawn and every audit answered."""
        for driver in self.drivers.values():
            driver.flush()
        self.show_links()
        self.network.pass_time(6_000)
        while self.network.read("audits"):
            self.answer_audits()

    def close(self) -> None:
        """Close all jobs."""
        for driver in self.drivers.values():
            driver.close()

    def let_appeals_lapse(self) -> None:
        """Let the time for appeals pass: slashes are distributed."""
        self.network.pass_time(self.network.config.parameters.appeal_ms)


def simulate(seed: int, path: Path, *, jobs: int = 1, batches: bool = False) -> Simulation:
    """One network from its start to the end of its jobs; the journal is exported to `path`.

    Raises `AssertionError`, with the seed, at the first check that fails.
    """
    try:
        return _simulate(seed, path, jobs=jobs, batches=batches)
    except (AssertionError, RuntimeError) as error:
        raise AssertionError(f"seed {seed}, {jobs} jobs, {batches=}: {error}") from error


def _simulate(seed: int, path: Path, *, jobs: int, batches: bool) -> Simulation:
    world = Simulation(seed, jobs=jobs, batches=batches)
    world.open()
    steps = world.random.randint(60, 140) * jobs
    crash_at = world.random.randrange(2 * steps)
    for step in range(steps):
        world.step()
        checks.check_books(world)
        if step == crash_at:
            world.network.crash()
    ends = (world.train_to_the_end if seed % 3 else world.settle_down, world.close)
    for end in (*ends, world.let_appeals_lapse):
        end()
        checks.check_books(world)
    checks.check_all(world, path)
    return world


def shape_of(seed: int) -> tuple[int, bool]:
    """The number of jobs and `batches` that a seed stands for where many seeds are run."""
    return 1 + (seed % 3 == 1), seed % 2 == 1
