"""`decide(book, order, now_ms)`: the events that a command would cause, or why it causes none.

Checks run in the order of `Reason`. Nothing here writes to the book.
"""

from dataclasses import dataclass

from gensyn_ray.domain import canonical, merkle
from gensyn_ray.domain.ids import Slot, is_safe_id, party_id
from gensyn_ray.domain.money import MAX_MICRO
from gensyn_ray.domain.records import BadRecord, from_json
from ledger.core import accounts
from ledger.core.book import Book, JobEntry, SlotState
from ledger.core.commands import (
    ALLOWED_ROLES,
    Bond,
    CloseJob,
    Commit,
    Deposit,
    FinishTask,
    Found,
    Join,
    OpenJob,
    Record,
    RequestSlot,
    Settle,
    Slash,
    StartTask,
)
from ledger.core.events import (
    Event,
    Founded,
    JobClosed,
    JobOpened,
    Moved,
    PartyJoined,
    Recorded,
    SlotCommitted,
    SlotIssued,
    SlotSettled,
    TaskFinished,
    TaskStarted,
    Tombstoned,
)
from ledger.core.orders import Header, Order
from ledger.core.refusals import Reason, Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The command will be carried out: these events, all of them."""

    events: list[Event]


Decision = Accepted | Rejected


def decide(book: Book, order: Order, now_ms: int) -> Decision:
    """What this order does to this book at this moment."""
    header, command = order.header, order.command
    if header.expiry_ms < now_ms:
        return _reject(Reason.EXPIRED)
    if header.role not in ALLOWED_ROLES[type(command)]:
        return _reject(Reason.ROLE_NOT_ALLOWED, f"{header.role}, {header.operation}")
    if isinstance(command, Found):
        return _found(book, header, command)
    if (no := _check_signer(book, header)) is not None:
        return no
    match command:
        case Deposit():
            return _deposit(book, command)
        case Join():
            return _join(book, header, command)
        case Bond():
            return _bond(book, header, command)
        case OpenJob():
            return _open_job(book, header, command)
        case StartTask():
            return _start_task(book, header, command)
        case FinishTask():
            return _finish_task(book, header, command)
        case RequestSlot():
            return _request_slot(book, header, command)
        case Commit():
            return _commit(book, header, command)
        case Record():
            return _accept(
                Recorded(
                    kind=command.kind,
                    role=header.role,
                    party=header.party,
                    content=command.content,
                )
            )
        case Settle():
            return _settle(book, command)
        case Slash():
            return _slash(book, command)
        case CloseJob():
            return _close_job(book, header, command)


def _accept(*events: Event) -> Accepted:
    return Accepted(events=list(events))


def _reject(reason: Reason, detail: str = "") -> Rejected:
    return Rejected(reason=reason, detail=detail)


def _check_signer(book: Book, header: Header) -> Rejected | None:
    """The signer's right to the role that it claims. `Journal` has checked the network."""
    founded = book.founded
    if founded is None:
        return _reject(Reason.WRONG_NETWORK)
    if header.role == "network" and header.key != founded.network_key:
        return _reject(Reason.ROLE_NOT_ALLOWED, "not the network's key")
    if header.role == "treasury" and header.key != founded.treasury_key:
        return _reject(Reason.ROLE_NOT_ALLOWED, "not the treasury's key")
    if header.role in ("submitter", "operator", "verifier") and header.operation != "Join":
        party = book.parties.get(header.party)
        if party is None:
            return _reject(Reason.UNKNOWN_PARTY, "join first")
        if party.joined.role != header.role:
            return _reject(Reason.ROLE_NOT_ALLOWED, f"joined as {party.joined.role}")
        if party.tombstoned:
            return _reject(Reason.OPERATOR_TOMBSTONED)
    if header.role == "driver" and not any(
        job.opened.driver_key == header.key for job in book.jobs.values()
    ):
        return _reject(Reason.UNKNOWN_PARTY, "no job names this driver")
    return None


def _found(book: Book, header: Header, command: Found) -> Decision:
    if book.founded is not None:
        return _reject(Reason.ALREADY_FOUNDED)
    if header.key != command.network_key or header.network != command.network:
        return _reject(Reason.ROLE_NOT_ALLOWED, "the network's own key founds it")
    if not is_safe_id(command.network):
        return _reject(Reason.BAD_ID, command.network[:64])
    if not (_is_digest(command.treasury_key) and _is_digest(command.beacon_anchor)):
        return _reject(Reason.MALFORMED, "keys and anchors are 64 hex digits")
    if not 0 <= command.reserve_micro <= MAX_MICRO:
        return _reject(Reason.AMOUNT_OUT_OF_RANGE)
    return _accept(
        Founded(
            network=command.network,
            network_key=command.network_key,
            treasury_key=command.treasury_key,
            beacon_anchor=command.beacon_anchor,
            vetted=command.vetted,
            reserve_micro=command.reserve_micro,
        )
    )


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _in_range(amount_micro: int) -> bool:
    return 0 < amount_micro <= MAX_MICRO


def _deposit(book: Book, command: Deposit) -> Decision:
    if command.party not in book.parties:
        return _reject(Reason.UNKNOWN_PARTY, command.party)
    if not _in_range(command.amount_micro):
        return _reject(Reason.AMOUNT_OUT_OF_RANGE)
    return _accept(
        Moved(
            debit=accounts.EXTERNAL,
            credit=accounts.available(command.party),
            amount_micro=command.amount_micro,
            memo="deposit",
        )
    )


def _join(book: Book, header: Header, command: Join) -> Decision:
    if header.party in book.parties:
        return _reject(Reason.PARTY_EXISTS)
    if not is_safe_id(command.name):
        return _reject(Reason.BAD_ID, command.name[:64])
    return _accept(
        PartyJoined(
            party=header.party,
            role=header.role,
            key=header.key,
            name=command.name,
            numerics=command.numerics,
        )
    )


def _bond(book: Book, header: Header, command: Bond) -> Decision:
    source = accounts.available(header.party)
    if not _in_range(command.amount_micro):
        return _reject(Reason.AMOUNT_OUT_OF_RANGE)
    if book.balances[source] < command.amount_micro:
        return _reject(Reason.INSUFFICIENT_FUNDS)
    return _accept(
        Moved(
            debit=source,
            credit=accounts.free_stake(header.party),
            amount_micro=command.amount_micro,
            memo="bond",
        )
    )


def _open_job(book: Book, header: Header, command: OpenJob) -> Decision:
    source = accounts.available(header.party)
    if command.job in book.jobs:
        return _reject(Reason.JOB_EXISTS)
    if not is_safe_id(command.job):
        return _reject(Reason.BAD_ID, command.job[:64])
    if not (_is_digest(command.secret_anchor) and _is_digest(command.driver_key)):
        return _reject(Reason.MALFORMED, "keys and anchors are 64 hex digits")
    if not (_in_range(command.budget_micro) and _in_range(command.price_micro)):
        return _reject(Reason.AMOUNT_OUT_OF_RANGE, "budget and price are above zero")
    if not 0 <= command.audit_ppm <= 1_000_000 or command.draw_batch < 1:
        return _reject(Reason.AMOUNT_OUT_OF_RANGE, "audit_ppm or draw_batch")
    if book.balances[source] < command.budget_micro:
        return _reject(
            Reason.INSUFFICIENT_FUNDS,
            f"available {book.balances[source]}, budget {command.budget_micro}",
        )
    return _accept(
        JobOpened(
            job=command.job,
            kind=command.kind,
            submitter=header.party,
            bundle=command.bundle,
            data_digest=command.data_digest,
            budget_micro=command.budget_micro,
            price_micro=command.price_micro,
            audit_ppm=command.audit_ppm,
            draw_batch=command.draw_batch,
            secret_anchor=command.secret_anchor,
            driver_key=command.driver_key,
        ),
        Moved(
            debit=source,
            credit=accounts.escrow(command.job),
            amount_micro=command.budget_micro,
            memo="fund",
        ),
    )


def _open(book: Book, job_id: str) -> JobEntry | Rejected:
    job = book.jobs.get(job_id)
    if job is None:
        return _reject(Reason.UNKNOWN_JOB, job_id[:64])
    return _reject(Reason.JOB_CLOSED) if job.closed else job


def _start_task(book: Book, header: Header, command: StartTask) -> Decision:
    job = _open(book, command.job)
    if isinstance(job, Rejected):
        return job
    if job.opened.driver_key != header.key:
        return _reject(Reason.NOT_YOUR_JOB)
    if not is_safe_id(command.task):
        return _reject(Reason.BAD_ID, command.task[:64])
    before = job.tasks.get(command.task)
    if before is not None and (before.spec, before.trial) != (command.spec, command.trial):
        # Whoever could change a spec under way could have honest segments replayed wrongly.
        return _reject(Reason.TASK_EXISTS)
    if command.attempt != (0 if before is None else before.attempt + 1):
        return _reject(Reason.STALE_ATTEMPT)
    return _accept(
        TaskStarted(
            job=command.job,
            task=command.task,
            trial=command.trial,
            spec=command.spec,
            attempt=command.attempt,
        )
    )


def _finish_task(book: Book, header: Header, command: FinishTask) -> Decision:
    job = _open(book, command.job)
    if isinstance(job, Rejected):
        return job
    if job.opened.driver_key != header.key:
        return _reject(Reason.NOT_YOUR_JOB)
    if command.task not in job.tasks:
        return _reject(Reason.UNKNOWN_TASK)
    return _accept(TaskFinished(job=command.job, task=command.task))


def _request_slot(book: Book, header: Header, command: RequestSlot) -> Decision:
    job = _open(book, command.job)
    if isinstance(job, Rejected):
        return job
    task = job.tasks.get(command.task)
    if task is None:
        return _reject(Reason.UNKNOWN_TASK)
    if task.finished:
        return _reject(Reason.TASK_FINISHED)
    if command.attempt != task.attempt:
        return _reject(Reason.STALE_ATTEMPT)
    if task.operator not in ("", header.party):
        return _reject(Reason.ATTEMPT_TAKEN)
    slot = str(
        Slot(
            job=command.job,
            task=command.task,
            segment=command.segment,
            attempt=command.attempt,
        )
    )
    if command.segment < 0:
        return _reject(Reason.UNKNOWN_SLOT, "segments count from 0")
    if slot in job.slots:
        return _reject(Reason.SLOT_EXISTS)
    events: list[Event] = []
    if header.party not in job.operators:
        reserve = book.founded.reserve_micro if book.founded else 0
        source = accounts.free_stake(header.party)
        if book.balances[source] < reserve:
            return _reject(
                Reason.INSUFFICIENT_STAKE, f"free {book.balances[source]}, needed {reserve}"
            )
        events.append(
            Moved(
                debit=source,
                credit=accounts.reserved_stake(header.party, command.job),
                amount_micro=reserve,
                memo="reserve",
            )
        )
    price = job.opened.price_micro
    if book.balances[accounts.escrow(command.job)] - job.promised_micro < price:
        return _reject(Reason.BUDGET_EXHAUSTED)
    events.append(SlotIssued(slot=slot, operator=header.party, price_micro=price))
    return Accepted(events=events)


def _commit(book: Book, header: Header, command: Commit) -> Decision:
    if not command.leaves:
        return _reject(Reason.WRONG_LEAF, "no leaves")
    slots: list[str] = []
    for leaf in command.leaves:
        try:
            slot = from_json(Slot, {key: leaf.get(key) for key in Slot.__slots__})
        except BadRecord as error:
            return _reject(Reason.WRONG_LEAF, str(error))
        if (no := _check_commit(book, header, slot, leaf)) is not None:
            return no
        slots.append(str(slot))
    if len(set(slots)) != len(slots):
        return _reject(Reason.WRONG_LEAF, "a slot is answered twice")
    root = merkle.root_of(canonical.encode(leaf) for leaf in command.leaves).hex()
    if root != command.root:
        return _reject(Reason.WRONG_ROOT)
    return Accepted(
        events=[
            SlotCommitted(slot=slot, operator=header.party, root=root, index=index, leaf=leaf)
            for index, (slot, leaf) in enumerate(zip(slots, command.leaves, strict=True))
        ]
    )


def _check_commit(
    book: Book, header: Header, slot: Slot, leaf: dict[str, object]
) -> Rejected | None:
    job = _open(book, slot.job)
    if isinstance(job, Rejected):
        return job
    entry = job.slots.get(str(slot))
    if entry is None:
        return _reject(Reason.UNKNOWN_SLOT, str(slot))
    if entry.operator != header.party:
        return _reject(Reason.NOT_YOUR_SLOT, str(slot))
    if entry.state is not SlotState.ISSUED:
        return _reject(Reason.SLOT_NOT_OPEN, entry.state.name.lower())
    if leaf.get("operator") != header.party:
        return _reject(Reason.WRONG_LEAF, "the leaf names another operator")
    if leaf.get("data_digest") != job.opened.data_digest:
        return _reject(Reason.WRONG_LEAF, "the leaf names other data than the job")
    return None


def _settle(book: Book, command: Settle) -> Decision:
    job = _open(book, command.job)
    if isinstance(job, Rejected):
        return job
    events: list[Event] = []
    seen: set[str] = set()
    for item in command.items:
        entry = job.slots.get(item.slot)
        if entry is None:
            return _reject(Reason.UNKNOWN_SLOT, item.slot)
        if entry.state is not SlotState.COMMITTED or item.slot in seen:
            return _reject(Reason.SLOT_NOT_OPEN, entry.state.name.lower())
        if item.pay and book.parties[entry.operator].tombstoned:
            return _reject(Reason.OPERATOR_TOMBSTONED, entry.operator)
        seen.add(item.slot)
        events.append(SlotSettled(slot=item.slot, paid=item.pay, reason=item.reason))
        if item.pay:
            events.append(
                Moved(
                    debit=accounts.escrow(command.job),
                    credit=accounts.holdback(command.job, entry.operator),
                    amount_micro=entry.price_micro,
                    memo="earn",
                    slot=item.slot,
                )
            )
    return Accepted(events=events)


def _slash(book: Book, command: Slash) -> Decision:
    """Stake to `slashed`, held pay back to escrow, spoilt honest work made good."""
    party = book.parties.get(command.operator)
    if party is None:
        return _reject(Reason.UNKNOWN_PARTY, command.operator)
    if party.tombstoned:
        return _reject(Reason.OPERATOR_TOMBSTONED)
    job = _open(book, command.job)
    if isinstance(job, Rejected):
        return job
    if command.operator not in job.operators:
        return _reject(Reason.UNKNOWN_PARTY, "this operator never worked for the job")
    proof = job.slots.get(command.evidence)
    if proof is None:
        return _reject(Reason.UNKNOWN_SLOT, command.evidence)
    if proof.operator != command.operator:
        return _reject(Reason.NOT_YOUR_SLOT, "the evidence is another operator's slot")
    reserved = accounts.reserved_stake(command.operator, command.job)
    left_micro = book.balances[reserved]
    events: list[Event] = [
        Tombstoned(
            operator=command.operator,
            job=command.job,
            evidence=command.evidence,
            slashed_micro=left_micro,
        ),
        Moved(
            debit=reserved,
            credit=accounts.slashed(command.job),
            amount_micro=left_micro,
            memo="slash",
            slot=command.evidence,
        ),
    ]
    for slot, entry in job.slots.items():
        if entry.operator == command.operator and entry.paid:
            events.append(
                Moved(
                    debit=accounts.holdback(command.job, command.operator),
                    credit=accounts.escrow(command.job),
                    amount_micro=entry.price_micro,
                    memo="forfeit",
                    slot=slot,
                )
            )
    for slot in dict.fromkeys(command.spoilt):
        entry = job.slots.get(slot)
        if entry is None:
            return _reject(Reason.UNKNOWN_SLOT, slot)
        cost = entry.paid or entry.state is SlotState.COMMITTED
        if entry.operator == command.operator or not cost:
            continue
        if entry.price_micro <= left_micro:
            left_micro -= entry.price_micro
            events.append(
                Moved(
                    debit=accounts.slashed(command.job),
                    credit=accounts.escrow(command.job),
                    amount_micro=entry.price_micro,
                    memo="make good",
                    slot=slot,
                )
            )
    return Accepted(events=events)


def _close_job(book: Book, header: Header, command: CloseJob) -> Decision:
    """Everything earned is released slot by slot; the rest of the budget and the stakes return."""
    job = _open(book, command.job)
    if isinstance(job, Rejected):
        return job
    if header.key != job.opened.driver_key and header.party != job.opened.submitter:
        return _reject(Reason.NOT_YOUR_JOB)
    if job.unsettled:
        return _reject(Reason.SEGMENTS_UNSETTLED, str(job.unsettled))
    events: list[Event] = []
    forfeited = 0
    for slot, entry in job.slots.items():
        if not entry.paid:
            continue
        caught = book.parties[entry.operator].tombstoned
        events.append(
            Moved(
                debit=accounts.holdback(command.job, entry.operator),
                credit=accounts.escrow(command.job)
                if caught
                else accounts.available(entry.operator),
                amount_micro=entry.price_micro,
                memo="forfeit" if caught else "release",
                slot=slot,
            )
        )
        forfeited += entry.price_micro if caught else 0
    for operator in job.operators:
        reserved = accounts.reserved_stake(operator, command.job)
        if book.balances[reserved]:
            events.append(
                Moved(
                    debit=reserved,
                    credit=accounts.free_stake(operator),
                    amount_micro=book.balances[reserved],
                    memo="release stake",
                )
            )
    unspent = book.balances[accounts.escrow(command.job)] + forfeited
    if unspent:
        events.append(
            Moved(
                debit=accounts.escrow(command.job),
                credit=accounts.available(job.opened.submitter),
                amount_micro=unspent,
                memo="refund",
            )
        )
    return _accept(*events, JobClosed(job=command.job))


def driver_party(opened: JobOpened) -> str:
    """The party id of a job's driver."""
    return party_id(bytes.fromhex(opened.driver_key))
