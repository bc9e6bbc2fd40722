"""Compile the kernels that this processor uses into the cache, on all cores.

    python -m workloads.numerics.compile_kernels

Numba compiles on one core of a process, so each core gets a process. A unit of work is a module of
`kernels.operators`. Its operators compute their golden vectors, which compiles the kernels that
they call. A kernel that no golden vector calls is compiled and cached at its first use.
"""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import llvmlite.binding as llvm

from workloads.numerics.kernels.primitives import cache

GUARD = "guard"
"""The unit of `workloads.numerics.guard`. No operator calls its kernels."""
_FOLDER = Path(__file__).parent / "kernels" / "operators"
_LONGEST_FIRST = ("products", "attention", "layer_norm", "reductions", "losses", "batch_norm")
"""Units that start first, longest first, so that all cores end at about the same time."""


def units() -> list[str]:
    """The names of the units: the modules of `kernels.operators`, and `GUARD`."""
    others = {one.stem for one in _FOLDER.glob("*.py")} - {"__init__", *_LONGEST_FIRST}
    return [*_LONGEST_FIRST, *sorted(others), GUARD]


def is_done() -> bool:
    """Whether `compile_all` has compiled these sources for this processor."""
    return _mark().exists()


def compile_all() -> list[str]:
    """Compile every unit. Returns one line per unit that failed."""
    failed: list[str] = []
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(compile_unit, unit): unit for unit in units()}
        for one in as_completed(waiting):
            if error := one.exception():
                failed.append(f"{waiting[one]}: {type(error).__name__}: {error}")
    if not failed:
        _mark().touch()
    return failed


def compile_unit(unit: str) -> None:
    """Compile one unit in this process. The bits are not compared here; the self-test compares
    them."""
    from workloads.numerics import guard  # imports torch and numba, which the parent does not need
    from workloads.numerics.golden import vectors

    if unit == GUARD:
        guard.check()
    else:
        vectors.verify(backends=["kernels"], names=vectors.family(unit), quick=True)


def in_other_process() -> None:
    """Compile the missing kernels in a process of its own, with one OpenMP thread per compiler
    process.

    Failures are not reported here. The self-test that follows reports them.
    """
    if not is_done():
        command = [sys.executable, "-m", "workloads.numerics.compile_kernels"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, check=False, stderr=subprocess.DEVNULL)


def _mark() -> Path:
    """The file that marks that all units are compiled. Its name depends on the processor and the
    sources."""
    digest = hashlib.sha256(f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features()}".encode())
    for unit in units():
        prefix = cache.PACKAGE if unit == GUARD else f"{cache.PACKAGE}.kernels.operators"
        digest.update(cache.digest_of(f"{prefix}.{unit}").encode())
    return cache.folder() / f"compiled-{digest.hexdigest()[:16]}"


if __name__ == "__main__":
    problems = compile_all()
    for problem in problems:
        print(f"compile-kernels: {problem}", file=sys.stderr)
    sys.exit(1 if problems else 0)
