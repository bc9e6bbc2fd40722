"""The trace of one step: one entry per operator, so that two parties can bisect a difference.

    trace = Trace()
    with canonical(observer=trace):
        program.step(data, rng)
    trace.root()                                  # commits to all entries
    entry, proof = trace.entries[k], trace.proof(k)

An entry holds the operator's name, its arguments with a digest in place of each tensor, and the
digests of its outputs. The digests link outputs to later inputs. `recompute` repeats one call from
its tensors, in the definition's own arithmetic.

Uninitialised memory is set to zero, so that its digest is defined. Not covered: values that leave
the tensors and come back (`.item()`, NumPy), and writes through a view. Both show as an input that
no earlier output explains, so a bisection then needs the program.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import blake3
import torch

from gensyn_ray.domain import canonical, merkle
from workloads.numerics import calls
from workloads.numerics.mode import Backend, Precision
from workloads.numerics.mode import canonical as canonical_mode
from workloads.numerics.registry import LATEST, Implementation, Operator

UNWRITTEN = frozenset(
    {
        "aten.empty.memory_format",
        "aten.empty_like.default",
        "aten.empty_strided.default",
        "aten.new_empty.default",
        "aten.new_empty_strided.default",
    }
)
"""Operators whose results are uninitialised memory."""


@dataclass(frozen=True)
class Entry:
    """One call of an operator, as JSON values of `calls`.

    `args`, `kwargs`: the arguments before the call. `generator`: hex digest of the random
    generator's state before the call, "" if the operator draws nothing. `outputs`: digests of the
    results and of the arguments that were written.
    """

    operator: str
    args: list[Any]
    kwargs: dict[str, Any]
    generator: str
    outputs: list[dict[str, Any]]

    @cached_property
    def leaf(self) -> bytes:
        """The entry's canonical bytes: a leaf of the Merkle tree of the step."""
        return canonical.encode(
            {
                "operator": self.operator,
                "args": self.args,
                "kwargs": self.kwargs,
                "generator": self.generator,
                "outputs": self.outputs,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The inputs of a call.

    `tensors`: its tensors in order, with the whole memory behind each view. `generator`: the state
    of the random generator, uint8.
    """

    tensors: list[torch.Tensor]
    generator: torch.Tensor


@dataclass(slots=True)
class Trace:
    """An observer for `canonical(observer=...)`.

    `keep`: index of the call whose inputs are kept, for `recompute`. `entries`: one per call so
    far. `kept`: the inputs of call `keep`.
    """

    keep: int | None = None
    entries: list[Entry] = field(default_factory=list[Entry])
    kept: Inputs | None = None

    def __call__(
        self,
        operator: Operator,
        implementation: Implementation,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        if operator.namespace == "profiler":  # profiler marks compute nothing
            return implementation(*args, **kwargs)
        if len(self.entries) == self.keep:
            self.kept = _copied(args, kwargs)
        spelt_args, spelt_kwargs, generator = _spelt(operator, args, kwargs)
        result = implementation(*args, **kwargs)
        if str(operator) in UNWRITTEN:
            result.zero_()
        self.entries.append(
            Entry(
                operator=str(operator),
                args=spelt_args,
                kwargs=spelt_kwargs,
                generator=generator,
                outputs=calls.outputs(operator, args, result),
            )
        )
        return result

    def root(self) -> str:
        """Merkle root over the entries in order, hex."""
        return self._tree().root().hex()

    def proof(self, index: int) -> list[bytes]:
        """Proof that `entries[index]` is the leaf `index`, for `merkle.verify_inclusion`."""
        return self._tree().inclusion_proof(index)

    def _tree(self) -> merkle.MerkleTree:
        tree = merkle.MerkleTree()
        for entry in self.entries:
            tree.append(entry.leaf)
        return tree


def recompute(
    entry: Entry,
    inputs: Inputs,
    *,
    precision: Precision = "highest",
    version: int = LATEST,
    backend: Backend = "reference",
) -> bool:
    """Whether the inputs match the entry and give its outputs."""
    operator = calls.named(entry.operator)
    tensors = iter(_copy(x) for x in inputs.tensors)
    args = tuple(calls.from_json(entry.args, lambda _: next(tensors)))
    kwargs = {
        key: calls.from_json(one, lambda _: next(tensors)) for key, one in entry.kwargs.items()
    }
    if any(one.name == "generator" for one in operator._schema.arguments):
        kwargs["generator"] = torch.default_generator
    again = Trace()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.set_rng_state(inputs.generator)
        with canonical_mode(precision, version=version, backend=backend, observer=again):
            operator(*args, **kwargs)
    return [one.leaf for one in again.entries] == [entry.leaf]


def _spelt(
    operator: Operator, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any], str]:
    """Arguments as JSON, and the digest of the generator's state. The generator is not part of the
    arguments, whether the call passes it or not."""
    state = ""
    if calls.is_random(operator):
        state = blake3.blake3(_generator_state(kwargs).numpy().tobytes()).hexdigest()
    spelt = {
        key: calls.to_json(one, calls.digest) for key, one in kwargs.items() if key != "generator"
    }
    return calls.to_json(args, calls.digest), spelt, state


def _generator_state(kwargs: Mapping[str, Any]) -> torch.Tensor:
    return (kwargs.get("generator") or torch.default_generator).get_state()


def _copied(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Inputs:
    tensors = [*calls.tensors_in(args), *calls.tensors_in(list(kwargs.values()))]
    return Inputs(tensors=[_copy(x) for x in tensors], generator=_generator_state(kwargs))


def _copy(x: torch.Tensor) -> torch.Tensor:
    """The same view of a copy of the whole memory. Some operators read memory outside their
    view."""
    memory = torch.empty(0, dtype=x.dtype, device=x.device)
    return memory.set_(
        x.detach().untyped_storage().clone(), x.storage_offset(), x.shape, x.stride()
    )
