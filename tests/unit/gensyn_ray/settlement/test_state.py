"""What an audit's end means for the job, where no slash follows from it."""

from gensyn_ray.domain.evidence import Verdict
from gensyn_ray.domain.ids import Slot
from gensyn_ray.settlement.state import Pay
from ledger.core.commands import Record
from tests.kits.authority_kit import AuthorityKit
from tests.kits.ledger_kit import party_of
from verifier_actors.core.outcome import Outcome

UNVETTED = "ee" * 32


def replay_with(kit: AuthorityKit, *results: str) -> None:
    """The verifier, then the referee, sign these results."""
    names = {party_of(name): name for name in ("v-1", "v-2")}
    for result in results:
        (asked,) = kit.authority.read("audits", {})
        job = Slot.parse(asked["slot"]).job
        verdict = Verdict(job=job, slot=asked["slot"], result=result)
        kit.accept(names[asked["party"]], "verifier", Record(evidence=verdict))


def test_a_rejection_of_an_unvetted_program_costs_the_pay_and_voids_what_grew_from_it() -> None:
    kit = AuthorityKit().begin(bundle=UNVETTED)
    slot = kit.work("op-a", "task-0", 0)
    kit.reveal()
    after = kit.work("op-a", "task-0", 1)
    replay_with(kit, "ff" * 32, "ff" * 32)
    settlement = kit.authority.settlement
    segment = settlement.segment(slot)
    assert (segment.audit.outcome, segment.pay) == (Outcome.REJECT, Pay.UNPAID)
    assert segment.is_void
    assert settlement.segment(after).is_void
    assert settlement.jobs["job-1"].tasks["task-0"].good == []
    assert settlement.tombstoned == {}


def test_two_replays_that_differ_pay_the_operator_and_end_the_programs_vetting() -> None:
    kit = AuthorityKit().begin()
    settlement = kit.authority.settlement
    bundle = settlement.jobs["job-1"].opened.bundle
    assert bundle in settlement.vetted
    slot = kit.work("op-a", "task-0", 0)
    kit.reveal()
    replay_with(kit, "ee" * 32, "ff" * 32)
    segment = settlement.segment(slot)
    assert (segment.audit.outcome, segment.pay) == (Outcome.INCONCLUSIVE, Pay.PAID)
    assert not segment.is_void
    assert settlement.tombstoned == {}
    assert bundle not in settlement.vetted
