"""A trained program, made again from its bundle and its end state, in the submitter's process.

Not defended: the bundle's code runs here with the rights of this process. It is the code that the
submitter sent, by its digest.
"""

from collections.abc import Mapping

from gensyn_ray.object_store.blobs import Blobs, Missing
from gensyn_ray.queries.rows import TaskRow
from workloads.core.bundle import load_program
from workloads.core.data_cache import DataCache
from workloads.core.diloco import is_global
from workloads.core.program import Program
from workloads.core.program_errors import told_to_its_author
from workloads.core.segment import Runner
from workloads.numerics.arithmetic import arithmetic
from workloads.ray_jobs.kind.interface import TaskEnd


def trained_program(end: TaskEnd, tasks: Mapping[str, TaskRow], store: Blobs) -> Program:
    """The program of a task, in the state in which the task ended.

    `tasks`: of the job, by name. Raises `Missing` if the network no longer has the task or one of
    its objects, `OperationError` if a library has another version here, and `ProgramFailed` for
    what the program raises."""
    if end.task not in tasks:
        raise Missing(f"the network knows no task {end.task!r} of this job")
    spec = store.get_spec(tasks[end.task].spec)
    bundle, state = store.get_bundle(spec.bundle), store.get_state(end.state)
    with told_to_its_author(bundle.file):
        program = load_program(bundle)()
        data = DataCache().get(spec, store)
        if is_global(state):
            Runner(program, spec, data, arithmetic, {"global": state})
        else:
            Runner(program, spec, data, arithmetic).load(state)
    return program
