"""Rows of tasks, as the authority answers a driver."""

from typing import Any

from gensyn_ray.queries.rows import TaskRow


def task_row(**values: Any) -> TaskRow:
    """A task without good segments, but for these values."""
    nothing: dict[str, Any] = {
        "trial": "",
        "spec": "",
        "attempt": 0,
        "good": 0,
        "unjudged": 0,
        "unaudited": 0,
        "state": "",
        "leaf": None,
        "metrics": {},
    }
    return TaskRow(**{**nothing, **values})
