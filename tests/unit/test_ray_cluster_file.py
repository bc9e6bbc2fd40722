"""`ray up` accepts `ray-cluster.yaml`, by Ray's own schema and defaults."""

from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

FILE = Path(__file__).parents[2] / "ray-cluster.yaml"


def test_ray_accepts_the_cluster_file() -> None:
    config = yaml.safe_load(FILE.read_text())
    validate_config(prepare_config(config))


def test_ray_would_refuse_a_misspelt_key() -> None:
    config = {**yaml.safe_load(FILE.read_text()), "head_start_commands": []}
    with pytest.raises(Exception, match="head_start_commands"):
        validate_config(config)


def test_the_head_runs_no_tasks_and_all_nodes_need_the_token() -> None:
    config = yaml.safe_load(FILE.read_text())
    assert "--num-cpus=0" in config["head_start_ray_commands"][-1]
    for command in (config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]):
        assert "RAY_AUTH_MODE=token" in command
