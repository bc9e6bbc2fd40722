"""A submitter's machine: a process that has Ray Client and no access to the head's files.

    python -m tests.kits.laptop ADDRESS KEY_FILE open|read [JOB]

`open` prints the id of a job and waits for its end. `read` prints the result of the job as JSON.
Exit code 3: the process opened a file of the network, which a real laptop cannot.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import PopulationBasedTraining

import gensyn_ray
from gensyn_ray.api.network import Network
from gensyn_ray.api.terms import Audit
from gensyn_ray.domain.money import MICRO_PER_CREDIT
from workloads.programs.digits import Digits

BUDGET = gensyn_ray.Budget(total_micro=100 * MICRO_PER_CREDIT, per_segment_micro=MICRO_PER_CREDIT)


def sweep(network: Network, rates: list[float]) -> gensyn_ray.Job:
    """A small search over learning rates."""
    return network.sweep(
        Digits,
        param_space={"lr": tune.grid_search(rates), "momentum": 0.9, "width": 16},
        tune_config=tune.TuneConfig(metric="accuracy", mode="max"),
        budget=BUDGET,
        audit=Audit(rate_ppm=250_000, draw_batch=4),
    )


def population_based() -> PopulationBasedTraining:
    """Every two segments, the worse half of the trials copies states of the better half."""
    return PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=2,
        quantile_fraction=0.5,
        hyperparam_mutations={"lr": [0.001, 0.02, 0.1]},
        synch=True,  # else a late trial may start after the end of the others
    )


def _keep_out_of(folder: str) -> None:
    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).startswith(folder):
            print(f"opened {arguments[0]}", file=sys.stderr, flush=True)
            os._exit(3)

    sys.addaudithook(watch)


def main(address: str, key_file: str, action: str, job: str = "") -> None:
    network = gensyn_ray.connect(address, key_file=Path(key_file))
    _keep_out_of(network.facts["blobs"].removeprefix("file://"))
    if action == "open":
        opened = sweep(network, [0.02, 0.04])
        print(opened.id, flush=True)
        opened.result()
        return
    found = network.job(job)
    result = found.result(timeout_s=1080)
    best = result.grid.get_best_result()
    assert best.metrics is not None
    read = {
        "state": result.summary.state,
        "trials": len(result.grid),
        "accuracy": best.metrics["accuracy"],
        "rows": len(best.metrics_dataframe if best.metrics_dataframe is not None else ()),
        "receipts": len(result.receipts),
        "paid_micro": result.bill.paid_micro,
        "tensors": len(network.state(result.state)),
    }
    print(json.dumps(read), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
