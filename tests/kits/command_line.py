"""Runs `gensyn-ray` commands in this process, because a new process takes seconds to start."""

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from gensyn_ray.cli import main


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The exit code of a command and its output."""

    returncode: int
    stdout: str
    stderr: str


def gensyn_ray(*arguments: str) -> Said:
    """Run a command. Raises what a user would see as a traceback."""
    out, error, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(error):
        try:
            main.run(*arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Said(returncode=code, stdout=out.getvalue(), stderr=error.getvalue())
