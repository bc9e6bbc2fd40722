"""The simulator of the whole protocol over many seeds.

`GENSYN_SIM_SEEDS=1000 pytest tests/sim` runs more seeds.
"""

import os
from pathlib import Path

import pytest

from gensyn_ray.testnet.simulator.simulation import shape_of, simulate
from tests.kits.amounts import soak_or_proof

SEEDS = int(os.environ.get("GENSYN_SIM_SEEDS", "30"))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_party_is_paid_correctly(seed: int, tmp_path: Path) -> None:
    jobs, batches = shape_of(seed)
    simulate(seed, tmp_path / "flat", jobs=jobs, batches=batches)


def test_a_slashed_operator_is_paid_nothing_in_the_same_batch(tmp_path: Path) -> None:
    """Regression: an accepted segment was paid in the batch that slashed its operator."""
    for seed in range(40):
        simulate(seed, tmp_path / "flat", batches=True)


@pytest.mark.parametrize("seed", range(30))
def test_an_operator_caught_in_one_job_leaves_the_books_of_another_whole(
    seed: int, tmp_path: Path
) -> None:
    """Regression: the invariants ignored that an operator was caught in another job."""
    simulate(seed, tmp_path / "flat", jobs=2)


@pytest.mark.parametrize("seeds", soak_or_proof(soak=100, proof=3_000))
def test_every_party_is_paid_correctly_in_many_seeds(tmp_path: Path, seeds: int) -> None:
    for seed in range(1_000, 1_000 + seeds):
        jobs, batches = shape_of(seed)
        simulate(seed, tmp_path / "flat", jobs=jobs, batches=batches)
