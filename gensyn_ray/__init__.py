"""Trains models on volunteers' machines and verifies the work; see `gensyn_ray.api.network`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gensyn_ray.api.job import Job, JobResult
    from gensyn_ray.api.network import Network, Plan, connect
    from gensyn_ray.api.terms import Audit, Budget, Terms
    from workloads.core.program import Program

__all__ = [
    "Audit",
    "Budget",
    "Job",
    "JobResult",
    "Network",
    "Plan",
    "Program",
    "Terms",
    "connect",
]

_MODULES = {
    "Audit": "gensyn_ray.api.terms",
    "Budget": "gensyn_ray.api.terms",
    "Job": "gensyn_ray.api.job",
    "JobResult": "gensyn_ray.api.job",
    "Network": "gensyn_ray.api.network",
    "Plan": "workloads.ray_jobs.diloco.core.plan",
    "Program": "workloads.core.program",
    "Terms": "gensyn_ray.api.terms",
    "connect": "gensyn_ray.api.network",
}


def __getattr__(name: str) -> Any:
    # Lazy (PEP 562): importing a pure core must not import Ray or torch.
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'gensyn_ray' has no attribute {name!r}")
