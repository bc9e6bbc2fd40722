"""Child processes of a local network: started with a log, watched, ended by pid."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from gensyn_ray.domain.errors import OperationError, UsageError

STOP_WAIT_S = 3.0


class Child:
    """One child process and its descendants."""

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path
    ) -> None:
        self.name, self._log = name, log
        with log.open("ab") as output:
            self._begins_at = output.tell()
            self._process = subprocess.Popen(
                list(command),
                env={**os.environ, **env},
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def family(self) -> list[psutil.Process]:
        """The process and its living descendants."""
        try:
            me = psutil.Process(self.pid)
            return [me, *me.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def wait_until(self, is_ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Return once ready. Raises `OperationError` that names the log if the process ends or is
        late."""
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if self._process.poll() is not None:
                raise OperationError(f"{self.name} ended at once: {self.last_words()}")
            if time.monotonic() > deadline:
                raise OperationError(
                    f"{self.name} was not ready in {timeout_s:.0f} s ({self._log})"
                )
            time.sleep(0.05)

    def words(self) -> str:
        """The output of this process in its log. An earlier process may have written the log's
        beginning."""
        return self._log.read_bytes()[self._begins_at :].decode(errors="replace")

    def last_words(self) -> str:
        """The last line of its log."""
        lines = self.words().strip().splitlines()
        return lines[-1].strip() if lines else f"no output in {self._log}"

    def kill(self, name: str) -> None:
        """SIGKILL the descendants called `name`. Raises `OperationError` if there are none."""
        found = [one for one in self.family() if one.name() == name]
        if not found:
            raise OperationError(f"{self.name} runs no process called {name}")
        for one in found:
            one.kill()

    def kill_all(self) -> None:
        """SIGKILL the process and its descendants, and wait until they have ended."""
        family = self.family()
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(family, timeout=STOP_WAIT_S)


def stop_all(children: Sequence[Child]) -> None:
    """End children by SIGTERM, and by SIGKILL those of them and their descendants that remain."""
    families = [process for child in children for process in child.family()]
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(families, timeout=STOP_WAIT_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=STOP_WAIT_S)


def free_port(wanted: int = 0) -> int:
    """The port `wanted` if it is free; for 0 any free port. Raises `UsageError`.

    Ports from 10001 to 19999 are Ray's own, for its workers and clients.
    """
    for _ in range(100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                raise UsageError(
                    f"port {wanted} is in use: stop its process, or choose another --port"
                ) from None
            port: int = probe.getsockname()[1]
        if wanted or not 10001 <= port <= 19999:
            return port
    raise OperationError("no free port found")
