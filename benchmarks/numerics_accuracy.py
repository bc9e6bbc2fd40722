"""The errors of each canonical operator, and of stock float32, in one run.

    python -m benchmarks.numerics_accuracy [--json] [--quick]

The reference is the stock operator on the same numbers in float64. Errors are in float32 ulps
(units in the last place) of two kinds:

    value     ulps of the value itself
    largest   ulps of the largest value of the result; a sum whose terms cancel has no better bound

Prints a Markdown table. `--json` adds the JSON object that every benchmark prints.
"""

import argparse
import json
import math
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from workloads.numerics import operator_set
from workloads.numerics.examples import Drawn, arguments
from workloads.numerics.mode import BITS
from workloads.numerics.reference.primitives.grid import NotFinite
from workloads.numerics.registry import Definition, definitions

EXAMPLES = 60
TRUSTED = 1e-14
"""An absolute error that does not count: the float64 reference has cancellation, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """The largest error over all examples, in ulps of float32."""

    value: float
    largest: float


def _results(value: Any) -> list[torch.Tensor | None]:
    """The tensors of a result; None for an output that a mask left out."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _widened(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
        return value.to(torch.float64)
    if isinstance(value, list | tuple):
        return type(value)(_widened(item) for item in value)
    if isinstance(value, dict):
        return {key: _widened(item) for key, item in value.items()}
    if value is torch.float32:
        return torch.float64
    return value


def _ulp(x: torch.Tensor) -> torch.Tensor:
    """The spacing of float32 at |x|, as float64."""
    exponent = torch.frexp(x.abs().clamp_min(2.0**-126))[1]
    return torch.ldexp(torch.ones_like(x), exponent - 24)


def _error(found: Any, truth: Any) -> Error | None:
    worst = [0.0, 0.0]
    for one, true in zip(_results(found), _results(truth), strict=True):
        if one is None or true is None or not one.is_floating_point() or one.numel() == 0:
            continue
        exact = true.detach().to(torch.float64)
        known = torch.isfinite(exact) & (exact.abs() < 3.4e38)
        if one.shape != exact.shape or not bool(known.any()):
            continue
        distance = (one.detach().to(torch.float64) - exact).abs()[known] - TRUSTED
        distance = torch.where(torch.isnan(distance), torch.inf, distance).clamp_min(0.0)
        worst[0] = max(worst[0], float((distance / _ulp(exact[known])).max()))
        worst[1] = max(worst[1], float(distance.max() / _ulp(exact[known].abs().max())))
    return Error(value=worst[0], largest=worst[1])


def _attempt(run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    try:
        return run(*args, **kwargs)
    except (NotFinite, ValueError, IndexError, RuntimeError, NotImplementedError):
        return None


class Tame(Drawn):
    """Moderate values in contiguous tensors. Others overflow, or stock attention misreads them."""

    def tensor(self, shape: tuple[int, ...], spread: float | None = None) -> torch.Tensor:
        return super().tensor(shape, spread or 4.0).contiguous()


def measure(operator: Any, definition: Definition, bits: int | None) -> tuple[Error, Error] | None:
    """(errors of the canonical operator, errors of the stock operator).

    None if the operator has no stock reference in float64."""
    ours, stock = [Error(value=0, largest=0)], [Error(value=0, largest=0)]
    for seed in range(EXAMPLES):
        args, kwargs = arguments(definition.example, Tame(str(operator), seed))
        truth = _attempt(operator, _widened(args), _widened(kwargs))
        extra = {} if bits is None else {"bits": bits}
        mine = _attempt(definition.reference, args, {**kwargs, **extra})
        theirs = _attempt(operator, args, kwargs)
        if truth is None or mine is None or theirs is None:
            continue
        for found, into in ((mine, ours), (theirs, stock)):
            error = _error(found, truth)
            if error is not None:
                into.append(error)
    if len(ours) == 1:
        return None
    return _worst(ours), _worst(stock)


def _worst(errors: list[Error]) -> Error:
    return Error(value=max(one.value for one in errors), largest=max(one.largest for one in errors))


def _chosen(operator: Any) -> bool:
    """Whether an operator is measured: random and in-place operators are not."""
    name = operator._schema.name.partition("::")[2]
    skipped = ("rand", "bernoulli", "dropout", "normal_", "uniform_", "exponential_")
    return not name.endswith("_") and not any(part in name for part in skipped)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="products and functions only")
    chosen = parser.parse_args()
    operator_set.load()
    warnings.simplefilter("ignore")
    cases: list[dict[str, Any]] = []
    print("| operator | value | largest | stock: value | stock: largest |\n|---|---|---|---|---|")
    for operator, definition in sorted(definitions().items(), key=lambda pair: str(pair[0])):
        if not _chosen(operator) or (chosen.quick and "backward" in str(operator)):
            continue
        for name, bits in BITS.items() if definition.takes_bits else [("", None)]:
            found = measure(operator, definition, bits)
            if found is None:
                continue
            ours, stock = found
            label = f"{operator} {name}".strip()
            numbers = (ours.value, ours.largest, stock.value, stock.largest)
            print(f"| `{label}` | " + " | ".join(f"{one:.3g}" for one in numbers) + " |")
            cases.append(
                {
                    "case": label,
                    "ours": ours.largest,
                    "baseline": stock.largest,
                    "ratio": ours.largest / stock.largest if stock.largest else None,
                }
            )
    ratios = [one["ratio"] for one in cases if one["ratio"] and math.isfinite(one["ratio"])]
    if chosen.json:
        print(
            json.dumps(
                {
                    "name": "numerics_accuracy",
                    "ratio": statistics.median(ratios),
                    "better": "lower",
                    "unit": "ulps of float32 at the largest value of a result",
                    "cases": cases,
                }
            )
        )


if __name__ == "__main__":
    main()
