"""Why a job ended."""

from enum import StrEnum


class JobEnd(StrEnum):
    """The state of a job that has ended."""

    DONE = "done"
    PARTLY_FAILED = "partly failed"
    """The program failed in some of the job's tasks."""
    CANCELLED = "cancelled"
    """Its submitter closed it."""
    OUT_OF_BUDGET = "out of budget"
    FAILED = "failed"
