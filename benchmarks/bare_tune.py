"""The bare side of the benchmarks of sweeps: a program under plain `tune.Tuner.fit()`.

    python -m benchmarks.bare_tune TRIALS

A module of its own, which imports what such a script needs: Tune, torch and the program. So the
start of its driver does not pay for the imports of a benchmark.
"""

import sys
from typing import Any

from ray import tune
from ray.tune import PlacementGroupFactory, RunConfig

from gensyn_ray.cluster import connection
from workloads.core.segment import Runner
from workloads.core.task_spec import TaskSpec
from workloads.programs.digits import Digits
from workloads.ray_jobs.kind.context import VOLUNTEER

RATES = [0.02, 0.04, 0.06, 0.08, 0.1, 0.12]


def grid(trials: int) -> dict[str, Any]:
    """The grid of configurations of all sides."""
    return {"lr": tune.grid_search(RATES[:trials]), "momentum": 0.9, "width": 16}


class BareTrainable(tune.Trainable):
    """The segments of `Digits` in bare Tune; stores, signs and checks nothing."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        from workloads.numerics.arithmetic import arithmetic

        self._program = Digits()
        self._data = self._program.load_data()
        spec = TaskSpec(bundle="bare", config=dict(new_config), seed=0, task="bare")
        self._runner = Runner(self._program, spec, self._data, arithmetic)
        return True

    def step(self) -> dict[str, Any]:
        self._runner.train(Digits.steps_per_segment)
        metrics = self._program.evaluate(self._data)
        return {**metrics, "done": self._runner.segments_done >= Digits.segments}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"segments": self._runner.segments_done}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        pass


def tuner(trials: int, callbacks: list[tune.Callback]) -> tune.Tuner:
    """A search of the whole grid on volunteers' nodes, with one trial on each node."""
    place = PlacementGroupFactory([{"CPU": 1}], bundle_label_selector=[VOLUNTEER])
    return tune.Tuner(
        tune.with_resources(BareTrainable, place),
        param_space=grid(trials),
        tune_config=tune.TuneConfig(metric="accuracy", mode="max", reuse_actors=True),
        run_config=RunConfig(verbose=0, callbacks=callbacks),
    )


def main() -> None:
    """Entry point of the bare side's Ray job."""
    connection.attach("auto")
    for error in tuner(int(sys.argv[1]), []).fit().errors:
        raise error


if __name__ == "__main__":
    main()
