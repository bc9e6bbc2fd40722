"""`gensyn-ray`: the command line. Exit codes: 0 done, 1 failed, 2 wrong usage."""

import os
import signal
import sys
import threading
from types import FrameType

from cyclopts import App, CycloptsError

from gensyn_ray.domain.errors import GensynError

# Ray reads its authentication mode when it is imported. Commands, which import Ray, load later.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

app = App(name="gensyn-ray", help="Train models on volunteers' machines, and verify the work.")
app.command("gensyn_ray.cli.operator:agent", name="agent")
app.command("gensyn_ray.cli.submitter:cancel", name="cancel")
app.command("gensyn_ray.cli.data:app", name="data")
app.command("gensyn_ray.cli.demo:demo", name="demo")
app.command("gensyn_ray.cli.ledger:app", name="ledger")
app.command("gensyn_ray.cli.ledger:why", name="why")
app.command("gensyn_ray.cli.network:up", name="up")
app.command("gensyn_ray.cli.submitter:submit", name="submit")
app.command("gensyn_ray.cli.vet:vet", name="vet")
app.command("gensyn_ray.cli.submitter:watch", name="watch")


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends a command like Ctrl-C: the command stops its child processes first."""
    raise KeyboardInterrupt


def run(*tokens: str) -> None:
    """Entry point: user errors are one line on stderr, never a traceback. `tokens`: arguments that
    replace the process's own."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _end)
    try:
        app(tokens or None, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        print(f"gensyn-ray: {str(error).splitlines()[0]} (see --help)", file=sys.stderr)
        sys.exit(2)
    except GensynError as error:
        print(f"gensyn-ray: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("gensyn-ray: stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    run()
