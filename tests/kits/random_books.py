"""Random commands, mostly valid, for the ledger's pure core.

    python -m tests.kits.random_books --operations 10000 --seeds 1000      ten million operations

Commands have no signatures: other tests check the rights of signers, and a signature costs more
time than the rest of a command. Each seed is a separate network. Its times are short, so that all
timed transitions happen.
"""

import argparse
import hashlib
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache

from gensyn_ray.domain import merkle
from gensyn_ray.domain.evidence import Flush
from gensyn_ray.domain.ids import Slot, party_id
from gensyn_ray.domain.leaf import Leaf
from gensyn_ray.domain.signing import Envelope, SigningKey
from ledger.core import accounts, commands, events, invariants, orders
from ledger.core.book import Book
from ledger.core.book_state import ChallengeState, JobEntry, SlashState, SlotState, Standing
from ledger.core.commands import Command
from ledger.core.decide import decide
from ledger.core.machines import kind_of
from ledger.core.orders import Header, Order
from ledger.core.parameters import Parameters
from ledger.core.refusals import Rejected

FULL_CHECK_EVERY = 250
SETTINGS = Parameters(
    reserve_micro=100,
    challenge_bond_micro=7,
    job_ms=4_000,
    holdback_ms=300,
    challenge_ms=500,
    appeal_ms=400,
    unbonding_ms=5_000,
    evidence_ms=6_000,
    proposal_ms=900,
    reporter_ppm=100_000,
    jackpot_ppm=300_000,
)
SUBMITTERS = ("sub-0", "sub-1")
OPERATORS = ("op-0", "op-1", "op-2", "op-3")
VERIFIERS = ("ver-0", "ver-1")
TREASURY = ("treasury-0", "treasury-1", "treasury-2")
ROLE_OF = {
    **dict.fromkeys(SUBMITTERS, "submitter"),
    **dict.fromkeys(OPERATORS, "operator"),
    **dict.fromkeys(VERIFIERS, "verifier"),
    **dict.fromkeys(TREASURY, "treasury"),
    "network": "network",
    "driver": "driver",
}
Transition = tuple[str, str, str, str]


@cache
def key_of(name: str) -> SigningKey:
    return SigningKey(hashlib.sha256(name.encode()).digest())


@cache
def party_of(name: str) -> str:
    return party_id(key_of(name).public)


NAME_OF = {party_of(name): name for name in ROLE_OF}


@dataclass(kw_only=True)
class Summary:
    """Counts over some operations. `transitions`: (machine, state before, event, state after)."""

    operations: int = 0
    accepted: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    transitions: set[Transition] = field(default_factory=set[Transition])
    flows: set[tuple[str, str, str, str]] = field(default_factory=set[tuple[str, str, str, str]])
    """(memo, kind of debit, kind of credit, operation)."""

    def add(self, other: "Summary") -> None:
        self.operations += other.operations
        self.accepted += other.accepted
        self.refused += other.refused
        self.transitions |= other.transitions
        self.flows |= other.flows


class RandomBooks:
    """One network under random commands."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.book = Book()
        self.now_ms = 1_000_000
        self.history: list[events.Event] = []
        self.summary = Summary()
        self._sent = 0
        self._jobs = 0
        found = commands.Found(
            network="random",
            network_key=key_of("network").public.hex(),
            treasury_keys=[key_of(name).public.hex() for name in TREASURY],
            treasury_threshold=2,
            beacon_anchor="00" * 32,
            vetted=[],
            parameters=SETTINGS,
        )
        self.send("network", found)
        for name in (*SUBMITTERS, *OPERATORS, *VERIFIERS):
            self.send(name, commands.Join(name=name, numerics="c"))
            self.mint(name, 3_000)
        for name in (*OPERATORS, *VERIFIERS):
            self.send(name, commands.Bond(amount_micro=1_000))

    # -- sending -----------------------------------------------------------------------------

    def send(self, name: str, command: Command, role: str = "") -> bool:
        """Decide, check and apply a command; returns whether it was accepted."""
        self._sent += 1
        header = Header(
            network="random",
            genesis="genesis",
            key=key_of(name).public.hex(),
            role=role or ROLE_OF[name],
            operation=type(command).__name__,
            nonce=str(self._sent),
            expiry_ms=self.now_ms + 10,
            head="",
        )
        envelope = Envelope(body=str(self._sent).encode(), signature=b"")
        decision = decide(
            self.book, Order(header=header, command=command, envelope=envelope), self.now_ms
        )
        self.summary.operations += 1
        if isinstance(decision, Rejected):
            self.summary.refused[header.operation, decision.reason.value] += 1
            return False
        self.summary.accepted[header.operation] += 1
        for event in decision.events:
            self._apply(event, header.operation)
        self.history += decision.events
        assert self.book.balances.total_micro() == 0
        return True

    def mint(self, name: str, amount_micro: int) -> None:
        """Propose with one treasury key and approve with another."""
        deposit = commands.Deposit(party=party_of(name), amount_micro=amount_micro)
        if self.send(TREASURY[0], deposit):
            self.send(TREASURY[1], commands.Approve(proposal=list(self.book.proposals)[-1]))

    def _apply(self, event: events.Event, operation: str) -> None:
        if isinstance(event, events.Moved):
            kinds = kind_of(event.debit), kind_of(event.credit)
            self.summary.flows.add((event.memo, *kinds, operation))
        if isinstance(event, events.Tombstoned):
            self._check_slash(event)
        before = dict(self._states(event))
        self.book.apply(event)
        for name, state in self._states(event):
            machine, _ = name
            again = machine == "standing" and isinstance(event, events.Jailed)
            if again or state != before.get(name, ""):
                step = (machine, before.get(name, ""), type(event).__name__, state)
                self.summary.transitions.add(step)

    def _check_slash(self, event: events.Tombstoned) -> None:
        """Check a slash. The stake has moved already; the slashed amount backed the job."""
        held = self.book.balances[accounts.slashed(event.job, event.operator)]
        assert event.slashed_micro == held
        assert held <= self.book.jobs[event.job].backing_micro[event.operator]

    def _states(self, event: events.Event) -> Iterator[tuple[tuple[str, str], str]]:
        """(machine, name) -> state, of all records that an event may change."""
        book = self.book
        match event:
            case (
                events.SlotIssued()
                | events.SlotCommitted()
                | events.SlotSettled()
                | events.SlotReleased()
            ):
                if (entry := book.slot(event.slot)) is not None:
                    yield ("slot", event.slot), entry.state.value
            case events.TaskStarted() | events.TaskFinished():
                prefix = f"{event.job}/{event.task}/"
                for slot, entry in book.jobs[event.job].slots.items():
                    if slot.startswith(prefix):
                        yield ("slot", slot), entry.state.value
            case events.JobOpened() | events.JobClosed():
                if (job := book.jobs.get(event.job)) is not None:
                    yield ("job", event.job), job.state.value
                    for slot, entry in job.slots.items():
                        yield ("slot", slot), entry.state.value
            case events.PartyJoined():
                yield from self._standing(event.party)
            case events.Jailed() | events.Unjailed() | events.SlashReversed():
                yield from self._standing(event.operator)
                yield from self._slash(event.operator)
            case events.SlashDistributed():
                yield from self._slash(event.operator)
            case events.Tombstoned():
                yield from self._standing(event.operator)
                yield from self._slash(event.operator)
                for job in book.jobs.values():
                    for slot, entry in job.slots.items():
                        if entry.operator == event.operator:
                            yield ("slot", slot), entry.state.value
            case events.ChallengeOpened() | events.ChallengeEnded():
                if (challenge := book.challenges.get(event.challenge)) is not None:
                    yield ("challenge", event.challenge), challenge.state.value
            case _:
                pass

    def _standing(self, party: str) -> Iterator[tuple[tuple[str, str], str]]:
        if (entry := self.book.parties.get(party)) is not None:
            yield ("standing", party), entry.standing.value

    def _slash(self, operator: str) -> Iterator[tuple[tuple[str, str], str]]:
        if (slash := self.book.slashes.get(operator)) is not None:
            yield ("slash", operator), slash.state.value

    # -- random commands ---------------------------------------------------------------------

    def step(self) -> None:
        """Send one random command at a random later time."""
        self.now_ms += self.chance.choice((0, 0, 1, 5, 40))
        if self.chance.random() < 0.003:
            self.now_ms += self.chance.choice((600, 3_000, 7_000))
        (kind,) = self.chance.choices(_NAMES, _WEIGHTS)
        asked = kind(self)
        if asked is not None:
            self.send(*asked)

    def operator(self) -> str:
        return self.chance.choice(OPERATORS)

    def anyone(self) -> str:
        return self.chance.choice((*SUBMITTERS, *OPERATORS, *VERIFIERS))

    def amount(self) -> int:
        return self.chance.choice((0, -1, 1, 5, 60, 150, 700, 10**18 + 1))

    def job(self) -> str:
        """Mostly an open job, sometimes any job, rarely a job that does not exist."""
        open_jobs = [name for name, job in self.book.jobs.items() if not job.closed]
        if open_jobs and self.chance.random() < 0.9:
            return self.chance.choice(open_jobs)
        return self.chance.choice([*self.book.jobs, "job-none"])

    def proof(self) -> str:
        """A slot for an accusation, of closed jobs as often as of open ones."""
        closed = [name for name, job in self.book.jobs.items() if job.closed]
        name = self.chance.choice(closed) if closed and self.chance.random() < 0.5 else self.job()
        return self.slot(*SlotState, job=name)

    def slot(self, *states: SlotState, job: str = "") -> str:
        """A slot in one of these states, or a slot that was never issued."""
        return self._slot_of(self.book.jobs.get(job or self.job()), states)

    def _slot_of(self, job: JobEntry | None, states: Sequence[SlotState]) -> str:
        if job is None:
            return "job-none/t/0/0"
        found = [slot for slot, entry in job.slots.items() if entry.state in states]
        return self.chance.choice(found) if found else f"{job.opened.job}/t-0/99/0"

    def holder_of(self, slot: str) -> str:
        entry = self.book.slot(slot)
        if entry is None or self.chance.random() < 0.05:
            return self.operator()
        return NAME_OF[entry.operator]


Asked = tuple[str, Command] | None


def deposit(books: RandomBooks) -> Asked:
    name = books.anyone()
    command = commands.Deposit(party=party_of(name), amount_micro=books.amount())
    return books.chance.choice(TREASURY), command


def grant(books: RandomBooks) -> Asked:
    command = commands.Grant(
        party=party_of(books.anyone()), amount_micro=books.chance.randint(0, 5), reason="r"
    )
    return books.chance.choice(TREASURY), command


def correct(books: RandomBooks) -> Asked:
    places = [
        *("treasury", "jackpot", "burn", "external"),
        *(accounts.available(party_of(books.anyone())) for _ in range(4)),
    ]
    command = commands.Correct(
        debit=books.chance.choice(places),
        credit=books.chance.choice(places),
        amount_micro=books.chance.randint(0, 4),
        entry=0,
        reason="r",
    )
    return books.chance.choice(TREASURY), command


def set_parameters(books: RandomBooks) -> Asked:
    fields = {name: getattr(SETTINGS, name) for name in Parameters.__slots__}
    name = books.chance.choice(["holdback_ms", "reserve_micro", "unbonding_ms", "jackpot_ppm"])
    fields[name] = books.chance.choice([0, 50, fields[name], fields[name], fields[name] + 1])
    return books.chance.choice(TREASURY), commands.SetParameters(parameters=Parameters(**fields))


def reverse_slash(books: RandomBooks) -> Asked:
    held = [name for name, one in books.book.slashes.items() if one.state is SlashState.HELD]
    operator = books.chance.choice([*held, party_of(books.operator())])
    command = commands.ReverseSlash(operator=operator, reason="r")
    return books.chance.choice(TREASURY), command


def approve(books: RandomBooks) -> Asked:
    proposal = books.chance.choice([*list(books.book.proposals)[-4:], "none"])
    return books.chance.choice(TREASURY), commands.Approve(proposal=proposal)


def join(books: RandomBooks) -> Asked:
    return books.anyone(), commands.Join(name=books.chance.choice(["again", "a b"]))


def withdraw(books: RandomBooks) -> Asked:
    return books.anyone(), commands.Withdraw(amount_micro=books.amount())


def bond(books: RandomBooks) -> Asked:
    return books.anyone(), commands.Bond(amount_micro=books.amount())


def unbond(books: RandomBooks) -> Asked:
    """A part of the free stake or all of it. After all of it, a slash must cut unbonding stake."""
    name = books.anyone()
    free_micro = books.book.balances[accounts.free_stake(party_of(name))]
    amount_micro = books.chance.choice([books.amount(), free_micro])
    return name, commands.Unbond(amount_micro=amount_micro)


def mature(books: RandomBooks) -> Asked:
    waiting = [party for party, one in books.book.parties.items() if one.unbonding]
    party = books.chance.choice(waiting or [party_of(books.operator())])
    return books.chance.choice(["network", NAME_OF[party], books.operator()]), commands.Mature(
        party=party
    )


def jail(books: RandomBooks) -> Asked:
    until_ms = books.now_ms + books.chance.choice((0, 20, 300))
    command = commands.Jail(operator=party_of(books.anyone()), until_ms=until_ms, reason="r")
    return "network", command


def unjail(books: RandomBooks) -> Asked:
    jailed = [
        NAME_OF[party]
        for party, one in books.book.parties.items()
        if one.standing is Standing.JAILED
    ]
    return books.chance.choice([*jailed, *jailed, books.operator()]), commands.Unjail()


def open_job(books: RandomBooks) -> Asked:
    books._jobs += books.chance.random() < 0.9
    command = commands.OpenJob(
        job=f"job-{books._jobs}",
        kind="k",
        bundle="b",
        data_digest="d",
        budget_micro=books.chance.choice((0, 35, 150, 400)),
        price_micro=books.chance.choice((3, 10)),
        audit_ppm=0,
        draw_batch=1,
        secret_anchor="00" * 32,
        driver_key=key_of("driver").public.hex(),
    )
    return books.chance.choice(SUBMITTERS), command


def start_task(books: RandomBooks) -> Asked:
    job, task = books.job(), f"t-{books.chance.randrange(3)}"
    known = books.book.jobs.get(job)
    before = known.tasks.get(task) if known else None
    attempt = 0 if before is None else before.attempt + books.chance.choice((0, 1, 1, 1))
    command = commands.StartTask(job=job, task=task, trial=task, spec="s", attempt=attempt)
    return "driver", command


def finish_task(books: RandomBooks) -> Asked:
    task = f"t-{books.chance.randrange(4)}"
    return "driver", commands.FinishTask(job=books.job(), task=task)


def request_slot(books: RandomBooks) -> Asked:
    name = books.job()
    job = books.book.jobs.get(name)
    tasks = list(job.tasks) if job else []
    task = books.chance.choice([*tasks, *tasks, "t-none"])
    entry = job.tasks.get(task) if job else None
    segment = books.chance.randrange(12)
    command = commands.RequestSlot(
        job=name, task=task, segment=segment, attempt=entry.attempt if entry else 0
    )
    taken = entry is not None and entry.operator and books.chance.random() < 0.9
    return NAME_OF[entry.operator] if taken and entry else books.operator(), command


def leaf_of(slot: str, name: str, after: str = "x") -> Leaf:
    at = Slot.parse(slot)
    return Leaf(
        job=at.job,
        task=at.task,
        segment=at.segment,
        attempt=at.attempt,
        state_before="",
        state_after=after,
        metrics={},
        data_digest="d",
        numerics="c",
        operator=party_of(name),
    )


def commit_of(leaf: Leaf) -> commands.Commit:
    return commands.Commit(root=merkle.root_of([leaf.encode()]).hex(), leaves=[leaf])


def commit(books: RandomBooks) -> Asked:
    slot = books.slot(SlotState.ISSUED)
    name = books.holder_of(slot)
    return name, commit_of(leaf_of(slot, name))


def record(books: RandomBooks) -> Asked:
    return books.chance.choice(["network", "driver", "ver-0", "op-0"]), commands.Record(
        evidence=Flush(job="any")
    )


def settle(books: RandomBooks) -> Asked:
    slots = [books.slot(SlotState.COMMITTED) for _ in range(books.chance.randint(1, 3))]
    job = slots[0].split("/")[0]
    items = [
        commands.SettleItem(slot=slot, pay=books.chance.random() < 0.8, reason="r")
        for slot in dict.fromkeys(slots)
        if slot.startswith(f"{job}/")
    ]
    return "network", commands.Settle(job=job, items=items)


def release(books: RandomBooks) -> Asked:
    slot = books.slot(SlotState.SETTLED)
    return "network", commands.Release(job=slot.split("/")[0], slots=[slot])


def close_job(books: RandomBooks) -> Asked:
    return books.chance.choice(["driver", *SUBMITTERS]), commands.CloseJob(job=books.job())


def expire_job(books: RandomBooks) -> Asked:
    return "network", commands.ExpireJob(job=books.job())


def slash(books: RandomBooks) -> Asked:
    slot = books.proof()
    job = books.book.jobs.get(slot.split("/")[0])
    every = list(job.slots) if job else []
    command = commands.Slash(
        job=slot.split("/")[0],
        operator=party_of(books.holder_of(slot)),
        evidence=slot,
        spoilt=books.chance.sample(every, min(len(every), books.chance.randrange(5))),
        reporter=books.chance.choice(["", party_of(books.anyone())]),
    )
    return "network", command


def report_equivocation(books: RandomBooks) -> Asked:
    slot = books.proof()
    name = books.holder_of(slot)
    shown = [
        orders.write(
            key_of(name),
            commit_of(leaf_of(slot, name, after)),
            network="random",
            genesis="genesis",
            role="operator",
            nonce=after,
            expiry_ms=0,
        ).to_json()
        for after in ("x", books.chance.choice("xyy"))
    ]
    command = commands.ReportEquivocation(slot=slot, first=shown[0], second=shown[1])
    return books.anyone(), command


def distribute_slash(books: RandomBooks) -> Asked:
    held = [name for name, one in books.book.slashes.items() if one.state is SlashState.HELD]
    operator = books.chance.choice([*held, party_of(books.operator())])
    return "network", commands.DistributeSlash(operator=operator)


def open_challenge(books: RandomBooks) -> Asked:
    name = f"d-{books.chance.randrange(10**6)}" if books.chance.random() < 0.9 else "d 1"
    slot = books.slot(SlotState.COMMITTED, SlotState.SETTLED, SlotState.RELEASED)
    return books.anyone(), commands.OpenChallenge(challenge=name, slot=slot, claim="c")


def _challenge(books: RandomBooks) -> str:
    challenges = books.book.challenges
    waiting = [name for name, one in challenges.items() if one.state is ChallengeState.OPEN]
    return books.chance.choice([*waiting, *waiting, *list(challenges)[-3:], "none"])


def resolve_challenge(books: RandomBooks) -> Asked:
    upheld = books.chance.random() < 0.5
    return "network", commands.ResolveChallenge(
        challenge=_challenge(books), upheld=upheld, reason="r"
    )


def expire_challenge(books: RandomBooks) -> Asked:
    return books.chance.choice(["network", "network", books.anyone()]), commands.ExpireChallenge(
        challenge=_challenge(books)
    )


def pay_jackpot(books: RandomBooks) -> Asked:
    command = commands.PayJackpot(
        party=party_of(books.anyone()),
        amount_micro=books.chance.randint(0, 9),
        evidence=books.slot(SlotState.SETTLED),
    )
    return "network", command


def found_again(books: RandomBooks) -> Asked:
    assert books.book.founded is not None
    founded = books.book.founded
    fields = {name: getattr(founded, name) for name in events.Founded.__slots__}
    return "network", commands.Found(**fields)


WEIGHTS: dict[Callable[[RandomBooks], Asked], int] = {
    **dict.fromkeys((request_slot, commit), 60),
    **dict.fromkeys((settle, start_task), 30),
    **dict.fromkeys((open_job, release, close_job, approve), 8),
    **dict.fromkeys((bond, unbond, mature, withdraw, deposit, finish_task, record), 4),
    **dict.fromkeys((jail, unjail, open_challenge, resolve_challenge, expire_challenge), 4),
    **dict.fromkeys((distribute_slash, pay_jackpot, grant, correct, reverse_slash), 3),
    **dict.fromkeys((expire_job, set_parameters, join, report_equivocation), 2),
    **dict.fromkeys((slash, found_again), 1),
}
_NAMES, _WEIGHTS = list(WEIGHTS), list(WEIGHTS.values())


def check(books: RandomBooks) -> None:
    """Check all invariants, and that the events alone give the same book."""
    assert invariants.check(books.book) == []
    again = Book()
    again.apply_all(books.history)
    live, replayed = vars(books.book), vars(again)
    assert dict(live["balances"]) == dict(replayed["balances"])
    for name in live:
        if name != "balances":
            assert live[name] == replayed[name], name


def run(seed: int, operations: int) -> Summary:
    """Run one seed. Raises `AssertionError` with the seed at the first violation."""
    books = RandomBooks(seed)
    try:
        while books.summary.operations < operations:
            books.step()
            if books.summary.operations % FULL_CHECK_EVERY == 0:
                assert invariants.check(books.book) == []
        check(books)
    except (AssertionError, accounts.Overdrawn, KeyError) as error:
        raise AssertionError(
            f"seed {seed}, operation {books.summary.operations}: {error!r}"
        ) from error
    return books.summary


def run_many(seeds: range, operations: int) -> Summary:
    """Run seeds on all cores."""
    whole = Summary()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for summary in pool.map(run, seeds, [operations] * len(seeds), chunksize=4):
            whole.add(summary)
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description="Random commands through the ledger's core")
    parser.add_argument("--operations", type=int, default=1_000, help="for each seed")
    parser.add_argument("--seeds", type=int, default=1_000)
    options = parser.parse_args()
    summary = run_many(range(options.seeds), options.operations)
    print(f"{summary.operations} operations over {options.seeds} seeds: the books hold")
    for operation in sorted({*summary.accepted, *(name for name, _ in summary.refused)}):
        reasons = {
            why: count for (name, why), count in summary.refused.items() if name == operation
        }
        print(f"{operation}: accepted {summary.accepted[operation]}, refused {reasons}")


if __name__ == "__main__":
    main()
