"""What a node computes, found by a self-test in a process of its own, once for each boot.

The result of a test that passed is kept in the user's cache folder and holds for this boot of the
machine, this source, these library versions and these environment variables. Without a boot id
(outside Linux) nothing is kept.

Trusted: the cache folder. A process that can write to it can claim a class and a speed that the
machine does not have, as it can replace the compiled kernels in the same folder. Both are the
operator's own; replays on other machines find what comes of it. Not covered: a virtual machine that
moves to another processor without a boot.
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
LIBRARIES = ("torch", "numpy", "numba", "llvmlite")
SOURCES = ("workloads/numerics", "workloads/core", "gensyn_ray/domain")
RELEVANT = ("ATEN_", "GLIBC_", "KMP_", "LD_", "MKL_", "NUMBA_", "OMP_", "ONEDNN_", "PYTHON")
"""How the names of variables begin that can change what a process computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """`steps_per_second`: of a tiny transformer, 0 if the test failed. `seconds`: of all of it."""

    numerics: str
    failures: list[str]
    seconds: float
    steps_per_second: float

    @property
    def passed(self) -> bool:
        return not self.failures


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What a node computes: `pinned`, its class of stock kernels; `reproducible`, whether canonical
    arithmetic holds; `classes`, all numerics classes that it may join with."""

    pinned: str
    reproducible: SelfTest
    classes: list[str]


def node_in(environment: Mapping[str, str]) -> Node:
    """The node that this machine is under further environment variables. Raises `OperationError`.

    With one thread unless they say otherwise, as Ray's workers of one CPU have: several self-tests
    at once would wait for each other's threads, and the speed is to be a worker's."""
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
    """The file for a result that holds for all that the test depends on; None without a boot id."""
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
    root = Path(__file__).parents[2]
    digest = sha256()
    for folder in SOURCES:
        for source in sorted((root / folder).rglob("*")):
            if source.suffix in (".py", ".json"):
                digest.update(source.read_bytes())
    return digest.hexdigest()


def _read(kept: Path) -> Node | None:
    try:
        if kept.stat().st_uid != os.getuid():
            return None
        return from_json(Node, canonical.decode(kept.read_bytes()))
    except (OSError, canonical.NotCanonical, BadRecord):
        return None


def _write(kept: Path, found: Node) -> None:
    """Best effort: without the file the next process tests again."""
    unfinished = kept.with_suffix(f".{os.getpid()}")
    try:
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished.write_bytes(canonical.encode(to_json(found)))
        unfinished.replace(kept)
    except OSError:
        unfinished.unlink(missing_ok=True)
