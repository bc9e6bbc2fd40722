"""The two decisions about a command, and checks that several of them share."""

from dataclasses import dataclass

from gensyn_ray.domain.money import MAX_MICRO
from ledger.core.book import Book
from ledger.core.book_state import JobEntry
from ledger.core.events import Event
from ledger.core.refusals import Reason, Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The command is accepted and causes all these events."""

    events: list[Event]


Decision = Accepted | Rejected


def accept(*events: Event) -> Accepted:
    return Accepted(events=list(events))


def reject(reason: Reason, detail: str = "") -> Rejected:
    return Rejected(reason=reason, detail=detail)


def open_job_of(book: Book, job_id: str) -> JobEntry | Rejected:
    """The open job of that id, or the refusal."""
    job = book.jobs.get(job_id)
    if job is None:
        return reject(Reason.UNKNOWN_JOB, job_id[:64])
    return reject(Reason.JOB_CLOSED) if job.closed else job


def in_range(amount_micro: int) -> bool:
    """Whether an amount is above zero and at most `MAX_MICRO`."""
    return 0 < amount_micro <= MAX_MICRO


def is_digest(text: str) -> bool:
    """Whether the text is 32 bytes in lower-case hex: a key, a hash or a chain's end."""
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
