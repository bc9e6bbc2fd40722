"""`decide(book, order, now_ms)`: the events that a command would cause, or why it causes none.

Checks run in the order of `Reason`. Nothing here writes to the book.
"""

from gensyn_ray.domain import canonical, merkle
from gensyn_ray.domain.ids import Slot, is_safe_id
from gensyn_ray.domain.money import MAX_MICRO
from gensyn_ray.domain.records import BadRecord, from_json
from ledger.core import accounts
from ledger.core.book import Book, SlotState
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
from ledger.core.decision import Accepted, Decision, accept, open_job_of, reject
from ledger.core.endings import close_job, settle, slash
from ledger.core.events import (
    Event,
    Founded,
    JobOpened,
    Moved,
    PartyJoined,
    Recorded,
    SlotCommitted,
    SlotIssued,
    TaskFinished,
    TaskStarted,
)
from ledger.core.orders import Header, Order
from ledger.core.refusals import Reason, Rejected


def decide(book: Book, order: Order, now_ms: int) -> Decision:
    """What this order does to this book at this moment."""
    header, command = order.header, order.command
    if header.expiry_ms < now_ms:
        return reject(Reason.EXPIRED)
    if header.role not in ALLOWED_ROLES[type(command)]:
        return reject(Reason.ROLE_NOT_ALLOWED, f"{header.role}, {header.operation}")
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
            return _open_new_job(book, header, command)
        case StartTask():
            return _start_task(book, header, command)
        case FinishTask():
            return _finish_task(book, header, command)
        case RequestSlot():
            return _request_slot(book, header, command)
        case Commit():
            return _commit(book, header, command)
        case Record():
            return accept(
                Recorded(
                    kind=command.kind,
                    role=header.role,
                    party=header.party,
                    content=command.content,
                )
            )
        case Settle():
            return settle(book, command)
        case Slash():
            return slash(book, command)
        case CloseJob():
            return close_job(book, header, command)


def _check_signer(book: Book, header: Header) -> Rejected | None:
    """The signer's right to the role that it claims. `Journal` has checked the network."""
    founded = book.founded
    if founded is None:
        return reject(Reason.WRONG_NETWORK)
    if header.role == "network" and header.key != founded.network_key:
        return reject(Reason.ROLE_NOT_ALLOWED, "not the network's key")
    if header.role == "treasury" and header.key != founded.treasury_key:
        return reject(Reason.ROLE_NOT_ALLOWED, "not the treasury's key")
    if header.role in ("submitter", "operator", "verifier") and header.operation != "Join":
        party = book.parties.get(header.party)
        if party is None:
            return reject(Reason.UNKNOWN_PARTY, "join first")
        if party.joined.role != header.role:
            return reject(Reason.ROLE_NOT_ALLOWED, f"joined as {party.joined.role}")
        if party.tombstoned:
            return reject(Reason.OPERATOR_TOMBSTONED)
    if header.role == "driver" and not any(
        job.opened.driver_key == header.key for job in book.jobs.values()
    ):
        return reject(Reason.UNKNOWN_PARTY, "no job names this driver")
    return None


def _found(book: Book, header: Header, command: Found) -> Decision:
    if book.founded is not None:
        return reject(Reason.ALREADY_FOUNDED)
    if header.key != command.network_key or header.network != command.network:
        return reject(Reason.ROLE_NOT_ALLOWED, "the network's own key founds it")
    if not is_safe_id(command.network):
        return reject(Reason.BAD_ID, command.network[:64])
    if not (_is_digest(command.treasury_key) and _is_digest(command.beacon_anchor)):
        return reject(Reason.MALFORMED, "keys and anchors are 64 hex digits")
    if not 0 <= command.reserve_micro <= MAX_MICRO:
        return reject(Reason.AMOUNT_OUT_OF_RANGE)
    return accept(
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
        return reject(Reason.UNKNOWN_PARTY, command.party)
    if not _in_range(command.amount_micro):
        return reject(Reason.AMOUNT_OUT_OF_RANGE)
    return accept(
        Moved(
            debit=accounts.EXTERNAL,
            credit=accounts.available(command.party),
            amount_micro=command.amount_micro,
            memo="deposit",
        )
    )


def _join(book: Book, header: Header, command: Join) -> Decision:
    if header.party in book.parties:
        return reject(Reason.PARTY_EXISTS)
    if not is_safe_id(command.name):
        return reject(Reason.BAD_ID, command.name[:64])
    return accept(
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
        return reject(Reason.AMOUNT_OUT_OF_RANGE)
    if book.balances[source] < command.amount_micro:
        return reject(Reason.INSUFFICIENT_FUNDS)
    return accept(
        Moved(
            debit=source,
            credit=accounts.free_stake(header.party),
            amount_micro=command.amount_micro,
            memo="bond",
        )
    )


def _open_new_job(book: Book, header: Header, command: OpenJob) -> Decision:
    source = accounts.available(header.party)
    if command.job in book.jobs:
        return reject(Reason.JOB_EXISTS)
    if not is_safe_id(command.job):
        return reject(Reason.BAD_ID, command.job[:64])
    if not (_is_digest(command.secret_anchor) and _is_digest(command.driver_key)):
        return reject(Reason.MALFORMED, "keys and anchors are 64 hex digits")
    if not (_in_range(command.budget_micro) and _in_range(command.price_micro)):
        return reject(Reason.AMOUNT_OUT_OF_RANGE, "budget and price are above zero")
    if not 0 <= command.audit_ppm <= 1_000_000 or command.draw_batch < 1:
        return reject(Reason.AMOUNT_OUT_OF_RANGE, "audit_ppm or draw_batch")
    if book.balances[source] < command.budget_micro:
        return reject(
            Reason.INSUFFICIENT_FUNDS,
            f"available {book.balances[source]}, budget {command.budget_micro}",
        )
    return accept(
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


def _start_task(book: Book, header: Header, command: StartTask) -> Decision:
    job = open_job_of(book, command.job)
    if isinstance(job, Rejected):
        return job
    if job.opened.driver_key != header.key:
        return reject(Reason.NOT_YOUR_JOB)
    if not is_safe_id(command.task):
        return reject(Reason.BAD_ID, command.task[:64])
    before = job.tasks.get(command.task)
    if before is not None and (before.spec, before.trial) != (command.spec, command.trial):
        # Whoever could change a spec under way could have honest segments replayed wrongly.
        return reject(Reason.TASK_EXISTS)
    if command.attempt != (0 if before is None else before.attempt + 1):
        return reject(Reason.STALE_ATTEMPT)
    return accept(
        TaskStarted(
            job=command.job,
            task=command.task,
            trial=command.trial,
            spec=command.spec,
            attempt=command.attempt,
        )
    )


def _finish_task(book: Book, header: Header, command: FinishTask) -> Decision:
    job = open_job_of(book, command.job)
    if isinstance(job, Rejected):
        return job
    if job.opened.driver_key != header.key:
        return reject(Reason.NOT_YOUR_JOB)
    if command.task not in job.tasks:
        return reject(Reason.UNKNOWN_TASK)
    return accept(TaskFinished(job=command.job, task=command.task))


def _request_slot(book: Book, header: Header, command: RequestSlot) -> Decision:
    job = open_job_of(book, command.job)
    if isinstance(job, Rejected):
        return job
    task = job.tasks.get(command.task)
    if task is None:
        return reject(Reason.UNKNOWN_TASK)
    if task.finished:
        return reject(Reason.TASK_FINISHED)
    if command.attempt != task.attempt:
        return reject(Reason.STALE_ATTEMPT)
    if task.operator not in ("", header.party):
        return reject(Reason.ATTEMPT_TAKEN)
    slot = str(
        Slot(
            job=command.job,
            task=command.task,
            segment=command.segment,
            attempt=command.attempt,
        )
    )
    if command.segment < 0:
        return reject(Reason.UNKNOWN_SLOT, "segments count from 0")
    if slot in job.slots:
        return reject(Reason.SLOT_EXISTS)
    events: list[Event] = []
    if header.party not in job.operators:
        reserve = book.founded.reserve_micro if book.founded else 0
        source = accounts.free_stake(header.party)
        if book.balances[source] < reserve:
            return reject(
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
        return reject(Reason.BUDGET_EXHAUSTED)
    events.append(SlotIssued(slot=slot, operator=header.party, price_micro=price))
    return Accepted(events=events)


def _commit(book: Book, header: Header, command: Commit) -> Decision:
    if not command.leaves:
        return reject(Reason.WRONG_LEAF, "no leaves")
    slots: list[str] = []
    for leaf in command.leaves:
        try:
            slot = from_json(Slot, {key: leaf.get(key) for key in Slot.__slots__})
        except BadRecord as error:
            return reject(Reason.WRONG_LEAF, str(error))
        if (no := _check_commit(book, header, slot, leaf)) is not None:
            return no
        slots.append(str(slot))
    if len(set(slots)) != len(slots):
        return reject(Reason.WRONG_LEAF, "a slot is answered twice")
    root = merkle.root_of(canonical.encode(leaf) for leaf in command.leaves).hex()
    if root != command.root:
        return reject(Reason.WRONG_ROOT)
    return Accepted(
        events=[
            SlotCommitted(slot=slot, operator=header.party, root=root, index=index, leaf=leaf)
            for index, (slot, leaf) in enumerate(zip(slots, command.leaves, strict=True))
        ]
    )


def _check_commit(
    book: Book, header: Header, slot: Slot, leaf: dict[str, object]
) -> Rejected | None:
    job = open_job_of(book, slot.job)
    if isinstance(job, Rejected):
        return job
    entry = job.slots.get(str(slot))
    if entry is None:
        return reject(Reason.UNKNOWN_SLOT, str(slot))
    if entry.operator != header.party:
        return reject(Reason.NOT_YOUR_SLOT, str(slot))
    if entry.state is not SlotState.ISSUED:
        return reject(Reason.SLOT_NOT_OPEN, entry.state.name.lower())
    if leaf.get("operator") != header.party:
        return reject(Reason.WRONG_LEAF, "the leaf names another operator")
    if leaf.get("data_digest") != job.opened.data_digest:
        return reject(Reason.WRONG_LEAF, "the leaf names other data than the job")
    return None
