"""Turns an exception of a user's program into a message for its author.

The message has the exception and those frames of the traceback that are in the program's own
source. Frames of this package and of libraries, and names of machines, are left out.

Not covered: the cause of a chained exception. Not defended: a node can claim that a program raised
any exception.
"""

import traceback
from collections.abc import Generator
from contextlib import contextmanager

from gensyn_ray.domain.errors import GensynError, OperationError, UsageError
from workloads.core.dataset import BadData

FRAMES = 12
"""The most frames in a message: the innermost ones."""
CHARACTERS = 2000
"""The most characters of the exception's own text in a message."""


class ProgramFailed(OperationError):
    """The program raised an exception. The message has its traceback."""


AUTHORS_FAULTS = (ProgramFailed, BadData, UsageError)
"""Errors that the program, its config or its data cause. Another node would fail as well."""


@contextmanager
def told_to_its_author(file: str) -> Generator[None]:
    """Context for running a program's code, which was compiled under the name `file`.

    Raises `ProgramFailed` for an exception of the code. A `GensynError` passes unchanged.
    """
    try:
        yield
    except GensynError:
        raise
    except Exception as error:
        raise ProgramFailed(_told(error, file)) from error


def _told(error: Exception, file: str) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if one.filename == file or one.filename.startswith(f"{file}/")]
    own = own[-FRAMES:]
    said = "".join(traceback.format_exception_only(error))[-CHARACTERS:].rstrip()
    if not own:
        return f"the program failed: {said}"
    shown = "".join(traceback.format_list(own))
    return f"the program failed\nTraceback (its own frames, most recent call last):\n{shown}{said}"
