"""Signed commands with hostile content get an answer and do not end the authority."""

from typing import Any

import pytest

from gensyn_ray.domain.evidence import Flush
from ledger.core.commands import Record
from tests.kits.hostile_kit import Network


@pytest.mark.parametrize("name", ["secret_anchor", "driver_key"])
@pytest.mark.parametrize("text", ["", "zz" * 32, "CC" * 32, "cc" * 31])
def test_a_job_with_a_key_or_anchor_that_is_none_is_malformed(name: str, text: str) -> None:
    assert Network().open_job(**{name: text})["refused"] == "malformed"


@pytest.mark.parametrize(
    "evidence",
    [
        {"type": "FullAudit", "job": "5"},
        {"type": "FullAudit", "job": "5", "tasks": "t"},
        {"type": "FullAudit", "job": "5", "tasks": [["t"]]},
        {"type": "FullAudit", "job": 5, "tasks": []},
        {"type": "FullAudit", "job": ["5"], "tasks": []},
        {"type": "FullAudit", "job": "5", "tasks": [], "more": 1},
        {"type": "Flush", "job": "6"},
        {"type": "Reveal", "job": "5"},
        {"type": "Reveal", "job": "5", "batch": {}, "link": "00"},
        {"type": "Reveal", "job": "5", "batch": "5/batch-0", "link": "zz"},
        {"type": "Draw", "job": "5"},
        {"type": "Ruling"},
        {"type": "Nonsense"},
        {"type": ["Flush"], "job": "5"},
        {"job": "5"},
        {},
        [],
        None,
        "Flush",
    ],
)
def test_a_drivers_malformed_evidence_is_refused(evidence: Any) -> None:
    network = Network()
    assert "receipt" in network.open_job()
    assert "refused" in network.send_raw("d", "Record", {"evidence": evidence})
    assert "receipt" in network.send("d", Record(evidence=Flush(job="5")))


@pytest.mark.parametrize("odd", [[{"a": [1]}], {"a": [1]}, [[[]]], [{"b": {}}], 5, [None], "x"])
@pytest.mark.parametrize("name", ["slots", "drawn", "spoilt", "slot", "operator", "tasks"])
def test_odd_names_in_evidence_do_not_end_the_authority(name: str, odd: Any) -> None:
    network = Network()
    network.open_job()
    evidence = {"type": "FullAudit", "job": "5", "tasks": [], name: odd}
    network.send_raw("d", "Record", {"evidence": evidence})
    assert network.authority.read("health", {})["entries"] >= 4
