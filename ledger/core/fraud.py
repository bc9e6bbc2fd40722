"""Slashes: stake is taken for proven fraud, held for an appeal, then paid out or returned.

    stake/reserved -> slashed/{job}/{operator} -> submitter (at most what the submitter paid)
                                               -> reporter, jackpot, burn
                                               -> back to its account, if the slash is reversed

While the job is open, a slash takes the stake reserved for it. After the job has closed, and while
evidence is valid, a slash takes free and unbonding stake up to the same amount. A slash never takes
more than the stake that backed the job.
"""

from gensyn_ray.domain.leaf import Leaf
from gensyn_ray.domain.signing import Envelope
from ledger.core import accounts, orders
from ledger.core.book import Book
from ledger.core.book_state import JobEntry, SlashEntry, SlashState, SlotEntry, SlotState
from ledger.core.commands import Commit, DistributeSlash, ReportEquivocation, ReverseSlash, Slash
from ledger.core.decision import Accepted, Decision, accept, reject
from ledger.core.events import (
    Event,
    Moved,
    SlashDistributed,
    SlashReversed,
    Tombstoned,
    UnbondingCut,
)
from ledger.core.orders import Header
from ledger.core.parameters import PPM
from ledger.core.refusals import Reason, Rejected


def slash(book: Book, command: Slash, now_ms: int) -> Decision:
    """Take an operator's stake after a ruling."""
    if command.operator not in book.parties:
        return reject(Reason.UNKNOWN_PARTY, command.operator[:64])
    return _take_stake(book, command, now_ms)


def report_equivocation(
    book: Book, header: Header, command: ReportEquivocation, now_ms: int
) -> Decision:
    """Take the stake of an operator that signed two answers to one slot; needs no ruling."""
    cheat = _equivocator(command, network=header.network, genesis=header.genesis)
    if isinstance(cheat, Rejected):
        return cheat
    if cheat not in book.parties:
        return reject(Reason.UNKNOWN_PARTY, cheat)
    found = Slash(
        job=command.slot.split("/", 1)[0],
        operator=cheat,
        evidence=command.slot,
        spoilt=[],
        reporter="" if header.party == cheat else header.party,
    )
    return _take_stake(book, found, now_ms)


def _equivocator(command: ReportEquivocation, *, network: str, genesis: str) -> str | Rejected:
    """The party that signed both answers, or the refusal."""
    signers: list[str] = []
    answers: list[Leaf] = []
    for value in (command.first, command.second):
        try:
            order = orders.read(Envelope.from_json(value))
        except ValueError as error:
            return reject(Reason.MALFORMED, str(error))
        if isinstance(order, Rejected):
            return order
        if (order.header.network, order.header.genesis) != (network, genesis):
            return reject(Reason.WRONG_NETWORK)
        leaf = _leaf_for(order.command, command.slot)
        if leaf is None:
            return reject(Reason.NOT_EQUIVOCATION, "a commitment does not answer this slot")
        signers.append(order.header.party)
        answers.append(leaf)
    # The same leaf under another root is no fraud: an agent batches again after a lost link.
    if signers[0] != signers[1] or answers[0] == answers[1]:
        return reject(Reason.NOT_EQUIVOCATION)
    return signers[0]


def _leaf_for(command: object, slot: str) -> Leaf | None:
    leaves = command.leaves if isinstance(command, Commit) else []
    return next((leaf for leaf in leaves if str(leaf.slot) == slot), None)


def _take_stake(book: Book, command: Slash, now_ms: int) -> Decision:
    operator, job = command.operator, book.jobs.get(command.job)
    if command.reporter and command.reporter not in book.parties:
        return reject(Reason.UNKNOWN_PARTY, command.reporter[:64])
    if job is not None and operator not in job.backing_micro:
        return reject(Reason.UNKNOWN_PARTY, "this operator never worked for the job")
    if book.parties[operator].tombstoned:
        return reject(Reason.OPERATOR_TOMBSTONED)
    if job is None:
        return reject(Reason.UNKNOWN_JOB, command.job[:64])
    for slot in (command.evidence, *command.spoilt):
        if slot not in job.slots:
            return reject(Reason.UNKNOWN_SLOT, slot[:200])
    if job.slots[command.evidence].operator != operator:
        return reject(Reason.NOT_YOUR_SLOT, "the evidence is another operator's slot")
    if job.closed and now_ms > job.evidence_until_ms:
        return reject(Reason.EVIDENCE_TOO_OLD)
    taken = _taken(book, command, job)
    return accept(
        *taken,
        *_forfeited(command, job),
        Tombstoned(
            operator=operator,
            job=command.job,
            evidence=command.evidence,
            slashed_micro=sum(one.amount_micro for one in taken if isinstance(one, Moved)),
            spoilt=list(dict.fromkeys(command.spoilt)),
            reporter=command.reporter,
            appeal_until_ms=now_ms + book.parameters.appeal_ms,
        ),
    )


def _taken(book: Book, command: Slash, job: JobEntry) -> list[Event]:
    """Postings of stake into `slashed`: reserved stake, or free and unbonding after the close."""
    operator, left_micro = command.operator, job.backing_micro[command.operator]
    sources = (
        [accounts.free_stake(operator), accounts.unbonding_stake(operator)]
        if job.closed
        else [accounts.reserved_stake(operator, command.job)]
    )
    events: list[Event] = []
    for source in sources:
        amount_micro = min(left_micro, book.balances[source])
        if amount_micro == 0:
            continue
        left_micro -= amount_micro
        events.append(
            Moved(
                debit=source,
                credit=accounts.slashed(command.job, operator),
                amount_micro=amount_micro,
                memo="slash",
                slot=command.evidence,
            )
        )
        if source == accounts.unbonding_stake(operator):
            events.append(UnbondingCut(party=operator, amount_micro=amount_micro))
    return events


def _forfeited(command: Slash, job: JobEntry) -> list[Event]:
    """Postings that return the operator's held pay to the job's escrow."""
    return [
        Moved(
            debit=accounts.holdback(command.job, command.operator),
            credit=accounts.escrow(command.job),
            amount_micro=entry.price_micro,
            memo="forfeit",
            slot=slot,
        )
        for slot, entry in job.slots.items()
        if entry.operator == command.operator and entry.paid and entry.state is SlotState.SETTLED
    ]


def distribute_slash(book: Book, command: DistributeSlash, now_ms: int) -> Decision:
    """Refund the submitter for bad and spoilt slots; share and burn the rest."""
    slash = _held(book, command.operator)
    if isinstance(slash, Rejected):
        return slash
    proven = slash.proven
    job = book.jobs[proven.job]
    if not job.closed:
        return reject(Reason.APPEAL_OPEN, "its job is open: what was paid is not known yet")
    if now_ms < proven.appeal_until_ms or job.slots[proven.evidence].challenges:
        return reject(Reason.APPEAL_OPEN, f"until {proven.appeal_until_ms} or a challenge's end")
    source = accounts.slashed(proven.job, command.operator)
    left_micro = book.balances[source]
    events: list[Event] = []

    def give(account: str, amount_micro: int, memo: str, slot: str = "") -> None:
        nonlocal left_micro
        if amount_micro:
            left_micro -= amount_micro
            events.append(
                Moved(debit=source, credit=account, amount_micro=amount_micro, memo=memo, slot=slot)
            )

    refunded: list[str] = []
    for slot, entry in _refundable(job, slash):
        if entry.price_micro <= left_micro:
            refunded.append(slot)
            submitter = accounts.available(job.opened.submitter)
            give(submitter, entry.price_micro, "make good", slot)
    rest_micro = left_micro
    if proven.reporter:
        reporter = accounts.available(proven.reporter)
        give(reporter, rest_micro * book.parameters.reporter_ppm // PPM, "reporter share")
    give(accounts.JACKPOT, rest_micro * book.parameters.jackpot_ppm // PPM, "jackpot share")
    give(accounts.BURN, left_micro, "burn")
    events.append(SlashDistributed(operator=command.operator, refunded=refunded))
    return Accepted(events=events)


def _refundable(job: JobEntry, slash: SlashEntry) -> list[tuple[str, SlotEntry]]:
    """The operator's slots and the spoilt ones that were paid and not refunded yet."""
    own = {slot for slot, entry in job.slots.items() if entry.operator == slash.proven.operator}
    return [
        (slot, job.slots[slot])
        for slot in sorted(own | set(slash.proven.spoilt))
        if job.slots[slot].paid and not job.slots[slot].refunded
    ]


def reverse_slash(book: Book, command: ReverseSlash) -> Decision:
    """Return a wrongly taken stake and reinstate the operator."""
    slash = _held(book, command.operator)
    if isinstance(slash, Rejected):
        return slash
    job = slash.proven.job
    source = accounts.slashed(job, command.operator)
    target = (
        accounts.free_stake(command.operator)
        if book.jobs[job].closed
        else accounts.reserved_stake(command.operator, job)
    )
    events: list[Event] = [SlashReversed(operator=command.operator, reason=command.reason)]
    if book.balances[source]:
        events.append(
            Moved(
                debit=source,
                credit=target,
                amount_micro=book.balances[source],
                memo="slash reversed",
            )
        )
    return Accepted(events=events)


def _held(book: Book, operator: str) -> SlashEntry | Rejected:
    slash = book.slashes.get(operator)
    if slash is None or slash.state is not SlashState.HELD:
        return reject(Reason.NO_SLASH_HELD, operator[:64])
    return slash
