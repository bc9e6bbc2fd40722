"""Records and JSON: a round trip gives the same record, and bad JSON is refused."""

from dataclasses import MISSING, dataclass, fields
from typing import Any

import pytest

from gensyn_ray.domain import canonical, evidence, records
from gensyn_ray.domain.ids import Slot
from gensyn_ray.domain.records import BadRecord
from ledger.core import commands, events
from ledger.core.parameters import Parameters
from tests.kits.ledger_kit import leaf_of

SETTINGS = Parameters(
    reserve_micro=10**17,
    challenge_bond_micro=2,
    job_ms=3,
    holdback_ms=4,
    challenge_ms=5,
    appeal_ms=6,
    unbonding_ms=7,
    evidence_ms=8,
    proposal_ms=9,
    reporter_ppm=10,
    jackpot_ppm=11,
)

COMMANDS: list[commands.Command] = [
    commands.Found(
        network="testnet",
        network_key="aa",
        treasury_keys=["bb", "cc"],
        treasury_threshold=2,
        beacon_anchor="cc",
        vetted=["bundle-1", "bundle-2"],
        parameters=SETTINGS,
    ),
    commands.Deposit(party="party", amount_micro=5),
    commands.Grant(party="party", amount_micro=5, reason="thanks"),
    commands.Correct(
        debit="available/a", credit="treasury", amount_micro=5, entry=7, reason="wrong"
    ),
    commands.SetParameters(parameters=SETTINGS),
    commands.ReverseSlash(operator="party", reason="wrong"),
    commands.Approve(proposal="hash"),
    commands.Join(name="node-1", numerics="class-a"),
    commands.Withdraw(amount_micro=7),
    commands.Bond(amount_micro=7),
    commands.Unbond(amount_micro=7),
    commands.Mature(party="party"),
    commands.Jail(operator="party", until_ms=1_700_000_000_000, reason="slow"),
    commands.Unjail(),
    commands.OpenJob(
        job="job",
        kind="sweep",
        bundle="bundle",
        data_digest="data",
        budget_micro=1_000,
        price_micro=10,
        audit_ppm=400_000,
        draw_batch=12,
        secret_anchor="dd",
        driver_key="ee",
    ),
    commands.StartTask(job="job", task="task", trial="trial", spec="spec", attempt=1),
    commands.FinishTask(job="job", task="task"),
    commands.RequestSlot(job="job", task="task", segment=3, attempt=1),
    commands.Commit(root="ff", leaves=[leaf_of("job/task/3/1", "op-a", metrics={"loss": 0.5})]),
    commands.Record(
        evidence=evidence.Draw(
            job="job",
            batch="job/batch-0",
            index=1,
            link="ab",
            secret="",
            drawn=[evidence.Assignment(slot="job/task/3/1", verifier="party")],
        )
    ),
    commands.Settle(
        job="job",
        items=[
            commands.SettleItem(slot="job/task/3/1", pay=True, reason="not drawn"),
            commands.SettleItem(slot="job/task/4/1", pay=False, reason="rejected"),
        ],
    ),
    commands.Release(job="job", slots=["job/task/3/1", "job/task/4/1"]),
    commands.CloseJob(job="job"),
    commands.ExpireJob(job="job"),
    commands.Slash(
        job="job",
        operator="party",
        evidence="job/task/3/1",
        spoilt=["job/task/4/1"],
        reporter="another",
    ),
    commands.ReportEquivocation(
        slot="job/task/3/1",
        first={"body": "{}", "signature": "AA=="},
        second={"body": "{}", "signature": "BB=="},
    ),
    commands.DistributeSlash(operator="party"),
    commands.OpenChallenge(challenge="d-1", slot="job/task/3/1", claim="wrong"),
    commands.ResolveChallenge(challenge="d-1", upheld=True, reason="replayed"),
    commands.ExpireChallenge(challenge="d-1"),
    commands.PayJackpot(party="party", amount_micro=5, evidence="job/task/3/1"),
]

EVENTS: list[events.Event] = [
    events.Founded(
        network="testnet",
        network_key="aa",
        treasury_keys=[],
        treasury_threshold=1,
        beacon_anchor="cc",
        vetted=[],
        parameters=SETTINGS,
    ),
    events.ParametersSet(parameters=SETTINGS),
    events.Proposed(
        proposal="hash", operation="Deposit", arguments={"party": "a", "deep": [{}]}, expires_ms=9
    ),
    events.Approved(proposal="hash", key="aa"),
    events.Executed(proposal="hash"),
    events.PartyJoined(party="party", role="operator", key="aa", name="node-1", numerics=""),
    events.Moved(debit="external", credit="available/party", amount_micro=5, memo="deposit"),
    events.UnbondingStarted(party="party", amount_micro=5, mature_ms=10**13),
    events.UnbondingMatured(party="party", count=2),
    events.UnbondingCut(party="party", amount_micro=5),
    events.Jailed(operator="party", until_ms=10**13, reason="slow"),
    events.Unjailed(operator="party"),
    events.JobOpened(
        job="job",
        kind="sweep",
        submitter="party",
        bundle="bundle",
        data_digest="data",
        budget_micro=1_000,
        price_micro=10,
        audit_ppm=400_000,
        draw_batch=12,
        secret_anchor="dd",
        driver_key="ee",
        numerics="pinned",
        deadline_ms=10**13,
    ),
    events.TaskStarted(job="job", task="task", trial="trial", spec="spec", attempt=0, inputs=[]),
    events.TaskFinished(job="job", task="task"),
    events.StakeReserved(job="job", operator="party", amount_micro=100),
    events.SlotIssued(slot="job/task/0/0", operator="party", price_micro=10),
    events.SlotCommitted(
        slot="job/task/0/0",
        operator="party",
        root="ff",
        index=2,
        leaf=leaf_of("job/task/0/0", "op-a", metrics={"loss": 1}),
    ),
    events.Recorded(evidence=evidence.Flush(job="job"), role="driver", party="party"),
    events.SlotSettled(slot="job/task/0/0", paid=True, reason="not drawn", release_ms=10**13),
    events.SlotReleased(slot="job/task/0/0"),
    events.JobClosed(job="job", expired=False, evidence_until_ms=10**13),
    events.Tombstoned(
        operator="party",
        job="job",
        evidence="job/task/0/0",
        slashed_micro=100,
        spoilt=["job/task/1/0"],
        reporter="",
        appeal_until_ms=10**13,
    ),
    events.SlashDistributed(operator="party", refunded=["job/task/1/0"]),
    events.SlashReversed(operator="party", reason="wrong"),
    events.ChallengeOpened(
        challenge="d-1",
        slot="job/task/0/0",
        party="party",
        claim="wrong",
        bond_micro=7,
        expires_ms=10**13,
    ),
    events.ChallengeEnded(challenge="d-1", outcome="upheld", reason="replayed"),
]

RECORDS: list[Any] = [*COMMANDS, *EVENTS]
KINDS: tuple[type[Any], ...] = (*commands.KINDS, *events.KINDS)

WRONG: dict[type, list[Any]] = {
    str: [5, None, True, ["text"], {}],
    int: ["5", None, True, 1.5, [1]],
    bool: [1, 0, "true", None],
    list: ["text", None, {}, 5],
    dict: ["text", None, [], 5],
}


def name_of(record: Any) -> str:
    return type(record).__name__


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    name: str
    count: int = 0


def test_there_is_a_sample_of_every_kind() -> None:
    assert [type(one) for one in COMMANDS] == list(commands.KINDS)
    assert [type(one) for one in EVENTS] == list(events.KINDS)
    assert len({kind.__name__ for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_a_record_comes_back_under_its_class_name(record: Any) -> None:
    tagged = records.to_tagged(record)
    assert tagged["type"] == name_of(record)
    over_the_wire = canonical.decode(canonical.encode(tagged))
    assert records.from_tagged(KINDS, over_the_wire) == record


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_a_record_comes_back_without_its_class_name(record: Any) -> None:
    assert records.from_json(type(record), records.to_json(record)) == record


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_an_unknown_field_is_refused(record: Any) -> None:
    for name in ("more", "type", ""):
        with pytest.raises(BadRecord, match="has no field"):
            records.from_json(type(record), {**records.to_json(record), name: 1})


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_a_missing_field_is_refused(record: Any) -> None:
    value = records.to_json(record)
    for field in fields(record):
        rest = {name: item for name, item in value.items() if name != field.name}
        if field.default is MISSING and field.default_factory is MISSING:
            with pytest.raises(BadRecord, match=field.name):
                records.from_json(type(record), rest)
        else:
            made = field.default_factory
            default = field.default if made is MISSING else made()
            assert getattr(records.from_json(type(record), rest), field.name) == default


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_a_field_of_another_type_is_refused(record: Any) -> None:
    value = records.to_json(record)
    for name, item in value.items():
        for wrong in WRONG[type(item)]:
            with pytest.raises(BadRecord, match=name):
                records.from_json(type(record), {**value, name: wrong})


@pytest.mark.parametrize(
    "item",
    [
        {"slot": "s", "pay": 1, "reason": "r"},
        {"slot": "s", "pay": True},
        {"slot": "s", "reason": "r"},
        {"slot": 5, "pay": True, "reason": "r"},
        "s",
        None,
    ],
)
def test_a_nested_record_is_checked(item: Any) -> None:
    with pytest.raises(BadRecord):
        records.from_json(commands.Settle, {"job": "job", "items": [item]})


@pytest.mark.parametrize("item", [5, None, ["s"], {}])
def test_records_in_a_list_are_checked(item: Any) -> None:
    value = {"job": "j", "operator": "o", "evidence": "e", "spoilt": ["s", item]}
    with pytest.raises(BadRecord):
        records.from_json(commands.Slash, value)


@pytest.mark.parametrize("name", [None, "", "sample", "Other", 5, ["Sample"]])
def test_a_record_of_no_known_kind_is_refused(name: Any) -> None:
    with pytest.raises(BadRecord, match="no record is called"):
        records.from_tagged((Sample,), {"type": name, "name": "a"})


def test_a_record_without_its_kind_is_refused() -> None:
    with pytest.raises(BadRecord, match="no record is called None"):
        records.from_tagged((Sample,), {"name": "a"})


def test_the_value_that_is_read_is_left_as_it_was() -> None:
    value = {"type": "Sample", "name": "a"}
    assert records.from_tagged((Sample,), value) == Sample(name="a")
    assert value == {"type": "Sample", "name": "a"}


def test_a_slot_is_a_record_and_a_text() -> None:
    slot = Slot(job="job", task="task", segment=3, attempt=1)
    assert records.from_json(Slot, records.to_json(slot)) == slot
    assert Slot.parse(str(slot)) == slot
    for text in ("", "job/task/3", "job/task/3/1/0", "job/task/x/1"):
        with pytest.raises(ValueError, match=r"unpack|invalid literal"):
            Slot.parse(text)
