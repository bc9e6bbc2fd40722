"""An index of journal entries by segment, task, job and party. A fold over entries.

It holds entry numbers only. The content is read from the entry itself, and the log proves it.
"""

from array import array
from functools import cache, lru_cache
from typing import Any, cast

from gensyn_ray.domain.evidence import Assignment
from ledger.core.events import Event, Moved, Recorded, TaskFinished, TaskStarted
from ledger.core.journal import Entry

_SUBJECTS = ("slot", "evidence", "operator", "party", "submitter", "job", "challenge", "reporter")
_KINDS = ("free", "reserved", "unbonding", "bond")
_LISTS = ("slots", "spoilt", "refunded", "drawn", "tasks")


class SubjectIndex:
    """Entry numbers by subject, ascending. Subjects: slot, `job/task`, job, party, challenge."""

    def __init__(self) -> None:
        self._entries: dict[str, array[int]] = {}

    def fold(self, entry: Entry) -> None:
        """Add an entry under each of its subjects."""
        named = {entry.header.party}
        for event in entry.events:
            _name(event, named)
        for subject in named:
            if (known := self._entries.get(subject)) is None:
                known = self._entries[subject] = array("Q")
            known.append(entry.index)

    def of(self, subject: str) -> list[int]:
        """Numbers of the entries about a subject; empty if there are none."""
        return list(self._entries.get(subject, ()))


def _name(event: Event, named: set[str]) -> None:
    """Add the subjects of an event."""
    if type(event) is Moved:
        named.update(_owners(event.debit), _owners(event.credit))
        if event.slot:
            named.add(event.slot)
        return
    for name in _fields_of(type(event)):
        _name_value(getattr(event, name), named)
    if isinstance(event, Recorded):
        for name in _fields_of(type(event.evidence)):
            _name_value(getattr(event.evidence, name), named)
    if isinstance(event, TaskStarted | TaskFinished):
        named.add(f"{event.job}/{event.task}")


def _name_value(value: Any, named: set[str]) -> None:
    if isinstance(value, str):
        if value:
            named.add(value)
    elif isinstance(value, list):
        for one in cast("list[Any]", value):
            _name_value(one, named)
    elif isinstance(value, Assignment):
        named.update((value.slot, value.verifier))


@cache
def _fields_of(kind: type) -> tuple[str, ...]:
    return tuple(name for name in kind.__annotations__ if name in (*_SUBJECTS, *_LISTS))


@lru_cache(4096)
def _owners(account: str) -> tuple[str, ...]:
    """The names in an account: `stake/reserved/{operator}/{job}` -> operator, job."""
    return tuple(part for part in account.split("/")[1:] if part not in _KINDS)
