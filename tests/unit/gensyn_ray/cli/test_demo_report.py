"""The demo's report, without a network: figures from entries of a journal."""

from types import SimpleNamespace
from typing import Any

from gensyn_ray.cli.demo import detection_latency_s
from gensyn_ray.domain.evidence import Ruling
from ledger.core.events import Event, Recorded, SlotCommitted
from tests.kits.ledger_kit import leaf_of


def entry(time_ms: int, event: Event) -> Any:
    return SimpleNamespace(time_ms=time_ms, events=[event])


def claim(time_ms: int, slot: str) -> Any:
    leaf = leaf_of(slot, "op")
    return entry(time_ms, SlotCommitted(slot=slot, operator="op", root="", index=0, leaf=leaf))


def ruling(time_ms: int, slot: str, outcome: str) -> Any:
    evidence = Ruling(
        job="job",
        slot=slot,
        outcome=outcome,
        at_fault="",
        claimed="",
        verifier="",
        verifier_result="",
        referee="",
        referee_result="",
    )
    return entry(time_ms, Recorded(evidence=evidence, role="network", party="net"))


def test_detection_latency_is_from_claim_to_ruling_of_rejected_segments() -> None:
    entries = [
        claim(1_000, "job/t/0/0"),
        claim(2_000, "job/t/1/0"),
        claim(3_000, "job/t/2/0"),
        ruling(4_000, "job/t/2/0", "ACCEPT"),
        ruling(5_000, "job/t/1/0", "REJECT"),
        ruling(8_500, "job/t/0/0", "REJECT"),
    ]
    assert detection_latency_s(entries) == {"median": 5.25, "worst": 7.5}


def test_detection_latency_is_none_where_no_segment_is_rejected() -> None:
    entries = [claim(1_000, "job/t/0/0"), ruling(4_000, "job/t/0/0", "ACCEPT")]
    assert detection_latency_s(entries) == {"median": None, "worst": None}
