"""A trace has all operators of a step in order. Each can be recomputed alone."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from gensyn_ray.domain import merkle
from workloads.core.rng import Rng
from workloads.numerics.mode import Observer, canonical
from workloads.numerics.optim import AdamW
from workloads.numerics.trace import Trace, recompute


def step(observer: Observer | None, scale: float = 1.0) -> float:
    """One training step with difficult cases: dropout, unwritten memory, clipping."""
    rng = Rng("trace")
    model = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.GELU(), nn.Dropout(0.3))
    rng.init_linear_(model)
    optimizer = AdamW(model.parameters())
    torch.manual_seed(3)
    with canonical(observer=observer):
        memory = torch.empty(3, 4)
        memory[0].fill_(1.0)
        noise = torch.randn(4, 5, generator=torch.Generator().manual_seed(5))
        out = model(rng.uniform((4, 5)) * scale + noise)
        loss = functional.cross_entropy(out, torch.tensor([0, 1, 2, 0]))
        optimizer.zero_grad()
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach().item()


def traced(keep: int | None = None, scale: float = 1.0) -> Trace:
    trace = Trace(keep=keep)
    step(trace, scale)
    return trace


def test_a_trace_changes_nothing_and_is_the_same_twice() -> None:
    trace = Trace()
    assert step(trace) == step(None)
    assert traced().root() == trace.root()
    names = [entry.operator for entry in trace.entries]
    forward, backward = "aten.native_layer_norm.default", "aten.native_layer_norm_backward.default"
    order = [names.index(one) for one in (forward, backward, "gensyn.adamw_.default")]
    assert order == sorted(order)


def test_another_step_has_another_root_from_the_first_operator_that_differs() -> None:
    one, other = traced(), traced(scale=1.25)
    assert one.root() != other.root()
    same = [a.leaf == b.leaf for a, b in zip(one.entries, other.entries, strict=True)]
    first = same.index(False)
    assert one.entries[first].operator == "aten.mul.Tensor"
    assert one.entries[first].args[1] == {"float": (1.0).hex()}


def test_outputs_are_the_inputs_of_what_follows() -> None:
    entries = traced().entries
    at = next(k for k, one in enumerate(entries) if one.operator == "aten.addmm.default")
    after = next(one for one in entries[at:] if one.operator == "aten.native_layer_norm.default")
    assert after.args[0]["tensor"] == entries[at].outputs[0]


def test_every_entry_is_proven_against_the_root() -> None:
    trace = traced()
    root, size = bytes.fromhex(trace.root()), len(trace.entries)
    for index, entry in enumerate(trace.entries):
        proof = trace.proof(index)
        assert merkle.verify_inclusion(
            leaf=entry.leaf, index=index, size=size, proof=proof, root=root
        )
        assert not merkle.verify_inclusion(
            leaf=entry.leaf + b" ", index=index, size=size, proof=proof, root=root
        )


def test_every_operator_can_be_computed_again_alone() -> None:
    for index in range(len(traced().entries)):
        trace = traced(keep=index)
        assert trace.kept is not None
        assert recompute(trace.entries[index], trace.kept), trace.entries[index].operator


def test_a_false_entry_or_other_inputs_do_not_recompute() -> None:
    names = [entry.operator for entry in traced().entries]
    for name in ("aten.addmm.default", "aten.bernoulli_.float", "gensyn.adamw_.default"):
        trace = traced(keep=names.index(name))
        kept, entry = trace.kept, trace.entries[names.index(name)]
        assert kept is not None
        assert recompute(entry, kept)
        forged = [{**entry.outputs[0], "blake3": "0" * 64}, *entry.outputs[1:]]
        assert not recompute(replace(entry, outputs=forged), kept)
        max(kept.tensors, key=torch.numel).add_(1.0)
        assert not recompute(entry, kept)


def test_precision_is_part_of_what_is_recomputed() -> None:
    names = [entry.operator for entry in traced().entries]
    index = names.index("aten.addmm.default")
    trace = traced(keep=index)
    assert trace.kept is not None
    assert not recompute(trace.entries[index], trace.kept, precision="high")


@pytest.mark.parametrize("backend", ["kernels", "reference"])
def test_both_implementations_recompute(backend: str) -> None:
    names = [entry.operator for entry in traced().entries]
    index = names.index("aten.native_layer_norm_backward.default")
    trace = traced(keep=index)
    assert trace.kept is not None
    assert recompute(trace.entries[index], trace.kept, backend=backend)  # type: ignore[arg-type]
