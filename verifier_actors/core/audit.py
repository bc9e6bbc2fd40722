"""The audit of one committed segment: a state machine.

                      Batch            Draw selects it         Verdict
    COMMITTED ───────────▶ BATCHED ──────────────▶ ASSIGNED ───────────▶ REPLAYED
                             ▲ │                                          │    │
                       Batch │ │ Draw leaves it out           RefereeCall │    │
                             │ ▼                                          ▼    │
                           SKIPPED                               DISPUTED      │ Ruling
                                                                     │         │
                                                             Verdict │         │
                                                                     ▼         ▼
                                                                 REFEREED ──▶ JUDGED
                                                                      Ruling

A skipped segment can be batched again, for a full audit or a challenge. A move that is not in the
table is a bug and raises `IllegalMove`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from verifier_actors.core.outcome import Outcome, compare


class AuditState(Enum):
    """The state of one segment's audit."""

    COMMITTED = auto()
    """Acknowledged; no batch holds it."""
    BATCHED = auto()
    """In a closed batch that is not drawn yet."""
    SKIPPED = auto()
    """Not selected by its draw."""
    ASSIGNED = auto()
    """Drawn; its verifier replays it."""
    REPLAYED = auto()
    """The verifier's verdict is recorded."""
    DISPUTED = auto()
    """The verdict differs from the claim; a referee replays the segment."""
    REFEREED = auto()
    """The referee's verdict is recorded."""
    JUDGED = auto()
    """Ruled; `Audit.outcome` has the outcome."""


class Move(Enum):
    """The events that change an audit's state."""

    BATCH = auto()
    SKIP = auto()
    ASSIGN = auto()
    VERDICT = auto()
    CALL_REFEREE = auto()
    RULE = auto()


TRANSITIONS: Mapping[tuple[AuditState, Move], AuditState] = {
    (AuditState.COMMITTED, Move.BATCH): AuditState.BATCHED,
    (AuditState.SKIPPED, Move.BATCH): AuditState.BATCHED,
    (AuditState.BATCHED, Move.SKIP): AuditState.SKIPPED,
    (AuditState.BATCHED, Move.ASSIGN): AuditState.ASSIGNED,
    (AuditState.ASSIGNED, Move.VERDICT): AuditState.REPLAYED,
    (AuditState.REPLAYED, Move.CALL_REFEREE): AuditState.DISPUTED,
    (AuditState.DISPUTED, Move.VERDICT): AuditState.REFEREED,
    (AuditState.REPLAYED, Move.RULE): AuditState.JUDGED,
    (AuditState.REFEREED, Move.RULE): AuditState.JUDGED,
}

IN_REPLAY = frozenset({AuditState.ASSIGNED, AuditState.DISPUTED})
"""States in which a party must send a verdict."""
ANSWERED = frozenset({AuditState.REPLAYED, AuditState.REFEREED})
"""States in which the network must rule or call a referee."""
OVER = frozenset({AuditState.SKIPPED, AuditState.JUDGED})
"""States in which no verification is open."""


class IllegalMove(RuntimeError):
    """The transition table has no such move from this state."""


@dataclass(slots=True, kw_only=True)
class Audit:
    """`task`: the slot's task. `numerics`: the class in which the segment is to be replayed.
    `claimed`: the leaf's result digest. `root`, `leaf_index`: the leaf's place in its commitment.
    Results are empty until they are known, as are `verifier` and `referee`."""

    job: str
    slot: str
    task: str
    operator: str
    numerics: str
    claimed: str
    root: str
    leaf_index: int
    committed_ms: int
    state: AuditState = AuditState.COMMITTED
    verifier: str = ""
    verifier_result: str = ""
    referee: str = ""
    referee_result: str = ""
    outcome: Outcome | None = None

    def move(self, move: Move) -> None:
        """Go to the next state. Raises `IllegalMove`."""
        after = TRANSITIONS.get((self.state, move))
        if after is None:
            raise IllegalMove(f"{self.slot} is {self.state.name}: no {move.name} from there")
        self.state = after

    @property
    def is_over(self) -> bool:
        """Whether no verification of the segment is open."""
        return self.state in OVER

    @property
    def was_drawn(self) -> bool:
        """Whether a draw has selected the segment."""
        return bool(self.verifier)

    @property
    def asked(self) -> str:
        """The party that must send a verdict now; empty if there is none."""
        if self.state is AuditState.ASSIGNED:
            return self.verifier
        return self.referee if self.state is AuditState.DISPUTED else ""

    def take_verdict(self, party: str, result: str) -> None:
        """Record a result. A result from another party than `asked` changes nothing."""
        if not self.asked or party != self.asked:
            return
        if self.state is AuditState.ASSIGNED:
            self.verifier_result = result
        else:
            self.referee_result = result
        self.move(Move.VERDICT)

    def found(self) -> Outcome | None:
        """The outcome of the recorded results; None if a referee's result is needed."""
        is_refereed = self.state is AuditState.REFEREED
        referee_result = self.referee_result if is_refereed else None
        return compare(self.claimed, self.verifier_result, referee_result)
