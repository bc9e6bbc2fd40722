"""Random commands in many networks: all transitions are those of the tables."""

import os
import subprocess
import sys

import pytest

from ledger.core import commands
from ledger.core.machines import FLOWS, MACHINES
from tests.kits.amounts import soak_or_proof
from tests.kits.random_books import Summary, run_many


def check_against_the_tables(summary: Summary, *, whole: bool) -> None:
    """All transitions are declared. Over many seeds, each declared one happens."""
    declared = {
        (machine.name, *transition) for machine in MACHINES for transition in machine.transitions
    }
    flows = {
        (flow.memo, flow.debit, flow.credit, operation)
        for flow in FLOWS
        for operation in flow.operations
    }
    assert summary.transitions - declared == set()
    assert summary.flows - flows == set()
    if whole:
        assert declared - summary.transitions == set()
        # A treasury of two keys executes nothing on the first key's proposal.
        alone = {
            (flow.memo, flow.debit, flow.credit, operation)
            for flow in FLOWS
            for operation in flow.operations
            if "Approve" in flow.operations and operation != "Approve"
        }
        assert flows - summary.flows == alone
        assert set(summary.accepted) == {kind.__name__ for kind in commands.KINDS}
        assert {name for name, _ in summary.refused} == set(summary.accepted)


def test_a_seed_gives_the_same_books_in_every_process() -> None:
    command = "from tests.kits.random_books import run; print(run(3, 2_000).accepted)"
    said = [
        subprocess.run(
            [sys.executable, "-c", command],
            env={**os.environ, "PYTHONHASHSEED": number},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in ("1", "2")
    ]
    assert said[0] == said[1] != ""


def test_random_books_hold() -> None:
    check_against_the_tables(run_many(range(20), 500), whole=False)


@pytest.mark.parametrize("seeds", soak_or_proof(soak=1_000, proof=10_000))
def test_a_million_random_commands_and_more_leave_the_books_in_order(seeds: int) -> None:
    summary = run_many(range(seeds), 1_100)
    print(f"{summary.operations} operations, {len(summary.refused)} kinds of refusals")
    assert summary.operations >= 1_000 * seeds
    check_against_the_tables(summary, whole=True)
