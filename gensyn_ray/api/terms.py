"""The terms of a job, which its submitter states before it is open."""

from dataclasses import dataclass, field

from gensyn_ray.domain.errors import UsageError
from gensyn_ray.domain.money import MICRO_PER_CREDIT
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
    `seed`: with it the same configs give the same models. `secret_seed`: 32 bytes that fix the
    job's id and the submitter's part of the draws, for runs that must repeat; random by default."""

    data: str = ""
    audit: Audit = field(default_factory=Audit)
    numerics: str = REPRODUCIBLE
    seed: int = 0
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
        """Raises `UsageError` for a rate that is no probability, unknown numerics, or a request
        that contradicts itself."""
        from workloads.numerics.arithmetic import MODES

        if not 0 <= self.terms.audit.rate_ppm <= PPM:
            raise UsageError("an audit rate is between 0 and 1,000,000 millionths")
        if self.terms.numerics not in MODES:
            raise UsageError(
                f"unknown numerics {self.terms.numerics!r}: choose from {', '.join(MODES)}"
            )
        self.request.check()
