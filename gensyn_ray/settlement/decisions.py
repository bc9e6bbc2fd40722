"""The network's next commands: settlement's state in, commands of the network out.

Pure. The authority journals each decision under the network's key, folds it, and asks again. The
decisions follow from the journal alone. `due` gives the commands that new entries require,
`overdue` those that time alone requires.

Not covered: a challenge of a segment that was ruled on, or whose job is closed. People must decide
it (`ResolveChallenge`, `ReverseSlash`). Without a decision its bond returns.
"""

from collections.abc import Callable
from itertools import islice

from gensyn_ray.domain.evidence import Evidence, RefereeCall, Ruling
from gensyn_ray.settlement.state import Job, Pay, Settlement
from ledger.core.book import Book
from ledger.core.book_state import ChallengeEntry, ChallengeState, SlashState
from ledger.core.commands import (
    Command,
    DistributeSlash,
    ExpireChallenge,
    ExpireJob,
    Mature,
    Record,
    Release,
    ResolveChallenge,
    Settle,
    SettleItem,
    Slash,
)
from verifier_actors.core.audit import AuditState
from verifier_actors.core.outcome import Outcome

RELEASE_BATCH = 64
"""Maximum number of slots in one `Release` command."""

Link = Callable[[int], bytes]
"""Returns link i of the network's beacon chain."""


def due(settlement: Settlement, now_ms: int, link: Link) -> list[Command]:
    """Network commands that the present state requires; `link(i)` is beacon link i.

    Ask again after each list has been folded, until it is empty.
    """
    for job in settlement.open_jobs.values():
        if commands := _ruling(settlement, job) or _settlement(settlement, job):
            return commands
        evidence = _draw(settlement, job, now_ms, link) or job.audits.next_batch(
            settlement.tombstoned, now_ms
        )
        if evidence is not None:
            return [Record(evidence=evidence)]
    return []


def _ruling(settlement: Settlement, job: Job) -> list[Command]:
    """The next referee call or ruling, with the slash that a rejection brings."""
    found = job.audits.next_ruling(settlement.panel, settlement.beacon, settlement.tombstoned)
    match found:
        case None:
            return []
        case RefereeCall():
            return [Record(evidence=found)]
        case Ruling():
            slash = _slash(settlement, job, found)
            return [Record(evidence=found), *([slash] if slash else [])]


def _slash(settlement: Settlement, job: Job, ruling: Ruling) -> Slash | None:
    """Only programs that the network has vetted can lead to a slash."""
    if ruling.outcome != Outcome.REJECT or job.opened.bundle not in settlement.vetted:
        return None
    operator = ruling.at_fault
    bad = [ruling.slot, *(slot for slot in settlement.doomed(operator) if slot in job.segments)]
    spoilt = [
        slot for slot in job.lineage.grown_from(bad) if job.segments[slot].operator != operator
    ]
    return Slash(job=job.opened.job, operator=operator, evidence=ruling.slot, spoilt=sorted(spoilt))


def _settlement(settlement: Settlement, job: Job) -> list[Command]:
    """Settle every segment whose verification is over, or whose operator is tombstoned."""
    items: list[SettleItem] = []
    for slot, segment in job.settleable.items():
        outcome = segment.audit.outcome
        if outcome is Outcome.REJECT:
            items.append(SettleItem(slot=slot, pay=False, reason="rejected by ruling"))
        elif segment.operator in settlement.tombstoned:
            items.append(SettleItem(slot=slot, pay=False, reason="operator tombstoned"))
        elif outcome is not None:
            items.append(SettleItem(slot=slot, pay=True, reason=f"audited: {outcome.value}"))
        elif segment.audit.state is AuditState.SKIPPED:
            items.append(SettleItem(slot=slot, pay=True, reason="not drawn"))
    return [Settle(job=job.opened.job, items=items)] if items else []


def _draw(settlement: Settlement, job: Job, now_ms: int, link: Link) -> Evidence | None:
    if not job.audits.batches:
        return None
    next_link = link(settlement.beacon.index + 1)
    return job.audits.next_draw(settlement.panel, settlement.beacon, next_link, now_ms)


def overdue(settlement: Settlement, book: Book, now_ms: int) -> list[Command]:
    """Network commands that time alone has made due. Ask again until the list is empty."""
    found: list[Command] = []
    for challenge in book.challenges.values():
        if challenge.state is ChallengeState.OPEN:
            found += _challenge_ends(settlement, challenge, now_ms)
    for name, job in settlement.open_jobs.items():
        if now_ms > job.opened.deadline_ms:
            found += _end_of_time(book, name, job)
        else:
            found += _releases(book, name, job, now_ms)
    for name, party in book.parties.items():
        if party.unbonding and party.unbonding[0].mature_ms <= now_ms:
            found.append(Mature(party=name))
    for operator, slash in book.slashes.items():
        proven = slash.proven
        job_entry = book.jobs[proven.job]
        waits = not job_entry.closed or job_entry.slots[proven.evidence].challenges > 0
        if slash.state is SlashState.HELD and not waits and now_ms >= proven.appeal_until_ms:
            found.append(DistributeSlash(operator=operator))
    return found


def _releases(book: Book, name: str, job: Job, now_ms: int) -> list[Command]:
    """Release pay whose window is over, oldest first, but not of challenged or unjudged
    segments."""
    slots: list[str] = []
    for slot, release_ms in islice(job.held.items(), RELEASE_BATCH):
        if release_ms > now_ms:
            break
        entry = book.jobs[name].slots[slot]
        gone = book.parties[entry.operator].tombstoned
        if job.segments[slot].is_judged and not entry.challenges and not gone:
            slots.append(slot)
    return [Release(job=name, slots=slots)] if slots else []


def _end_of_time(book: Book, name: str, job: Job) -> list[Command]:
    """End a job whose time is over. Segments that no verifier judged in time are paid, because the
    operator did not cause the delay."""
    if book.jobs[name].challenges:
        return []
    items = [
        SettleItem(slot=slot, pay=True, reason="not judged within the job's time")
        for slot, segment in job.segments.items()
        if segment.pay is Pay.OPEN and not book.parties[segment.operator].tombstoned
    ]
    settle: list[Command] = [Settle(job=name, items=items)] if items else []
    return [*settle, ExpireJob(job=name)]


def _challenge_ends(
    settlement: Settlement, challenge: ChallengeEntry, now_ms: int
) -> list[Command]:
    """The end of a challenge: by the outcome of the audit that it caused, or because its time is
    over."""
    opened = challenge.opened
    audits = settlement.job_of(opened.slot).audits
    outcome = audits.audits[opened.slot].outcome
    if opened.slot in audits.challenged and outcome is not None:
        upheld = outcome is Outcome.REJECT
        reason = f"audited: {outcome.value}"
        return [ResolveChallenge(challenge=opened.challenge, upheld=upheld, reason=reason)]
    if now_ms >= opened.expires_ms:
        return [ExpireChallenge(challenge=opened.challenge)]
    return []
