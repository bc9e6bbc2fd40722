"""Damaged objects are missing. Stored objects keep their types."""

import math
from pathlib import Path

import pytest
import torch

from gensyn_ray.object_store.blobs import Blobs, Missing
from workloads.core.bundle import Bundle
from workloads.core.state import state_digest
from workloads.core.task_spec import TaskSpec


@pytest.mark.parametrize("damaged", [b"", b"{", b"\xff\xfe", b"[1]", b'"text"'])
def test_a_damaged_bundle_or_spec_is_missing(tmp_path: Path, damaged: bytes) -> None:
    """Regression: damaged bytes raised the decoder's error."""
    blobs = Blobs(tmp_path.as_uri())
    bundle = Bundle(entry="P", source="x = 1\n", libraries={})
    spec = TaskSpec(bundle=bundle.digest, config={}, seed=1, task="t000")
    blobs.put_bundle(bundle)
    blobs.put_spec(spec)
    (tmp_path / "bundles" / bundle.digest).write_bytes(damaged)
    (tmp_path / "specs" / spec.digest).write_bytes(damaged)
    with pytest.raises(Missing):
        blobs.get_bundle(bundle.digest)
    with pytest.raises(Missing):
        blobs.get_spec(spec.digest)


def test_a_state_with_nan_under_the_name_is_missing(tmp_path: Path) -> None:
    """Regression: a NaN in a stored state raised the digest's error."""
    blobs = Blobs(tmp_path.as_uri())
    digest = state_digest({"w": torch.tensor([1.0])})
    blobs.put_state(digest, {"w": torch.tensor([math.nan])})
    with pytest.raises(Missing):
        blobs.get_state(digest)


def test_a_hyperparameter_called_micro_keeps_its_type(tmp_path: Path) -> None:
    """Regression: the stored number came back with another type."""
    blobs = Blobs(tmp_path.as_uri())
    spec = TaskSpec(bundle="b", config={"batch_micro": 5}, seed=1, task="t000")
    blobs.put_spec(spec)
    assert blobs.get_spec(spec.digest).config == {"batch_micro": 5}
