"""The pure cores import without Ray, and some processes start without torch and pandas."""

import json
import subprocess
import sys
from typing import Any

CORES = [
    "gensyn_ray.domain",
    "gensyn_ray.settlement",
    "gensyn_ray.queries",
    "gensyn_ray.services",
    "gensyn_ray.operators",
    "ledger.core",
    "ledger.export",
    "ledger.storage",
    "ledger.service",
    "verifier_actors.core",
    "workloads.core",
]

PROGRAM = """
import importlib, importlib.abc, json, pkgutil, sys


class NoRay(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ray":
            raise ImportError(f"{name} is blocked")
        return None


sys.meta_path.insert(0, NoRay())
below, *todo = sys.argv[1:]
imported, failed = [], {}
while todo:
    name = todo.pop()
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        failed[name] = str(error)
        continue
    imported.append(name)
    if below == "all":
        path = getattr(module, "__path__", [])
        todo += [f"{name}.{one.name}" for one in pkgutil.iter_modules(path)]
loaded = sorted(name for name in sys.modules if name.split(".")[0] == "ray")
print(json.dumps({"imported": sorted(imported), "failed": failed, "ray": loaded}))
"""


def import_without_ray(*names: str, below: bool) -> dict[str, Any]:
    """Import modules, and all modules `below` them, in a process that cannot import Ray."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "all" if below else "none", *names],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_every_module_of_every_core_imports_without_ray() -> None:
    found = import_without_ray(*CORES, below=True)
    assert found["failed"] == {}
    assert found["ray"] == []
    expected = {
        *CORES,
        "gensyn_ray.domain.merkle",
        "ledger.core.decide",
        "verifier_actors.core.outcome",
        "workloads.core.segment",
    }
    assert expected <= set(found["imported"])


def test_the_package_itself_imports_without_ray() -> None:
    found = import_without_ray("gensyn_ray", below=False)
    assert found == {"imported": ["gensyn_ray"], "failed": {}, "ray": []}


def test_blocked_modules_do_not_import() -> None:
    found = import_without_ray("ray", "gensyn_ray.cluster.connection", below=False)
    assert found["imported"] == []
    assert set(found["failed"]) == {"ray", "gensyn_ray.cluster.connection"}
    assert all("is blocked" in message for message in found["failed"].values())


def test_processes_that_hold_facts_start_without_torch() -> None:
    """These processes start together with a job or a network. Imports of torch and pandas would
    take seconds of CPU time from the first segment."""
    names = (
        "ledger.actor",
        "verifier_actors.actors.actor",
        "workloads.numerics.node_test",
        "workloads.ray_jobs.diloco.core.exchange",
        "workloads.ray_jobs.search.core.start_barrier",
    )
    program = f"import sys, {', '.join(names)}; print(*{{'torch', 'pandas'}} & set(sys.modules))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_a_jobs_driver_starts_without_torch() -> None:
    """The driver names tasks and trains none. Tune imports pandas."""
    names = (
        "gensyn_ray.jobs.driver",
        "gensyn_ray.jobs.gateway",
        "gensyn_ray.object_store.blobs",
        "workloads.ray_jobs.search.tune.run_search",
    )
    program = f"import sys, {', '.join(names)}; print('torch' in sys.modules)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr
