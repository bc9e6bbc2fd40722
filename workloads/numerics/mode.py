"""The canonical mode: stock PyTorch whose results are defined by mathematics, not by a machine.

    with canonical():
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()            # one of workloads.numerics.optim

Below autograd, every ATen operator is looked up in the operator set: it is computed canonically,
passed to a stock kernel that is exact, or refused by name. Nothing falls through.

Not covered: what leaves the tensors (`.numpy()`, `.item()` and Python's own `math` and `**`, whose
last bits vary with libc) and custom C++ kernels that never reach the dispatcher.
"""

import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

from workloads.numerics import guard, operator_set
from workloads.numerics.registry import (
    LATEST,
    Implementation,
    Operator,
    definitions,
    exact_stock_operators,
)

Precision = Literal["highest", "high"]
BITS: Mapping[Precision, int] = MappingProxyType({"highest": 20, "high": 13})
"""Magnitude bits of each factor of a matrix product, relative to the largest of its row or column.
float32 has 24 and TF32 11, but these are fixed-point: a row's small values have fewer."""

_PACKAGE = str(Path(__file__).parent)
Backend = Literal["kernels", "reference"]
Observer = Callable[[Operator, Implementation, tuple[Any, ...], Mapping[str, Any]], Any]
"""Stands around each operator: (name, implementation, arguments, keyword arguments) -> result. An
operator may overwrite its arguments, so it looks at them before it calls the implementation."""


class NonCanonicalOperator(TypeError):
    """An operator has no canonical definition; the message names it, its caller and a way out."""


@contextmanager
def canonical(
    precision: Precision = "highest",
    *,
    version: int = LATEST,
    backend: Backend = "kernels",
    observer: Observer | None = None,
) -> Iterator[None]:
    """Within it, stock modules, losses and autograd give the same bits on every machine.

    `backend="reference"` runs the definitions themselves, slowly, on any device. Raises
    `NonCanonicalOperator` at the first operator that has no definition, `guard.UnfitMachine` where
    the machine breaks a rule of IEEE-754 that the definitions rest on, `KeyError` for an unknown
    precision or version.
    """
    table = _table(BITS[precision], version, backend)
    outer = _Mode.current()
    if outer is not None:
        # A second mode would hand its own implementation's operators to the first.
        with outer.replaced(table, observer):
            yield
        return
    guard.check()
    # Else an LSTM and an encoder layer in evaluation are one opaque kernel each.
    onednn, fast_path = torch._C._get_mkldnn_enabled(), torch.backends.mha.get_fastpath_enabled()
    torch._C._set_mkldnn_enabled(False)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _Mode(table, observer):
            yield
    finally:
        torch._C._set_mkldnn_enabled(onednn)
        torch.backends.mha.set_fastpath_enabled(fast_path)


class _Mode(TorchDispatchMode):
    def __init__(self, table: Mapping[Operator, Implementation], observer: Observer | None) -> None:
        super().__init__()
        self._table = table
        self._observer = observer

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # True imports torch's compiler at the first operator: two seconds of every process.
        return False

    @staticmethod
    def current() -> "_Mode | None":
        """The canonical mode that this thread is in."""
        modes = _get_current_dispatch_mode_stack()
        return next((one for one in modes if isinstance(one, _Mode)), None)

    @contextmanager
    def replaced(
        self, table: Mapping[Operator, Implementation], observer: Observer | None
    ) -> Iterator[None]:
        """Go by another table for a while; without an observer of its own, by this one."""
        before = self._table, self._observer
        self._table, self._observer = table, observer or self._observer
        try:
            yield
        finally:
            self._table, self._observer = before

    def __torch_dispatch__(
        self,
        func: Operator,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        run = self._table.get(func)
        if run is None:
            run = _derive(func, self._table)
        if self._observer is None:
            return run(*args, **kwargs) if kwargs else run(*args)
        return self._observer(func, run, args, kwargs or {})


@cache
def _table(bits: int, version: int, backend: Backend) -> dict[Operator, Implementation]:
    """What runs for each operator. Grows by in-place variants as they are met."""
    operator_set.load()
    table: dict[Operator, Implementation] = {
        operator: operator for operator in exact_stock_operators(version)
    }
    for operator, one in definitions(version).items():
        chosen = one.kernel if backend == "kernels" and one.kernel is not None else one.reference
        table[operator] = partial(chosen, bits=bits) if one.takes_bits else chosen
    return table


def _derive(func: Operator, table: Mapping[Operator, Implementation]) -> Implementation:
    """`add_` from `add`: compute, then copy. Raises `NonCanonicalOperator` if there is no `add`."""
    name, overload = func._schema.name, func._schema.overload_name or "default"
    namespace, _, base = name.partition("::")
    if base.endswith("_") and not base.endswith("__"):
        packet = getattr(getattr(torch.ops, namespace), base[:-1], None)
        functional = table.get(getattr(packet, overload, None))
        if functional is not None:
            run = partial(_in_place, functional)
            table[func] = run  # type: ignore[index]
            return run
    raise NonCanonicalOperator(_explain(func))


def _in_place(functional: Implementation, target: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    return target.copy_(functional(target, *args, **kwargs))


INSTEAD: Mapping[str, str] = MappingProxyType(
    {
        "_fused_adam": "workloads.numerics.optim.AdamW",
        "_fused_adamw": "workloads.numerics.optim.AdamW",
        "_fused_sgd": "workloads.numerics.optim.SGD",
        "_record_function_enter_new": "an optimizer of workloads.numerics.optim",
        "linalg_qr": "an initialisation from a uniform or normal distribution",
        "prod": "the exponential of a sum of logarithms",
        "cumprod": "the exponential of a cumulative sum of logarithms",
        "index_add": "index_select and sum, or an embedding",
        "scatter_add": "index_select and sum, or an embedding",
        "mkldnn_rnn_layer": "the same layer inside canonical(), which decomposes it",
    }
)


def _explain(func: Operator) -> str:
    base = func._schema.name.partition("::")[2]
    instead = INSTEAD.get(base) or INSTEAD.get(base.rstrip("_"))
    if instead is None and base.startswith("_foreach_"):
        instead = "an optimizer of workloads.numerics.optim, e.g. workloads.numerics.optim.AdamW"
    if instead is None and "out" in str(func).rpartition(".")[2]:
        instead = "the variant without out="
    return (
        f"{func} has no canonical definition in this operator set, so its bits would differ "
        f"between machines. Called {_caller()}. Use "
        + (instead or "operators listed in docs/numerics.md, which shows how to define another")
    )


def _caller() -> str:
    """The innermost frame outside torch and this package."""
    for frame in reversed(traceback.extract_stack(sys._getframe())):
        if "/torch/" not in frame.filename and not frame.filename.startswith(_PACKAGE):
            return f"in {frame.name}, line {frame.lineno} of {frame.filename.rpartition('/')[2]}"
    return "from a backward pass"
