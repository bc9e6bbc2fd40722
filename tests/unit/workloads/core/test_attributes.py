"""Descriptions of attributes tell values apart, in little time."""

import time
from typing import Any

import numpy as np
import pytest

from workloads.core.attributes import described


def text(value: Any) -> str:
    return described("a", value)["a"].value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.zeros(2), np.array([0.0, 1.0])),
        (np.zeros(2), np.array([0.0, -0.0])),
        (np.zeros(2), np.zeros(2, dtype=np.float32)),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.int64(1), np.int64(2)),
        (np.array(["a", None], dtype=object), np.array(["b", None], dtype=object)),
        (1, 1.0),
        (2**70, 2**71),
        (1j, 2j),
    ],
)
def test_different_values_have_different_descriptions(one: Any, other: Any) -> None:
    assert text(one) != text(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.zeros((2, 3)).T, np.zeros((3, 2))),
        (np.array(["ab", None], dtype=object), np.array(["a" + "b", None], dtype=object)),
        (np.float64(0.5), 0.5),
    ],
)
def test_equal_values_have_one_description(one: Any, other: Any) -> None:
    assert text(one) == text(other)


def test_a_large_array_takes_milliseconds() -> None:
    array = np.zeros(5_000_000)
    began = time.process_time()
    described("a", array)
    assert time.process_time() - began < 0.3
