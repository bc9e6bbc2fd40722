"""Rows of tasks, as in the authority's answer to a driver."""

from typing import Any

from gensyn_ray.queries.rows import TaskRow


def task_row(**values: Any) -> TaskRow:
    """The row of a task without good segments, with these values changed."""
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
