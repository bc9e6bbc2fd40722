"""The self-test of a node, in a process of its own, once per boot.

A passed result is kept in the user's cache folder. It is valid for this boot of the machine, these
sources, these library versions and these environment variables. Without a boot id (outside Linux)
no result is kept.

The cache folder is trusted. A process that can write to it can claim a numerics class and a speed
that the machine does not have, and can replace the compiled kernels in the same folder. Both harm
only the operator's own node: replays on other machines detect wrong results. Not covered: a virtual
machine that moves to another processor without a reboot.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from gensyn_ray.domain import canonical
from gensyn_ray.domain.errors import OperationError
from gensyn_ray.domain.records import BadRecord, from_json, to_json

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""The file with the id of this boot, on Linux."""
LIBRARIES = ("torch", "numpy", "numba", "llvmlite")
"""Libraries whose versions can change the result."""
SOURCES = ("workloads/numerics", "workloads/core", "gensyn_ray/domain")
"""Folders, relative to the repository, whose sources can change the result."""
RELEVANT = ("ATEN_", "GLIBC_", "KMP_", "LD_", "MKL_", "NUMBA_", "OMP_", "ONEDNN_", "PYTHON")
"""Prefixes of the environment variables that can change the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """The result of the test of one numerics mode.

    `numerics`: the mode's name without the precision. `failures`: one line each. `seconds`:
    duration of the whole test. `steps_per_second`: speed of training a tiny transformer, 0 if the
    test failed.
    """

    numerics: str
    failures: list[str]
    seconds: float
    steps_per_second: float

    @property
    def passed(self) -> bool:
        """Whether there are no failures."""
        return not self.failures


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What a node computes.

    `pinned`: the class of its stock kernels, 12 hex digits. `reproducible`: the test of canonical
    arithmetic. `classes`: every numerics class that the node may join with.
    """

    pinned: str
    reproducible: SelfTest
    classes: list[str]


def node_in(environment: Mapping[str, str]) -> Node:
    """The result of this machine with additional environment variables. Raises `OperationError` if
    the self-test does not end normally.

    The test runs with one OpenMP thread unless the variables say otherwise, like a Ray worker of
    one CPU. Concurrent self-tests then do not compete for threads, and the speed is that of a
    worker.
    """
    whole = {"OMP_NUM_THREADS": "1", **os.environ, **environment}
    kept = _kept_in(whole)
    if kept is not None and (known := _read(kept)) is not None:
        return known
    done = subprocess.run(
        [sys.executable, "-m", "workloads.numerics.self_test"],
        env=whole,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found = from_json(Node, canonical.decode(done.stdout.strip().encode()))
    except (canonical.NotCanonical, BadRecord):
        raise OperationError(f"the self-test broke off: {done.stderr.strip()[-300:]}") from None
    if kept is not None and found.reproducible.passed:
        _write(kept, found)
    return found


def _kept_in(environment: Mapping[str, str]) -> Path | None:
    """The file of a result, named by a digest of all that the test depends on. None without a boot
    id."""
    try:
        boot = BOOT_ID.read_text().strip()
    except OSError:
        return None
    depends_on = {
        "boot": boot,
        "python": sys.version,
        "libraries": {name: version(name) for name in LIBRARIES},
        "sources": _digest_of_sources(),
        "environment": {
            name: value for name, value in environment.items() if name.startswith(RELEVANT)
        },
    }
    home = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "gensyn-ray" / "self-tests" / f"{canonical.digest(depends_on)}.json"


def _digest_of_sources() -> str:
    """Digest of the Python and JSON files in `SOURCES`: 64 hex digits of SHA-256."""
    root = Path(__file__).parents[2]
    digest = sha256()
    for folder in SOURCES:
        for source in sorted((root / folder).rglob("*")):
            if source.suffix in (".py", ".json"):
                digest.update(source.read_bytes())
    return digest.hexdigest()


def _read(kept: Path) -> Node | None:
    """The kept result. None if the file is missing, invalid or owned by another user."""
    try:
        if kept.stat().st_uid != os.getuid():
            return None
        return from_json(Node, canonical.decode(kept.read_bytes()))
    except (OSError, canonical.NotCanonical, BadRecord):
        return None


def _write(kept: Path, found: Node) -> None:
    """Keep a result. An error is ignored: the next process then tests again."""
    unfinished = kept.with_suffix(f".{os.getpid()}")
    try:
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished.write_bytes(canonical.encode(to_json(found)))
        unfinished.replace(kept)
    except OSError:
        unfinished.unlink(missing_ok=True)
