"""Train on strangers' machines, and check them. See `gensyn_ray.api.network`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gensyn_ray.api.network import Audit, Budget, Job, JobResult, Network, Plan, Terms, connect
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


def __getattr__(name: str) -> Any:
    # Lazy (PEP 562): importing a pure core must not import Ray or torch.
    if name == "Program":
        from workloads.core.program import Program

        return Program
    if name in __all__:
        from gensyn_ray.api import network as api

        return getattr(api, name)
    raise AttributeError(f"module 'gensyn_ray' has no attribute {name!r}")
