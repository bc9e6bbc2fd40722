"""Random commands, valid and invalid, in any order: the invariants hold after each of them."""

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gensyn_ray.domain.evidence import Flush
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.money import MAX_MICRO
from ledger.core import accounts, invariants
from ledger.core.book import Book
from ledger.core.book_state import JobEntry, SlotState
from ledger.core.commands import (
    Approve,
    Bond,
    CloseJob,
    Command,
    Correct,
    Deposit,
    DistributeSlash,
    ExpireChallenge,
    ExpireJob,
    FinishTask,
    Grant,
    Jail,
    Join,
    Mature,
    OpenChallenge,
    PayJackpot,
    Record,
    Release,
    ResolveChallenge,
    ReverseSlash,
    SetParameters,
    Settle,
    SettleItem,
    Slash,
    Unbond,
    Unjail,
    Withdraw,
)
from ledger.core.events import Moved, Tombstoned
from ledger.core.journal import Duplicate, Entry
from tests.kits.book_kit import TREASURY_KEYS, CouncilKit, two_answers
from tests.kits.ledger_kit import (
    RESERVE_MICRO,
    Answer,
    commit,
    found,
    leaf_of,
    open_job,
    parameters,
    party_of,
    request_slot,
    slot_of,
    start_task,
)

OPERATORS = ["op-a", "op-b", "op-c", "op-d"]
PEOPLE = ["submitter", *OPERATORS]
NAME_OF = {party_of(name): name for name in PEOPLE}
JOBS = ["job-0", "job-1", "job-2"]
TASKS = ["task-0", "task-1"]

people = st.sampled_from(PEOPLE)
operators = st.sampled_from(OPERATORS)
jobs = st.sampled_from([*JOBS, *JOBS, "job-9"])
tasks = st.sampled_from(TASKS)
treasury_keys = st.sampled_from(TREASURY_KEYS)
small = st.integers(min_value=0, max_value=3)
seldom = st.sampled_from([False, False, False, True])
amounts = st.one_of(
    st.integers(min_value=1, max_value=2_000),
    st.sampled_from([-1, 0, MAX_MICRO, MAX_MICRO + 1]),
)


class Books(RuleBasedStateMachine):
    """A few jobs and operators. Arguments may be wrong."""

    @initialize()
    def found(self) -> None:
        self.kit = CouncilKit()
        self.bonded: dict[str, int] = dict.fromkeys(OPERATORS, 0)
        self.kit.join("submitter", "submitter", deposit_micro=5_000)
        for name in OPERATORS[:3]:
            self.kit.join(name, "operator", deposit_micro=500, bond_micro=250)
            self.bonded[name] += 250
        self.kit.join("verifier", "verifier", deposit_micro=50)
        self.kit.open_job(JOBS[0], *TASKS, budget_micro=1_000)
        self.kit.open_job(JOBS[1], *TASKS, budget_micro=60)

    # -- commands ----------------------------------------------------------------------------

    @rule(name=people, role=st.sampled_from(["operator", "submitter"]), amount=amounts)
    def fund(self, name: str, role: str, amount: int) -> None:
        self.send(name, role, Join(name=name, numerics="class-a"))
        self.send("treasury", "treasury", Deposit(party=party_of(name), amount_micro=amount))
        if isinstance(self.send(name, "operator", Bond(amount_micro=amount)), Entry):
            self.bonded[name] += amount

    @rule(name=people, job=jobs, budget=amounts, price=st.sampled_from([0, 1, 7, 60]))
    def open_job(self, name: str, job: str, budget: int, price: int) -> None:
        self.send(name, "submitter", open_job(job, budget_micro=budget, price_micro=price))

    @rule(job=jobs, task=tasks, ahead=st.sampled_from([1, 1, 1, 0, 2]))
    def start_task(self, job: str, task: str, ahead: int) -> None:
        self.send("driver", "driver", start_task(job, task, self.attempt(job, task) + ahead))

    @rule(job=jobs, task=tasks, sure=seldom)
    def finish_task(self, job: str, task: str, sure: bool) -> None:
        if sure:
            self.send("driver", "driver", FinishTask(job=job, task=task))

    @rule(name=operators, job=jobs, task=tasks, segment=small)
    def request_slot(self, name: str, job: str, task: str, segment: int) -> None:
        attempt = max(self.attempt(job, task), 0)
        self.send(name, "operator", request_slot(slot_of(job, task, segment, attempt)))

    @rule(
        name=operators,
        job=st.sampled_from(JOBS),
        task=tasks,
        count=st.integers(1, 4),
        then=st.sampled_from(["wait", "pay", "pay", "refuse"]),
    )
    def work(self, name: str, job: str, task: str, count: int, then: str) -> None:
        """An honest operator takes the next step of one of its tasks, if it has any."""
        entry = self.job(job)
        if entry is None or entry.closed or task not in entry.tasks:
            return
        at = entry.tasks[task]
        name = NAME_OF[at.operator] if at.operator else name
        begun = sum(slot.startswith(f"{job}/{task}/") for slot in entry.slots)
        slots = [slot_of(job, task, begun + more, at.attempt) for more in range(count)]
        asked = [(slot, self.send(name, "operator", request_slot(slot))) for slot in slots]
        issued = [slot for slot, answer in asked if isinstance(answer, Entry)]
        if issued:
            leaves = [leaf_of(slot, name) for slot in issued]
            assert isinstance(self.send(name, "operator", commit(*leaves)), Entry)
            if then != "wait":
                self.kit.settle(job, dict.fromkeys(issued, then == "pay"))

    @rule(data=st.data(), mine=st.booleans(), damaged=st.sampled_from([False, False, True]))
    def commit(self, data: st.DataObject, mine: bool, damaged: bool) -> None:
        slots = self.some_slots(data, SlotState.ISSUED if mine else None)
        by = NAME_OF[self.operator_of(slots[0])] if slots and mine else data.draw(operators)
        if mine:
            slots = [slot for slot in slots if NAME_OF[self.operator_of(slot)] == by]
        changes: dict[str, Any] = {"data_digest": "other"} if damaged else {}
        leaves = [leaf_of(slot, by, **changes) for slot in slots]
        self.send(by, "operator", commit(*leaves))

    @rule(data=st.data(), job=jobs, right=st.booleans(), pay=st.booleans())
    def settle(self, data: st.DataObject, job: str, right: bool, pay: bool) -> None:
        slots = self.some_slots(data, SlotState.COMMITTED if right else None)
        items = [
            SettleItem(slot=slot, pay=pay, reason="any")
            for slot in slots
            if not right or slot.startswith(job)
        ]
        self.send("network", "network", Settle(job=job, items=items))

    @rule(name=people, job=jobs)
    def slash_for_nothing(self, name: str, job: str) -> None:
        command = Slash(job=job, operator=party_of(name), evidence="none", spoilt=[])
        assert not isinstance(self.send("network", "network", command), Entry)

    @precondition(lambda self: any(job.slots for job in self.book.jobs.values()))
    @rule(data=st.data())
    def slash(self, data: st.DataObject) -> None:
        evidence, *spoilt = self.some_slots(data, None, min_size=1)
        party, job = self.operator_of(evidence), Slot.parse(evidence).job
        stake = self.stake_that_answers(party, job)
        command = Slash(job=job, operator=party, evidence=evidence, spoilt=spoilt)
        answer = self.send("network", "network", command)
        if isinstance(answer, Entry):
            self.check_slash(answer, party, job, stake)

    # -- stake, time and fraud ---------------------------------------------------------------

    @rule(by_ms=st.sampled_from([1, 9_000, 12_000, 31_000, 1_000_001, 2_000_001]), sure=seldom)
    def time_passes(self, by_ms: int, sure: bool) -> None:
        self.kit.clock.advance(by_ms if sure or by_ms < 100_000 else 1)

    @rule(name=people, amount=amounts, role=st.sampled_from(["operator", "submitter"]))
    def withdraw(self, name: str, amount: int, role: str) -> None:
        self.send(name, role, Withdraw(amount_micro=amount))

    @rule(name=operators, amount=amounts)
    def unbond(self, name: str, amount: int) -> None:
        self.send(name, "operator", Unbond(amount_micro=amount))

    @rule(name=operators, by=st.sampled_from(["network", "op-a"]))
    def mature(self, name: str, by: str) -> None:
        role = "network" if by == "network" else "operator"
        answer = self.send(by, role, Mature(party=party_of(name)))
        if isinstance(answer, Entry):
            moved = [event for event in answer.events if isinstance(event, Moved)]
            self.bonded[name] -= sum(event.amount_micro for event in moved)

    @rule(name=people, ahead_ms=st.sampled_from([0, 5, 20_000]), sure=seldom)
    def jail(self, name: str, ahead_ms: int, sure: bool) -> None:
        if sure:
            until_ms = self.kit.clock() + ahead_ms
            command = Jail(operator=party_of(name), until_ms=until_ms, reason="any")
            self.send("network", "network", command)

    @rule(name=operators)
    def unjail(self, name: str) -> None:
        self.send(name, "operator", Unjail())

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        for slot in self.some_slots(data, SlotState.SETTLED):
            command = Release(job=Slot.parse(slot).job, slots=[slot])
            self.send("network", "network", command)

    @rule(job=jobs)
    def expire_job(self, job: str) -> None:
        self.send("network", "network", ExpireJob(job=job))

    @rule(name=operators, reverse=seldom)
    def end_slash(self, name: str, reverse: bool) -> None:
        party = party_of(name)
        if reverse:
            self.send("treasury", "treasury", ReverseSlash(operator=party, reason="any"))
        else:
            self.send("network", "network", DistributeSlash(operator=party))

    @precondition(lambda self: any(job.slots for job in self.book.jobs.values()))
    @rule(data=st.data(), name=people, number=small)
    def open_challenge(self, data: st.DataObject, name: str, number: int) -> None:
        (slot, *_) = self.some_slots(data, None, min_size=1)
        role = "submitter" if name == "submitter" else "operator"
        self.send(name, role, OpenChallenge(challenge=f"d-{number}", slot=slot, claim="any"))

    @rule(number=small, how=st.sampled_from(["upheld", "dismissed", "expired"]))
    def end_challenge(self, number: int, how: str) -> None:
        name = f"d-{number}"
        command = (
            ExpireChallenge(challenge=name)
            if how == "expired"
            else ResolveChallenge(challenge=name, upheld=how == "upheld", reason="any")
        )
        self.send("network", "network", command)

    @rule(amount=small, debit=people, credit=people)
    def correct(self, amount: int, debit: str, credit: str) -> None:
        command = Correct(
            debit=accounts.available(party_of(debit)),
            credit=accounts.available(party_of(credit)),
            amount_micro=amount,
            entry=0,
            reason="any",
        )
        self.send("treasury", "treasury", command)

    @rule(name=people, amount=small)
    def grant(self, name: str, amount: int) -> None:
        command = Grant(party=party_of(name), amount_micro=amount, reason="any")
        self.send("treasury", "treasury", command)

    @rule(
        name=st.sampled_from(["reserve_micro", "challenge_bond_micro", "holdback_ms", "job_ms"]),
        value=st.sampled_from([-1, 0, 1, 40, 2_000_000]),
        sure=seldom,
    )
    def set_parameters(self, name: str, value: int, sure: bool) -> None:
        if sure and (name, value) != ("reserve_micro", 2_000_000):
            command = SetParameters(parameters=parameters(**{name: value}))
            self.send("treasury", "treasury", command)

    @rule(name=people, amount=small, key=treasury_keys)
    def propose(self, name: str, amount: int, key: str) -> None:
        """A proposal without an immediate approval."""
        deposit = Deposit(party=party_of(name), amount_micro=amount)
        self.send(key, "treasury", deposit, alone=True)

    @precondition(lambda self: self.book.proposals)
    @rule(data=st.data(), key=treasury_keys)
    def approve(self, data: st.DataObject, key: str) -> None:
        proposal = data.draw(st.sampled_from(list(self.book.proposals)))
        self.send(key, "treasury", Approve(proposal=proposal))

    @precondition(lambda self: any(job.slots for job in self.book.jobs.values()))
    @rule(data=st.data(), two=st.booleans(), sure=seldom)
    def report_equivocation(self, data: st.DataObject, two: bool, sure: bool) -> None:
        (slot, *_) = self.some_slots(data, None, min_size=1)
        party, job = self.operator_of(slot), Slot.parse(slot).job
        stake = self.stake_that_answers(party, job)
        command = two_answers(self.kit, NAME_OF[party], slot)
        if not two or not sure:
            command = replace(command, second=command.first)
        answer = self.send("verifier", "verifier", command)
        if isinstance(answer, Entry):
            assert two
            self.check_slash(answer, party, job, stake)

    @precondition(lambda self: any(job.slots for job in self.book.jobs.values()))
    @rule(data=st.data(), amount=amounts)
    def pay_jackpot(self, data: st.DataObject, amount: int) -> None:
        (slot, *_) = self.some_slots(data, None, min_size=1)
        party = party_of(data.draw(st.sampled_from(["verifier", "op-a"])))
        amount = min(amount, self.kit.balance(accounts.JACKPOT) + 1)
        command = PayJackpot(party=party, amount_micro=amount, evidence=slot)
        self.send("network", "network", command)

    @rule(name=st.sampled_from(["network", "driver", "verifier"]))
    def record(self, name: str) -> None:
        before = self.kit.balances()
        answer = self.send(name, name, Record(evidence=Flush(job="any")))
        assert isinstance(answer, Entry)
        assert self.kit.balances() == before

    @rule()
    def found_again(self) -> None:
        assert not isinstance(self.send("network", "network", found()), Entry)

    # -- ends --------------------------------------------------------------------------------

    @rule(name=st.sampled_from(["driver", "submitter", "op-a"]), job=jobs, sure=seldom)
    def close_job(self, name: str, job: str, sure: bool) -> None:
        if sure:
            role = name if name in ("driver", "submitter") else "submitter"
            self.send(name, role, CloseJob(job=job))

    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        self.kit.clock.advance(data.draw(st.sampled_from([0, 1, 100_000])))
        number = data.draw(st.integers(0, len(self.kit.envelopes) - 1))
        before = self.kit.balances()
        assert self.kit.submit(self.kit.envelopes[number]) == Duplicate(index=number)
        assert self.kit.balances() == before

    @precondition(lambda self: any(job.unsettled for job in self.book.jobs.values()))
    @rule(pay=st.booleans())
    def settle_everything(self, pay: bool) -> None:
        for job_id, job in self.book.jobs.items():
            paid = {
                slot: pay and not self.is_caught(slot)
                for slot, entry in job.slots.items()
                if entry.state is SlotState.COMMITTED
            }
            if paid:
                self.kit.settle(job_id, paid)

    # -- invariants --------------------------------------------------------------------------

    @invariant()
    def the_books_hold(self) -> None:
        assert invariants.check(self.book) == []

    @invariant()
    def a_replay_of_all_events_gives_the_same_books(self) -> None:
        again = Book()
        for entry in self.kit.entries:
            again.apply_all(entry.events)
        assert dict(again.balances) == self.kit.balances()
        kept, live = vars(again), vars(self.book)
        assert {name: kept[name] for name in kept if name != "balances"} == {
            name: live[name] for name in live if name != "balances"
        }

    @invariant()
    def slashes_do_not_exceed_stake(self) -> None:
        for name in OPERATORS:
            if (party := self.book.parties.get(party_of(name))) is not None:
                assert 0 <= party.slashed_micro <= min(RESERVE_MICRO, self.bonded[name])

    @invariant()
    def stake_is_where_it_was_put(self) -> None:
        for name in OPERATORS:
            party = party_of(name)
            free = self.kit.balance(accounts.free_stake(party))
            reserved = sum(
                self.kit.balance(accounts.reserved_stake(party, job)) for job in self.book.jobs
            )
            unbonding = self.kit.balance(accounts.unbonding_stake(party))
            known = self.book.parties.get(party)
            slashed = known.slashed_micro if known else 0
            assert free + reserved + unbonding + slashed == self.bonded[name]

    # -- helpers -----------------------------------------------------------------------------

    @property
    def book(self) -> Book:
        return self.kit.journal.book

    def send(self, name: str, role: str, command: Command, *, alone: bool = False) -> Answer:
        """Send a command. A refused one must change nothing. A second treasury key approves."""
        before, size = self.kit.balances(), len(self.kit.journal.tree)
        answer = self.kit.send(name, role, command)
        if not isinstance(answer, Entry):
            assert self.kit.balances() == before
            assert len(self.kit.journal.tree) == size
        elif role == "treasury" and not isinstance(command, Approve):
            assert self.kit.balances() == before
            if not alone:
                self.kit.approve("treasury-b", answer.envelope.body_hash)
        return answer

    def job(self, job: str) -> JobEntry | None:
        return self.book.jobs.get(job)

    def attempt(self, job: str, task: str) -> int:
        entry = self.job(job)
        return entry.tasks[task].attempt if entry and task in entry.tasks else -1

    def operator_of(self, slot: str) -> str:
        entry = self.book.slot(slot)
        assert entry is not None
        return entry.operator

    def is_caught(self, slot: str) -> bool:
        return self.book.parties[self.operator_of(slot)].tombstoned

    def stake_that_answers(self, party: str, job: str) -> int:
        """The present amount of a slash: the reserved stake, or its rest after the job."""
        entry = self.book.jobs[job]
        if not entry.closed:
            return self.kit.balance(accounts.reserved_stake(party, job))
        left = self.kit.balance(accounts.free_stake(party)) + self.kit.balance(
            accounts.unbonding_stake(party)
        )
        return min(entry.backing_micro.get(party, 0), left)

    def some_slots(
        self, data: st.DataObject, state: SlotState | None, *, min_size: int = 0
    ) -> list[str]:
        known = [
            slot
            for job in self.book.jobs.values()
            for slot, entry in job.slots.items()
            if state is None or entry.state is state
        ]
        if not known:
            return []
        return data.draw(
            st.lists(
                st.sampled_from(known), min_size=min_size, max_size=4, unique=state is not None
            )
        )

    def check_slash(self, entry: Entry, party: str, job: str, stake: int) -> None:
        (tombstone,) = (event for event in entry.events if isinstance(event, Tombstoned))
        moved = [event for event in entry.events if isinstance(event, Moved)]
        taken = sum(event.amount_micro for event in moved if event.memo == "slash")
        assert tombstone.slashed_micro == taken == stake
        assert self.kit.balance(accounts.slashed(job, party)) == taken
        assert self.kit.balance(accounts.reserved_stake(party, job)) == 0
        assert self.kit.balance(accounts.holdback(job, party)) == 0


TestBooks = Books.TestCase
TestBooks.settings = settings(
    max_examples=150,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
