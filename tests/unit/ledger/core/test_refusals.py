"""All reasons to refuse a command, and their precedence."""

from typing import Any

import pytest

from gensyn_ray.domain import canonical, merkle, signing
from gensyn_ray.domain.evidence import Flush
from gensyn_ray.domain.money import MAX_MICRO
from gensyn_ray.domain.signing import Envelope, seal
from ledger.core import accounts
from ledger.core.book_state import SlotState, Standing
from ledger.core.commands import (
    ALLOWED_ROLES,
    KINDS,
    ROLES,
    Approve,
    Bond,
    CloseJob,
    Command,
    Commit,
    Correct,
    Deposit,
    DistributeSlash,
    ExpireChallenge,
    ExpireJob,
    FinishTask,
    Grant,
    Jail,
    Join,
    Mature,
    OpenChallenge,
    PayJackpot,
    Record,
    ReportEquivocation,
    RequestSlot,
    ResolveChallenge,
    ReverseSlash,
    SetParameters,
    Unbond,
    Unjail,
    Withdraw,
)
from ledger.core.journal import Entry
from ledger.core.parameters import MAX_MS
from ledger.core.refusals import Reason, Rejected
from tests.kits.book_kit import (
    FIRST,
    FOURTH,
    SECOND,
    THIRD,
    UNISSUED,
    Attempt,
    by,
    driver,
    later,
    leaf,
    network,
    op,
    open_challenge,
    reason_of,
    release,
    settle,
    signed_answer,
    slash,
    submitter,
    treasury,
    two_answers,
)
from tests.kits.busy_kit import (
    ASKED,
    CHEATED,
    CHEATED_TOO,
    DEAD,
    DONE,
    DONE_BY_A_CHEAT,
    NOW,
    PAID,
    SMALL,
    assert_unchanged,
    shared_kit,
)
from tests.kits.ledger_kit import (
    Kit,
    commit,
    found,
    key_of,
    kit_with_job,
    leaf_of,
    open_job,
    parameters,
    party_of,
    request_slot,
    slot_of,
    start_task,
)

HIGH, LONG = 10**16, "long" * 10_000
SET = parameters()


def raw(kit: Kit, **changes: Any) -> Envelope:
    """A signed body with these fields. A field that is `...` is left out."""
    body = canonical.decode(kit.sign("op-a", "operator", Bond(amount_micro=1)).body)
    body = {name: item for name, item in {**body, **changes}.items() if item is not ...}
    data = canonical.encode(body)
    return Envelope(body=data, signature=key_of("op-a").sign(signing.COMMAND, data))


def raw_commit(leaf: Any) -> Attempt:
    """A commitment with a correct root, of a value that may be no leaf."""
    root = merkle.root_of([canonical.encode(leaf)]).hex()
    arguments = {"root": root, "leaves": [leaf]}
    return lambda kit: kit.submit(raw(kit, operation="Commit", arguments=arguments))


def with_signature(envelope: Envelope, signature: bytes) -> Envelope:
    return Envelope(body=envelope.body, signature=signature)


def signed_by_another(kit: Kit) -> Envelope:
    envelope = kit.sign("op-a", "operator", Bond(amount_micro=1))
    return with_signature(envelope, key_of("op-b").sign(signing.COMMAND, envelope.body))


def sealed_as_a_receipt(kit: Kit) -> Envelope:
    body = canonical.decode(kit.sign("op-a", "operator", Bond(amount_micro=1)).body)
    return seal(key_of("op-a"), signing.RECEIPT, body)


def with_head(head: str) -> Attempt:
    return by("op-a", "operator", Bond(amount_micro=1), head=head)


def approving(name: str) -> Attempt:
    """Approve the waiting proposal."""
    return lambda kit: kit.send(
        name, "treasury", Approve(proposal=next(iter(kit.journal.book.proposals)))
    )


def reporting(cheat: str, slot: str, **header: Any) -> Attempt:
    return lambda kit: kit.send("verifier", "verifier", two_answers(kit, cheat, slot), **header)


def expire_challenge(challenge: str) -> ExpireChallenge:
    return ExpireChallenge(challenge=challenge)


def correct(debit: str, credit: str, amount_micro: int = 1) -> Correct:
    return Correct(debit=debit, credit=credit, amount_micro=amount_micro, entry=1, reason="wrong")


def pay_jackpot(name: str, amount_micro: int = 1, evidence: str = FIRST) -> PayJackpot:
    return PayJackpot(party=party_of(name), amount_micro=amount_micro, evidence=evidence)


def grant(name: str, amount_micro: int = 1) -> Grant:
    return Grant(party=party_of(name), amount_micro=amount_micro, reason="thanks")


def jail(name: str, until_ms: int) -> Jail:
    return Jail(operator=party_of(name), until_ms=until_ms, reason="slow")


OP_A, OP_B = accounts.available(party_of("op-a")), accounts.available(party_of("op-b"))


REFUSALS: dict[Reason, dict[str, Attempt]] = {
    Reason.MALFORMED: {
        "not JSON": lambda kit: kit.submit(Envelope(body=b"{", signature=b"")),
        "not UTF-8": lambda kit: kit.submit(Envelope(body=b"\xff", signature=b"")),
        "not canonical": lambda kit: kit.submit(Envelope(body=b'{"a": 1}', signature=b"")),
        "not an object": lambda kit: kit.submit(Envelope(body=b"5", signature=b"")),
        "nothing": lambda kit: kit.submit(Envelope(body=b"{}", signature=b"")),
        "a field is missing": lambda kit: kit.submit(raw(kit, nonce=...)),
        "no head": lambda kit: kit.submit(raw(kit, head=...)),
        "a field too many": lambda kit: kit.submit(raw(kit, more=1)),
        "a field of another type": lambda kit: kit.submit(raw(kit, expiry_ms="soon")),
        "no arguments": lambda kit: kit.submit(raw(kit, arguments=...)),
        "arguments are a list": lambda kit: kit.submit(raw(kit, arguments=[])),
        "an argument is missing": lambda kit: kit.submit(raw(kit, arguments={})),
        "an argument too many": lambda kit: kit.submit(
            raw(kit, arguments={"amount_micro": 1, "more": 1})
        ),
        "an argument of another type": lambda kit: kit.submit(
            raw(kit, operation="Join", arguments={"name": 5})
        ),
        "an empty leaf": raw_commit({}),
        "a leaf without a slot": raw_commit({"job": "job-1", "task": "task-0", "segment": 1}),
        "a leaf whose segment is text": raw_commit({**leaf().to_json(), "segment": "1"}),
        "a leaf without data": raw_commit(
            {name: item for name, item in leaf().to_json().items() if name != "data_digest"}
        ),
        "a leaf with a field too many": raw_commit({**leaf().to_json(), "more": 1}),
        "a leaf with an amount among its metrics": raw_commit(
            {**leaf().to_json(), "metrics": {"pay_micro": 5}}
        ),
        "a leaf that is text": raw_commit("leaf"),
        "the key is not hex": lambda kit: kit.submit(raw(kit, key="zz")),
        "the driver's key is none": submitter(open_job("job-2", driver_key="zz")),
        "the secret's anchor is short": submitter(open_job("job-2", secret_anchor="11")),
        "the anchor is in capitals": submitter(open_job("job-2", secret_anchor="AA" * 32)),
    },
    Reason.BAD_SIGNATURE: {
        "another key": lambda kit: kit.submit(signed_by_another(kit)),
        "another purpose": lambda kit: kit.submit(sealed_as_a_receipt(kit)),
        "none": lambda kit: kit.submit(with_signature(raw(kit), b"")),
        "the named key is another": lambda kit: kit.submit(
            raw(kit, key=key_of("op-b").public.hex())
        ),
        "the named key is none": lambda kit: kit.submit(raw(kit, key="")),
    },
    Reason.WRONG_NETWORK: {
        "another genesis": by("op-a", "operator", Bond(amount_micro=1), genesis="00" * 32),
        "no genesis": by("op-a", "operator", Bond(amount_micro=1), genesis=""),
        "another name": by("op-a", "operator", Bond(amount_micro=1), network="mainnet"),
    },
    Reason.UNKNOWN_HEAD: {
        "another root": with_head(f"1:{'00' * 32}"),
        "a root of another size": lambda kit: with_head(
            kit.journal.head_at(5).replace("5:", "4:", 1)
        )(kit),
        "the future": lambda kit: with_head(
            kit.journal.head_at(len(kit.entries)).replace(
                f"{len(kit.entries)}:", f"{len(kit.entries) + 1}:", 1
            )
        )(kit),
        "no size": lambda kit: with_head(kit.journal.tree.root().hex())(kit),
        "no root": with_head("1:"),
        "a size below zero": lambda kit: with_head("-" + kit.journal.head_at(1))(kit),
        "a size with a zero too many": lambda kit: with_head("0" + kit.journal.head_at(1))(kit),
        "a size in other digits": with_head("٣:" + "00" * 32),
        "a size beyond reason": with_head("9" * 5_000),
        "in capitals": lambda kit: with_head(kit.journal.head_at(1).upper())(kit),
    },
    Reason.EXPIRED: {
        "a millisecond ago": lambda kit: kit.send(
            "op-a", "operator", Bond(amount_micro=1), expiry_ms=kit.clock() - 1
        ),
    },
    Reason.NONCE_REUSED: {
        "by the same key": by("op-a", "operator", Bond(amount_micro=2), nonce="once"),
    },
    Reason.UNKNOWN_OPERATION: {
        "none such": lambda kit: kit.submit(raw(kit, operation="Steal")),
        "empty": lambda kit: kit.submit(raw(kit, operation="")),
        "another case": lambda kit: kit.submit(raw(kit, operation="bond")),
    },
    Reason.ROLE_NOT_ALLOWED: {
        "no such role": by("op-a", "king", Bond(amount_micro=1)),
        "not the network's key": by("op-a", "network", settle("job-1", FIRST)),
        "not the treasury's key": by(
            "op-a", "treasury", Deposit(party=party_of("op-a"), amount_micro=1)
        ),
        "the network is no treasury": by(
            "network", "treasury", Deposit(party=party_of("op-a"), amount_micro=1)
        ),
        "the network approves nothing": approving("network"),
        "joined as another": by("submitter", "operator", Bond(amount_micro=1)),
        "an operator opens no job": by("op-a", "submitter", open_job("job-2")),
        "a verifier runs nothing": by("verifier", "operator", request_slot(THIRD)),
        "another's stake": op(Mature(party=party_of("op-b"))),
        "another's challenge": by("op-a", "operator", expire_challenge("d-open")),
    },
    Reason.ALREADY_FOUNDED: {
        "a second time": network(found(parameters=parameters(reserve_micro=1))),
    },
    Reason.UNKNOWN_PARTY: {
        "did not join": by("stranger", "operator", Bond(amount_micro=1)),
        "a deposit for nobody": treasury(Deposit(party=party_of("stranger"), amount_micro=1)),
        "a grant for nobody": treasury(grant("stranger")),
        "a driver without a job": by("stranger", "driver", start_task("job-1", "task-2")),
        "slash of a stranger": network(slash("job-1", "stranger", FIRST)),
        "slash of who never worked here": network(slash("job-small", "op-b", SMALL)),
        "a stranger reports": network(slash("job-1", "op-a", FIRST, reporter="stranger")),
        "two answers of a stranger": reporting("stranger", FIRST),
        "two answers of who never worked here": reporting("op-b", SMALL),
        "a stranger's unbonding": network(Mature(party=party_of("stranger"))),
        "jail for a stranger": network(jail("stranger", NOW + 1)),
        "jail for a submitter": network(jail("submitter", NOW + 1)),
        "the jackpot for a stranger": network(pay_jackpot("stranger")),
        "the jackpot for an operator": network(pay_jackpot("op-a")),
    },
    Reason.PARTY_EXISTS: {
        "the same": by("op-a", "operator", Join(name="op-a")),
        "under another role": by("op-a", "verifier", Join(name="op-a")),
        "a cheat does not come back": by("op-cheat", "operator", Join(name="new")),
    },
    Reason.OPERATOR_TOMBSTONED: {
        "bonds": by("op-cheat", "operator", Bond(amount_micro=1)),
        "works": by("op-cheat", "operator", request_slot(slot_of("job-1", "task-1", 0))),
        "answers": by("op-cheat", "operator", commit(leaf_of(CHEATED_TOO, "op-cheat"))),
        "leaves jail": by("op-cheat", "operator", Unjail()),
        "reports": lambda kit: kit.send("op-cheat", "operator", two_answers(kit, "op-a", FIRST)),
        "expires a challenge": by("op-late", "operator", expire_challenge("d-appeal")),
        "is jailed": network(jail("op-cheat", NOW + 1)),
        "is slashed again": network(slash("job-1", "op-cheat", CHEATED)),
        "gave two answers": reporting("op-cheat", CHEATED),
        "is paid": network(settle("job-1", CHEATED_TOO)),
        "is released": network(release("job-1", CHEATED)),
    },
    Reason.OPERATOR_JAILED: {
        "works": by("op-jailed", "operator", request_slot(slot_of("job-1", "task-free", 0))),
        "works before it has asked to come back": later(
            5_001, by("op-jailed", "operator", request_slot(slot_of("job-1", "task-free", 0)))
        ),
    },
    Reason.NOT_JAILED: {"free": op(Unjail())},
    Reason.STILL_JAILED: {
        "at once": by("op-jailed", "operator", Unjail()),
        "a millisecond early": later(4_999, by("op-jailed", "operator", Unjail())),
    },
    Reason.UNKNOWN_PROPOSAL: {
        "none": by("treasury-b", "treasury", Approve(proposal="")),
        "another command": by("treasury-b", "treasury", Approve(proposal="00" * 32)),
        "carried out before": lambda kit: kit.send(
            "treasury-c",
            "treasury",
            Approve(proposal=kit.envelopes[2].body_hash),
        ),
    },
    Reason.PROPOSAL_EXPIRED: {
        "a millisecond ago": later(SET.proposal_ms + 1, approving("treasury-b")),
    },
    Reason.ALREADY_APPROVED: {"by proposing": approving("treasury")},
    Reason.UNSAFE_PARAMETERS: {
        "unbonding too short": treasury(SetParameters(parameters=parameters(unbonding_ms=1))),
    },
    Reason.ACCOUNT_NOT_ALLOWED: {
        f"{side} {account}": treasury(command)
        for account in (
            *(accounts.EXTERNAL, accounts.BURN, "", "available", "available/", "nonsense"),
            accounts.available(party_of("stranger")),
            *(accounts.free_stake(party_of("op-a")), accounts.unbonding_stake(party_of("op-b"))),
            accounts.reserved_stake(party_of("op-a"), "job-1"),
            *(accounts.escrow("job-1"), accounts.holdback("job-1", party_of("op-b"))),
            *(accounts.slashed("job-1", party_of("op-cheat")), accounts.challenge_bond("d-open")),
            party_of("op-a"),
        )
        for side, command in {
            "from": correct(account, OP_A),
            "to": correct(OP_A, account),
        }.items()
    },
    Reason.UNKNOWN_JOB: {
        "start": driver(start_task("job-9", "task-0")),
        "finish": driver(FinishTask(job="job-9", task="task-0")),
        "slot": op(request_slot(slot_of("job-9", "task-0", 0))),
        "commit": op(commit(leaf(slot_of("job-9", "task-0", 0)))),
        "settle": network(settle("job-9", FIRST)),
        "release": network(release("job-9", FIRST)),
        "slash": network(slash("job-9", "op-a", FIRST)),
        "two answers": reporting("op-a", slot_of("job-9", "task-0", 0)),
        "challenge": submitter(open_challenge("d-2", slot_of("job-9", "task-0", 0))),
        "challenge about nothing": submitter(open_challenge("d-2", "")),
        "close": driver(CloseJob(job="job-9")),
        "expire": network(ExpireJob(job="job-9")),
    },
    Reason.JOB_EXISTS: {
        "open": submitter(open_job("job-1")),
        "closed": submitter(open_job("job-done")),
    },
    Reason.JOB_CLOSED: {
        "start": driver(start_task("job-done", "task-1")),
        "finish": driver(FinishTask(job="job-done", task="task-0")),
        "slot": op(request_slot(slot_of("job-done", "task-0", 0))),
        "commit": op(commit(leaf(slot_of("job-done", "task-0", 0)))),
        "settle": network(settle("job-done", FIRST)),
        "release": network(release("job-done", DONE)),
        "close": driver(CloseJob(job="job-done")),
        "expire": network(ExpireJob(job="job-done")),
    },
    Reason.JOB_EXPIRED: {"slot": later(SET.job_ms + 1, op(request_slot(THIRD)))},
    Reason.JOB_NOT_EXPIRED: {
        "at once": network(ExpireJob(job="job-small")),
        "in its last millisecond": later(SET.job_ms, network(ExpireJob(job="job-small"))),
    },
    Reason.NOT_YOUR_JOB: {
        "start": driver(start_task("job-b", "task-1")),
        "finish": driver(FinishTask(job="job-b", task="task-0")),
        "close by another driver": driver(CloseJob(job="job-b")),
        "close by another submitter": submitter(CloseJob(job="job-b")),
    },
    Reason.BAD_ID: {
        "party": by("stranger", "operator", Join(name="a b")),
        "party, empty": by("stranger", "operator", Join(name="")),
        "job": submitter(open_job("job/2")),
        "job, too long": submitter(open_job("j" * 65)),
        "task": driver(start_task("job-1", "task/0")),
        "task, a path": driver(start_task("job-1", "..")),
        "challenge": submitter(open_challenge("d/2", FIRST)),
        "challenge, empty": submitter(open_challenge("", FIRST)),
    },
    Reason.UNKNOWN_TASK: {
        "finish": driver(FinishTask(job="job-1", task="task-9")),
        "slot": op(request_slot(slot_of("job-1", "task-9", 0))),
    },
    Reason.TASK_FINISHED: {"slot": op(request_slot(slot_of("job-1", "task-done", 0)))},
    Reason.TASK_EXISTS: {
        "another spec": driver(start_task("job-1", "task-0", 1, spec="other")),
        "another trial": driver(start_task("job-1", "task-0", 1, trial="other")),
    },
    Reason.STALE_ATTEMPT: {
        "start again": driver(start_task("job-1", "task-0", 0)),
        "start ahead": driver(start_task("job-1", "task-0", 2)),
        "start late": driver(start_task("job-1", "task-2", 1)),
        "slot of an old one": op(request_slot(slot_of("job-1", "task-old", 0, 0))),
        "slot of a later one": op(request_slot(slot_of("job-1", "task-1", 0, 1))),
    },
    Reason.ATTEMPT_TAKEN: {"slot": by("op-b", "operator", request_slot(THIRD))},
    Reason.SLOT_EXISTS: {
        "issued": op(request_slot(SECOND)),
        "committed": op(request_slot(FIRST)),
        "settled": by("op-b", "operator", request_slot(PAID)),
    },
    Reason.UNKNOWN_SLOT: {
        "below zero": op(RequestSlot(job="job-1", task="task-0", segment=-1, attempt=0)),
        "commit": op(commit(leaf(UNISSUED))),
        "settle": network(settle("job-1", UNISSUED)),
        "settle another job's": network(settle("job-1", SMALL)),
        "release": network(release("job-1", UNISSUED)),
        "release another job's": network(release("job-1", ASKED)),
        "slash on no evidence": network(slash("job-1", "op-a", UNISSUED)),
        "slash on another job's": network(slash("job-1", "op-a", SMALL)),
        "spoilt": network(slash("job-1", "op-a", FIRST, UNISSUED)),
        "spoilt in another job": network(slash("job-1", "op-a", FIRST, SMALL)),
        "two answers": reporting("op-a", UNISSUED),
        "challenge": submitter(open_challenge("d-2", UNISSUED)),
        "the jackpot": network(pay_jackpot("verifier", evidence=UNISSUED)),
        "the jackpot for nothing": network(pay_jackpot("verifier", evidence="")),
    },
    Reason.NOT_YOUR_SLOT: {
        "commit": by("op-b", "operator", commit(leaf(operator="op-b"))),
        "slash for another's": network(slash("job-1", "op-a", PAID)),
        "two answers for another's": reporting("op-b", FIRST),
    },
    Reason.SLOT_NOT_OPEN: {
        "committed before": op(commit(leaf(FIRST))),
        "its attempt is over": op(commit(leaf(DEAD))),
        "settle what is not committed": network(settle("job-1", SECOND)),
        "settle twice in one": network(settle("job-1", FIRST, FIRST)),
        "settle what is settled": network(settle("job-1", PAID)),
        "settle what is dead": network(settle("job-1", DEAD)),
        "challenge what is not answered": submitter(open_challenge("d-2", SECOND)),
        "challenge what never will be": submitter(open_challenge("d-2", DEAD)),
    },
    Reason.WRONG_LEAF: {
        "none": op(commit()),
        "another operator": op(commit(leaf(operator="op-b"))),
        "other data": op(commit(leaf(data_digest="other"))),
        "twice": op(commit(leaf(), leaf())),
        "twice, and another result": op(commit(leaf(), leaf(state_after="other"))),
        "one of two": op(commit(leaf(), leaf(FOURTH, data_digest="other"))),
    },
    Reason.WRONG_ROOT: {
        "another": op(Commit(root="00" * 32, leaves=[leaf()])),
        "none": op(Commit(root="", leaves=[leaf()])),
        "of another leaf": op(Commit(root=commit(leaf(state_after="other")).root, leaves=[leaf()])),
        "in capitals": op(Commit(root=commit(leaf()).root.upper(), leaves=[leaf()])),
    },
    Reason.NOT_EQUIVOCATION: {
        "one answer twice": lambda kit: kit.send(
            "verifier",
            "verifier",
            ReportEquivocation(
                slot=FIRST,
                first=signed_answer(kit, "op-a", FIRST),
                second=signed_answer(kit, "op-a", FIRST),
            ),
        ),
    },
    Reason.EVIDENCE_TOO_OLD: {
        "slash": later(SET.evidence_ms + 1, network(slash("job-done", "op-b", DONE))),
        "two answers": later(SET.evidence_ms + 1, reporting("op-b", DONE)),
        "challenge": later(SET.evidence_ms + 1, submitter(open_challenge("d-2", DONE))),
    },
    Reason.NO_SLASH_HELD: {
        "distribute nobody's": network(DistributeSlash(operator=party_of("stranger"))),
        "distribute none": network(DistributeSlash(operator=party_of("op-a"))),
        "reverse nobody's": treasury(ReverseSlash(operator=party_of("stranger"), reason="")),
        "reverse none": treasury(ReverseSlash(operator=party_of("op-a"), reason="")),
    },
    Reason.APPEAL_OPEN: {
        "its job is open": later(
            SET.appeal_ms, network(DistributeSlash(operator=party_of("op-cheat")))
        ),
        "a millisecond early": later(
            SET.appeal_ms - 1, network(DistributeSlash(operator=party_of("op-late")))
        ),
        "its evidence is challenged": later(
            SET.appeal_ms, network(DistributeSlash(operator=party_of("op-late")))
        ),
    },
    Reason.CHALLENGE_EXISTS: {
        "open": submitter(open_challenge("d-open", FIRST)),
        "ended": submitter(open_challenge("d-ended", FIRST)),
    },
    Reason.UNKNOWN_CHALLENGE: {
        "resolve": network(ResolveChallenge(challenge="d-9", upheld=True, reason="")),
        "expire": network(expire_challenge("d-9")),
    },
    Reason.CHALLENGE_ENDED: {
        "resolve": network(ResolveChallenge(challenge="d-ended", upheld=False, reason="")),
        "expire": later(SET.challenge_ms, network(expire_challenge("d-ended"))),
    },
    Reason.CHALLENGE_NOT_EXPIRED: {
        "at once": network(expire_challenge("d-open")),
        "a millisecond early": later(SET.challenge_ms - 1, submitter(expire_challenge("d-open"))),
    },
    Reason.SLOT_CHALLENGED: {
        "release": later(SET.holdback_ms, network(release("job-asked", ASKED))),
        "close": driver(CloseJob(job="job-asked")),
        "expire": later(SET.job_ms + 1, network(ExpireJob(job="job-asked"))),
    },
    Reason.NOT_RELEASABLE: {
        "at once": network(release("job-1", PAID)),
        "a millisecond early": later(SET.holdback_ms - 1, network(release("job-1", PAID))),
        "one of two": later(SET.holdback_ms, network(release("job-1", PAID, FIRST))),
        "issued": later(SET.holdback_ms, network(release("job-1", SECOND))),
        "committed": later(SET.holdback_ms, network(release("job-1", FIRST))),
        "dead": later(SET.holdback_ms, network(release("job-1", DEAD))),
    },
    Reason.NOTHING_MATURED: {
        "never unbonded": op(Mature(party=party_of("op-a"))),
        "a millisecond early": later(
            SET.unbonding_ms - 1, by("op-b", "operator", Mature(party=party_of("op-b")))
        ),
        "a submitter has none": network(Mature(party=party_of("submitter"))),
    },
    Reason.AMOUNT_OUT_OF_RANGE: {
        **{
            f"{name} {amount}": attempt(amount)
            for amount in (0, -1, MAX_MICRO + 1)
            for name, attempt in {
                "deposit": lambda amount: treasury(
                    Deposit(party=party_of("op-a"), amount_micro=amount)
                ),
                "grant": lambda amount: treasury(grant("op-a", amount)),
                "correction": lambda amount: treasury(correct(OP_A, OP_B, amount)),
                "bond": lambda amount: op(Bond(amount_micro=amount)),
                "unbond": lambda amount: op(Unbond(amount_micro=amount)),
                "withdrawal": lambda amount: op(Withdraw(amount_micro=amount)),
                "budget": lambda amount: submitter(open_job("job-2", budget_micro=amount)),
                "price": lambda amount: submitter(open_job("job-2", price_micro=amount)),
                "jackpot": lambda amount: network(pay_jackpot("verifier", amount)),
            }.items()
        },
        "a correction of nothing": treasury(correct(OP_A, OP_A)),
        "rate below zero": submitter(open_job("job-2", audit_ppm=-1)),
        "rate above one": submitter(open_job("job-2", audit_ppm=1_000_001)),
        "batch of none": submitter(open_job("job-2", draw_batch=0)),
        "jail that is over": network(jail("op-a", NOW)),
        "jail for more than ten years": network(jail("op-a", NOW + MAX_MS + 1)),
    },
    Reason.INSUFFICIENT_FUNDS: {
        "bond": op(Bond(amount_micro=500)),
        "withdraw": op(Withdraw(amount_micro=500)),
        "open": submitter(open_job("job-2", budget_micro=10_000)),
        "grant": treasury(grant("op-a")),
        "correction": treasury(correct(OP_A, OP_B, 500)),
        "correction out of the treasury": treasury(correct(accounts.TREASURY, OP_B)),
        "a challenge's bond": by("op-poor", "operator", open_challenge("d-2", FIRST)),
        "the jackpot": network(pay_jackpot("verifier")),
    },
    Reason.INSUFFICIENT_STAKE: {
        "slot": by("op-poor", "operator", request_slot(slot_of("job-1", "task-1", 0))),
        "unbond": by("op-poor", "operator", Unbond(amount_micro=51)),
    },
    Reason.BUDGET_EXHAUSTED: {
        "another slot": op(request_slot(slot_of("job-small", "task-0", 1))),
        "another task": by("op-b", "operator", request_slot(slot_of("job-small", "task-1", 0))),
    },
    Reason.SEGMENTS_UNSETTLED: {
        "by the driver": driver(CloseJob(job="job-1")),
        "by the submitter": submitter(CloseJob(job="job-1")),
        "by time": later(SET.job_ms + 1, network(ExpireJob(job="job-1"))),
    },
}

OF_SETTLEMENT = {Reason.NO_VERIFIER, Reason.WRONG_PREDECESSOR}
"""Reasons of `admit`, which is above this core."""


# -- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "attempt"),
    [
        pytest.param(reason, attempt, id=f"{reason.name}: {name}")
        for reason, attempts in REFUSALS.items()
        for name, attempt in attempts.items()
    ],
)
def test_a_refused_command_has_its_reason_and_changes_nothing(
    reason: Reason, attempt: Attempt
) -> None:
    kit = shared_kit()
    answer = attempt(kit)
    assert isinstance(answer, Rejected)
    assert answer.reason is reason
    assert_unchanged(kit)


def test_every_reason_of_this_core_is_in_the_table() -> None:
    assert set(REFUSALS) | OF_SETTLEMENT == set(Reason)


def test_the_busy_kit_has_records_in_all_states() -> None:
    book = shared_kit().journal.book
    states = {slot.state for job in book.jobs.values() for slot in job.slots.values()}
    assert states == set(SlotState)
    assert {party.standing for party in book.parties.values()} == set(Standing)
    assert book.proposals


SAMPLES: list[Command] = [
    found(),
    Deposit(party=party_of("op-a"), amount_micro=1),
    grant("op-a"),
    correct(OP_A, OP_B),
    SetParameters(parameters=parameters()),
    ReverseSlash(operator=party_of("op-a"), reason=""),
    Approve(proposal=""),
    Join(name="a"),
    Withdraw(amount_micro=1),
    Bond(amount_micro=1),
    Unbond(amount_micro=1),
    Mature(party=party_of("op-a")),
    jail("op-a", NOW + 1),
    Unjail(),
    open_job("job-2"),
    start_task("job-1", "task-2"),
    FinishTask(job="job-1", task="task-0"),
    request_slot(FIRST),
    commit(leaf()),
    Record(evidence=Flush(job="any")),
    settle("job-1", FIRST),
    release("job-1", FIRST),
    CloseJob(job="job-1"),
    ExpireJob(job="job-1"),
    slash("job-1", "op-a", FIRST),
    ReportEquivocation(slot=FIRST, first={}, second={}),
    DistributeSlash(operator=party_of("op-a")),
    open_challenge("d-2", FIRST),
    ResolveChallenge(challenge="d-open", upheld=True, reason=""),
    expire_challenge("d-open"),
    pay_jackpot("verifier"),
]


def test_there_is_a_sample_of_every_command() -> None:
    assert [type(one) for one in SAMPLES] == list(KINDS)


@pytest.mark.parametrize("command", SAMPLES, ids=lambda command: type(command).__name__)
def test_a_command_is_refused_in_every_role_but_its_own(command: Command) -> None:
    kit = shared_kit()
    for role in ROLES:
        if role not in ALLOWED_ROLES[type(command)]:
            for name in ("network", "treasury", "driver", "submitter", "op-a", "verifier"):
                answer = kit.send(name, role, command)
                assert reason_of(answer) is Reason.ROLE_NOT_ALLOWED, (name, role)
    assert_unchanged(kit)


def test_a_cheat_can_only_take_out_what_is_left_and_appeal() -> None:
    kit = shared_kit()
    allowed = {
        type(command)
        for command in SAMPLES
        for role in set(ALLOWED_ROLES[type(command)]) & {"operator"}
        if not isinstance(command, Join)
        and reason_of(kit.journal.propose(kit.sign("op-cheat", role, command), kit.clock()))
        is not Reason.OPERATOR_TOMBSTONED
    }
    assert allowed == {Withdraw, Unbond, Mature, OpenChallenge}


def test_a_commit_of_an_old_attempt_comes_too_late() -> None:
    kit = kit_with_job()
    kit.issue("op-a", FIRST)
    kit.accept("driver", "driver", start_task("job-1", "task-0", 1))
    late = kit.send("op-a", "operator", commit(leaf(FIRST)))
    assert late == Rejected(reason=Reason.SLOT_NOT_OPEN, detail="dead")
    kit.commit("op-b", slot_of("job-1", "task-0", 0, 1))


def test_a_commit_after_the_task_is_finished_comes_too_late() -> None:
    kit = kit_with_job()
    kit.issue("op-a", FIRST)
    kit.finish_task("job-1", "task-0")
    late = kit.send("op-a", "operator", commit(leaf(FIRST)))
    assert late == Rejected(reason=Reason.SLOT_NOT_OPEN, detail="dead")


@pytest.mark.parametrize(
    "attempt",
    [
        by("stranger", "operator", Join(name=LONG)),
        submitter(open_job(LONG)),
        driver(start_task(LONG, "task-0")),
        driver(start_task("job-1", LONG)),
        network(settle("job-1", LONG)),
        network(release("job-1", LONG)),
        network(slash(LONG, "op-a", FIRST)),
        network(slash("job-1", "op-a", LONG)),
        network(slash("job-1", "op-a", FIRST, LONG)),
        network(Mature(party=LONG)),
        network(Jail(operator=LONG, until_ms=NOW + 1, reason="")),
        network(PayJackpot(party=LONG, amount_micro=1, evidence=FIRST)),
        network(pay_jackpot("verifier", evidence=LONG)),
        network(DistributeSlash(operator=LONG)),
        network(expire_challenge(LONG)),
        submitter(open_challenge(LONG, FIRST)),
        submitter(open_challenge("d-2", LONG)),
        submitter(open_challenge("d-2", f"job-1/{LONG}")),
        treasury(Deposit(party=LONG, amount_micro=1)),
        treasury(ReverseSlash(operator=LONG, reason="")),
        treasury(correct(LONG, OP_A)),
        by("treasury", "treasury", Approve(proposal=LONG)),
        op(commit(leaf(f"job-1/{LONG}/0/0"))),
        op(commit(leaf(f"{LONG}/task-0/0/0"))),
        with_head(LONG),
        by("op-a", LONG, Bond(amount_micro=1)),
        lambda kit: kit.submit(raw(kit, operation=LONG)),
        lambda kit: kit.submit(raw(kit, arguments={LONG: 1})),
        lambda kit: kit.submit(raw(kit, **{LONG: 1})),
    ],
)
def test_a_refusal_never_repeats_more_than_two_hundred_characters(attempt: Attempt) -> None:
    answer = attempt(shared_kit())
    assert isinstance(answer, Rejected)
    assert len(answer.detail) <= 200


def test_a_check_above_the_core_can_refuse() -> None:
    kit = kit_with_job()
    no = Rejected(reason=Reason.NO_VERIFIER, detail="class-a")
    envelope = kit.sign("op-a", "operator", request_slot(FIRST))
    assert kit.journal.propose(envelope, kit.clock(), lambda order: no) == no
    assert isinstance(kit.journal.propose(envelope, kit.clock(), lambda order: None), Entry)
    unknown = kit.sign("op-a", "operator", request_slot(slot_of("job-9", "t", 0)))
    assert reason_of(kit.journal.propose(unknown, kit.clock(), lambda order: no)) is (
        Reason.UNKNOWN_JOB
    )


# -- precedence ------------------------------------------------------------------------------

BOTH_HOLD: list[tuple[Reason, Reason, Attempt]] = [
    (
        Reason.MALFORMED,
        Reason.BAD_SIGNATURE,
        lambda kit: kit.submit(with_signature(raw(kit, more=1), b"")),
    ),
    (
        Reason.BAD_SIGNATURE,
        Reason.WRONG_NETWORK,
        lambda kit: kit.submit(with_signature(raw(kit, genesis=""), b"")),
    ),
    (
        Reason.BAD_SIGNATURE,
        Reason.UNKNOWN_OPERATION,
        lambda kit: kit.submit(with_signature(raw(kit, operation="x"), b"")),
    ),
    (
        Reason.WRONG_NETWORK,
        Reason.EXPIRED,
        by("op-a", "operator", Bond(amount_micro=1), genesis="", expiry_ms=0),
    ),
    (
        Reason.WRONG_NETWORK,
        Reason.EXPIRED,
        by("op-a", "operator", Bond(amount_micro=1), network="other", expiry_ms=0),
    ),
    (
        Reason.WRONG_NETWORK,
        Reason.NONCE_REUSED,
        by("op-a", "operator", Bond(amount_micro=1), genesis="", nonce="once"),
    ),
    (
        Reason.WRONG_NETWORK,
        Reason.UNKNOWN_HEAD,
        by("op-a", "operator", Bond(amount_micro=1), genesis="", head="1:"),
    ),
    (
        Reason.UNKNOWN_HEAD,
        Reason.NONCE_REUSED,
        by("op-a", "operator", Bond(amount_micro=1), head="1:", nonce="once"),
    ),
    (
        Reason.UNKNOWN_HEAD,
        Reason.EXPIRED,
        by("op-a", "operator", Bond(amount_micro=1), head="1:", expiry_ms=0),
    ),
    (
        Reason.NONCE_REUSED,
        Reason.EXPIRED,
        by("op-a", "operator", Bond(amount_micro=1), nonce="once", expiry_ms=0),
    ),
    (
        Reason.EXPIRED,
        Reason.ROLE_NOT_ALLOWED,
        by("op-a", "network", settle("job-1", FIRST), expiry_ms=0),
    ),
    (Reason.EXPIRED, Reason.ALREADY_FOUNDED, by("network", "network", found(), expiry_ms=0)),
    (
        Reason.MALFORMED,
        Reason.ALREADY_FOUNDED,
        by("network", "network", found(beacon_anchor="")),
    ),
    (Reason.ROLE_NOT_ALLOWED, Reason.ALREADY_FOUNDED, by("op-a", "network", found())),
    (Reason.ROLE_NOT_ALLOWED, Reason.UNKNOWN_PARTY, op(Mature(party=party_of("stranger")))),
    (Reason.ROLE_NOT_ALLOWED, Reason.NOTHING_MATURED, op(Mature(party=party_of("op-b")))),
    (Reason.ROLE_NOT_ALLOWED, Reason.CHALLENGE_ENDED, op(expire_challenge("d-ended"))),
    (Reason.ROLE_NOT_ALLOWED, Reason.CHALLENGE_NOT_EXPIRED, op(expire_challenge("d-open"))),
    (
        Reason.ALREADY_FOUNDED,
        Reason.UNSAFE_PARAMETERS,
        network(found(parameters=parameters(job_ms=0))),
    ),
    (
        Reason.EXPIRED,
        Reason.UNKNOWN_PARTY,
        by("stranger", "operator", Bond(amount_micro=1), expiry_ms=0),
    ),
    (
        Reason.NONCE_REUSED,
        Reason.ROLE_NOT_ALLOWED,
        by("op-a", "network", settle("job-1", FIRST), nonce="once"),
    ),
    (
        Reason.UNKNOWN_OPERATION,
        Reason.ROLE_NOT_ALLOWED,
        lambda kit: kit.submit(raw(kit, operation="x", role="king")),
    ),
    (
        Reason.ROLE_NOT_ALLOWED,
        Reason.UNKNOWN_JOB,
        by("op-a", "network", settle("job-9", FIRST)),
    ),
    (
        Reason.ROLE_NOT_ALLOWED,
        Reason.OPERATOR_TOMBSTONED,
        by("op-cheat", "submitter", open_job("job-2")),
    ),
    (
        Reason.UNKNOWN_PARTY,
        Reason.UNKNOWN_JOB,
        by("stranger", "operator", request_slot(slot_of("job-9", "task-0", 0))),
    ),
    (
        Reason.UNKNOWN_PARTY,
        Reason.AMOUNT_OUT_OF_RANGE,
        treasury(Deposit(party="nobody", amount_micro=0)),
    ),
    (
        Reason.UNKNOWN_PARTY,
        Reason.OPERATOR_TOMBSTONED,
        network(slash("job-done", "op-cheat", DONE)),
    ),
    (
        Reason.UNKNOWN_PARTY,
        Reason.OPERATOR_TOMBSTONED,
        network(slash("job-1", "op-cheat", CHEATED, reporter="stranger")),
    ),
    (
        Reason.UNKNOWN_PARTY,
        Reason.UNKNOWN_SLOT,
        network(slash("job-1", "op-a", UNISSUED, reporter="stranger")),
    ),
    (
        Reason.UNKNOWN_PARTY,
        Reason.UNKNOWN_SLOT,
        network(pay_jackpot("op-a", evidence=UNISSUED)),
    ),
    (Reason.PARTY_EXISTS, Reason.BAD_ID, by("op-a", "operator", Join(name=""))),
    (
        Reason.OPERATOR_TOMBSTONED,
        Reason.AMOUNT_OUT_OF_RANGE,
        by("op-cheat", "operator", Bond(amount_micro=0)),
    ),
    (
        Reason.OPERATOR_TOMBSTONED,
        Reason.UNKNOWN_SLOT,
        network(slash("job-1", "op-cheat", UNISSUED)),
    ),
    (
        Reason.OPERATOR_TOMBSTONED,
        Reason.NOT_JAILED,
        by("op-cheat", "operator", Unjail()),
    ),
    (
        Reason.OPERATOR_TOMBSTONED,
        Reason.SLOT_NOT_OPEN,
        network(settle("job-1", CHEATED)),
    ),
    (
        Reason.OPERATOR_TOMBSTONED,
        Reason.NOT_RELEASABLE,
        network(release("job-1", CHEATED_TOO)),
    ),
    (
        Reason.OPERATOR_TOMBSTONED,
        Reason.AMOUNT_OUT_OF_RANGE,
        network(jail("op-cheat", NOW)),
    ),
    (
        Reason.OPERATOR_JAILED,
        Reason.UNKNOWN_JOB,
        by("op-jailed", "operator", request_slot(slot_of("job-9", "task-0", 0))),
    ),
    (
        Reason.OPERATOR_JAILED,
        Reason.INSUFFICIENT_STAKE,
        by("op-jailed", "operator", request_slot(slot_of("job-1", "task-free", 0))),
    ),
    (
        Reason.PROPOSAL_EXPIRED,
        Reason.ALREADY_APPROVED,
        later(SET.proposal_ms + 1, approving("treasury")),
    ),
    (
        Reason.ACCOUNT_NOT_ALLOWED,
        Reason.AMOUNT_OUT_OF_RANGE,
        treasury(correct(accounts.BURN, OP_A, 0)),
    ),
    (
        Reason.UNKNOWN_JOB,
        Reason.BAD_ID,
        submitter(open_challenge("d/2", slot_of("job-9", "task-0", 0))),
    ),
    (
        Reason.OPERATOR_TOMBSTONED,
        Reason.UNKNOWN_JOB,
        by("op-cheat", "operator", request_slot(slot_of("job-9", "task-0", 0))),
    ),
    (
        Reason.JOB_EXISTS,
        Reason.AMOUNT_OUT_OF_RANGE,
        submitter(open_job("job-1", budget_micro=0)),
    ),
    (Reason.MALFORMED, Reason.JOB_EXISTS, submitter(open_job("job-1", driver_key=""))),
    (Reason.MALFORMED, Reason.BAD_ID, submitter(open_job("a/b", secret_anchor=""))),
    (
        Reason.JOB_CLOSED,
        Reason.JOB_EXPIRED,
        later(SET.job_ms + 1, op(request_slot(slot_of("job-done", "task-0", 9)))),
    ),
    (Reason.JOB_CLOSED, Reason.JOB_NOT_EXPIRED, network(ExpireJob(job="job-done"))),
    (
        Reason.JOB_EXPIRED,
        Reason.UNKNOWN_TASK,
        later(SET.job_ms + 1, op(request_slot(slot_of("job-1", "task-9", 0)))),
    ),
    (Reason.JOB_NOT_EXPIRED, Reason.SLOT_CHALLENGED, network(ExpireJob(job="job-asked"))),
    (Reason.JOB_NOT_EXPIRED, Reason.SEGMENTS_UNSETTLED, network(ExpireJob(job="job-1"))),
    (
        Reason.NOT_YOUR_JOB,
        Reason.SLOT_CHALLENGED,
        by("driver-b", "driver", CloseJob(job="job-asked")),
    ),
    (
        Reason.JOB_CLOSED,
        Reason.NOT_YOUR_JOB,
        by("driver-b", "driver", CloseJob(job="job-done")),
    ),
    (
        Reason.JOB_CLOSED,
        Reason.UNKNOWN_TASK,
        op(request_slot(slot_of("job-done", "task-9", 0))),
    ),
    (Reason.NOT_YOUR_JOB, Reason.BAD_ID, driver(start_task("job-b", "a/b"))),
    (
        Reason.NOT_YOUR_JOB,
        Reason.UNKNOWN_TASK,
        driver(FinishTask(job="job-b", task="task-9")),
    ),
    (
        Reason.NOT_YOUR_JOB,
        Reason.SEGMENTS_UNSETTLED,
        by("driver-b", "driver", CloseJob(job="job-1")),
    ),
    (Reason.BAD_ID, Reason.STALE_ATTEMPT, driver(start_task("job-1", "a/b", 7))),
    (
        Reason.BAD_ID,
        Reason.INSUFFICIENT_FUNDS,
        submitter(open_job("a/b", budget_micro=HIGH)),
    ),
    (Reason.BAD_ID, Reason.UNKNOWN_SLOT, submitter(open_challenge("d/2", UNISSUED))),
    (Reason.BAD_ID, Reason.CHALLENGE_EXISTS, submitter(open_challenge("", FIRST))),
    (
        Reason.TASK_FINISHED,
        Reason.STALE_ATTEMPT,
        op(request_slot(slot_of("job-1", "task-done", 0, 1))),
    ),
    (
        Reason.STALE_ATTEMPT,
        Reason.ATTEMPT_TAKEN,
        by("op-b", "operator", request_slot(slot_of("job-1", "task-0", 0, 1))),
    ),
    (Reason.ATTEMPT_TAKEN, Reason.SLOT_EXISTS, by("op-b", "operator", request_slot(FIRST))),
    (
        Reason.ATTEMPT_TAKEN,
        Reason.INSUFFICIENT_STAKE,
        by("op-poor", "operator", request_slot(THIRD)),
    ),
    (
        Reason.SLOT_EXISTS,
        Reason.BUDGET_EXHAUSTED,
        op(request_slot(slot_of("job-small", "task-0", 0))),
    ),
    (
        Reason.UNKNOWN_SLOT,
        Reason.NOT_YOUR_SLOT,
        network(slash("job-1", "op-a", PAID, UNISSUED)),
    ),
    (
        Reason.UNKNOWN_SLOT,
        Reason.EVIDENCE_TOO_OLD,
        later(SET.evidence_ms + 1, network(slash("job-done", "op-b", UNISSUED))),
    ),
    (
        Reason.UNKNOWN_SLOT,
        Reason.CHALLENGE_EXISTS,
        submitter(open_challenge("d-open", UNISSUED)),
    ),
    (
        Reason.UNKNOWN_SLOT,
        Reason.AMOUNT_OUT_OF_RANGE,
        network(pay_jackpot("verifier", 0, UNISSUED)),
    ),
    (
        Reason.NOT_YOUR_SLOT,
        Reason.EVIDENCE_TOO_OLD,
        later(SET.evidence_ms + 1, network(slash("job-done", "op-b", DONE_BY_A_CHEAT))),
    ),
    (
        Reason.SLOT_NOT_OPEN,
        Reason.CHALLENGE_EXISTS,
        submitter(open_challenge("d-open", SECOND)),
    ),
    (
        Reason.EVIDENCE_TOO_OLD,
        Reason.CHALLENGE_EXISTS,
        later(SET.evidence_ms + 1, submitter(open_challenge("d-open", DONE))),
    ),
    (
        Reason.CHALLENGE_EXISTS,
        Reason.INSUFFICIENT_FUNDS,
        by("op-poor", "operator", open_challenge("d-open", FIRST)),
    ),
    (
        Reason.CHALLENGE_ENDED,
        Reason.CHALLENGE_NOT_EXPIRED,
        submitter(expire_challenge("d-ended")),
    ),
    (Reason.SLOT_CHALLENGED, Reason.NOT_RELEASABLE, network(release("job-asked", ASKED))),
    (Reason.SLOT_CHALLENGED, Reason.SEGMENTS_UNSETTLED, driver(CloseJob(job="job-asked"))),
    (
        Reason.NOT_YOUR_SLOT,
        Reason.SLOT_NOT_OPEN,
        by("op-b", "operator", commit(leaf(FIRST, "op-b"))),
    ),
    (
        Reason.NOT_YOUR_SLOT,
        Reason.WRONG_LEAF,
        by("op-b", "operator", commit(leaf(data_digest="other"))),
    ),
    (Reason.SLOT_NOT_OPEN, Reason.WRONG_LEAF, op(commit(leaf(FIRST, data_digest="other")))),
    (
        Reason.WRONG_LEAF,
        Reason.WRONG_ROOT,
        op(Commit(root="", leaves=[leaf(data_digest="other")])),
    ),
    (
        Reason.UNKNOWN_SLOT,
        Reason.WRONG_ROOT,
        op(Commit(root="", leaves=[leaf(UNISSUED)])),
    ),
    (
        Reason.AMOUNT_OUT_OF_RANGE,
        Reason.INSUFFICIENT_FUNDS,
        op(Bond(amount_micro=MAX_MICRO + 1)),
    ),
    (
        Reason.AMOUNT_OUT_OF_RANGE,
        Reason.INSUFFICIENT_FUNDS,
        network(pay_jackpot("verifier", MAX_MICRO + 1)),
    ),
    (
        Reason.AMOUNT_OUT_OF_RANGE,
        Reason.INSUFFICIENT_STAKE,
        op(Unbond(amount_micro=MAX_MICRO + 1)),
    ),
    (
        Reason.INSUFFICIENT_STAKE,
        Reason.BUDGET_EXHAUSTED,
        by("op-poor", "operator", request_slot(slot_of("job-small", "task-1", 0))),
    ),
]


@pytest.mark.parametrize(
    ("given", "also_holds", "attempt"),
    [
        pytest.param(given, also, attempt, id=f"{given.name} before {also.name} {number}")
        for number, (given, also, attempt) in enumerate(BOTH_HOLD)
    ],
)
def test_where_two_reasons_hold_the_first_is_given(
    given: Reason, also_holds: Reason, attempt: Attempt
) -> None:
    kit = shared_kit()
    order = list(Reason)
    assert order.index(given) < order.index(also_holds)
    assert reason_of(attempt(kit)) is given
    assert_unchanged(kit)
