"""The two answers to a command, and what all deciding functions share."""

from dataclasses import dataclass

from ledger.core.book import Book, JobEntry
from ledger.core.events import Event
from ledger.core.refusals import Reason, Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The command will be carried out: these events, all of them."""

    events: list[Event]


Decision = Accepted | Rejected


def accept(*events: Event) -> Accepted:
    return Accepted(events=list(events))


def reject(reason: Reason, detail: str = "") -> Rejected:
    return Rejected(reason=reason, detail=detail)


def open_job_of(book: Book, job_id: str) -> JobEntry | Rejected:
    """The job of that name, if it is open."""
    job = book.jobs.get(job_id)
    if job is None:
        return reject(Reason.UNKNOWN_JOB, job_id[:64])
    return reject(Reason.JOB_CLOSED) if job.closed else job
