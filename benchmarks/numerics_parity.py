"""The losses of canonical training against those of stock float32.

    python -m benchmarks.numerics_parity --json [--quick] [--plot]

A character model on Shakespeare and a CNN on Fashion-MNIST take 1,000 steps. Both arithmetics start
from the same weights and use the same batches, a warm-up and clipped gradients; without these,
single runs of either are unstable.

The loss of stock float32 depends on the instruction set and on the seed. Its runs give the spread.
All stock seeds run first. The seed farthest from both ends of the spread runs again with `highest`
and with the other instruction sets of stock. `highest` must end within the spread. `high` runs all
seeds; its mean must be within 0.5% of the stock mean, because single pairs differ by more between
instruction sets of stock. Both conditions hold for the training loss and for the held-out loss;
otherwise the exit code is 1.

`--plot` writes curves to docs/figures. The second part compares products of MiniLM's weights with
its activations on real sentences: errors of products on a grid and of stock float32, against
float64.
"""

# The extra `bench` has the packages that only benchmarks need.
# pyright: reportMissingImports=false

import argparse
import csv
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from itertools import product as pairs
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch.optim.lr_scheduler import LinearLR

from benchmarks import numerics_models as models
from benchmarks.numerics_matrix import Settings, ask
from workloads.numerics.mode import BITS, canonical
from workloads.numerics.optim import AdamW
from workloads.numerics.profiles import PROFILES
from workloads.numerics.reference.operators.products import product

Tensor = torch.Tensor

LEARNING_RATE = 1e-3
WARMUP = 100
CLIP = 1.0
SEEDS = 5
INSTRUCTIONS: Mapping[str, Settings] = MappingProxyType(
    {"best": {}, **{name: PROFILES[name] for name in ("baseline", "avx2")}}
)
"""The instruction sets of stock float32."""
NEAR = 0.005
"""The largest relative difference of `high` from stock."""
HELD_OUT_BATCHES = 8
JOBS = 2  # parallel runs with one thread each
FIGURES = Path(__file__).parent.parent / "docs" / "figures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training. `side`: "stock", "highest" or "high". `instructions`: set of the process."""

    task: str
    side: str
    seed: int
    instructions: str = "best"

    @property
    def name(self) -> str:
        """The name in messages and in columns of the CSV file."""
        where = "" if self.instructions == "best" else f" {self.instructions}"
        return f"{self.side}{where}, seed {self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The loss of each step, and the mean held-out loss after the last step."""

    run: Run
    losses: list[float]
    held_out: float

    @property
    def final(self) -> float:
        """Mean over the last twentieth of the steps: 50 of 1,000."""
        return statistics.fmean(self.losses[-max(1, len(self.losses) // 20) :])


MEASURES: Mapping[str, Callable[[Curve], float]] = MappingProxyType(
    {"final": lambda curve: curve.final, "held out": lambda curve: curve.held_out}
)


# -- a run ---------------------------------------------------------------------------------------


def characters(seed: int, optimizer: models.OptimizerOf) -> tuple[models.Training, models.Batches]:
    """d=256, four layers, 8 passages of 64 characters; the last tenth of the text is held out."""
    text, kinds = models.shakespeare()
    cut = len(text) * 9 // 10
    training = models.build(
        "transformer", optimizer, seed=seed, width=256, length=64, rows=1, vocabulary=kinds
    )
    training.batches = models.passages(text[:cut], seed, rows=8, length=64)
    return training, models.passages(text[cut:], -1, rows=32, length=64)


def images(seed: int, optimizer: models.OptimizerOf) -> tuple[models.Training, models.Batches]:
    """Batches of 32; no dropout, because stock torch draws its masks in another way."""
    training = models.build("cnn", optimizer, seed=seed, rows=1, dropout=0.0)
    training.batches = models.pictures(*models.fashion("train"), seed, rows=32)
    return training, models.pictures(*models.fashion("t10k"), -1, rows=256)


TASKS = MappingProxyType({"characters": characters, "images": images})


def child(question: Mapping[str, Any]) -> dict[str, Any]:
    """The losses of some runs, in order. Runs in a subprocess."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    return {"curves": [train(Run(**run), question["steps"]) for run in question["runs"]]}


def train(run: Run, steps: int) -> dict[str, Any]:
    """`losses` and `held_out` of a curve."""
    optimizer = torch.optim.AdamW if run.side == "stock" else AdamW
    training, held_out = TASKS[run.task](run.seed, partial(optimizer, lr=LEARNING_RATE))
    warmup = LinearLR(training.optimizer, start_factor=1 / WARMUP, total_iters=WARMUP)
    training.schedule, training.clip = warmup, CLIP
    with nullcontext() if run.side == "stock" else canonical(run.side):  # type: ignore[arg-type]
        losses = [float(training.step()) for _ in range(steps)]
        training.model.eval()
        with torch.no_grad():
            ends = [float(training.loss(held_out(at))) for at in range(HELD_OUT_BATCHES)]
    return {"losses": losses, "held_out": statistics.fmean(ends)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The size of the benchmark. `together`: runs in one process, which saves starts."""

    steps: int
    together: int
    instructions: tuple[str, ...]


FULL = Pace(steps=1000, together=1, instructions=("best", "avx2", "baseline"))
QUICK = Pace(steps=50, together=3, instructions=("best", "avx2"))


def follow(runs: list[Run], pace: Pace) -> list[Curve]:
    """The curves of runs with the same instructions, in one process with one thread."""
    question = {"runs": [asdict(run) for run in runs], "steps": pace.steps}
    environment = {**INSTRUCTIONS[runs[0].instructions], "OMP_NUM_THREADS": "1"}
    answer = ask("benchmarks.numerics_parity", question, environment)
    curves = [Curve(run=run, **one) for run, one in zip(runs, answer["curves"], strict=True)]
    for one in curves:
        ends = f"{one.final:.5f}, held out {one.held_out:.5f}"
        print(f"{one.run.task}, {one.run.name}: {ends}", flush=True)
    return curves


# -- evaluation of runs ---------------------------------------------------------------------------


def measure(task: str, pace: Pace, pool: ThreadPoolExecutor) -> list[Curve]:
    """Curves of one task: the stock seeds, then the other sides."""

    def follow_all(runs: list[Run]) -> Iterator[Curve]:
        groups: list[list[Run]] = []
        for _, alike in groupby(runs, key=lambda run: run.instructions):
            same = list(alike)
            groups += [same[at : at + pace.together] for at in range(0, len(same), pace.together)]
        for curves in pool.map(lambda group: follow(group, pace), groups):
            yield from curves

    stock = list(follow_all([Run(task=task, side="stock", seed=seed) for seed in range(SEEDS)]))
    again = partial(Run, task=task, seed=innermost(stock))
    ours = [again(side="highest"), *(replace(one.run, side="high") for one in stock)]
    others = [again(side="stock", instructions=name) for name in pace.instructions[1:]]
    return [*stock, *follow_all([*ours, *others])]


def innermost(stock: list[Curve]) -> int:
    """The seed farthest from the ends of the spread in both measures.

    At most four of five seeds are an end in a measure, so one seed is never an end."""

    def room(curve: Curve) -> int:
        ranks = [sorted(of(one) for one in stock).index(of(curve)) for of in MEASURES.values()]
        return min(min(rank, len(stock) - 1 - rank) for rank in ranks)

    return max(stock, key=room).run.seed


def cases_of(task: str, curves: list[Curve]) -> Iterator[dict[str, Any]]:
    """A case for each precision and measure, as means over the seeds that ran.

    `spread`: of all stock runs. `ratios`: of each seed. `kin`: of the other instruction sets of
    stock, with one seed. `passed`: the condition in this module's docstring."""
    best = {one.run: one for one in curves if one.run.instructions == "best"}
    stock = [one for one in curves if one.run.side == "stock"]
    for precision, (name, of) in pairs(BITS, MEASURES.items()):
        mine = [one for one in best.values() if one.run.side == precision]
        same = [best[replace(one.run, side="stock")] for one in mine]
        ours, theirs = (statistics.fmean(map(of, some)) for some in (mine, same))
        low, high = (pick(map(of, stock)) for pick in (min, max))
        kin = [one for one in stock if one.run not in best]
        yield {
            "case": f"{task}, {precision}, {name}",
            "ours": round(ours, 6),
            "baseline": round(theirs, 6),
            "ratio": round(ours / theirs, 6),
            "spread": [round(low, 6), round(high, 6)],
            "ratios": [round(of(a) / of(b), 6) for a, b in zip(mine, same, strict=True)],
            "kin": [
                round(of(one) / of(best[replace(one.run, instructions="best")]), 6) for one in kin
            ],
            "passed": low <= ours <= high
            if precision == "highest"
            else abs(ours / theirs - 1.0) <= NEAR,
        }


# -- figures -------------------------------------------------------------------------------------


def write_figures(task: str, curves: list[Curve]) -> None:
    """Write docs/figures/numerics_parity_TASK.csv with all losses, and .png."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    path = FIGURES / f"numerics_parity_{task}.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["step", *(one.run.name for one in curves)])
        for step, losses in enumerate(zip(*(one.losses for one in curves), strict=True)):
            table.writerow([step, *(f"{loss:.7g}" for loss in losses)])
    _plot(task, curves, path.with_suffix(".png"))


def _plot(task: str, curves: list[Curve], path: Path) -> None:
    """Upper plot: the losses. Lower plot: their differences from the same run in stock float32."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    window = max(1, len(curves[0].losses) // 40)
    smooth = {one.run: _smoothed(one.losses, window) for one in curves}
    steps = range(window - 1, len(curves[0].losses))
    again = next(one.run for one in curves if one.run.side == "highest")
    ours = [again, replace(again, side="high")]
    stock = [run for run in smooth if run.side == "stock"]
    same = smooth[replace(again, side="stock")]
    figure, (above, below) = pyplot.subplots(
        2, 1, sharex=True, figsize=(7, 6), height_ratios=(2, 1)
    )
    low, high = torch.aminmax(torch.stack([smooth[run] for run in stock]), dim=0)
    above.fill_between(steps, low, high, alpha=0.3, color="grey", label="stock float32, all runs")
    for run, style in zip(ours, ("-", "--"), strict=True):
        distance = (smooth[run] / same - 1) * 100
        above.plot(steps, smooth[run], style, linewidth=1, label=f"canonical, {run.side}")
        below.plot(steps, distance, style, linewidth=1, label=run.side)
    for run in (one for one in stock if one.instructions != "best"):
        distance = (smooth[run] / same - 1) * 100
        below.plot(steps, distance, color="grey", linewidth=0.7, label=f"stock {run.instructions}")
    above.set(ylabel=f"loss, mean of {window} steps", title=f"{task}: canonical and stock float32")
    below.set(ylabel="% from stock,\nsame seed", xlabel="step")
    above.legend()
    below.legend(fontsize="small", ncols=3)
    figure.tight_layout()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)


def _smoothed(losses: list[float], window: int) -> Tensor:
    return torch.tensor(losses, dtype=torch.float64).unfold(0, window, 1).mean(1)


# -- products of a real checkpoint ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class GridError:
    """Errors of products against float64, of the worst layer.

    `frobenius`: norm of the error / norm of the product. `scaled`: largest error / (|row|
    |column|). `relative`: largest error of an element / the element. `typical`: `frobenius` of the
    middle layer."""

    grid: str
    frobenius: float
    typical: float
    scaled: float
    relative: float


def minilm_factors(sentences: int = 8) -> list[tuple[Tensor, Tensor]]:
    """(inputs (n, K), weights (K, N)) of every linear layer of MiniLM on real sentences."""
    model, found = models.encoder().eval(), []

    def keep(layer: Any, inputs: tuple[Tensor, ...], _: Any) -> None:
        found.append((inputs[0].detach().flatten(0, -2), layer.weight.detach().t()))

    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_hook(keep)
    with torch.no_grad():
        model(**models.reviews(sentences, 48)[0])
    return found[:-1]  # the checkpoint has no weights of the classifier


def minilm_grid_error() -> list[GridError]:
    """The errors of stock float32, of one grid per row at each precision, and of block grids."""
    factors = minilm_factors()
    found = [_error_of("stock float32", factors, torch.mm)]
    for precision, bits in BITS.items():
        whole = partial(product, bits=bits)
        found.append(_error_of(f"{precision}: {bits} bits a row", factors, whole))
        for block in (128, 64):
            blocked = partial(_blocked_product, bits=bits, block=block)
            found.append(_error_of(f"{bits} bits, blocks of {block}", factors, blocked))
    return found


def _blocked_product(a: Tensor, b: Tensor, *, bits: int, block: int) -> Tensor:
    """Products with a grid for each block along K, added in float64.

    They show the error of the grids; no operator is defined so."""
    pairs = zip(a.split(block, 1), b.split(block, 0), strict=True)
    return torch.stack([product(one, other, bits) for one, other in pairs]).sum(0)


def _error_of(grid: str, factors: list[tuple[Tensor, Tensor]], multiply: Any) -> GridError:
    layers: list[tuple[float, float, float]] = []
    for a, b in factors:
        exact = a.double() @ b.double()
        error = (multiply(a, b).float().double() - exact).abs()
        lengths = a.double().norm(dim=1)[:, None] * b.double().norm(dim=0)
        layers.append(
            (
                float(error.norm() / exact.norm()),
                float((error / lengths).max()),
                float((error / exact.abs()).max()),
            )
        )
    frobenius, scaled, relative = zip(*layers, strict=True)
    return GridError(
        grid=grid,
        frobenius=max(frobenius),
        typical=statistics.median(frobenius),
        scaled=max(scaled),
        relative=max(relative),
    )


def grid_cases() -> Iterator[dict[str, Any]]:
    """Print the errors as a table; returns them as cases against stock float32."""
    if absent := models.missing("minilm"):
        print(f"MiniLM's products: left out, no {', '.join(absent)} here")
        return
    stock, *grids = minilm_grid_error()
    print("| grid | |E|/|C| worst layer | middle layer | E/(row column) | E/element |")
    print("|---|---|---|---|---|")
    for one in (stock, *grids):
        numbers = (one.frobenius, one.typical, one.scaled, one.relative)
        print(f"| {one.grid} | " + " | ".join(f"{number:.2e}" for number in numbers) + " |")
    for one in grids:
        yield {
            "case": f"MiniLM's products, {one.grid}, relative error",
            "ours": one.frobenius,
            "baseline": stock.frobenius,
            "ratio": round(one.frobenius / stock.frobenius, 3),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description="Does canonical training learn as stock does?")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="50 steps, within a minute")
    parser.add_argument("--plot", action="store_true", help="write docs/figures")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(child(options.child)))
        return 0
    cases: list[dict[str, Any]] = []
    with ThreadPoolExecutor(JOBS) as pool:
        for task in TASKS:
            curves = measure(task, QUICK if options.quick else FULL, pool)
            cases.extend(cases_of(task, curves))
            if options.plot:
                write_figures(task, curves)
    for case in cases:
        print("{case}: {ours}, stock {baseline}, spread {spread}, passed: {passed}".format(**case))
    has_failed = not all(case["passed"] for case in cases)
    cases.extend(grid_cases())
    if options.json:
        head = {"name": "numerics_parity", "ratio": cases[0]["ratio"], "better": "lower"}
        print(json.dumps({**head, "unit": "loss; relative error of products", "cases": cases}))
    return 1 if has_failed else 0


if __name__ == "__main__":
    sys.exit(main())
