"""All audits of a job: batches, draws, disputes, and the checks of what was recorded."""

import hashlib
from typing import Any

import msgspec
import pytest

from gensyn_ray.domain.evidence import Assignment, Batch, Draw, RefereeCall, Reveal, Ruling, Verdict
from verifier_actors.core import beacon
from verifier_actors.core.audit import Audit, AuditState
from verifier_actors.core.audits import Audits
from verifier_actors.core.beacon import Beacon
from verifier_actors.core.draw import PPM
from verifier_actors.core.lineage import Lineage, Link, Task
from verifier_actors.core.panel import Panel
from verifier_actors.core.sampling import BATCH_WAIT_MS, REVEAL_WAIT_MS, SamplingPolicy

LINKS = 16
NETWORK, SUBMITTER = b"network", b"submitter"
CLAIMED, OTHER = "cc" * 32, "dd" * 32


class World:
    """One job with two operators, three verifiers of one class, and its network's beacon."""

    def __init__(self, *, audit_ppm: int = PPM, batch_size: int = 2) -> None:
        self.lineage = Lineage()
        self.lineage.start("t", Task(trial="t", spec="spec", attempt=0))
        self.audits = Audits(
            job="job",
            policy=SamplingPolicy(audit_ppm=audit_ppm, batch_size=batch_size),
            secret_anchor=beacon.anchor_of(SUBMITTER, LINKS).hex(),
            lineage=self.lineage,
        )
        self.panel = Panel()
        for party in ("v-1", "v-2", "v-3"):
            self.panel.add(party, ["c1"])
        self.beacon = Beacon(link=beacon.anchor_of(NETWORK, LINKS).hex())

    def commit(self, number: int, operator: str = "op-a", time_ms: int = 0) -> str:
        slot = f"job/t/{number}/0"
        link = Link(task="t", state_before=f"s{number}", state_after=f"s{number + 1}")
        self.lineage.extend(slot, link)
        audit = Audit(
            job="job",
            slot=slot,
            task="t",
            operator=operator,
            numerics="c1",
            claimed=CLAIMED,
            root=hashlib.sha256(slot.encode()).hexdigest(),
            leaf_index=0,
            committed_ms=time_ms,
        )
        self.audits.commit(audit)
        return slot

    def state(self, number: int) -> AuditState:
        return self.audits.audits[f"job/t/{number}/0"].state

    def batch(self, now_ms: int = 0, tombstoned: dict[str, str] | None = None) -> Batch | None:
        """The next batch, recorded."""
        batch = self.audits.next_batch(tombstoned or {}, now_ms)
        if batch is not None:
            assert self.audits.problem_with_batch(batch, tombstoned or {}, now_ms) == ""
            self.audits.close_batch(batch, now_ms)
        return batch

    def reveal(self, batch: str) -> None:
        link = beacon.link_of(SUBMITTER, LINKS, self.audits.revealed + 1).hex()
        reveal = Reveal(job="job", batch=batch, link=link)
        assert self.audits.problem_with_reveal(reveal) == ""
        self.audits.reveal(reveal)

    def next_draw(self, now_ms: int = 0) -> Draw | None:
        link = beacon.link_of(NETWORK, LINKS, self.beacon.index + 1)
        return self.audits.next_draw(self.panel, self.beacon, link, now_ms)

    def draw(self, now_ms: int = 0) -> Draw:
        """The next draw, recorded."""
        drawn = self.next_draw(now_ms)
        assert drawn is not None
        assert self.audits.problem_with_draw(drawn, self.panel, self.beacon, now_ms) == ""
        self.audits.take_draw(drawn)
        self.beacon = Beacon(link=drawn.link, index=drawn.index)
        return drawn

    def ruling(self, **tombstoned: str) -> RefereeCall | Ruling | None:
        """The next ruling or referee call, recorded."""
        found = self.audits.next_ruling(self.panel, self.beacon, tombstoned)
        match found:
            case RefereeCall():
                self.audits.call_referee(found)
            case Ruling():
                self.audits.rule(found)
            case None:
                pass
        return found

    def verdict(self, slot: str, result: str) -> None:
        party = self.audits.audits[slot].asked
        self.audits.take_verdict(Verdict(job="job", slot=slot, result=result), party)


def drawn(world: World, slots: int = 2) -> list[str]:
    """A job whose first segments are all drawn."""
    made = [world.commit(number) for number in range(slots)]
    batch = world.batch()
    assert batch is not None
    world.reveal(batch.batch)
    world.draw()
    return made


# -- batches -------------------------------------------------------------------------------------


def test_a_batch_closes_when_it_is_full() -> None:
    world = World()
    first = world.commit(0)
    assert world.batch() is None
    second = world.commit(1)
    assert world.batch() == Batch(
        job="job", batch="job/batch-0", slots=[first, second], rate_ppm=PPM
    )
    assert world.state(0) is world.state(1) is AuditState.BATCHED


@pytest.mark.parametrize("cause", ["time", "flush", "full audit", "tombstone"])
def test_a_batch_closes_for_every_other_cause(cause: str) -> None:
    world = World()
    world.commit(0)
    now_ms, tombstoned = 0, dict[str, str]()
    match cause:
        case "time":
            assert world.batch(BATCH_WAIT_MS - 1) is None
            now_ms = BATCH_WAIT_MS
        case "flush":
            world.audits.flush()
        case "full audit":
            world.audits.audit_fully(["t", "unknown"])
        case _:
            tombstoned = {"op-a": "slot"}
    assert world.batch(now_ms, tombstoned) is not None
    world.commit(1, "op-b", time_ms=now_ms)
    assert world.batch(now_ms) is None, "a flush ends when nothing waits"


def test_a_batch_holds_commitments_of_one_operator() -> None:
    world = World()
    one, two = world.commit(0, "op-a"), world.commit(1, "op-b")
    world.audits.flush()
    batches = [world.batch(), world.batch()]
    assert [batch and batch.slots for batch in batches] == [[one], [two]]


def test_a_skipped_segment_is_batched_again_for_a_full_audit_or_a_challenge() -> None:
    world = World(audit_ppm=0)
    slots = drawn(world)
    assert world.state(0) is world.state(1) is AuditState.SKIPPED
    assert world.batch() is None
    world.audits.challenge(slots[1])
    again = world.batch()
    assert again is not None
    assert (again.slots, again.rate_ppm) == ([slots[1]], PPM)
    world.audits.audit_fully(["t"])
    rest = world.batch()
    assert rest is not None
    assert rest.slots == [slots[0]]
    world.reveal(again.batch)
    assert [one.slot for one in world.draw().drawn] == [slots[1]]


# -- draws ---------------------------------------------------------------------------------------


def test_a_draw_waits_for_the_submitters_link_and_then_takes_everything() -> None:
    world = World(audit_ppm=0)
    slots = [world.commit(0), world.commit(1)]
    world.batch()
    assert world.next_draw(REVEAL_WAIT_MS - 1) is None
    found = world.draw(REVEAL_WAIT_MS)
    assert (found.secret, [one.slot for one in found.drawn]) == ("", slots)


def test_a_verifier_never_judges_itself() -> None:
    world = World()
    world.panel.add("op-a", ["c1"])
    slots = drawn(world)
    assert all(world.audits.audits[slot].verifier != "op-a" for slot in slots)


# -- disputes ------------------------------------------------------------------------------------


def test_a_verdict_that_equals_the_claim_accepts() -> None:
    world = World()
    first, _ = drawn(world)
    assert world.ruling() is None
    world.verdict(first, CLAIMED)
    found = world.ruling()
    assert isinstance(found, Ruling)
    assert (found.outcome, found.at_fault, found.referee) == ("ACCEPT", "", "")
    assert world.state(0) is AuditState.JUDGED
    assert list(world.audits.open) == ["job/t/1/0"]


def test_a_verdict_that_differs_opens_a_dispute_which_a_referee_ends() -> None:
    world = World()
    first, _ = drawn(world)
    world.verdict(first, OTHER)
    call = world.ruling()
    assert isinstance(call, RefereeCall)
    assert call.referee not in ("op-a", world.audits.audits[first].verifier)
    assert world.ruling() is None
    world.verdict(first, OTHER)
    found = world.ruling()
    assert isinstance(found, Ruling)
    assert (found.outcome, found.at_fault) == ("REJECT", "op-a")


def test_without_a_second_party_a_dispute_is_inconclusive() -> None:
    world = World()
    world.panel = Panel()
    world.panel.add("v-1", ["c1"])
    first, _ = drawn(world)
    world.verdict(first, OTHER)
    found = world.ruling()
    assert isinstance(found, Ruling)
    assert (found.outcome, found.at_fault) == ("INCONCLUSIVE", "")


def test_rulings_come_in_the_order_of_the_first_verdicts() -> None:
    world = World(batch_size=3)
    first, second, third = drawn(world, slots=3)
    world.verdict(third, OTHER)
    world.verdict(first, CLAIMED)
    assert isinstance(world.ruling(), RefereeCall)
    world.verdict(third, OTHER)
    world.verdict(second, CLAIMED)
    rulings = [world.ruling() for _ in range(4)]
    assert [one and one.slot for one in rulings] == [third, first, second, None]


def test_the_audits_of_a_tombstoned_operator_do_not_advance() -> None:
    world = World()
    first, _ = drawn(world)
    world.verdict(first, OTHER)
    assert world.ruling(**{"op-a": "slot"}) is None
    assert isinstance(world.ruling(), RefereeCall)


# -- checks of what was recorded -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"rate_ppm": PPM - 1}, "rate"),
        ({"rate_ppm": 0}, "rate"),
        ({"slots": ["job/t/0/0"]}, "slots"),
        ({"slots": ["job/t/1/0", "job/t/0/0"]}, "slots"),
        ({"slots": []}, "slots"),
        ({"slots": ["job/t/0/0", "job/t/1/0", "job/t/9/0"]}, "slots"),
        ({"batch": "job/batch-7"}, "id"),
    ],
)
def test_a_wrong_batch_is_found(change: dict[str, Any], problem: str) -> None:
    world = World()
    world.commit(0), world.commit(1)
    right = world.audits.next_batch({}, 0)
    assert right is not None
    wrong = msgspec.structs.replace(right, **change)
    assert problem in world.audits.problem_with_batch(wrong, {}, 0)


def test_a_batch_that_closed_early_is_found() -> None:
    world = World()
    slot = world.commit(0)
    early = Batch(job="job", batch="job/batch-0", slots=[slot], rate_ppm=PPM)
    assert "slots" in world.audits.problem_with_batch(early, {}, BATCH_WAIT_MS - 1)
    assert world.audits.problem_with_batch(early, {}, BATCH_WAIT_MS) == ""


def test_a_wrong_draw_is_found() -> None:
    world = World(audit_ppm=500_000, batch_size=4)
    slots = [world.commit(number) for number in range(4)]
    batch = world.batch()
    assert batch is not None
    early = Draw(job="job", batch=batch.batch, index=1, link="", secret="", drawn=[])
    world.reveal(batch.batch)
    right = world.next_draw()
    assert right is not None
    everything = [Assignment(slot=slot, verifier="v-1") for slot in slots]
    wrong: dict[str, dict[str, Any]] = {
        "follow": {"link": "ab" * 32},
        "numbered": {"index": 2},
        "secret": {"secret": ""},
        "other segments": {"drawn": everything},
        "batch": {"batch": "job/batch-9"},
    }
    for problem, change in wrong.items():
        draw = msgspec.structs.replace(right, **change)
        assert problem in world.audits.problem_with_draw(draw, world.panel, world.beacon, 0)
    another = World(audit_ppm=500_000, batch_size=4)
    for number in range(4):
        another.commit(number)
    another.batch()
    hasty = msgspec.structs.replace(early, link=right.link)
    assert "time left" in another.audits.problem_with_draw(hasty, another.panel, another.beacon, 0)


def test_a_wrong_ruling_is_found() -> None:
    world = World()
    first, second = drawn(world)
    world.verdict(first, OTHER)
    call = world.audits.next_ruling(world.panel, world.beacon, {})
    assert isinstance(call, RefereeCall)
    world.verdict(second, CLAIMED)
    accepted = Ruling(
        job="job",
        slot=second,
        outcome="ACCEPT",
        at_fault="",
        claimed=CLAIMED,
        verifier=world.audits.audits[second].verifier,
        verifier_result=CLAIMED,
        referee="",
        referee_result="",
    )

    def problem(recorded: RefereeCall | Ruling) -> str:
        return world.audits.problem_with_ruling(recorded, world.panel, world.beacon)

    assert (problem(call), problem(accepted)) == ("", "")
    assert "another" in problem(RefereeCall(job="job", slot=first, referee="v-9"))
    assert "another" in problem(msgspec.structs.replace(accepted, slot=first))
    assert "another" in problem(msgspec.structs.replace(accepted, outcome="REJECT"))
    assert "waits" in problem(RefereeCall(job="job", slot="job/t/9/0", referee="v-1"))
    world.audits.call_referee(call)
    assert "waits" in problem(call)
