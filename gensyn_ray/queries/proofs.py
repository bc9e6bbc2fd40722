"""The log's entries about a segment or a party, each with its inclusion proof. Pure.

    checkpoint              the signed head
    entry       index       one line and its proof under the head
    consistency first       proof that the log of `first` entries is the head's past
    why         subject     every entry about a slot, party, job or challenge, in order, in words

A page from `why` needs no trust: `check_page` proves every line of it from the network's key alone.

Not shown: a segment's claim and its first verdict, as long as a verifier can still be asked about
it. A replay is blind only if its verifier cannot read the claim. These entries are left out until
there is a ruling or the job is closed. A settled segment is not enough, because the leading trials
are audited last.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gensyn_ray.domain import signing
from gensyn_ray.domain.evidence import (
    Batch,
    Draw,
    Flush,
    FullAudit,
    RefereeCall,
    Reveal,
    Ruling,
    Verdict,
)
from gensyn_ray.domain.merkle import MerkleTree, verify_inclusion
from gensyn_ray.domain.money import format_credits
from gensyn_ray.queries.readings import NoSuchThing
from gensyn_ray.queries.subject_index import SubjectIndex
from ledger.core import checkpoint
from ledger.core.events import (
    ChallengeEnded,
    ChallengeOpened,
    Event,
    Jailed,
    JobClosed,
    JobOpened,
    Moved,
    PartyJoined,
    Recorded,
    SlotCommitted,
    SlotIssued,
    SlotSettled,
    TaskStarted,
    Tombstoned,
)
from ledger.core.journal import CorruptJournal, Entry, parse_entry

PAGE_LIMIT = 500
"""Entries on one page, the newest; a party's whole history is in the flat journal."""
Parameters = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The durable log. `line(i)`: bytes of entry i; `note`: its signed checkpoint; `is_final`:
    whether a slot has a ruling or its job is closed."""

    tree: MerkleTree
    subjects: SubjectIndex
    line: Callable[[int], bytes]
    note: str
    is_final: Callable[[str], bool]

    @property
    def size(self) -> int:
        """Entries under the checkpoint."""
        return int(self.note.split("\n", 2)[1])


def head(log: Log, parameters: Parameters) -> Any:
    """The signed checkpoint."""
    return {"checkpoint": log.note}


def entry(log: Log, parameters: Parameters) -> Any:
    """One entry under the head."""
    index = _number(parameters, "index")
    if index >= log.size:
        raise NoSuchThing(f"the log has {log.size} entries, none at {index}")
    if _hides_claims(parse_entry(log.line(index)), log):
        raise NoSuchThing(
            f"entry {index} is shown when its segments are ruled on or their job is closed"
        )
    return {"checkpoint": log.note, **_proven(log, index)}


def consistency(log: Log, parameters: Parameters) -> Any:
    """Proof that the head continues the log of `first` entries."""
    first = _number(parameters, "first")
    if not 0 < first <= log.size:
        raise NoSuchThing(f"the log has {log.size} entries")
    proof = log.tree.consistency_proof(first, log.size)
    encoded = [signing.to_base64(one) for one in proof]
    return {"checkpoint": log.note, "size": log.size, "proof": encoded}


def why(log: Log, parameters: Parameters) -> Any:
    """All entries about a subject, in order."""
    subject = parameters.get("subject", "")
    found = [index for index in _entries_about(log.subjects, subject) if index < log.size]
    if not found:
        raise NoSuchThing(f"the log says nothing of {subject[:200]!r}: give a slot, party or job")
    told: list[dict[str, Any]] = []
    for index in found[-PAGE_LIMIT:]:
        one = parse_entry(log.line(index))
        if not _hides_claims(one, log):
            told.append({**_proven(log, index), **_told(one, subject)})
    return {
        "subject": subject,
        "checkpoint": log.note,
        "entries": told,
        "left_out": max(0, len(found) - PAGE_LIMIT),
    }


VIEWS: dict[str, Callable[[Log, Parameters], Any]] = {
    "checkpoint": head,
    "entry": entry,
    "consistency": consistency,
    "why": why,
}


def check_page(page: Mapping[str, Any], public_key: bytes) -> int:
    """Prove each entry of a `why` page; returns how many there are. Raises `CorruptJournal`."""
    try:
        under = checkpoint.read(page["checkpoint"], public_key)
        for one in page["entries"]:
            line = one["line"].encode()
            holds = verify_inclusion(
                leaf=line,
                index=one["entry"],
                size=under.size,
                proof=[signing.from_base64(text) for text in one["proof"]],
                root=under.root,
            )
            if not holds:
                raise CorruptJournal(f"entry {one['entry']} is not in the network's log")
            if _told(parse_entry(line), page["subject"]) != {
                name: one[name] for name in ("time_ms", "operation", "by", "what", "postings")
            }:
                raise CorruptJournal(f"entry {one['entry']} says something else")
        return len(page["entries"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptJournal(f"not a page that can be checked: {error}") from None


def _entries_about(subjects: SubjectIndex, subject: str) -> list[int]:
    """Numbers of the entries about a subject. For a slot they include the starts of its job and
    task."""
    found = subjects.of(subject)
    parts = subject.split("/")
    if len(parts) != 4 or not found:
        return found
    started = [index for index in subjects.of("/".join(parts[:2])) if index <= found[0]]
    return sorted({*subjects.of(parts[0])[:1], *started[-1:], *found})


def _proven(log: Log, index: int) -> dict[str, Any]:
    proof = log.tree.inclusion_proof(index, log.size)
    return {
        "entry": index,
        "line": log.line(index).decode(),
        "proof": [signing.to_base64(one) for one in proof],
    }


def _told(one: Entry, subject: str) -> dict[str, Any]:
    """The parts of an entry that concern the subject, as text."""
    about = [event for event in one.events if _is_about(event, subject)]
    return {
        "time_ms": one.time_ms,
        "operation": one.header.operation,
        "by": f"{one.header.role} {one.header.party}",
        "what": [words for event in about if (words := _words(event, subject))],
        "postings": [
            {
                "debit": event.debit,
                "credit": event.credit,
                "amount": format_credits(event.amount_micro),
                "memo": event.memo,
                "slot": event.slot,
            }
            for event in about
            if isinstance(event, Moved)
        ],
    }


def _is_about(event: Event, subject: str) -> bool:
    """Whether an event names the subject, or names no subject at all."""
    if isinstance(event, Moved):
        parts = (*event.debit.split("/"), *event.credit.split("/"), event.slot)
        return subject in parts
    slot = getattr(event, "slot", "")
    if "/" in subject and isinstance(slot, str) and slot:
        return slot == subject
    return True


def _words(event: Event, subject: str) -> str:
    match event:
        case JobOpened():
            return (
                f"job {event.job} opened: {format_credits(event.budget_micro)} credits, "
                f"{format_credits(event.price_micro)} a segment, bundle {event.bundle[:16]}"
            )
        case TaskStarted():
            return f"task {event.task}, attempt {event.attempt}, of trial {event.trial}"
        case PartyJoined():
            return f"{event.name} joined as {event.role}"
        case SlotIssued():
            return f"slot issued to {event.operator}"
        case SlotCommitted():
            return (
                f"committed: state {event.leaf.state_after[:16]} "
                f"after {event.leaf.state_before[:16] or 'init'}"
            )
        case Recorded():
            return _told_evidence(event, subject)
        case SlotSettled():
            return f"{'paid' if event.paid else 'not paid'}: {event.reason}"
        case Tombstoned():
            return (
                f"{event.operator} tombstoned: {format_credits(event.slashed_micro)} credits "
                f"slashed on the evidence of {event.evidence}"
            )
        case Jailed():
            return f"{event.operator} jailed: {event.reason}"
        case ChallengeOpened():
            return f"challenge {event.challenge} by {event.party}: {event.claim}"
        case ChallengeEnded():
            return f"challenge {event.challenge} {event.outcome}: {event.reason}"
        case JobClosed():
            return f"job {event.job} {'expired' if event.expired else 'closed'}"
        case _:
            return ""


def _told_evidence(event: Recorded, subject: str) -> str:
    match event.evidence:
        case Batch() as batch:
            return f"waits for a draw in {batch.batch} at {batch.rate_ppm} ppm"
        case Draw() as draw:
            chosen = [one for one in draw.drawn if one.slot == subject]
            return f"drawn for {chosen[0].verifier}" if chosen else f"draw of {draw.batch}"
        case Verdict() as verdict:
            return f"{event.party} replayed it: {verdict.result[:16]}"
        case RefereeCall() as call:
            return f"disputed: {call.referee} replays it as referee"
        case Ruling() as ruling:
            return f"ruling: {ruling.outcome}, claimed {ruling.claimed[:16]}"
        case Reveal() as reveal:
            return f"the submitter's link for {reveal.batch}"
        case FullAudit() as audit:
            return f"every segment of {', '.join(audit.tasks)} is to be audited"
        case Flush():
            return "all open batches close"


def _hides_claims(one: Entry, log: Log) -> bool:
    """Whether this entry shows a claim or a result that a verifier must not know yet."""
    slots = [event.slot for event in one.events if isinstance(event, SlotCommitted)]
    slots += [
        event.evidence.slot
        for event in one.events
        if isinstance(event, Recorded) and isinstance(event.evidence, Verdict)
    ]
    return not all(log.is_final(slot) for slot in slots)


def _number(parameters: Parameters, name: str) -> int:
    text = parameters.get(name, "")
    if not (text.isascii() and text.isdecimal()) or len(text) > 15:
        raise NoSuchThing(f"{name} is a whole number from 0")
    return int(text)
