"""Golden vectors: each operator gives the recorded bits."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gensyn_ray.domain.errors import OperationError, UsageError
from workloads.numerics import calls, registry
from workloads.numerics.golden import trainings, vectors
from workloads.numerics.mode import BITS
from workloads.numerics.registry import LATEST

VERSIONS = range(1, LATEST + 1)
FEW = ("aten.add.Tensor", "aten.exp.default", "aten.mm.default", "aten.sum.dim_IntList")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Golden files of a few operators, recorded in this test."""
    made = tmp_path_factory.mktemp("golden")
    for name in FEW:
        vectors.record(name, folder=made)
    return made


@pytest.mark.parametrize("version", VERSIONS)
def test_every_operator_of_every_version_has_a_file(version: int) -> None:
    assert vectors.missing(version) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_every_operator_gives_the_recorded_bits(version: int) -> None:
    assert vectors.verify(version) == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("backend", ["kernels", "reference"])
def test_every_training_gives_the_recorded_bits(version: int, backend: Any) -> None:
    assert trainings.verify(version, backend=backend) == []


def cases(folder: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((folder / f"{name}.json").read_text())["cases"]


def test_what_was_recorded_verifies(folder: Path) -> None:
    assert vectors.verify(folder=folder) == []


def test_files_are_never_written_again(folder: Path) -> None:
    with pytest.raises(UsageError, match="another version"):
        vectors.record(FEW[0], folder=folder)


def test_an_unknown_operator_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"aten\.made_up"):
        vectors.record("aten.made_up.default", folder=folder)


def test_other_bits_are_found_and_named(folder: Path, tmp_path: Path) -> None:
    text = (folder / "aten.exp.default.json").read_text()
    at = text.rindex('"blake3":"') + len('"blake3":"')
    changed = text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]
    (tmp_path / "aten.exp.default.json").write_text(changed)
    found = vectors.verify(folder=tmp_path)
    assert found
    assert all(line.startswith("aten.exp.default case") for line in found)


def test_a_definition_that_rounds_otherwise_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = torch.ops.aten.exp.default
    known = registry.definitions(1)[operator]
    worse = replace(
        known, reference=lambda x: torch.nextafter(known.reference(x), x * 0), kernel=None
    )
    monkeypatch.setitem(registry._definitions, operator, {1: worse})
    assert vectors.verify(1, folder=folder, names=["aten.exp.default"])
    assert vectors.verify(1, folder=folder, names=["aten.add.Tensor"]) == []


def test_a_kernel_that_differs_cannot_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = torch.ops.aten.exp.default
    known = registry.definitions(1)[operator]
    wrong = replace(known, kernel=lambda x: known.reference(x) + 1.0)
    monkeypatch.setitem(registry._definitions, operator, {1: wrong})
    with pytest.raises(OperationError, match="not recorded"):
        vectors.record("aten.exp.default", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_operator_that_was_dropped_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "aten.gone.default.json").write_text('{"cases": []}')
    assert vectors.verify(folder=tmp_path) == [
        f"aten.gone.default: version {LATEST} has no such operator any more"
    ]


def test_the_cases_are_adversarial_and_small(folder: Path) -> None:
    met: set[str] = set()
    for name in FEW:
        assert (folder / f"{name}.json").stat().st_size < 60_000
        for case in cases(folder, name):
            if "args" in case:
                args = calls.from_json(case["args"], calls.of_bits)
                met |= {one.split(" ", 1)[1] for one in vectors._features(args, {})}
    assert {"denormal", "-0.0", "huge", "ties", "empty", "strided", "unequal rows"} <= met


def test_products_go_beyond_a_chunk_at_both_precisions(folder: Path) -> None:
    long = [case for case in cases(folder, "aten.mm.default") if "length" in case]
    assert [case["length"] for case in long] == list(vectors.LENGTHS)
    assert all(set(case["gives"]) == set(BITS) for case in long)
    assert min(vectors.LENGTHS) > 1 << (53 - 2 * max(BITS.values()))


def test_recording_leaves_the_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    vectors.record("aten.uniform_.default", folder=tmp_path)
    assert vectors.verify(folder=tmp_path) == []
    assert torch.equal(torch.get_rng_state(), before)


VALUES = [
    None,
    True,
    "mean",
    -3,
    2**63 - 1,
    -0.0,
    0.1,
    math.inf,
    [1, [2.0, None]],
    torch.float64,
    torch.strided,
    torch.contiguous_format,
    torch.device("cpu"),
]


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_arguments_survive_json(value: Any) -> None:
    spelt = json.loads(json.dumps(calls.to_json(value, calls.bits)))
    again = calls.from_json(spelt, calls.of_bits)
    assert type(again) is type(value)
    assert str(again) == str(value)


def test_a_generator_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="Generator"):
        calls.to_json(torch.Generator(), calls.bits)


TENSORS = [
    torch.tensor(1.5),
    torch.zeros(3, 0, 2),
    torch.arange(6.0).view(2, 3).t(),
    torch.ones(3, 1).expand(3, 4),
    torch.arange(10)[1::2],
    torch.tensor([True, False]),
    torch.tensor([1e-45, -0.0, math.inf]),
]


@pytest.mark.parametrize("x", TENSORS, ids=lambda x: str(tuple(x.shape)))
def test_tensors_survive_json_with_their_strides(x: torch.Tensor) -> None:
    again = calls.of_bits(json.loads(json.dumps(calls.bits(x))))
    assert torch.equal(again, x)
    assert (again.dtype, again.stride()) == (x.dtype, x.stride())
    assert calls.digest(again) == calls.digest(x)


def test_digests_distinguish_zeros_and_not_nans() -> None:
    zeros = [calls.digest(torch.tensor([zero])) for zero in (0.0, -0.0)]
    assert zeros[0] != zeros[1]
    quiet = torch.tensor([0x7FC00000, -0x400000, 0x7FC00001], dtype=torch.int32)
    nans = [calls.digest(one.view(torch.float32)) for one in quiet.split(1)]
    assert nans[0] == nans[1] == nans[2]
    assert nans[0] != zeros[0]
