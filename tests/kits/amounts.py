"""How much of a long test runs where: a part in `make soak`, all of it in `make proofs`."""

from typing import Any

import pytest


def soak_or_proof(*, soak: Any, proof: Any) -> list[Any]:
    """Parameters of a test that runs for minutes in `make soak`, for longer in `make proofs`."""
    return [
        pytest.param(soak, marks=pytest.mark.soak, id="soak"),
        pytest.param(proof, marks=pytest.mark.proof, id="proof"),
    ]
