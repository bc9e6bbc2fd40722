"""Checks at the end of a simulation, against the facts that only the simulation knows."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from gensyn_ray.domain.evidence import Batch, Draw, Ruling
from gensyn_ray.domain.signing import SigningKey
from gensyn_ray.settlement.admission import admit
from gensyn_ray.settlement.checks import problem_with
from gensyn_ray.settlement.state import Settlement
from gensyn_ray.testnet.simulator.network import DEPOSIT_MICRO, NAME, PRICE_MICRO, RESERVE_MICRO
from ledger.core import accounts, invariants
from ledger.core.book_state import SlashState
from ledger.core.events import JobClosed, Recorded, SlotCommitted, SlotSettled, Tombstoned
from ledger.core.journal import Entry
from ledger.export import flat as export
from verifier_actors.core.audit import AuditState
from verifier_actors.core.outcome import Outcome

if TYPE_CHECKING:
    from gensyn_ray.testnet.simulator.simulation import Simulation


def check_all(world: "Simulation", path: Path) -> None:
    """All checks of a run that has ended; exports the journal to `path`."""
    entries = verified_entries(world, path)
    check_rulings(world, entries)
    check_pay(world, entries)
    check_balances(world, entries)
    check_chains(world)
    check_restart(world)


def check_books(world: "Simulation") -> None:
    """The ledger's invariants hold."""
    broken = invariants.check(world.network.authority.journal.book)
    assert broken == [], broken


def verified_entries(world: "Simulation", path: Path) -> list[Entry]:
    """The journal, verified offline: every byte, every decision, every draw."""
    key = SigningKey(bytes.fromhex(world.network.secrets.network_seed))
    export.write_flat(world.network.store.read(), key, NAME, path)
    settlement = Settlement()

    def follow(entry: Entry) -> None:
        for event in entry.events:
            assert problem_with(settlement, event, entry.time_ms) == ""
        settlement.fold(entry.events, entry.time_ms)

    return export.verify(
        path.read_bytes(),
        key.public,
        admit=lambda order: admit(settlement, order),
        follow=follow,
    ).entries


def check_rulings(world: "Simulation", entries: list[Entry]) -> None:
    """A drawn segment is rejected exactly if its claim is fabricated; its operator is slashed."""
    events = [event for entry in entries for event in entry.events]
    evidence = [event.evidence for event in events if isinstance(event, Recorded)]
    batches = {one.batch: one for one in evidence if isinstance(one, Batch)}
    draws = [one for one in evidence if isinstance(one, Draw)]
    drawn = {one.slot for draw in draws for one in draw.drawn}
    for draw in draws:
        if not draw.secret or batches[draw.batch].rate_ppm == 1_000_000:
            assert [one.slot for one in draw.drawn] == batches[draw.batch].slots
    rulings = [one for one in evidence if isinstance(one, Ruling)]
    outcomes = {ruling.slot: ruling.outcome for ruling in rulings}
    assert len(outcomes) == len(rulings), "a segment has one ruling"
    assert all(ruling.verifier != ruling.referee for ruling in rulings)
    assert set(outcomes) <= drawn, "a segment with a ruling was drawn"
    assert set(outcomes.values()) <= {Outcome.ACCEPT, Outcome.REJECT}
    operators = world.operators
    for slot, outcome in outcomes.items():
        assert (outcome == Outcome.REJECT) == (slot in operators.fabricated), slot
    guilty = {operators.committed[slot] for slot in operators.fabricated & drawn}
    ruled = {operators.committed[slot] for slot in operators.fabricated & set(outcomes)}
    tombstoned = set(world.network.authority.settlement.tombstoned)
    assert tombstoned == guilty == ruled
    honest = {one.party for one in operators.all if one.behaviour.is_honest}
    assert not tombstoned & honest, "an honest operator is never slashed"


def check_pay(world: "Simulation", entries: list[Entry]) -> None:
    """Each committed segment is settled once, and paid unless its operator was caught."""
    committed_by = world.operators.committed
    settled: Counter[str] = Counter()
    unpaid: set[str] = set()
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
                for slot, party in committed_by.items():
                    if slot.startswith(f"{event.job}/") and party not in caught:
                        assert slot not in unpaid, "an operator is paid unless it was caught"
            case _:
                pass
    assert committed == set(committed_by), "the journal holds what was acknowledged, no more"
    assert settled == Counter(committed), "each acknowledged segment is settled exactly once"


def check_balances(world: "Simulation", entries: list[Entry]) -> None:
    """Every account holds the amount that the job's end and the slashes give, exactly."""
    released, caught = _released_micro(world, entries)
    listed = {one["id"]: one for one in world.network.read("operators")}
    for operator in world.operators.all:
        one, is_caught = listed[operator.party], operator.party in caught
        assert one["state"] == ("tombstoned" if is_caught else "active")
        assert one["held_micro"] == 0
        assert one["earned_micro"] == (0 if is_caught else released[operator.party])
        available_micro = DEPOSIT_MICRO - operator.bonded_micro + released[operator.party]
        assert one["available_micro"] == available_micro
        assert one["slashed_micro"] == (RESERVE_MICRO if is_caught else 0)
        assert one["stake_micro"] == operator.bonded_micro - one["slashed_micro"]

    authority = world.network.authority
    book = authority.journal.book
    assert book.balances.total_micro() == 0
    assert book.balances[accounts.EXTERNAL] == -(1 + len(world.operators.all)) * DEPOSIT_MICRO
    assert {slash.state for slash in book.slashes.values()} <= {SlashState.DISTRIBUTED}
    kept = book.balances[accounts.JACKPOT] + book.balances[accounts.BURN]
    made_good = RESERVE_MICRO * len(caught) - kept
    jobs = [authority.settlement.jobs[name] for name in world.drivers]
    void = sum(segment.is_void for job in jobs for segment in job.segments.values())
    assert 0 <= made_good <= PRICE_MICRO * void, "only void segments are made good"
    submitter = accounts.available(world.network.submitter.party)
    spent = DEPOSIT_MICRO - book.balances[submitter]
    assert spent == sum(released.values()) - made_good


def _released_micro(world: "Simulation", entries: list[Entry]) -> tuple[Counter[str], set[str]]:
    """Pay per operator that jobs release at their close; the operators that were caught."""
    released: Counter[str] = Counter()
    caught: set[str] = set()
    for event in (event for entry in entries for event in entry.events):
        match event:
            case Tombstoned():
                caught.add(event.operator)
            case JobClosed():
                for slot, party in world.operators.committed.items():
                    if slot.startswith(f"{event.job}/") and party not in caught:
                        released[party] += PRICE_MICRO
            case _:
                pass
    return released, caught


def check_chains(world: "Simulation") -> None:
    """Each task is an unbroken chain without a segment that was proven to be fabricated."""
    settlement = world.network.authority.settlement
    for job in (settlement.jobs[name] for name in world.drivers):
        for name, task in job.tasks.items():
            before = None
            for number, slot in enumerate(task.good):
                segment = job.segments[slot]
                assert (segment.slot.task, segment.slot.segment) == (name, number)
                assert before is None or segment.leaf.state_before == before
                before = segment.leaf.state_after
                assert not segment.is_void
                if slot in world.operators.fabricated:
                    assert segment.operator not in settlement.tombstoned
                    assert segment.audit.state is AuditState.SKIPPED


def check_restart(world: "Simulation") -> None:
    """An authority that starts from the journal alone gives the same readings."""
    network = world.network
    again = network.boot()
    again.tick()
    views: list[tuple[str, dict[str, str]]] = [("health", {}), ("operators", {}), ("audits", {})]
    for job in world.drivers:
        views += [(view, {"job": job}) for view in ("job", "tasks", "operators", "receipts")]
        views += [
            ("task", {"job": job, "trial": f"trial {task}"})
            for task in network.read("tasks", job=job)
        ]
    views += [
        ("balance", {"party": key.party})
        for key in (network.submitter, *(one.key for one in world.operators.all))
    ]
    for view, parameters in views:
        assert again.read(view, parameters) == network.authority.read(view, parameters), view
