"""What a program raised, told to the person who wrote it.

The message has the frames of the program's own source and the error itself. How it was called, on
whose machine, and what libraries did below it are left out.

Not covered: the chain of an exception that was raised from another. Not defended: whoever runs a
program can claim that it raised anything.
"""

import traceback
from collections.abc import Generator
from contextlib import contextmanager

from gensyn_ray.domain.errors import GensynError, OperationError, UsageError
from workloads.core.dataset import BadData

FRAMES = 12
CHARACTERS = 2000


class ProgramFailed(OperationError):
    """The program raised; the message has its traceback."""


AUTHORS_FAULTS = (ProgramFailed, BadData, UsageError)
"""What ends a run by its program, config or data, on whatever machine: another one would not do
better."""


@contextmanager
def told_to_its_author(file: str) -> Generator[None]:
    """Run a program's code, which was compiled under the name `file`.

    Raises `ProgramFailed` for what the code raises; the network's own errors pass as they are.
    """
    try:
        yield
    except GensynError:
        raise
    except Exception as error:
        raise ProgramFailed(_told(error, file)) from error


def _told(error: Exception, file: str) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file][-FRAMES:]
    said = "".join(traceback.format_exception_only(error))[-CHARACTERS:].rstrip()
    if not own:
        return f"the program failed: {said}"
    shown = "".join(traceback.format_list(own))
    return f"the program failed\nTraceback (its own frames, most recent call last):\n{shown}{said}"
