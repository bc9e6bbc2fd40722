"""Disputes: the steps after a verdict that differs from the claim.

    verdict equals the claim              ruling ACCEPT
    the predecessor is lost               ruling UNAVAILABLE
    verdict differs, a referee exists     referee call; the referee replays the whole segment
    verdict differs, none exists          ruling INCONCLUSIVE
    referee agrees with the verdict       ruling REJECT
    referee disagrees with it             ruling INCONCLUSIVE

Not covered: bisection of the segment to one step and one operator.
"""

from gensyn_ray.domain.evidence import RefereeCall, Ruling
from verifier_actors.core.audit import Audit
from verifier_actors.core.beacon import Beacon
from verifier_actors.core.outcome import Outcome
from verifier_actors.core.panel import Panel


def answer_to(audit: Audit, panel: Panel, shown: Beacon) -> RefereeCall | Ruling:
    """The step that an audit's results require. A dispute without a referee is INCONCLUSIVE."""
    outcome = audit.found()
    if outcome is None:
        if referee := panel.referee(audit, bytes.fromhex(shown.link)):
            return RefereeCall(job=audit.job, slot=audit.slot, referee=referee)
        outcome = Outcome.INCONCLUSIVE
    return ruling_of(audit, outcome)


def ruling_of(audit: Audit, outcome: Outcome) -> Ruling:
    """The ruling that gives an audit its outcome, with the results that it follows from."""
    return Ruling(
        job=audit.job,
        slot=audit.slot,
        outcome=outcome.value,
        at_fault=audit.operator if outcome is Outcome.REJECT else "",
        claimed=audit.claimed,
        verifier=audit.verifier,
        verifier_result=audit.verifier_result,
        referee=audit.referee,
        referee_result=audit.referee_result,
    )
