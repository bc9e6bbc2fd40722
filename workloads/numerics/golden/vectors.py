"""Golden vectors: the exact results of every operator of a version, on adversarial arguments.

There is one file per operator. A case holds its complete arguments, so it does not depend on the
code that drew them, and the digests of the results. A file is never rewritten: other bits need
another version of the operator set.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import OperationError, UsageError
from workloads.core.rng import Rng
from workloads.numerics import calls, operator_set
from workloads.numerics.examples import Drawn, arguments
from workloads.numerics.golden.folder import folder_of
from workloads.numerics.mode import BITS, Backend, Precision
from workloads.numerics.reference.primitives.grid import NotFinite
from workloads.numerics.registry import (
    LATEST,
    Definition,
    Implementation,
    Operator,
    definitions,
)

SEEDS = 160
"""Number of seeds from which cases are chosen."""
ORDINARY = 2
"""Number of cases that are always chosen, beside those with distinct features."""
INLINE_BYTES = 6000
"""Largest size of a case's arguments, in bytes. Larger cases are not written to a file."""

LONG: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "aten.mm.default": ((3, -1), (-1, 2)),
    "aten.addmm.default": ((2,), (3, -1), (-1, 2)),
    "aten.bmm.default": ((2, 3, -1), (2, -1, 2)),
    "aten.baddbmm.default": ((2, 3, 2), (2, 3, -1), (2, -1, 2)),
}
"""Shapes of products with a long inner dimension, -1, which exceeds one chunk. Their arguments are
drawn from a seed, because they are large."""
LENGTHS = (8193, 24_577, 600_000)
"""Inner dimensions: more than one chunk of float64 at 20 bits, more than two, more than one chunk
of int32 sums of int8 digits."""

Case = Mapping[str, Any]


# -- recording -------------------------------------------------------------------------------


def missing(version: int = LATEST, folder: Path | None = None) -> list[str]:
    """Names of the defined operators that have no file, sorted."""
    operator_set.load()
    known = {path.stem for path in (folder or folder_of(version)).glob("*.json")}
    return sorted({str(operator) for operator in definitions(version)} - known)


def record(name: str, version: int = LATEST, folder: Path | None = None) -> Path:
    """Write an operator's file. Raises `UsageError` for an unknown operator or if the file exists,
    and `OperationError` if the kernel does not give the bits of the reference definition."""
    folder = folder or folder_of(version)
    path = folder / f"{name}.json"
    if path.exists():
        raise UsageError(
            f"{path.name} exists: other bits need another version of the operator set, with its "
            "own definition and file"
        )
    known = _by_name(version)
    if name not in known:
        raise UsageError(f"version {version} of the operator set has no operator {name}")
    operator, definition = known[name]
    cases = [
        {**case, "gives": dict(_results(operator, definition, case, "reference"))}
        for case in (*_chosen(operator, definition), *_long_cases(name))
    ]
    for number, case in enumerate(cases):
        for problem in _problems(operator, definition, case, ("kernels",)):
            raise OperationError(f"{name} case {number}, {problem}: not recorded")
    folder.mkdir(exist_ok=True)
    lines = ",\n".join(canonical.encode(case).decode() for case in cases)
    path.write_text(f'{{"operator":"{name}","cases":[\n{lines}\n]}}\n')
    return path


def _chosen(operator: Operator, definition: Definition) -> list[Case]:
    """Small cases that together have every feature that occurs among the seeds, in order of
    seeds."""
    drawn: list[tuple[int, int, Case, set[str]]] = []
    for seed in range(SEEDS):
        args, kwargs = arguments(definition.example, Drawn(str(operator), seed))
        inputs = list(calls.tensors_in((*args, *kwargs.values())))
        size = sum(x.untyped_storage().nbytes() for x in inputs)
        if size <= INLINE_BYTES:
            case = {
                "seed": seed,
                "args": calls.to_json(args, calls.bits),
                "kwargs": {key: calls.to_json(one, calls.bits) for key, one in kwargs.items()},
            }
            drawn.append((size, seed, case, set(_features(args, kwargs))))
    wanted = set[str]().union(*(features for *_, features in drawn))
    kept: dict[int, Case] = {}
    while wanted:
        # The case with the most missing features; of equal cases, the smallest.
        _, seed, case, features = max(drawn, key=lambda one: (len(one[3] & wanted), -one[0]))
        kept[seed], wanted = case, wanted - features
    for _, seed, case, _ in drawn[:ORDINARY]:
        kept[seed] = case
    return [kept[seed] for seed in sorted(kept)]


_FEW = range(-2, 5)


def _features(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[str]:
    """Features of the arguments that can break a kernel."""
    for place, value in enumerate((*args, *kwargs.values())):
        if not isinstance(value, torch.Tensor):
            if isinstance(value, float | str | None) or (isinstance(value, int) and value in _FEW):
                yield f"{place} is {value}"
            continue
        yield f"{place} {value.dim()}d"
        if not value.is_contiguous():
            yield f"{place} strided"
        if value.numel() == 0:
            yield f"{place} empty"
        elif value.is_floating_point():
            yield from (f"{place} {feature}" for feature in _float_features(value))


def _float_features(x: torch.Tensor) -> Iterator[str]:
    """Features of the values of a float tensor."""
    size = x.abs()
    if bool(((size > 0) & (size < 2.0**-126)).any()):
        yield "denormal"
    if bool(((x == 0) & torch.signbit(x)).any()):
        yield "-0.0"
    if bool((size > 2.0**110).any()):
        yield "huge"
    if bool(((size < 2.0**-30) & (size > 0)).any()) and bool((size > 1.0).any()):
        yield "unequal rows"
    if x.numel() > 4 and bool((x * 8 == torch.round(x * 8)).all()) and bool((size > 0).any()):
        yield "ties"


def _long_cases(name: str) -> Iterator[Case]:
    if name in LONG:
        for length in LENGTHS:
            yield {"seed": 0, "length": length}


# -- computing -------------------------------------------------------------------------------


def verify(
    version: int = LATEST,
    *,
    folder: Path | None = None,
    backends: Iterable[Backend] = ("reference", "kernels"),
    names: Iterable[str] | None = None,
    quick: bool = False,
) -> list[str]:
    """One line for each difference from the files. `quick`: skip the long products."""
    known, folder = _by_name(version), folder or folder_of(version)
    differing: list[str] = []
    for path in sorted(folder.glob("aten.*.json")) + sorted(folder.glob("gensyn.*.json")):
        if names is not None and path.stem not in names:
            continue
        if path.stem not in known:
            differing.append(f"{path.stem}: version {version} has no such operator any more")
            continue
        operator, definition = known[path.stem]
        for number, case in enumerate(json.loads(path.read_text())["cases"]):
            if quick and "length" in case:
                continue
            for problem in _problems(operator, definition, case, backends):
                differing.append(f"{path.stem} case {number}, {problem}")
    return differing


def family(module: str, version: int = LATEST) -> list[str]:
    """Names of the operators whose kernel is in one module of `kernels.operators`."""
    return [
        name
        for name, (_, one) in _by_name(version).items()
        # A partial object has no module of its own. The wrapped function is in the reference module
        # of the same name.
        if one.kernel is not None
        and getattr(one.kernel, "func", one.kernel).__module__.endswith(f".operators.{module}")
    ]


def _by_name(version: int) -> dict[str, tuple[Operator, Definition]]:
    operator_set.load()
    return {str(operator): (operator, one) for operator, one in definitions(version).items()}


def _problems(
    operator: Operator, definition: Definition, case: Case, backends: Iterable[Backend]
) -> Iterator[str]:
    for kind in backends:
        if kind == "kernels" and definition.kernel is None:
            continue
        for precision, given in _results(operator, definition, case, kind):
            if given != case["gives"][precision]:
                yield f"{kind} kernels, precision {precision}: the bits differ"


def _results(
    operator: Operator, definition: Definition, case: Case, backend: Backend
) -> Iterator[tuple[str, Any]]:
    """Digests of the outputs, or the name of the error, for each precision of the operator. The
    precision is `any` if the operator does not take `bits`."""
    chosen = (
        definition.kernel if backend == "kernels" and definition.kernel else definition.reference
    )
    runs: dict[Precision | str, Implementation] = (
        {precision: partial(chosen, bits=bits) for precision, bits in BITS.items()}
        if definition.takes_bits
        else {"any": chosen}
    )
    for precision, run in runs.items():
        args, kwargs = _arguments(str(operator), case)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(case["seed"])
            try:
                yield precision, calls.outputs(operator, args, run(*args, **kwargs))
            except (NotFinite, IndexError) as error:  # IndexError: the maximum of an empty tensor
                yield precision, type(error).__name__


def _arguments(name: str, case: Case) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """New copies of a case's arguments, because an operator may write to them."""
    if "length" in case:
        rng = Rng("golden", name, case["length"])
        shapes = [[case["length"] if n == -1 else n for n in shape] for shape in LONG[name]]
        return tuple(rng.uniform(shape, -2.0, 2.0) for shape in shapes), {}
    args = calls.from_json(case["args"], calls.of_bits)
    return tuple(args), {
        key: calls.from_json(one, calls.of_bits) for key, one in case["kwargs"].items()
    }
