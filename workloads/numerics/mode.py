"""The canonical mode: stock PyTorch whose results are defined by mathematics and not by a machine.

    with canonical():
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()            # an optimizer of workloads.numerics.optim

Below autograd, the mode looks up every ATen operator in the operator set. It computes the operator
canonically, passes it to a stock kernel that is exact, or refuses it by name. No operator runs
without a definition.

Not covered: values that leave the tensors (`.numpy()`, `.item()`, Python's `math` and `**`, whose
last bits depend on libc), and custom C++ kernels that bypass the dispatcher.
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
"""Magnitude bits of each factor of a matrix product, relative to the largest magnitude of its row
or column. float32 has 24 bits and TF32 has 11, but relative to each number: in fixed point, the
small values of a row have fewer bits."""

_PACKAGE = str(Path(__file__).parent)
Backend = Literal["kernels", "reference"]
Observer = Callable[[Operator, Implementation, tuple[Any, ...], Mapping[str, Any]], Any]
"""Called in place of each operator: (operator, implementation, arguments, keyword arguments) ->
result. The observer calls the implementation. It reads the arguments before the call, because an
operator may overwrite them."""


class NonCanonicalOperator(TypeError):
    """An operator has no canonical definition. The message names the operator, its caller and an
    alternative."""


@contextmanager
def canonical(
    precision: Precision = "highest",
    *,
    version: int = LATEST,
    backend: Backend = "kernels",
    observer: Observer | None = None,
) -> Iterator[None]:
    """A context in which stock modules, losses and autograd give the same bits on every machine.

    `backend="reference"` runs the reference definitions, which are slow and run on any device.

    Raises `NonCanonicalOperator` at the first operator without a definition, `guard.UnfitMachine`
    if the process breaks a rule that the definitions need, and `KeyError` for an unknown precision
    or version.
    """
    table = _table(BITS[precision], version, backend)
    outer = _Mode.current()
    if outer is not None:
        # A nested context replaces the table of the outer mode. With two modes, the operators that
        # the inner mode's implementations call would go to the outer mode.
        with outer.replaced(table, observer):
            yield
        return
    guard.check()
    # With oneDNN and the fast path, an LSTM and an encoder layer in evaluation are each one opaque
    # kernel.
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
    """Dispatch of each operator to its implementation in a table."""

    def __init__(self, table: Mapping[Operator, Implementation], observer: Observer | None) -> None:
        super().__init__()
        self._table = table
        self._observer = observer

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # True makes torch import its compiler at the first operator, which takes two seconds.
        return False

    @staticmethod
    def current() -> "_Mode | None":
        """The canonical mode of this thread, or None."""
        modes = _get_current_dispatch_mode_stack()
        return next((one for one in modes if isinstance(one, _Mode)), None)

    @contextmanager
    def replaced(
        self, table: Mapping[Operator, Implementation], observer: Observer | None
    ) -> Iterator[None]:
        """Use another table within the context. Without an observer, the outer observer stays."""
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
    """The implementation of each operator. In-place variants are added at their first use."""
    operator_set.load()
    table: dict[Operator, Implementation] = {
        operator: operator for operator in exact_stock_operators(version)
    }
    for operator, one in definitions(version).items():
        chosen = one.kernel if backend == "kernels" and one.kernel is not None else one.reference
        table[operator] = partial(chosen, bits=bits) if one.takes_bits else chosen
    return table


def _derive(func: Operator, table: Mapping[Operator, Implementation]) -> Implementation:
    """The implementation of an in-place operator from its functional variant: compute, then copy.
    Raises `NonCanonicalOperator` if no functional variant is defined."""
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
"""The alternative to an operator without a definition, by the operator's base name."""


def _explain(func: Operator) -> str:
    """The message of `NonCanonicalOperator`."""
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
    """The innermost frame outside torch and this package, in words."""
    for frame in reversed(traceback.extract_stack(sys._getframe())):
        if "/torch/" not in frame.filename and not frame.filename.startswith(_PACKAGE):
            return f"in {frame.name}, line {frame.lineno} of {frame.filename.rpartition('/')[2]}"
    return "from a backward pass"
