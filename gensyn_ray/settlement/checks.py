"""Checks recorded evidence of the network against the journal before it.

Anyone with the journal can check every batch, draw, referee call and ruling. The network chooses
only the time of each; its content follows from the journal. `admission.admit` checks the orders of
other parties.
"""

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
        return settlement.jobs[event.evidence.job].audits.problem_with(
            event.evidence,
            panel=settlement.panel,
            shown=settlement.beacon,
            tombstoned=settlement.tombstoned,
            time_ms=time_ms,
        )
    except (KeyError, ValueError, IllegalMove) as error:
        return f"its evidence does not fit what came before: {error!r}"
