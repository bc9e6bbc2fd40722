"""A node's self-test runs once for each boot and environment. Later results come from its file."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from gensyn_ray.domain import canonical
from gensyn_ray.domain.records import to_json
from workloads.numerics import node_test
from workloads.numerics.node_test import Node, SelfTest, node_in


@pytest.fixture
def tests_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The speeds of each test run. A fake replaces the tests."""
    ran: list[str] = []

    def run(*_: Any, env: dict[str, str], **__: Any) -> Any:
        ran.append(env.get("ATEN_CPU_CAPABILITY", ""))
        failures = ["no"] if env.get("OMP_NUM_THREADS") == "7" else []
        tested = SelfTest(
            numerics="reproducible/v1",
            failures=failures,
            seconds=1.0,
            steps_per_second=float(len(ran)),
        )
        node = Node(pinned="c0ffee", reproducible=tested, classes=["c0ffee"])
        return subprocess.CompletedProcess([], 0, canonical.encode(to_json(node)).decode(), "")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    boot = tmp_path / "boot_id"
    boot.write_text("first\n")
    monkeypatch.setattr(node_test, "BOOT_ID", boot)
    monkeypatch.setattr(node_test.subprocess, "run", run)
    return ran


def test_a_node_that_passed_is_not_tested_again(tests_run: list[str]) -> None:
    first = node_in({"ATEN_CPU_CAPABILITY": "avx2"})
    assert node_in({"ATEN_CPU_CAPABILITY": "avx2"}) == first
    assert tests_run == ["avx2"]


def test_another_environment_and_another_boot_run_the_tests_again(tests_run: list[str]) -> None:
    node_in({"ATEN_CPU_CAPABILITY": "avx2"})
    node_in({"ATEN_CPU_CAPABILITY": "default"})
    node_test.BOOT_ID.write_text("second\n")
    node_in({"ATEN_CPU_CAPABILITY": "avx2"})
    assert tests_run == ["avx2", "default", "avx2"]


def test_a_failed_test_is_not_kept(tests_run: list[str]) -> None:
    for _ in range(2):
        assert not node_in({"OMP_NUM_THREADS": "7"}).reproducible.passed
    assert len(tests_run) == 2


def test_without_a_boot_id_every_call_tests(
    tests_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_test, "BOOT_ID", Path("/nonexistent"))
    node_in({})
    node_in({})
    assert len(tests_run) == 2


def test_a_file_that_is_not_a_result_is_tested_over(tests_run: list[str], tmp_path: Path) -> None:
    node_in({})
    (kept,) = (tmp_path / "gensyn-ray" / "self-tests").iterdir()
    kept.write_text("{}")
    node_in({})
    assert len(tests_run) == 2
