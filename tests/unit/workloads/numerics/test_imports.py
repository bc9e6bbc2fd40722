"""Canonical training does not import torch's compiler, which takes two seconds in each process."""

import subprocess
import sys

PROGRAM = """
import sys
import torch
from workloads.numerics.mode import canonical
from workloads.numerics.optim import SGD, AdamW

with canonical():
    layer = torch.nn.Linear(2, 2)
    for kind in (SGD, AdamW):
        optimizer = kind(layer.parameters(), lr=0.1)
        optimizer.zero_grad()
        layer(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules, "sympy" in sys.modules)
"""


def test_a_canonical_training_does_not_import_torchs_compiler() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stdout.split()) == (0, ["False", "False"]), done.stderr
