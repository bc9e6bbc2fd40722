"""The results of rounds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudoGradient:
    """An acknowledged pseudo-gradient: the worker's task, its state's digest, its inner steps."""

    task: str
    state: str
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalState:
    """The model after an outer step.

    `task`: the outer step's. `state`: digest of the global state. `metrics`: the program's, judged.
    `pseudo_gradients`: what the step applied; none for the first state, which `init` makes. `at_s`:
    seconds from the run's start to the judgement."""

    task: str
    state: str
    metrics: dict[str, float]
    pseudo_gradients: tuple[PseudoGradient, ...] = ()
    at_s: float = 0.0
