"""The driver of a search: its variables stay with it, and it runs without torch."""

import subprocess
import sys
from typing import Any

import pytest
import ray
from ray.tune.execution import class_cache

from workloads.ray_jobs.search.tune.run_search import keep_environment_here

SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def test_tune_gives_a_trial_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    def remote(**options: Any) -> Any:
        given.append(options["runtime_env"]["env_vars"])
        return lambda kind: kind

    monkeypatch.setattr(ray, "remote", remote)
    monkeypatch.setattr(class_cache, "DEFAULT_ENV_VARS", dict(class_cache.DEFAULT_ENV_VARS))
    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", class_cache.ENV_VARS_TO_PROPAGATE)
    for name in SECRETS:
        monkeypatch.setenv(name, "secret")
    class_cache._ActorClassCache().get(int)
    keep_environment_here()
    class_cache._ActorClassCache().get(int)
    assert set(SECRETS) <= given[0].keys(), "Tune would copy them"
    assert given[1] == {}


def test_the_writer_of_tensorboards_files_loads_without_torch() -> None:
    """Regression: it took two seconds of each driver's start."""
    code = (
        "import sys\n"
        "from workloads.ray_jobs.search.tune.run_search import load_tensorboard_without_torch\n"
        "load_tensorboard_without_torch()\n"
        "assert 'tensorboardX' in sys.modules and 'torch' not in sys.modules\n"
        "import torch; print(torch.ones(1).item())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "1.0\n", done.stderr[-2000:]
