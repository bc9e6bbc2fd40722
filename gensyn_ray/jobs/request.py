"""The request that travels from the submitter to a job's driver.

In a module of its own: the driver runs as `__main__`, and pickle would not find its classes there.
"""

from dataclasses import dataclass

import cloudpickle

from workloads.core.task_spec import TaskSpec
from workloads.ray_jobs.kind.interface import KindRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """The data that a job's driver needs beside the ledger. Pickled, like the code of any Ray job.

    `facts`: the network's addresses and keys, as the relay gives them. `template`: the job's task
    spec, without task, config and inputs. `driver_seed`: of the driver's key, 32 bytes.
    `secret_seed`: of the submitter's hash chain, 32 bytes. `packed`: the kind's request, pickled
    separately: it can refer to modules that the head lacks, and then the driver can still close the
    job."""

    job: str
    facts: dict[str, str]
    template: TaskSpec
    driver_seed: bytes
    secret_seed: bytes
    packed: bytes

    def unpacked(self) -> KindRequest:
        """The kind's request. Raises what unpickling raises."""
        return cloudpickle.loads(self.packed)
