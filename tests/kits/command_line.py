"""`gensyn-ray` as a person calls it, in this process: one of its own takes seconds to start."""

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from gensyn_ray.cli import main


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def gensyn_ray(*arguments: str) -> Said:
    """Raises whatever the command lets out besides its exit code: that would be a traceback."""
    out, error, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(error):
        try:
            main.run(*arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Said(returncode=code, stdout=out.getvalue(), stderr=error.getvalue())
