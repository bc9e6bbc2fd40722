"""The guard: accepts a sound machine, and names the rule that a process breaks."""

import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction

import pytest
import torch

from gensyn_ray.domain.errors import OperationError
from workloads.numerics import guard
from workloads.numerics.mode import canonical

FLUSHING_POOL = """
import numpy as np, torch
torch.set_num_threads(2)
from workloads.numerics import guard
from workloads.numerics.kernels.primitives.compilation import use_threads
use_threads()
torch.set_flush_denormal(True)
START
torch.set_flush_denormal(False)
try:
    guard.check()
except guard.UnfitMachine as error:
    print("refused:", error)
"""
STARTS = {
    "numba": "guard._threads_keep_denormals()",
    "torch": "guard._torch_threads_keep_denormals()",
    "none": "",
}
"""Code that starts threads while the main thread flushes denormals."""


@pytest.fixture
def asked_again() -> Iterator[None]:
    """Reset the guard, so that it checks everything in this test and in the next one."""
    guard._check_once.cache_clear()
    yield
    guard._check_once.cache_clear()


@pytest.mark.parametrize("rule", guard.RULES)
def test_every_rule_holds_here(rule: str) -> None:
    assert guard.RULES[rule]()


@pytest.mark.usefixtures("asked_again")
def test_a_broken_rule_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(guard.RULES, "water to be wet", lambda: False)
    with (
        pytest.raises(guard.UnfitMachine, match=r"needs water to be wet.*new process"),
        canonical(),
    ):
        pass
    assert issubclass(guard.UnfitMachine, OperationError)


@pytest.mark.usefixtures("asked_again")
def test_a_failed_check_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setitem(guard.RULES, "water to be wet", lambda: False)
        with pytest.raises(guard.UnfitMachine):
            guard.check()
    guard.check()


def test_flushing_is_noticed_at_any_entry() -> None:
    guard.check()
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormal numbers")
    try:
        with pytest.raises(guard.UnfitMachine, match="set_flush_denormal"), canonical():
            pass
    finally:
        torch.set_flush_denormal(False)
    guard.check()


@pytest.mark.parametrize("start", STARTS)
def test_threads_that_were_started_while_flushing_are_noticed(start: str) -> None:
    if torch.set_flush_denormal(False) is False:
        pytest.skip("this processor cannot flush denormal numbers")
    done = subprocess.run(
        [sys.executable, "-c", FLUSHING_POOL.replace("START", STARTS[start])],
        env={**os.environ, "NUMBA_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    if start == "none":
        assert done.stdout == ""
    else:
        assert done.stdout.startswith("refused:")
        assert "denormal numbers" in done.stdout


def test_the_fma_check_distinguishes_one_rounding_from_two() -> None:
    a, b, c = guard._TORN
    assert a * b + c == 0.0
    assert Fraction(a) * Fraction(b) + Fraction(c) == Fraction(1, 2**54)
