"""A searcher around the user's own, which gets acknowledged and judged results only."""

from typing import Any

from ray.tune.search import Searcher

from workloads.ray_jobs.search.core.gate import Gate


class GatedSearcher(Searcher):
    """Suggests what the user's searcher suggests; at most `max_concurrent` trials run at a time.

    Trials that wait at their end do not count: their nodes are free.
    """

    def __init__(self, searcher: Searcher, gate: Gate, max_concurrent: int | None) -> None:
        self.searcher = searcher
        self._gate = gate
        self._max_concurrent = max_concurrent
        self._open: set[str] = set()
        self._reported: dict[str, int] = {}
        super().__init__(metric=searcher.metric, mode=searcher.mode)

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        if isinstance(self.searcher.metric, list):
            metric = mode = None  # the user's searcher has its own; Tune only displays these
        done = self.searcher.set_search_properties(metric, mode, config, **spec)
        self._metric, self._mode = self.searcher.metric, self.searcher.mode
        return done

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        running = len(self._open.difference(self._gate.held))
        if self._max_concurrent is not None and running >= self._max_concurrent:
            return None
        config = self.searcher.suggest(trial_id)
        if isinstance(config, dict):
            self._open.add(trial_id)
        return config

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        # A trial that runs again repeats iterations. The searcher gets each one once.
        iteration = result["training_iteration"]
        if trial_id in self._open and iteration > self._reported.get(trial_id, 0):
            self._reported[trial_id] = iteration
            self.searcher.on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        # The scheduler calls this when the trial is judged. Tune calls it again for the stop.
        if trial_id not in self._open:
            return
        self._open.discard(trial_id)
        known = None if error else self._gate.values(trial_id)
        self.searcher.on_trial_complete(trial_id, known, error)

    def get_state(self) -> dict[str, Any]:
        return {"open": sorted(self._open), "reported": dict(self._reported)}

    def set_state(self, state: dict[str, Any]) -> None:
        self._open, self._reported = set(state["open"]), dict(state["reported"])

    def save(self, checkpoint_path: str) -> None:
        self.searcher.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        self.searcher.restore(checkpoint_path)
