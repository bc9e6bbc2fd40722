"""An authority over months of random challenges, audits, cheats, jumps of time and settings. Its
own commands are never refused, because a refusal would end it, and the books are correct."""

import contextlib
import random
from collections.abc import Callable

import pytest

from gensyn_ray.domain.evidence import Flush, FullAudit
from ledger.core import invariants
from ledger.core.commands import (
    CloseJob,
    Command,
    FinishTask,
    Jail,
    OpenChallenge,
    Record,
    ReportEquivocation,
    ResolveChallenge,
    ReverseSlash,
    SetParameters,
    Unbond,
    Withdraw,
)
from ledger.core.parameters import Parameters
from tests.kits import ledger_kit
from tests.kits.amounts import soak_or_proof
from tests.kits.authority_kit import AuthorityKit, sign_for
from tests.kits.ledger_kit import party_of

OPERATORS = ("op-a", "op-b")
JUMPS_MS = (1, 1, 1, 50, 50, 6_000, 6_000, 12_000, 31_000, 400_000, 1_000_000, 2_100_000)


class Life:
    """One network. `step` takes one random action."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        rate_ppm = self.chance.choice((0, 300_000, 1_000_000))
        self.kit = AuthorityKit().begin(audit_ppm=rate_ppm, draw_batch=self.chance.randint(1, 3))
        self.challenges = 0

    def step(self) -> None:
        steps: list[tuple[Callable[[], object], int]] = [
            (self.work, 30),
            (self.reveal, 10),
            (lambda: self.kit.replay(honest=self.chance.random() < 0.8), 10),
            (self.jump, 8),
            (self.challenge, 6),
            (self.resolve, 3),
            (self.new_attempt, 4),
            (lambda: self.say("driver", "driver", FinishTask(job="job-1", task=self.task())), 1),
            (lambda: self.say("driver", "driver", CloseJob(job="job-1")), 1),
            (self.harden, 3),
            (self.equivocate, 1),
            (self.unbond, 3),
            (self.withdraw, 2),
            (self.jail, 1),
            (self.reverse, 2),
            (self.change_settings, 1),
        ]
        (act,) = self.chance.choices([one for one, _ in steps], [many for _, many in steps])
        act()
        assert invariants.check(self.kit.authority.journal.book) == []

    def say(self, name: str, role: str, command: Command) -> None:
        self.kit.send(name, role, command)

    def task(self) -> str:
        return self.chance.choice(("task-0", "task-1"))

    def operator(self) -> str:
        return self.chance.choice(OPERATORS)

    def work(self) -> None:
        """Compute the next segment of a task, honestly or not."""
        task = self.task()
        job = self.kit.authority.settlement.jobs["job-1"]
        entry = self.kit.authority.journal.book.jobs["job-1"].tasks[task]
        segment, attempt = len(job.tasks[task].good), entry.attempt
        slot = f"job-1/{task}/{segment}/{attempt}"
        name = self.operator()
        self.say(name, "operator", self.kit.request(slot))
        changes: dict[str, str] = {}
        if segment:
            last = job.segments[job.tasks[task].good[-1]]
            changes["state_before"] = last.leaf.state_after
        if self.chance.random() < 0.1:
            changes["state_after"] = f"made up {self.chance.random()}"
        self.say(name, "operator", self.kit.answer(name, slot, **changes))

    def reveal(self) -> None:
        with contextlib.suppress(StopIteration, AssertionError):
            self.kit.reveal()

    def jump(self) -> None:
        self.kit.pass_time(self.chance.choice(JUMPS_MS))

    def slot(self) -> str:
        slots = list(self.kit.authority.settlement.jobs["job-1"].segments)
        return self.chance.choice(slots) if slots else "job-1/task-0/0/0"

    def challenge(self) -> None:
        self.challenges += 1
        name, role = self.chance.choice([("submitter", "submitter"), ("op-a", "operator")])
        command = OpenChallenge(challenge=f"d-{self.challenges}", slot=self.slot(), claim="odd")
        self.say(name, role, command)

    def resolve(self) -> None:
        name = f"d-{self.chance.randint(0, self.challenges)}"
        self.kit.authority.submit([])
        book = self.kit.authority.journal.book
        if name in book.challenges and book.challenges[name].state == "open":
            upheld = self.chance.random() < 0.5
            command = ResolveChallenge(challenge=name, upheld=upheld, reason="people")
            self.as_network(command)

    def as_network(self, command: Command) -> None:
        """A command that the network's runner sends with the network's key."""
        self.kit.authority._do(command)
        self.kit.authority.tick()

    def new_attempt(self) -> None:
        task = self.task()
        attempt = self.kit.authority.journal.book.jobs["job-1"].tasks[task].attempt + 1
        self.say("driver", "driver", ledger_kit.start_task("job-1", task, attempt))

    def harden(self) -> None:
        tasks = self.chance.choice([[], ["task-0"], ["task-1"]])
        evidence = FullAudit(job="job-1", tasks=tasks) if tasks else Flush(job="job-1")
        self.say("driver", "driver", Record(evidence=evidence))

    def equivocate(self) -> None:
        slot, name = self.slot(), self.operator()
        answers = [self.kit.answer(name, slot, state_after=text) for text in ("x", "y")]
        first, second = (sign_for(self.kit, name, one) for one in answers)
        command = ReportEquivocation(slot=slot, first=first, second=second)
        self.say("v-1", "verifier", command)

    def unbond(self) -> None:
        amount = self.chance.choice((5, 400, 900))
        self.say(self.operator(), "operator", Unbond(amount_micro=amount))

    def withdraw(self) -> None:
        self.say(self.operator(), "operator", Withdraw(amount_micro=self.chance.choice((5, 9_000))))

    def jail(self) -> None:
        party = party_of(self.operator())
        if not self.kit.authority.journal.book.parties[party].tombstoned:
            until_ms = self.kit.clock() + 5_000
            self.as_network(Jail(operator=party, until_ms=until_ms, reason="absent"))

    def reverse(self) -> None:
        command = ReverseSlash(operator=party_of(self.operator()), reason="appeal")
        with contextlib.suppress(AssertionError):
            self.kit.treasury(command)

    def change_settings(self) -> None:
        fields = {name: getattr(self.kit.parameters, name) for name in Parameters.__slots__}
        fields["holdback_ms"] = self.chance.choice((0, 10_000, 100_000))
        fields["unbonding_ms"] = self.chance.choice((1_200_000, 2_500_000))
        self.kit.treasury(SetParameters(parameters=Parameters(**fields)))


def live(seed: int, steps: int) -> None:
    life = Life(seed)
    try:
        for _ in range(steps):
            life.step()
        for jump_ms in (2_000_000, 4_000_000, 4_000_000):
            life.kit.pass_time(jump_ms)
        book = life.kit.authority.journal.book
        assert invariants.check(book) == []
        assert book.jobs["job-1"].closed, "a job does not outlive its time"
        held = [one for one in book.slashes.values() if one.state.value == "held"]
        assert held == [], "every slash was given out or back"
        again = life.kit.boot()
        assert again.read("operators", {}) == life.kit.authority.read("operators", {})
    except (AssertionError, RuntimeError, KeyError) as error:
        raise AssertionError(f"seed {seed}: {error!r}") from error


@pytest.mark.parametrize("seed", range(25))
def test_an_authority_survives_random_months(seed: int) -> None:
    live(seed, 120)


@pytest.mark.parametrize("seeds", soak_or_proof(soak=100, proof=1_000))
def test_many_authorities_survive_random_months(seeds: int) -> None:
    for seed in range(1_000, 1_000 + seeds):
        live(seed, 250)
