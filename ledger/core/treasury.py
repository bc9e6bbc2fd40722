"""Founding, and commands that several treasury keys sign: minting, settings, corrections."""

from typing import Any

from gensyn_ray.domain.ids import is_safe_id
from gensyn_ray.domain.records import from_json, to_json
from ledger.core import accounts, parameters
from ledger.core.book import Book
from ledger.core.commands import (
    TREASURY_KINDS,
    Approve,
    Correct,
    Deposit,
    Found,
    Grant,
    ReverseSlash,
    SetParameters,
    TreasuryCommand,
)
from ledger.core.decision import Decision, accept, in_range, is_digest, reject
from ledger.core.events import Approved, Event, Executed, Founded, Moved, ParametersSet, Proposed
from ledger.core.fraud import reverse_slash
from ledger.core.orders import Order
from ledger.core.refusals import Reason, Rejected

CORRECTABLE = (accounts.TREASURY, accounts.JACKPOT)


def found(book: Book, order: Order, command: Found) -> Decision:
    """Found the network: the first command of every journal."""
    header, keys = order.header, command.treasury_keys
    if not all(is_digest(text) for text in (*keys, command.beacon_anchor)):
        return reject(Reason.MALFORMED, "keys and anchors are 64 hex digits")
    if header.key != command.network_key or header.network != command.network:
        return reject(Reason.ROLE_NOT_ALLOWED, "the network's own key founds it")
    if book.founded is not None:
        return reject(Reason.ALREADY_FOUNDED)
    if len(set(keys)) != len(keys) or not 1 <= command.treasury_threshold <= len(keys):
        return reject(
            Reason.UNSAFE_PARAMETERS,
            "treasury keys must differ, and be at least as many as the threshold",
        )
    if problem := parameters.problem(command.parameters):
        return reject(Reason.UNSAFE_PARAMETERS, problem)
    if not is_safe_id(command.network):
        return reject(Reason.BAD_ID, command.network[:64])
    return accept(
        Founded(
            network=command.network,
            network_key=command.network_key,
            treasury_keys=command.treasury_keys,
            treasury_threshold=command.treasury_threshold,
            beacon_anchor=command.beacon_anchor,
            vetted=command.vetted,
            parameters=command.parameters,
        )
    )


def propose(book: Book, order: Order, command: TreasuryCommand, now_ms: int) -> Decision:
    """Carry the command out if one key is enough; otherwise keep it as a proposal."""
    decision = _carry_out(book, command)
    if isinstance(decision, Rejected) or _threshold(book) == 1:
        return decision
    proposal = order.envelope.body_hash
    return accept(
        Proposed(
            proposal=proposal,
            operation=order.header.operation,
            arguments=to_json(command),
            expires_ms=now_ms + book.parameters.proposal_ms,
        ),
        Approved(proposal=proposal, key=order.header.key),
    )


def approve(book: Book, order: Order, command: Approve, now_ms: int) -> Decision:
    """Add a key's approval; the last one needed carries the command out on the present book."""
    proposal = book.proposals.get(command.proposal)
    if proposal is None:
        return reject(Reason.UNKNOWN_PROPOSAL, command.proposal[:64])
    if proposal.proposed.expires_ms < now_ms:
        return reject(Reason.PROPOSAL_EXPIRED)
    if order.header.key in proposal.keys:
        return reject(Reason.ALREADY_APPROVED)
    approved = Approved(proposal=command.proposal, key=order.header.key)
    if len(proposal.keys) + 1 < _threshold(book):
        return accept(approved)
    asked = _command_of(proposal.proposed.operation, proposal.proposed.arguments)
    decision = _carry_out(book, asked)
    if isinstance(decision, Rejected):
        return decision
    return accept(approved, Executed(proposal=command.proposal), *decision.events)


def _command_of(operation: str, arguments: dict[str, Any]) -> TreasuryCommand:
    kind = next(kind for kind in TREASURY_KINDS if kind.__name__ == operation)
    return from_json(kind, arguments)


def _threshold(book: Book) -> int:
    return book.founded.treasury_threshold if book.founded else 1


def _carry_out(book: Book, command: TreasuryCommand) -> Decision:
    match command:
        case Deposit():
            return _to_party(
                book, accounts.EXTERNAL, command.party, command.amount_micro, "deposit"
            )
        case Grant():
            return _to_party(book, accounts.TREASURY, command.party, command.amount_micro, "grant")
        case Correct():
            return _correct(book, command)
        case SetParameters():
            problem = parameters.problem(command.parameters)
            if problem:
                return reject(Reason.UNSAFE_PARAMETERS, problem)
            return accept(ParametersSet(parameters=command.parameters))
        case ReverseSlash():
            return reverse_slash(book, command)


def _to_party(book: Book, source: str, party: str, amount_micro: int, memo: str) -> Decision:
    if party not in book.parties:
        return reject(Reason.UNKNOWN_PARTY, party[:64])
    if not in_range(amount_micro):
        return reject(Reason.AMOUNT_OUT_OF_RANGE)
    if source != accounts.EXTERNAL and book.balances[source] < amount_micro:
        return reject(Reason.INSUFFICIENT_FUNDS, f"{source} holds {book.balances[source]}")
    moved: Event = Moved(
        debit=source, credit=accounts.available(party), amount_micro=amount_micro, memo=memo
    )
    return accept(moved)


def _correct(book: Book, command: Correct) -> Decision:
    for account in (command.debit, command.credit):
        party = account.removeprefix("available/")
        known = party != account and party in book.parties
        if account not in CORRECTABLE and not known:
            return reject(Reason.ACCOUNT_NOT_ALLOWED, account[:64])
    if not in_range(command.amount_micro) or command.debit == command.credit:
        return reject(Reason.AMOUNT_OUT_OF_RANGE)
    if book.balances[command.debit] < command.amount_micro:
        return reject(Reason.INSUFFICIENT_FUNDS, f"{book.balances[command.debit]} are left")
    return accept(
        Moved(
            debit=command.debit,
            credit=command.credit,
            amount_micro=command.amount_micro,
            memo="correction",
        )
    )
