"""A program's own data are loaded once, and travel under their digest."""

from typing import Any

import numpy as np
import pytest
import torch

from gensyn_ray.domain.errors import UsageError
from workloads.core import own_data
from workloads.core.dataset import BadData, DataSet, prepare
from workloads.core.program import Program


def program_with(data: Any) -> Program:
    class Given(Program):
        steps_per_segment = segments = 1

        def load_data(self) -> Any:
            return data() if callable(data) else data

        def init(self, config: Any, data: Any, rng: Any) -> None: ...
        def step(self, data: Any, rng: Any) -> None: ...
        def evaluate(self, data: Any) -> dict[str, float]:
            return {}

    return Given()


def opened(tensors: dict[str, torch.Tensor]) -> DataSet:
    packed = own_data.pack(tensors)
    return DataSet(packed.manifest, packed.blobs.__getitem__)


def test_tensors_come_back_with_their_bits_dtypes_and_shapes() -> None:
    given = {
        "floats": torch.tensor([[0.1, -0.0], [float("inf"), 3e-45]]),
        "labels": torch.arange(5),
        "flags": torch.tensor([True, False]),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "transposed": torch.arange(6).reshape(2, 3).T,
    }
    back = own_data.unpack(opened(given))
    assert back is not None
    assert list(back) == sorted(given)
    for name, tensor in given.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor), name
    assert torch.signbit(back["floats"][0, 1])


def test_the_digest_depends_on_the_values_alone() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    same = {"y": torch.zeros(1), "x": x.T.contiguous().T}
    digest = own_data.pack({"x": x, "y": torch.zeros(1)}).manifest.digest
    assert own_data.pack(same).manifest.digest == digest
    assert own_data.pack({"x": x, "y": torch.ones(1)}).manifest.digest != digest


def test_two_names_of_one_tensor_are_two_tensors() -> None:
    x = torch.zeros(3)
    back = own_data.unpack(opened({"a": x, "b": x}))
    assert back is not None
    back["a"].fill_(1.0)
    assert back["b"].tolist() == [0.0, 0.0, 0.0]


def test_any_operator_may_make_data() -> None:
    """Canonical arithmetic has no definition of these. The result travels, not the code."""
    made = own_data.load(program_with(lambda: {"x": torch.linspace(0, 1, 5).cumprod(0).erfinv()}))
    assert own_data.unpack(opened(made)).keys() == {"x"}  # type: ignore[union-attr]


def test_torchs_generator_has_a_fixed_seed() -> None:
    program = program_with(lambda: {"x": torch.randn(4)})
    first = own_data.load(program)
    torch.rand(3)
    assert torch.equal(own_data.load(program)["x"], first["x"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([torch.zeros(1)], "gives a list: return a dict of tensors"),
        (None, "gives a NoneType"),
        ({"x": [1, 2]}, "gives a list for 'x': return a tensor"),
        ({"x": np.zeros(2)}, "gives a ndarray for 'x'"),
        ({1: torch.zeros(1)}, "has the key 1"),
        ({}, "gives no tensor"),
        ({"__metadata__": torch.zeros(1)}, "has the key '__metadata__'"),
        ({"x": torch.zeros(1, dtype=torch.complex64)}, "gives 'x' as torch.complex64"),
        ({"x": torch.eye(2).to_sparse()}, "in torch.sparse_coo: return dense numbers"),
    ],
)
def test_what_is_no_dict_of_tensors_is_refused(given: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        own_data.load(program_with(given))


def test_a_prepared_table_is_no_own_data() -> None:
    import pyarrow as pa

    packed = prepare({"train": pa.table({"x": [1]})}, {own_data.FILE: b"x"})
    assert own_data.unpack(DataSet(packed.manifest, packed.blobs.__getitem__)) is None


def test_a_file_that_holds_no_tensors_is_bad_data() -> None:
    packed = prepare({}, {own_data.FILE: b"no tensors"})
    with pytest.raises(BadData, match="holds no tensors"):
        own_data.unpack(DataSet(packed.manifest, packed.blobs.__getitem__))
