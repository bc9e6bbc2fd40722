"""Checks recorded evidence of the network against the journal before it.

Anyone with the journal can check every batch, draw, referee call and ruling. The network chooses
only the time of each; its content follows from the journal. `admission.admit` checks the orders of
other parties.
"""

from gensyn_ray.domain.evidence import Batch, Draw, RefereeCall, Ruling
from gensyn_ray.settlement.state import Settlement
from ledger.core.events import Event, Recorded
from verifier_actors.core.audit import IllegalMove


def problem_with(settlement: Settlement, event: Event, time_ms: int) -> str:
    """The fault of an event of an entry that is not folded yet; empty if it has none.

    `time_ms`: the entry's time. Events that are not evidence of the network have no fault here.
    """
    if not isinstance(event, Recorded):
        return ""
    try:
        return _problem_with(settlement, event, time_ms)
    except (KeyError, ValueError, IllegalMove) as error:
        return f"its evidence does not fit what came before: {error!r}"


def _problem_with(settlement: Settlement, event: Recorded, time_ms: int) -> str:
    evidence, panel, shown = event.evidence, settlement.panel, settlement.beacon
    match evidence:
        case Batch():
            audits = settlement.jobs[evidence.job].audits
            return audits.problem_with_batch(evidence, settlement.tombstoned, time_ms)
        case Draw():
            audits = settlement.jobs[evidence.job].audits
            return audits.problem_with_draw(evidence, panel, shown, time_ms)
        case RefereeCall() | Ruling():
            audits = settlement.job_of(evidence.slot).audits
            return audits.problem_with_ruling(evidence, panel, shown)
        case _:
            return ""
