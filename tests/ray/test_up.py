"""`gensyn-ray up`, as the README says: its example runs as it is, and SIGTERM ends all."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from gensyn_ray.testnet.local import wait_for

ROOT = Path(__file__).parents[2]
CLI = [sys.executable, "-m", "gensyn_ray.cli.main"]
START_S = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """The process of `gensyn-ray up`, its output, and the environment of its user."""

    process: subprocess.Popen[str]
    said: Path
    environment: dict[str, str]

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=self.environment,
            cwd=ROOT,
            timeout=300,
        )


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A network of a user with an empty home and no variables of Ray."""
    home = tmp_path_factory.mktemp("user")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    # The compiled kernels stay where `make setup` has put them.
    cache = os.environ.get("XDG_CACHE_HOME", str(Path("~/.cache").expanduser()))
    environment = {**kept, "HOME": str(home), "XDG_CACHE_HOME": cache}
    said = home / "up.txt"
    with said.open("w") as output:
        process = subprocess.Popen(
            [*CLI, "up"], stdout=output, stderr=output, text=True, env=environment, cwd=ROOT
        )
    try:
        wait_for(
            lambda: "The network is up" in said.read_text() or process.poll() is not None,
            timeout_s=START_S,
            what="the network",
        )
        assert process.poll() is None, said.read_text()
        yield Up(process=process, said=said, environment=environment)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)


def test_the_readmes_example_runs_word_for_word(up: Up) -> None:
    done = up.run(sys.executable, "docs/examples/quickstart.py")
    assert done.returncode == 0, done.stderr
    found = re.search(r"done: 6 trials, best loss (\d\.\d+) with {'lr': ", done.stdout)
    assert found is not None, done.stdout
    assert float(found[1]) < 0.3, "it has learnt"
    assert "segments committed" in done.stdout, "lines of progress"
    last = done.stdout.splitlines()[-1]
    assert abs(float(last.removeprefix("sin(1) is about ")) - 0.84) < 0.8


def test_the_commands_find_the_network_too(up: Up) -> None:
    done = up.run(*CLI, "submit", "digits", "--trials", "1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.search(r"[1-9]\d* segments committed", done.stdout), "lines of progress on a pipe"
    assert lines[-1].startswith("done: 1 trials, best accuracy 0.")


def test_sigterm_ends_every_process_and_the_record(up: Up) -> None:
    record = Path(up.environment["HOME"]) / ".gensyn-ray" / "local.json"
    assert record.exists()
    started = {one.pid: one for one in psutil.Process(up.process.pid).children(recursive=True)}
    assert len(started) > 10
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(timeout=120) == 130
    left = [one for one in started.values() if one.is_running() and one.status() != "zombie"]
    _, left = psutil.wait_procs(left, timeout=20)
    assert left == []
    assert not record.exists()
