"""What the network must do next: settlement's state in, commands of the network out.

Pure. The authority journals each duty under the network's key, folds it, and asks again; whoever
holds the journal can see which duties it calls for. `due` follows from what has just happened,
`overdue` from nothing but time passing.

Not covered: a challenge about a segment that was ruled on already, or whose job is closed. It waits
for people (`ResolveChallenge`, `ReverseSlash`) and ends with its bond returned if nobody answers.
"""

from collections.abc import Callable
from itertools import islice

from gensyn_ray.settlement.state import Job, Segment, Settlement
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
from verifier_actors.core import draw
from verifier_actors.core.outcome import Outcome, compare

ROUND_WAIT_MS = 30_000
"""A round that does not fill closes this long after its first commitment."""
REVEAL_WAIT_MS = 5_000
"""A submitter who withholds a link for this long has everything drawn."""
RELEASE_BATCH = 64

Link = Callable[[int], bytes]
"""Returns link i of the beacon's chain."""


def due(settlement: Settlement, now_ms: int, link: Link) -> list[Command]:
    """Network commands that the present state calls for; `link(i)` is beacon link i.

    Ask again after each batch has been folded, until the list is empty.
    """
    for job in settlement.open_jobs.values():
        if found := _rulings(settlement, job):
            return found
        if found := _settlements(settlement, job):
            return found
        if found := _draws(settlement, job, now_ms, link):
            return found
        if found := _rounds(settlement, job, now_ms):
            return found
    return []


def _rulings(settlement: Settlement, job: Job) -> list[Command]:
    for slot, segment in job.answered.items():
        if segment.verdict is None or segment.operator in settlement.tombstoned:
            continue
        outcome = compare(segment.claimed, segment.verdict, segment.ruling)
        if outcome is None:
            if segment.referee:
                continue
            value = draw.draw_value(
                link=bytes.fromhex(settlement.last_link),
                root=bytes.fromhex(segment.root),
                secret=b"referee",
                leaf_index=segment.leaf_index,
            )
            others = [
                one
                for one in settlement.verifiers(segment.leaf["numerics"], not_of=segment.operator)
                if one != segment.verifier
            ]
            if others:
                referee = draw.choose(value, others)
                return [Record(kind="referee_call", content={"slot": slot, "referee": referee})]
            outcome = Outcome.INCONCLUSIVE
        return _rule(settlement, job, slot, segment, outcome)
    return []


def _rule(
    settlement: Settlement, job: Job, slot: str, segment: Segment, outcome: Outcome
) -> list[Command]:
    rejected = outcome is Outcome.REJECT
    ruling = Record(
        kind="ruling",
        content={
            "slot": slot,
            "outcome": outcome.value,
            "at_fault": segment.operator if rejected else "",
            "claimed": segment.claimed,
            "verifier": segment.verifier,
            "verdict": segment.verdict,
            "referee": segment.referee,
            "ruling": segment.ruling or "",
        },
    )
    if not rejected or job.opened.bundle not in settlement.vetted:
        return [ruling]
    spoilt = [
        fallen
        for fallen in settlement.grown_from([slot, *settlement.doomed(segment.operator)])
        if settlement.segment(fallen).operator != segment.operator
        and settlement.segment(fallen).slot.job == job.opened.job
    ]
    return [
        ruling,
        Slash(job=job.opened.job, operator=segment.operator, evidence=slot, spoilt=sorted(spoilt)),
    ]


def _settlements(settlement: Settlement, job: Job) -> list[Command]:
    items: list[SettleItem] = []
    for slot, segment in job.decided.items():
        if segment.outcome is Outcome.REJECT:
            items.append(SettleItem(slot=slot, pay=False, reason="rejected by ruling"))
        elif segment.operator in settlement.tombstoned:
            items.append(SettleItem(slot=slot, pay=False, reason="operator tombstoned"))
        elif segment.outcome is not None:
            reason = f"audited: {segment.outcome.value}"
            items.append(SettleItem(slot=slot, pay=True, reason=reason))
        elif segment.drawn is False:
            items.append(SettleItem(slot=slot, pay=True, reason="not drawn"))
    return [Settle(job=job.opened.job, items=items)] if items else []


def _rounds(settlement: Settlement, job: Job, now_ms: int) -> list[Command]:
    for operator, slots in job.waiting.items():
        if not slots:
            continue
        full = len(slots) >= job.opened.draw_batch
        old = now_ms - job.segments[slots[0]].committed_ms >= ROUND_WAIT_MS
        if full or old or job.flush or operator in settlement.tombstoned:
            return [_round(job, slots, job.opened.audit_ppm)]
    unaudited = [
        slot
        for task in job.tasks.values()
        if task.hardened
        for slot in task.good
        if job.segments[slot].drawn is False
    ]
    unaudited += [
        slot
        for slot in sorted(settlement.questioned & job.segments.keys())
        if job.segments[slot].drawn is False and slot not in unaudited
    ]
    return [_round(job, unaudited, draw.PPM)] if unaudited else []


def _round(job: Job, slots: list[str], rate_ppm: int) -> Command:
    number = f"{job.opened.job}/round-{job.rounds_closed}"
    content = {
        "job": job.opened.job,
        "round": number,
        "slots": list(slots),
        "rate_ppm": rate_ppm,
    }
    return Record(kind="round", content=content)


def _draws(settlement: Settlement, job: Job, now_ms: int, link: Link) -> list[Command]:
    for round_ in job.rounds.values():
        withheld = now_ms - round_.closed_ms >= REVEAL_WAIT_MS
        if round_.secret is None and not withheld:
            continue
        index = settlement.links_shown + 1
        content = {
            "job": job.opened.job,
            "round": round_.id,
            "index": index,
            "link": link(index).hex(),
            "secret": round_.secret or "",
        }
        return [Record(kind="draw", content={**content, "drawn": settlement.drawn_by(content)})]
    return []


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
    """Pay whose window is over, oldest first; what is challenged or still audited waits."""
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
    """A job that outlived its time. Work that no verifier judged in that time is paid: the silence
    was not its operator's."""
    if book.jobs[name].challenges:
        return []
    items = [
        SettleItem(slot=slot, pay=True, reason="not judged within the job's time")
        for slot, segment in job.unjudged.items()
        if not segment.settled and not book.parties[segment.operator].tombstoned
    ]
    settle: list[Command] = [Settle(job=name, items=items)] if items else []
    return [*settle, ExpireJob(job=name)]


def _challenge_ends(
    settlement: Settlement, challenge: ChallengeEntry, now_ms: int
) -> list[Command]:
    """What an audit that the challenge caused has found, or that nobody found anything in time."""
    opened = challenge.opened
    segment = settlement.segment(opened.slot)
    audited_since = opened.slot in settlement.questioned and segment.outcome is not None
    if audited_since and segment.outcome is not None:
        upheld = segment.outcome is Outcome.REJECT
        reason = f"audited: {segment.outcome.value}"
        return [ResolveChallenge(challenge=opened.challenge, upheld=upheld, reason=reason)]
    if now_ms >= opened.expires_ms:
        return [ExpireChallenge(challenge=opened.challenge)]
    return []
