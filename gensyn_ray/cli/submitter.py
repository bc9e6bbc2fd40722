"""`gensyn-ray submit`, `watch` and `cancel`: for data scientists at a shell.

Commands import Ray, Tune and torch when they run, so that their help is shown without delay.
"""

import math
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from gensyn_ray.api.progress import ProgressLines, progress_line
from gensyn_ray.domain.errors import OperationError
from gensyn_ray.domain.money import format_credits
from gensyn_ray.domain.numerics import REPRODUCIBLE, pinned_class
from gensyn_ray.queries.rows import JobStatus, OperatorRow

if TYPE_CHECKING:
    from gensyn_ray.api.job import Job
    from gensyn_ray.api.network import Network
    from gensyn_ray.api.terms import JobSpec

Positive = Annotated[int, Parameter(validator=validators.Number(gte=1))]

POLL_S = 0.5
METRIC = "accuracy"
AUDIT_PPM = 400_000
"""The small sweep's metric, and the rate at which its segments are drawn, in millionths."""


def submit(
    program: str,
    *,
    address: str = "auto",
    key_file: Path | None = None,
    trials: Positive = 12,
    at_once: Positive = 3,
    budget: Positive = 200,
    seed: int = 0,
    numerics: str = REPRODUCIBLE,
    follow: bool = True,
    dry_run: bool = True,
    quote: bool = False,
    cloud_price: Annotated[float, Parameter(validator=validators.Number(gte=0))] = 0.0,
) -> None:
    """Open a job on a running network, and watch it.

    Args:
        program: A job file (`job.toml`), or the name of a program in the catalog for a small sweep
            over it.
        address: The Ray head's address, HOST:PORT or ray://HOST:PORT. By default your local network
            (`gensyn-ray up`), or the cluster of this node.
        key_file: The submitter's key; created if it is missing.
        trials: Number of trials.
        at_once: Number of trials that run at the same time.
        budget: The highest cost of the job, in credits; a segment costs one.
        seed: Fixes the job's data order and the search's sampler.
        numerics: `reproducible/v1/highest` or `/high`: the same bits on every machine; `pinned`:
            stock.
        follow: Watch until the job is done.
        dry_run: Train a few steps of the program here before the job opens.
        quote: Only print an estimate of the job's cost and duration.
        cloud_price: For a quote: your cloud's price for an hour of a machine that takes 100 steps a
            second in `python -m workloads.numerics.self_test`, in any currency.
    """
    from gensyn_ray.api import job_file
    from gensyn_ray.api.network import connect
    from gensyn_ray.cli.small_sweep import small_sweep

    # Read the file before connecting, so that errors in it are reported first.
    if program.endswith(".toml"):
        spec = job_file.read(Path(program))
    else:
        spec = small_sweep(
            program, trials=trials, at_once=at_once, budget=budget, seed=seed, numerics=numerics
        )
    network = connect(address, key_file=key_file)
    if quote:
        show_quote(network, spec, cloud_price)
        return
    job = network.open(replace(spec, terms=replace(spec.terms, dry_run=dry_run)))
    print(f"job {job.id} is open; watch it with: gensyn-ray watch {job.id} --address {address}")
    if follow:
        _to_the_end(network, job)


def show_quote(network: "Network", spec: "JobSpec", cloud_price: float) -> None:
    """Print an estimate of a job's cost and duration."""
    quote = network.quote(spec)
    budget_micro = spec.budget.total_micro
    cost = f"{format_credits(quote.cost_micro)} credits for {quote.segments} segments"
    print(f"cost    {cost}, of a budget of {format_credits(budget_micro)}")
    if quote.cost_micro > budget_micro:
        print("        the budget ends this job early")
    print(f"work    {quote.reference_s:,.0f} reference seconds on {quote.nodes} nodes")
    print(f"done    in {_duration(quote.p50_s)}, in 90 % of cases within {_duration(quote.p90_s)}")
    leaves = math.isfinite(quote.mean_stay_s)
    stay = f"nodes stay {_duration(quote.mean_stay_s)}" if leaves else "no node was seen to leave"
    print(f"churn   {stay}")
    if cloud_price:
        print(f"cloud   {quote.cloud(cloud_price):,.2f} for the same reference seconds")


def _duration(seconds: float) -> str:
    return (
        str(timedelta(seconds=round(seconds))) if math.isfinite(seconds) else "never on these nodes"
    )


def watch(job: str, *, address: str = "auto", key_file: Path | None = None) -> None:
    """Attach to a job and show its status until it is done.

    Args:
        job: The job's id.
        address: The Ray head's address.
        key_file: The submitter's key.
    """
    from gensyn_ray.api.network import connect

    network = connect(address, key_file=key_file)
    _to_the_end(network, network.job(job))


def cancel(job: str, *, address: str = "auto", key_file: Path | None = None) -> None:
    """End a job: committed segments are judged and paid, the rest of the budget returns.

    Args:
        job: The job's id.
        address: The Ray head's address.
        key_file: The key that opened the job.
    """
    from gensyn_ray.api.network import connect

    network = connect(address, key_file=key_file)
    found = network.job(job)
    ended = found.cancel()
    bill = found.status()
    paid = format_credits(bill.paid_micro)
    print(
        f"job {job} {'is cancelled' if ended else 'was over already'}: paid {paid} of "
        f"{format_credits(bill.budget_micro)} credits, the rest is yours again"
    )


def _to_the_end(network: "Network", job: "Job") -> None:
    from workloads.ray_jobs.kind.job_end import JobEnd

    console = Console()
    show_progress(network, job, console)
    result = job.result()
    paid = f"paid {format_credits(result.bill.paid_micro)} credits"
    summary = f"{result.describe()}; {paid} for {len(result.receipts)} segments"
    console.print(summary, soft_wrap=True)
    if result.summary.state is not JobEnd.DONE:
        reason = f"the job ended as: {result.summary.state}"
        raise OperationError("\n".join(filter(None, [reason, result.summary.error])))


def show_progress(network: "Network", job: "Job", console: Console) -> None:
    """Show a job until its driver has ended: as a live table, or as lines if the output is no
    terminal."""
    if not console.is_terminal:
        lines = ProgressLines(lambda line: print(line, flush=True), time.monotonic)
        while not job.is_done():
            lines.show(job.progress)
            time.sleep(POLL_S)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while not job.is_done():
            live.update(_progress(job.status(), network.read("operators", job=job.id)))
            time.sleep(POLL_S)


def _progress(seen: JobStatus, operators: list[OperatorRow]) -> Group:
    table = Table("operator", "class", "committed", "accepted", "rejected", "held", "state")
    for one in operators:
        numbers = [str(count) for count in (one.committed, one.accepted, one.rejected)]
        held = format_credits(one.held_micro)
        table.add_row(one.name, pinned_class(one.numerics), *numbers, held, one.state)
    return Group(progress_line(seen), table)
