"""Amounts of long tests: a part in `make soak`, the whole in `make proofs`."""

from typing import Any

import pytest


def soak_or_proof(*, soak: Any, proof: Any) -> list[Any]:
    """Parameters of a test: minutes in `make soak`, longer in `make proofs`."""
    return [
        pytest.param(soak, marks=pytest.mark.soak, id="soak"),
        pytest.param(proof, marks=pytest.mark.proof, id="proof"),
    ]
