"""State digests: golden values, and a second implementation for comparison."""

import hashlib
import json
import struct

import blake3
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.core.state import (
    CHUNK_BYTES,
    NotANumber,
    State,
    canonical_bytes,
    state_digest,
    state_leaves,
)

# Golden: operators have signed these digests. A change breaks all stored receipts.
GOLDEN: dict[str, tuple[State, str]] = {
    "no tensors": (
        {},
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ),
    "one float32": (
        {"w": torch.tensor([1.0, -2.5, 0.0])},
        "8791d306062f10dc08c0908f767d9fd1b7c5f4668f7665cf5e6fcb1c14207904",
    ),
    "three dtypes": (
        {
            "b": torch.tensor([True, False]),
            "a/weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
            "step": torch.tensor(7),
        },
        "7206fd0e7c2c4af60e570fac8a0f04e48e3bbdf818d28e5855ed80cd1ad19e38",
    ),
    "bfloat16": (
        {"w": torch.tensor([[1.5], [-3.0]], dtype=torch.bfloat16)},
        "426c5de4baaf45f8f78ca3cf0375c358957651f99266211dff6c82997109ce2c",
    ),
    "an empty tensor": (
        {"e": torch.zeros(0, 4)},
        "18c60c1b0b8715f20054f5f59e2781831606bc44aedeecd1f99405d8ba995685",
    ),
}


def independent_digest(rows: list[tuple[str, str, list[int], bytes]]) -> str:
    """A second implementation, from the description. Rows: (name, dtype, shape, bytes)."""
    hashes: list[bytes] = []
    for name, dtype, shape, data in sorted(rows):
        chunks = [
            blake3.blake3(data[i : i + 2**20]).hexdigest() for i in range(0, len(data), 2**20)
        ]
        leaf = json.dumps(
            {"chunks": chunks, "dtype": dtype, "name": name, "shape": shape}, separators=(",", ":")
        )
        hashes.append(hashlib.sha256(b"\x00" + leaf.encode()).digest())

    def root(part: list[bytes]) -> bytes:
        if len(part) == 1:
            return part[0]
        split = 1
        while split * 2 < len(part):
            split *= 2
        return hashlib.sha256(b"\x01" + root(part[:split]) + root(part[split:])).digest()

    return root(hashes).hex() if hashes else hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("case", GOLDEN)
def test_a_digest_never_changes(case: str) -> None:
    state, expected = GOLDEN[case]
    assert state_digest(state) == expected


def test_the_scheme_is_the_one_described() -> None:
    rows = [
        ("model/0.weight", "float32", [2, 2], struct.pack("<4f", 0.5, -0.0, 3e38, 1e-45)),
        ("model/0.bias", "float64", [2], struct.pack("<2d", 1 / 3, -7.0)),
        ("progress/step", "int64", [], struct.pack("<q", -1)),
        ("progress/rng_key", "uint8", [3], bytes([0, 127, 255])),
        ("mask", "bool", [2], bytes([1, 0])),
    ]
    state = {
        "progress/rng_key": torch.tensor([0, 127, 255], dtype=torch.uint8),
        "model/0.weight": torch.tensor([[0.5, -0.0], [3e38, 1e-45]]),
        "mask": torch.tensor([True, False]),
        "model/0.bias": torch.tensor([1 / 3, -7.0], dtype=torch.float64),
        "progress/step": torch.tensor(-1),
    }
    assert state_digest(state) == independent_digest(rows)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"\\')),
        st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5),
        max_size=9,
    )
)
def test_the_scheme_holds_for_any_names_and_number_of_tensors(
    values: dict[str, list[int]],
) -> None:
    state = {name: torch.tensor(row, dtype=torch.int32) for name, row in values.items()}
    rows = [
        (name, "int32", [len(row)], struct.pack(f"<{len(row)}i", *row))
        for name, row in values.items()
    ]
    assert state_digest(state) == independent_digest(rows)


def test_the_order_of_insertion_does_not_matter() -> None:
    a, b, c = torch.zeros(2), torch.ones(3), torch.tensor(4)
    assert state_digest({"a": a, "b": b, "c": c}) == state_digest({"c": c, "b": b, "a": a})


def test_the_name_the_dtype_and_the_shape_are_part_of_the_digest() -> None:
    plain = torch.zeros(4, dtype=torch.int32)
    others = [
        {"b": plain},
        {"a": plain.to(torch.float32)},
        {"a": plain.reshape(2, 2)},
        {"a": plain[:3]},
        {"a": plain, "b": plain},
    ]
    digests = {state_digest(state) for state in [{"a": plain}, *others]}
    assert len(digests) == 6


def test_minus_zero_is_another_state_than_zero() -> None:
    assert state_digest({"w": torch.tensor([-0.0])}) != state_digest({"w": torch.tensor([0.0])})
    assert bytes(canonical_bytes("w", torch.tensor([-0.0]))) == struct.pack("<f", -0.0)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64]
)
def test_nan_is_refused_by_the_tensors_name(dtype: torch.dtype) -> None:
    state = {"fine": torch.zeros(2), "model/bad": torch.tensor([1.0, torch.nan], dtype=dtype)}
    with pytest.raises(NotANumber, match="'model/bad'"):
        state_digest(state)


def test_infinities_are_committed_as_they_are() -> None:
    state = {"best": torch.tensor([torch.inf, -torch.inf])}
    data = struct.pack("<2f", float("inf"), float("-inf"))
    assert state_digest(state) == independent_digest([("best", "float32", [2], data)])


def test_a_view_has_the_digest_of_its_contiguous_copy() -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    views = [
        base.transpose(0, 2),
        base[:, ::2, 1:],
        base.flip(1)[:, 1:],
        base[:1].expand(5, 3, 4),
        torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last),
    ]
    for view in views:
        assert state_digest({"v": view}) == state_digest({"v": view.contiguous().clone()})


def test_a_parameter_has_the_digest_of_its_values() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    assert state_digest({"w": parameter}) == state_digest({"w": torch.ones(3)})


@pytest.mark.parametrize(
    ("tensor", "dtype", "data"),
    [
        (torch.tensor(2.0), "float32", struct.pack("<f", 2.0)),
        (torch.tensor(True), "bool", b"\x01"),
        (torch.tensor(-2, dtype=torch.int8), "int8", b"\xfe"),
        (torch.tensor(-2, dtype=torch.int16), "int16", b"\xfe\xff"),
        (torch.tensor(1, dtype=torch.int32), "int32", b"\x01\x00\x00\x00"),
        (torch.tensor(1.0, dtype=torch.bfloat16), "bfloat16", b"\x80\x3f"),
        (torch.tensor(1.0, dtype=torch.float16), "float16", b"\x00\x3c"),
        (torch.tensor(1 + 2j, dtype=torch.complex64), "complex64", struct.pack("<2f", 1.0, 2.0)),
    ],
)
def test_scalars_of_every_kind_are_little_endian(
    tensor: torch.Tensor, dtype: str, data: bytes
) -> None:
    assert bytes(canonical_bytes("x", tensor)) == data
    assert state_digest({"x": tensor}) == independent_digest([("x", dtype, [], data)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.int64, torch.bfloat16])
def test_an_empty_tensor_has_a_shape_and_no_chunks(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    state = {"e": torch.zeros((0, 3), dtype=dtype)}
    assert state_digest(state) == independent_digest([("e", name, [0, 3], b"")])
    assert state_digest(state) != state_digest({"e": torch.zeros((3, 0), dtype=dtype)})


@pytest.mark.parametrize(("extra", "chunks"), [(-1, 1), (0, 1), (1, 2), (CHUNK_BYTES, 2)])
def test_a_tensor_is_hashed_in_chunks_of_a_mebibyte(extra: int, chunks: int) -> None:
    tensor = (torch.arange(CHUNK_BYTES + extra) % 251).to(torch.uint8)
    (leaf,) = state_leaves({"big": tensor})
    assert len(json.loads(leaf)["chunks"]) == chunks
    data = bytes(i % 251 for i in range(len(tensor)))
    assert state_digest({"big": tensor}) == independent_digest(
        [("big", "uint8", [len(tensor)], data)]
    )


def test_a_changed_bit_in_the_second_chunk_changes_the_digest() -> None:
    tensor = torch.zeros(CHUNK_BYTES + 8, dtype=torch.uint8)
    before = state_digest({"big": tensor})
    tensor[-1] = 1
    assert state_digest({"big": tensor}) != before


def test_a_lazily_conjugated_tensor_has_a_digest() -> None:
    """Regression: the digest did not resolve the conjugate bit."""
    assert state_digest({"c": torch.tensor([1 + 2j]).conj()}) == state_digest(
        {"c": torch.tensor([1 - 2j])}
    )
