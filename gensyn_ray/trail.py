"""Which journal entries speak of a segment, a task, a job or a party: an index, a fold too.

It holds numbers only. What an entry says is read from the entry itself, and proven by the log.
"""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache, lru_cache
from typing import Any, cast

from ledger.core.events import Event, Moved, Recorded, TaskFinished, TaskStarted
from ledger.core.journal import Entry

_SUBJECTS = ("slot", "evidence", "operator", "party", "submitter", "job", "dispute", "reporter")
_KINDS = ("free", "reserved", "unbonding", "bond")
_LISTS = ("slots", "spoilt", "refunded", "drawn", "tasks")


class Trail:
    """Entry numbers by subject, ascending. Subjects: slot, `job/task`, job, party, dispute."""

    def __init__(self) -> None:
        self._entries: dict[str, array[int]] = {}

    def fold(self, entry: Entry) -> None:
        """Note what an entry speaks of."""
        for subject in {entry.header.party, *_named(entry)}:
            self._entries.setdefault(subject, array("Q")).append(entry.index)

    def of(self, subject: str) -> list[int]:
        """Numbers of the entries that speak of a subject; empty if none does."""
        return list(self._entries.get(subject, ()))


def _named(entry: Entry) -> Iterator[str]:
    for event in entry.events:
        yield from _named_in(event)


def _named_in(event: Event) -> Iterator[str]:
    if isinstance(event, Moved):
        yield from _owners(event.debit)
        yield from _owners(event.credit)
        if event.slot:
            yield event.slot
        return
    names = _fields_of(type(event))
    yield from _in_fields({name: getattr(event, name) for name in names})
    if isinstance(event, Recorded):
        yield from _in_fields(event.content)
    if isinstance(event, TaskStarted | TaskFinished):
        yield f"{event.job}/{event.task}"


def _in_fields(content: Mapping[str, Any]) -> Iterator[str]:
    for name in _SUBJECTS:
        if isinstance(value := content.get(name), str) and value:
            yield value
    for name in _LISTS:
        for one in content.get(name) or ():
            if isinstance(one, str):
                yield one
            elif isinstance(one, dict):
                yield from (text for text in cast("dict[str, Any]", one).values() if text)


@cache
def _fields_of(kind: type[Event]) -> tuple[str, ...]:
    return tuple(one.name for one in fields(kind) if one.name in (*_SUBJECTS, *_LISTS))


@lru_cache(4096)
def _owners(account: str) -> tuple[str, ...]:
    """The names in an account: `stake/reserved/{operator}/{job}` -> operator, job."""
    return tuple(part for part in account.split("/")[1:] if part not in _KINDS)
