"""The authority: heads and snapshots, timed transitions, challenges and proofs."""

import json
from pathlib import Path
from typing import Any

import pytest

from gensyn_ray.domain import canonical, merkle, signing
from gensyn_ray.domain.errors import OperationError
from gensyn_ray.domain.evidence import FullAudit, Verdict
from gensyn_ray.domain.leaf import result_digest
from gensyn_ray.queries.network_state import NetworkState
from gensyn_ray.queries.proofs import check_page
from gensyn_ray.services import snapshots
from gensyn_ray.services.authority import SNAPSHOT_ENTRIES, Authority
from gensyn_ray.settlement.state import Pay
from ledger.client import check_receipt
from ledger.core import accounts, checkpoint
from ledger.core.book_state import ChallengeState, JobState, SlashState, Standing
from ledger.core.commands import (
    CloseJob,
    OpenChallenge,
    Record,
    ReportEquivocation,
    Unbond,
    Withdraw,
)
from ledger.core.journal import CorruptJournal, parse_entry
from ledger.core.refusals import Reason
from ledger.service.app import UnknownView
from ledger.storage.journal import MemoryJournal
from ledger.storage.sqlite import SqliteJournal
from tests.kits.authority_kit import AuthorityKit, sign_for
from tests.kits.ledger_kit import (
    BOND_MICRO,
    PRICE_MICRO,
    RESERVE_MICRO,
    key_of,
    parameters,
    party_of,
    request_slot,
)
from verifier_actors.core.audit import AuditState
from verifier_actors.core.outcome import Outcome

SETTINGS = parameters()


def head_of(note: str, kit: AuthorityKit) -> checkpoint.Checkpoint:
    return checkpoint.read(note, kit.authority.public_key)


# -- heads and snapshots ---------------------------------------------------------------------


def test_a_receipt_quotes_the_log_up_to_its_own_entry() -> None:
    kit = AuthorityKit().begin()
    body = kit.accept("op-a", "operator", Withdraw(amount_micro=5))
    lines = list(kit.store.read())
    root = merkle.root_of(lines[: body["index"] + 1])
    assert body["head"] == f"{body['index'] + 1}:{root.hex()}"


def test_a_command_with_a_head_of_another_log_is_refused() -> None:
    kit = AuthorityKit().begin()
    head = kit.accept("op-a", "operator", Withdraw(amount_micro=5))["head"]
    assert "receipt" in kit.send("op-a", "operator", Withdraw(amount_micro=6), head=head)
    size, _, root = head.partition(":")
    for wrong in (f"{size}:{'0' * 64}", f"{10**6}:{root}", f"+{size}:{root}", "x", ":", root):
        answer = kit.send("op-a", "operator", Withdraw(amount_micro=7), head=wrong)
        assert answer["refused"] == Reason.UNKNOWN_HEAD, wrong


def test_a_ledger_restored_from_an_old_backup_refuses_commands_with_later_heads() -> None:
    kit = AuthorityKit().begin()
    backup = list(kit.store.read())
    head = kit.accept("op-a", "operator", Withdraw(amount_micro=5))["head"]
    kit.store = MemoryJournal()
    kit.store.append(0, backup)
    kit.authority = kit.boot()
    answer = kit.send("op-a", "operator", Withdraw(amount_micro=5), head=head)
    assert answer["refused"] == Reason.UNKNOWN_HEAD


def test_it_does_not_start_on_a_journal_older_than_the_head_it_remembers() -> None:
    kit = AuthorityKit().begin()
    backup = list(kit.store.read())
    kit.accept("op-a", "operator", Withdraw(amount_micro=5))
    kit.authority.stop()
    remembered = head_of(kit.heads[-1], kit)
    assert remembered.size == len(backup) + 1
    assert isinstance(kit.boot(remembered=remembered), Authority)
    kit.store = MemoryJournal()
    kit.store.append(0, backup)
    with pytest.raises(OperationError, match="restore the newest"):
        kit.boot(remembered=remembered)


def test_it_does_not_start_on_another_history_of_the_same_length() -> None:
    one, other = AuthorityKit().begin(), AuthorityKit().begin()
    one.accept("op-a", "operator", Withdraw(amount_micro=5))
    other.accept("op-a", "operator", Withdraw(amount_micro=6))
    one.authority.stop()
    with pytest.raises(OperationError, match="another history"):
        other.boot(remembered=head_of(one.heads[-1], one))


def test_the_head_is_kept_once_a_second_and_only_when_it_moved() -> None:
    kit = AuthorityKit()
    before = len(kit.heads)
    kit.pass_time(2_000)
    assert len(kit.heads) == before
    kit.begin()
    kit.pass_time(2_000)
    kit.pass_time(2_000)
    assert len(kit.heads) == before + 1
    assert head_of(kit.heads[-1], kit).size == kit.store.count()


def everything(authority: Authority) -> dict[str, Any]:
    views = {
        "health": {},
        "operators": {},
        "audits": {},
        "job": {"job": "job-1"},
        "receipts": {"job": "job-1"},
        "statement": {"owner": party_of("op-a")},
        "why": {"subject": party_of("op-a")},
        "bundle": {"digest": "00" * 32},
    }
    return {view: authority.read(view, asked) for view, asked in views.items()}


@pytest.mark.parametrize("stored_in", ["memory", "sqlite"])
def test_a_snapshot_and_what_came_after_it_give_the_same_network(
    stored_in: str, tmp_path: Path
) -> None:
    path = tmp_path / "journal.sqlite"
    kit = AuthorityKit(SqliteJournal(path) if stored_in == "sqlite" else None).begin()
    kit.work("op-a", "task-0", 0)
    kit.authority.stop()
    kit.work("op-a", "task-0", 1)
    kit.reveal()
    kit.replay()
    if stored_in == "sqlite":
        kit.store = SqliteJournal(path)
    read: list[int] = []
    whole = kit.store.read
    kit.store.read = lambda first_index=0: (read.append(first_index), whole(first_index))[1]  # pyright: ignore[reportAttributeAccessIssue]
    again = kit.boot()
    assert read[0] > 0, "the snapshot was not used"
    assert everything(again) == everything(kit.authority)
    found = kit.store.load_snapshot()
    assert found is not None
    kit.store.save_snapshot(found[0], b"")
    assert everything(kit.boot()) == everything(kit.authority)
    assert read[-1] == 0, "a bad snapshot was used"


def test_a_snapshot_of_another_secret_journal_or_version_is_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kit = AuthorityKit().begin()
    secret = b"secret"
    state = NetworkState()
    for line in kit.store.read():
        state.fold(parse_entry(line))
    snapshots.save(kit.store, state, secret)
    found = kit.store.load_snapshot()
    assert found is not None
    assert isinstance(snapshots.load(kit.store, secret), NetworkState)
    assert snapshots.load(kit.store, b"another secret") is None
    size, sealed = found
    for at in (0, 31, 32, len(sealed) // 2, len(sealed) - 1):
        spoilt = bytearray(sealed)
        spoilt[at] ^= 1
        kit.store.save_snapshot(size, bytes(spoilt))
        assert snapshots.load(kit.store, secret) is None, at
    kit.store.save_snapshot(size + 1, sealed)
    assert snapshots.load(kit.store, secret) is None, "more than the journal has"
    kit.store.save_snapshot(size, sealed)
    monkeypatch.setattr(snapshots, "_code", lambda: b"other code")
    assert snapshots.load(kit.store, secret) is None


def test_a_long_fold_keeps_a_snapshot_for_the_next_start(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = AuthorityKit().begin()
    kit.boot()
    assert kit.store.load_snapshot() is None
    assert SNAPSHOT_ENTRIES >= 1_000
    monkeypatch.setattr("gensyn_ray.services.authority.SNAPSHOT_ENTRIES", 5)
    kit.boot()
    found = kit.store.load_snapshot()
    assert found is not None
    assert found[0] == kit.store.count()


# -- timed transitions -----------------------------------------------------------------------


def test_pay_is_released_when_its_window_is_over_and_its_audit_has_ended() -> None:
    kit = AuthorityKit().begin(audit_ppm=0)
    kit.work("op-a", "task-0", 0)
    kit.reveal()
    holdback = accounts.holdback("job-1", party_of("op-a"))
    assert kit.balance(holdback) == PRICE_MICRO
    kit.pass_time(SETTINGS.holdback_ms - 1)
    assert kit.balance(holdback) == PRICE_MICRO
    kit.pass_time(1_000)
    assert kit.balance(holdback) == 0
    assert kit.balance(accounts.available(party_of("op-a"))) == 9_000 + PRICE_MICRO


def test_stake_that_has_unbonded_long_enough_comes_back_by_itself() -> None:
    kit = AuthorityKit().begin()
    kit.accept("op-a", "operator", Unbond(amount_micro=300))
    kit.pass_time(SETTINGS.unbonding_ms - 1)
    assert kit.balance(accounts.unbonding_stake(party_of("op-a"))) == 300
    kit.pass_time(1_000)
    assert kit.balance(accounts.available(party_of("op-a"))) == 9_300


def test_a_job_that_outlives_its_time_pays_what_no_verifier_judged_and_ends() -> None:
    kit = AuthorityKit().begin()
    kit.work("op-a", "task-0", 0)
    kit.reveal()  # drawn and never replayed
    kit.pass_time(SETTINGS.job_ms + 1_000)
    job = kit.authority.journal.book.jobs["job-1"]
    assert job.state is JobState.EXPIRED
    assert kit.balance(accounts.available(party_of("op-a"))) == 9_000 + PRICE_MICRO
    assert kit.balance(accounts.free_stake(party_of("op-a"))) == 1_000
    assert kit.balance(accounts.available(party_of("submitter"))) == 10_000 - PRICE_MICRO


def cheat(kit: AuthorityKit) -> str:
    """`op-a` forges a state, and two verifiers detect it."""
    slot = "job-1/task-0/0/0"
    kit.accept("op-a", "operator", request_slot(slot))
    kit.accept("op-a", "operator", kit.answer("op-a", slot, state_after="made up"))
    kit.reveal()
    kit.replay()
    return slot


def test_a_slash_is_distributed_after_the_end_of_its_job_and_its_appeal() -> None:
    kit = AuthorityKit().begin()
    cheat(kit)
    book = kit.authority.journal.book
    slash = book.slashes[party_of("op-a")]
    assert kit.balance(accounts.slashed("job-1", party_of("op-a"))) == RESERVE_MICRO
    kit.pass_time(SETTINGS.appeal_ms + 1_000)
    assert slash.state is SlashState.HELD, "what was paid is not known before the job closes"
    kit.accept("driver", "driver", CloseJob(job="job-1"))
    kit.pass_time(1_000)
    assert slash.state is SlashState.DISTRIBUTED
    assert kit.balance(accounts.JACKPOT) == RESERVE_MICRO * 4 // 10
    assert kit.balance(accounts.BURN) == RESERVE_MICRO * 6 // 10
    assert kit.balance(accounts.available(party_of("submitter"))) == 10_000


# -- challenges --------------------------------------------------------------------------------


def test_a_challenge_has_the_segment_replayed_and_its_outcome_decides_the_bond() -> None:
    for honest in (True, False):
        kit = AuthorityKit().begin(audit_ppm=0)
        slot = "job-1/task-0/0/0"
        kit.accept("op-a", "operator", request_slot(slot))
        changes = {} if honest else {"state_after": "made up"}
        kit.accept("op-a", "operator", kit.answer("op-a", slot, **changes))
        kit.reveal()
        assert kit.authority.settlement.segment(slot).audit.state is AuditState.SKIPPED
        opened = OpenChallenge(challenge="doubt", slot=slot, claim="looks odd")
        kit.accept("submitter", "submitter", opened)
        kit.authority.tick()
        kit.reveal()
        assert [one["urgent"] for one in kit.authority.read("audits", {})] == [True]
        kit.replay()
        kit.pass_time(1_000)
        challenge = kit.authority.journal.book.challenges["doubt"]
        outcome = kit.authority.settlement.segment(slot).audit.outcome
        if honest:
            assert (outcome, challenge.state) == (Outcome.ACCEPT, ChallengeState.DISMISSED)
            assert kit.balance(accounts.TREASURY) == BOND_MICRO
        else:
            assert (outcome, challenge.state) == (Outcome.REJECT, ChallengeState.UPHELD)
            assert kit.balance(accounts.TREASURY) == 0
            party = kit.authority.journal.book.parties[party_of("op-a")]
            assert party.standing is Standing.TOMBSTONED
        assert kit.balance(accounts.challenge_bond("doubt")) == 0


def test_a_challenge_without_an_answer_returns_its_bond() -> None:
    kit = AuthorityKit().begin()
    slot = kit.work("op-a", "task-0", 0)
    opened = OpenChallenge(challenge="doubt", slot=slot, claim="looks odd")
    kit.accept("submitter", "submitter", opened)
    before = kit.balance(accounts.available(party_of("submitter")))
    kit.pass_time(SETTINGS.challenge_ms + 1_000)
    assert kit.authority.journal.book.challenges["doubt"].state is ChallengeState.EXPIRED
    assert kit.balance(accounts.available(party_of("submitter"))) == before + BOND_MICRO


def test_two_signed_answers_to_one_slot_slash_without_a_ruling() -> None:
    kit = AuthorityKit().begin()
    slot = "job-1/task-0/0/0"
    kit.accept("op-a", "operator", request_slot(slot))
    first = kit.answer("op-a", slot)
    second = kit.answer("op-a", slot, state_after="another")
    shown = [sign_for(kit, "op-a", command) for command in (first, second)]
    kit.accept("op-a", "operator", first)
    report = ReportEquivocation(slot=slot, first=shown[0], second=shown[1])
    kit.accept("v-1", "verifier", report)
    party = kit.authority.journal.book.parties[party_of("op-a")]
    assert party.standing is Standing.TOMBSTONED
    assert kit.authority.settlement.jobs["job-1"].tasks["task-0"].good == []


# -- proofs ----------------------------------------------------------------------------------


def whole_story() -> tuple[AuthorityKit, str]:
    kit = AuthorityKit().begin()
    slot = kit.work("op-b", "task-1", 0)
    kit.reveal()
    kit.replay()
    kit.accept("driver", "driver", CloseJob(job="job-1"))
    return kit, slot


def test_why_tells_a_segments_whole_story_in_order() -> None:
    kit, slot = whole_story()
    page = kit.authority.read("why", {"subject": slot})
    told = [words for one in page["entries"] for words in one["what"]]
    beginnings = [
        "job job-1 opened",
        "task task-1, attempt 0",
        f"slot issued to {party_of('op-b')}",
        "committed: state state task-1 0",
        "waits for a draw",
        "drawn for",
        "",
        "ruling: ACCEPT",
        "paid: audited: ACCEPT",
        "job job-1 closed",
    ]
    assert len(told) == len(beginnings)
    for words, beginning in zip(told, beginnings, strict=True):
        assert words.startswith(beginning)
    memos = [post["memo"] for one in page["entries"] for post in one["postings"]]
    assert memos == ["earn", "release"]


def test_a_page_is_proven_from_the_networks_key_alone() -> None:
    kit, slot = whole_story()
    page = json.loads(json.dumps(kit.authority.read("why", {"subject": slot})))
    assert check_page(page, kit.authority.public_key) == len(page["entries"])
    with pytest.raises(CorruptJournal):
        check_page(page, key_of("stranger").public)


@pytest.mark.parametrize("field", ["line", "proof", "what", "by", "postings", "entry", "time_ms"])
def test_a_page_that_was_changed_does_not_hold(field: str) -> None:
    kit, slot = whole_story()
    page = json.loads(json.dumps(kit.authority.read("why", {"subject": slot})))
    for number, one in enumerate(page["entries"]):
        changed = {
            "line": one["line"].replace("job-1", "job-2"),
            "proof": one["proof"][:-1],
            "what": ["nothing happened"],
            "by": "network nobody",
            "postings": [{"amount": "5"}],
            "entry": one["entry"] + 1,
            "time_ms": 5,
        }[field]
        entries = [dict(other) for other in page["entries"]]
        entries[number][field] = changed
        with pytest.raises(CorruptJournal):
            check_page({**page, "entries": entries}, kit.authority.public_key)


@pytest.mark.parametrize("page", [{}, {"checkpoint": 5}, {"checkpoint": "", "entries": 5}])
def test_an_invalid_page_is_refused(page: dict[str, Any]) -> None:
    with pytest.raises(CorruptJournal):
        check_page(page, key_of("network").public)


def test_an_unjudged_claim_is_shown_nowhere() -> None:
    kit = AuthorityKit().begin()
    slot = kit.work("op-a", "task-0", 0)
    kit.reveal()
    shown = json.dumps(
        [
            kit.authority.read("why", {"subject": subject})
            for subject in (slot, "job-1", party_of("op-a"), "job-1/task-0")
        ]
    )
    assert "state task-0 0" not in shown
    committed = kit.authority.read("why", {"subject": slot})["entries"]
    assert all(one["operation"] != "Commit" for one in committed)
    lines = list(kit.store.read())
    hidden = [index for index, line in enumerate(lines) if b"state task-0 0" in line]
    assert hidden
    for index in hidden:
        with pytest.raises(UnknownView, match="when its segments are ruled on"):
            kit.authority.read("entry", {"index": str(index)})
    kit.replay()
    assert "state task-0 0" in json.dumps(kit.authority.read("why", {"subject": slot}))


def test_a_claim_that_was_paid_undrawn_stays_hidden_because_it_may_be_audited_yet() -> None:
    kit = AuthorityKit().begin(audit_ppm=0)
    slot = kit.work("op-a", "task-0", 0)
    kit.reveal()
    assert kit.authority.settlement.segment(slot).pay is Pay.PAID
    assert "state task-0 0" not in json.dumps(kit.authority.read("why", {"subject": slot}))
    kit.accept("driver", "driver", CloseJob(job="job-1"))
    assert "state task-0 0" in json.dumps(kit.authority.read("why", {"subject": slot}))


def test_replays_that_a_job_waits_for_come_first() -> None:
    kit = AuthorityKit().begin()
    first, second = kit.work("op-a", "task-0", 0), kit.work("op-b", "task-1", 0)
    kit.reveal()
    asked = kit.authority.read("audits", {})
    assert [(one["slot"], one["urgent"]) for one in asked] == [(first, False), (second, False)]
    full = FullAudit(job="job-1", tasks=["task-1"])
    kit.accept("driver", "driver", Record(evidence=full))
    asked = kit.authority.read("audits", {})
    assert [(one["slot"], one["urgent"]) for one in asked] == [(second, True), (first, False)]


def test_the_first_verdict_is_hidden_while_a_second_verifier_is_asked() -> None:
    kit = AuthorityKit().begin()
    kit.accept("op-a", "operator", request_slot("job-1/task-0/0/0"))
    kit.accept("op-a", "operator", kit.answer("op-a", "job-1/task-0/0/0", state_after="made up"))
    kit.reveal()
    names = {party_of(name): name for name in ("v-1", "v-2")}
    (asked,) = kit.authority.read("audits", {})
    found = result_digest("state task-0 0", {"loss": 0.5})
    verdict = Verdict(job="job-1", slot=asked["slot"], result=found)
    kit.accept(names[asked["party"]], "verifier", Record(evidence=verdict))
    (referee,) = kit.authority.read("audits", {})
    assert referee["party"] != asked["party"]
    assert (asked["urgent"], referee["urgent"]) == (False, True)
    for subject in (asked["slot"], "job-1", asked["party"], party_of("op-a")):
        assert found not in json.dumps(kit.authority.read("why", {"subject": subject}))
    kit.replay()
    assert found in json.dumps(kit.authority.read("why", {"subject": asked["slot"]}))


def test_an_entry_and_the_logs_growth_can_be_proven() -> None:
    kit, _ = whole_story()
    page = kit.authority.read("entry", {"index": "3"})
    under = head_of(page["checkpoint"], kit)
    proof = [signing.from_base64(one) for one in page["proof"]]
    line = page["line"].encode()
    assert merkle.verify_inclusion(
        leaf=line, index=3, size=under.size, proof=proof, root=under.root
    )
    grown = kit.authority.read("consistency", {"first": "5"})
    assert merkle.verify_consistency(
        first=5,
        second=under.size,
        first_root=merkle.root_of(list(kit.store.read())[:5]),
        second_root=under.root,
        proof=[signing.from_base64(one) for one in grown["proof"]],
    )


@pytest.mark.parametrize(
    ("view", "asked"),
    [
        ("why", {}),
        ("why", {"subject": "nobody"}),
        ("entry", {}),
        ("entry", {"index": "-1"}),
        ("entry", {"index": "99999"}),
        ("entry", {"index": "١"}),
        ("consistency", {"first": "0"}),
        ("consistency", {"first": "9" * 30}),
        ("statement", {"owner": "nobody"}),
        ("nothing", {}),
    ],
)
def test_a_view_of_an_unknown_name_is_refused(view: str, asked: dict[str, str]) -> None:
    kit = AuthorityKit()
    with pytest.raises(UnknownView):
        kit.authority.read(view, asked)


def test_a_resent_command_gets_its_first_receipt_again() -> None:
    kit = AuthorityKit().begin()
    kit.clock.advance(10)
    command = sign_for(kit, "op-a", kit.answer("op-a", "job-1/task-0/0/0"))
    envelope = signing.Envelope.from_json(command)
    kit.accept("op-a", "operator", request_slot("job-1/task-0/0/0"))
    first = kit.authority.submit([envelope])[0]
    kit.work("op-a", "task-0", 1)
    again = kit.authority.submit([envelope])[0]
    assert again == first
    body = check_receipt(again["receipt"], kit.authority.public_key)
    assert canonical.encode(body)


def test_the_next_driver_reads_the_state_of_the_last_one() -> None:
    kit = AuthorityKit().begin()
    opened = {"job": "job-1", "kind": "sweep", "submitter": party_of("submitter")}
    assert kit.authority.read("open_jobs", {}) == [opened]
    kit.work("op-a", "task-0", 0)
    job = {"job": "job-1"}
    before = kit.authority.read("tasks", job)["task-0"]
    assert (before["attempt"], before["leaf"]) == (0, None), "what is claimed is not shown yet"
    assert kit.authority.read("job", job)["revealed"] == 0
    kit.reveal()
    kit.replay()
    assert kit.authority.read("job", job)["revealed"] == 1
    after = kit.authority.read("tasks", job)["task-0"]
    assert (after["leaf"]["segment"], after["leaf"]["task"]) == (0, "task-0")
    assert kit.authority.read("task", {**job, "trial": after["trial"]})["leaf"] == after["leaf"]
    kit.accept("submitter", "submitter", CloseJob(job="job-1"))
    assert kit.authority.read("open_jobs", {}) == []
