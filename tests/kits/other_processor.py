"""Results of small programs in this process, and in a process restricted to SSE2."""

from gensyn_ray.domain.leaf import result_digest
from tests.kits import small_programs
from workloads.core.program import Program
from workloads.core.segment import Runner
from workloads.core.task_spec import TaskSpec
from workloads.numerics.arithmetic import arithmetic

OTHER_CPU = {
    "ATEN_CPU_CAPABILITY": "default",
    "NUMBA_CPU_NAME": "x86-64",
    "NUMBA_CPU_FEATURES": "",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}

PROGRAMS = (small_programs.Small, small_programs.Dropout)


def results(program: type[Program], mode: str, segments: int = 2) -> list[str]:
    """Result digests of a program's first segments, computed in this process."""
    one = program()
    spec = TaskSpec(bundle="b" * 64, config={"lr": 0.2}, seed=5, task="t000", numerics=mode)
    runner = Runner(one, spec, one.load_data(), arithmetic)
    done = [runner.run_segment() for _ in range(segments)]
    return [result_digest(computed.state_after, computed.metrics) for computed in done]
