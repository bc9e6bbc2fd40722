"""One tree of errors that people see.

    GensynError
    ├── UsageError          the request itself is wrong; exit code 2
    └── OperationError      the thing asked for failed; exit code 1
        ├── Refused         the authority or an agent said no; carries its reason
        └── Unreachable     nobody answered at an address

A message is one line and says what to do next. Bugs are ordinary exceptions and keep their
traceback. Expected refusals inside the cores are enum values, never exceptions; `Refused` is how a
shell hands such a value to a person.
"""


class GensynError(Exception):
    """Base of every error whose message is meant for a person."""

    exit_code = 1


class UsageError(GensynError):
    """The request is wrong in itself: an unknown name, a bad number, a port in use."""

    exit_code = 2


class OperationError(GensynError):
    """The request was understood, and could not be carried out."""


class Refused(OperationError):
    """A command was refused. `reason` is the refusal's documented name."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"refused: {reason}" + (f" ({detail})" if detail else ""))
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["Refused"], tuple[str, str]]:
        # Exceptions rebuild from `args`, which here is the finished sentence; Ray pickles them.
        return (Refused, (self.reason, self.detail))


class Unreachable(OperationError):
    """No answer from an address."""
