"""Signed commands with hostile contents get an answer; none of them ends the authority."""

from typing import Any

import pytest

from ledger.core.commands import Record
from tests.kits.hostile_kit import Network


@pytest.mark.parametrize("name", ["secret_anchor", "driver_key"])
@pytest.mark.parametrize("text", ["", "zz" * 32, "CC" * 32, "cc" * 31])
def test_a_job_with_a_key_or_anchor_that_is_none_is_malformed(name: str, text: str) -> None:
    assert Network().open_job(**{name: text})["refused"] == "malformed"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("harden", {"job": "5"}),
        ("harden", {"job": "5", "tasks": "t"}),
        ("harden", {"job": "5", "tasks": [["t"]]}),
        ("harden", {"job": 5, "tasks": []}),
        ("harden", {"job": ["5"], "tasks": []}),
        ("reveal", {"job": "5"}),
        ("reveal", {"job": "5", "round": {}, "link": "00"}),
        ("reveal", {"job": "5", "round": "5/round-0", "link": "zz"}),
        ("draw", {"job": "5"}),
        ("ruling", {}),
        ("nonsense", {}),
    ],
)
def test_a_drivers_malformed_record_is_refused(kind: str, content: dict[str, Any]) -> None:
    network = Network()
    assert "receipt" in network.open_job()
    assert "refused" in network.send("d", Record(kind=kind, content=content))
    assert "receipt" in network.send("d", Record(kind="harden", content={"job": "5", "tasks": []}))


@pytest.mark.parametrize("odd", [[{"a": [1]}], {"a": [1]}, [[[]]], [{"b": {}}], 5, [None], "x"])
@pytest.mark.parametrize("name", ["slots", "drawn", "spoilt", "slot", "operator", "tasks"])
def test_odd_names_in_evidence_do_not_end_the_authority(name: str, odd: Any) -> None:
    network = Network()
    network.open_job()
    content = {"job": "5", "tasks": [], name: odd}
    network.send("d", Record(kind="harden", content=content))
    assert network.authority.read("health", {})["entries"] >= 4
