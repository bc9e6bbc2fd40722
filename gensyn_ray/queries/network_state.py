"""The state of a folded journal, and all its views. Pure.

The authority answers readings from its live state, and `gensyn-ray ledger` from one folded from a
flat journal. Both use this code, so the answers are equal.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gensyn_ray.queries import proofs, readings
from gensyn_ray.queries.readings import NoSuchThing
from gensyn_ray.queries.subject_index import SubjectIndex
from gensyn_ray.settlement.state import Settlement
from ledger.core.journal import Entry, Journal


@dataclass(slots=True, kw_only=True)
class NetworkState:
    """The state of one network after a number of entries; `last_ms` is the last entry's time."""

    journal: Journal = field(default_factory=Journal)
    settlement: Settlement = field(default_factory=Settlement)
    subjects: SubjectIndex = field(default_factory=SubjectIndex)
    last_ms: int = 0

    def fold(self, entry: Entry) -> None:
        """Fold an entry that was proposed here, or that is durable."""
        self.journal.apply(entry)
        self.settlement.fold(entry.events, entry.time_ms)
        self.subjects.fold(entry)
        self.last_ms = max(self.last_ms, entry.time_ms)

    def read(
        self,
        view: str,
        parameters: Mapping[str, str],
        *,
        line: Callable[[int], bytes],
        note: Callable[[], str],
    ) -> Any:
        """A reading as a JSON value. `line(i)`: bytes of entry i; `note()`: the signed head of what
        is durable.

        Raises `NoSuchThing` if the view or its subject does not exist.
        """
        if view in proofs.VIEWS:
            log = proofs.Log(
                tree=self.journal.tree,
                subjects=self.subjects,
                line=line,
                note=note(),
                is_final=self._is_final,
            )
            return proofs.VIEWS[view](log, parameters)
        if view in readings.VIEWS:
            return msgspec.to_builtins(
                readings.VIEWS[view](self.journal, self.settlement, parameters)
            )
        names = ", ".join((*readings.VIEWS, *proofs.VIEWS))
        raise NoSuchThing(f"there is no view {view[:64]!r}; there are {names}")

    def _is_final(self, slot: str) -> bool:
        """Whether no verifier can be asked about a segment again."""
        job = self.settlement.job_of(slot)
        return job.is_closed or job.segments[slot].audit.outcome is not None
