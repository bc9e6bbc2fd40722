"""Kept memory that holds nothing by chance."""

from typing import Any

import numpy as np
import pytest

from workloads.numerics.fused import gemm, memory, wide_attention


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept memory begins as NaN, or -1: fresh pages are 0, and would hide what is read early."""

    def kept(name: str, shape: tuple[int, ...], dtype: Any, *, spare: int = 0) -> Any:
        array = memory.kept(name, shape, dtype, spare=spare)
        array.view(np.uint8)[...] = 0xFF
        return array

    for module in (gemm, wide_attention):
        monkeypatch.setattr(module, "kept", kept)
