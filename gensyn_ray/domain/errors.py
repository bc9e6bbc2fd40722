"""Errors that users see.

    GensynError
    ├── UsageError          the request is invalid; exit code 2
    └── OperationError      the operation failed; exit code 1
        ├── Refused         the authority or an agent refused; carries the reason
        └── Unreachable     an address does not answer

A message is one line and says what to do next. Bugs are other exceptions and keep their traceback.
Expected refusals inside the pure cores are enum values; shells raise them as `Refused`.
"""


class GensynError(Exception):
    """Base of all errors whose message is for users."""

    exit_code = 1


class UsageError(GensynError):
    """The request is invalid: an unknown name, a bad number, a port in use."""

    exit_code = 2


class OperationError(GensynError):
    """The request is valid and its operation failed."""


class Refused(OperationError):
    """A command was refused. `reason` is the refusal's documented name."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"refused: {reason}" + (f" ({detail})" if detail else ""))
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["Refused"], tuple[str, str]]:
        # Ray pickles exceptions, and unpickling calls the class with `args`, here the whole
        # message.
        return (Refused, (self.reason, self.detail))


class Unreachable(OperationError):
    """An address does not answer."""
