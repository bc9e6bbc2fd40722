"""The terms of a job, which its submitter states before it is open."""

from dataclasses import dataclass, field
from typing import Any

from gensyn_ray.domain.errors import UsageError
from gensyn_ray.domain.money import MICRO_PER_CREDIT, format_credits
from gensyn_ray.domain.numerics import REPRODUCIBLE
from verifier_actors.core.draw import PPM
from workloads.core.program import Program
from workloads.ray_jobs.kind.interface import KindRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """`total_micro`: the highest cost of a job. `per_segment_micro`: the price of a segment. Both
    in micro-credits."""

    total_micro: int
    per_segment_micro: int

    @classmethod
    def from_credits(cls, credits: float, per_segment: float = 1.0) -> "Budget":
        """A budget from amounts in credits, as job files have them."""
        return cls(
            total_micro=round(credits * MICRO_PER_CREDIT),
            per_segment_micro=round(per_segment * MICRO_PER_CREDIT),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """`rate_ppm`: probability that a segment is replayed, in millionths. `draw_batch`: commitments
    of one operator that share a draw. Larger batches need fewer links and are judged later."""

    rate_ppm: int = 200_000
    draw_batch: int = 8

    @classmethod
    def from_rate(cls, rate: float = 0.2, draw_batch: int = 8) -> "Audit":
        """Audits from a probability between 0 and 1, as job files have it."""
        return cls(rate_ppm=round(rate * PPM), draw_batch=draw_batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Options of a job of any kind.

    `data`: digest of a prepared data set; empty if the program has its own. `numerics`:
    `reproducible/v1/highest` or `reproducible/v1/high` (faster products, 13 bits) give the same
    bits on every machine; `pinned` is stock PyTorch, with the same bits within a numerics class.
    `seed`: with it the same configs give the same models. `dry_run`: train a few steps in this
    process before the job opens, and refuse a program that fails. `secret_seed`: 32 bytes that fix
    the job's id and the submitter's part of the draws, for runs that must repeat; random by
    default."""

    data: str = ""
    audit: Audit = field(default_factory=Audit)
    numerics: str = REPRODUCIBLE
    seed: int = 0
    dry_run: bool = True
    secret_seed: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job before it is open: the argument of `Network.open` and `Network.quote`.

    `kind`: "sweep", "finetune" or "pretrain", for the ledger and in the job's id. `request`: the
    settings of the job's kind."""

    kind: str
    program: type[Program]
    request: KindRequest
    budget: Budget
    terms: Terms = field(default_factory=Terms)

    def check(self) -> None:
        """Raises `UsageError` for terms or a program that no job can have, or a request that
        contradicts itself."""
        _check_program(self.program)
        _check_budget(self.budget)
        _check_terms(self.terms)
        self.request.check()


def _check_program(program: Any) -> None:
    if not (isinstance(program, type) and issubclass(program, Program)):
        shown = getattr(program, "__name__", repr(program))
        raise UsageError(
            f"{shown} is no program: give a class derived from gensyn_ray.Program, with init, step "
            "and evaluate (a loop that reports metrics becomes one step at a time)"
        )
    for name in ("steps_per_segment", "segments"):
        value: Any = getattr(program, name, None)
        if type(value) is not int or value < 1:
            found = "nothing" if value is None else repr(value)
            raise UsageError(
                f"{program.__name__}.{name} is {found}: set it to a whole number from 1"
            )


def _check_budget(budget: Any) -> None:
    if not isinstance(budget, Budget):
        raise UsageError(
            f"the budget is {budget!r}: write gensyn_ray.Budget.from_credits(credits=..., "
            "per_segment=...)"
        )
    if budget.per_segment_micro < 1 or budget.total_micro < budget.per_segment_micro:
        raise UsageError(
            f"a budget of {format_credits(budget.total_micro)} credits pays for no segment at "
            f"{format_credits(budget.per_segment_micro)} credits each: both must be positive, and "
            "the first one the larger"
        )


def _check_terms(terms: Terms) -> None:
    from workloads.numerics.arithmetic import MODES

    if type(terms.seed) is not int:
        raise UsageError(f"the seed is {terms.seed!r}: give a whole number")
    if not 0 <= terms.audit.rate_ppm <= PPM:
        raise UsageError("an audit rate is between 0 and 1,000,000 millionths")
    if terms.numerics not in MODES:
        raise UsageError(f"unknown numerics {terms.numerics!r}: choose from {', '.join(MODES)}")
