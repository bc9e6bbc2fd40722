"""The message for the author of a program that raises: its own frames and the error."""

import pickle
from collections.abc import Callable

import pytest

from gensyn_ray.domain.errors import Refused
from workloads.core.program_errors import CHARACTERS, ProgramFailed, told_to_its_author

SOURCE = """
def step():
    return helper(0)

def helper(by):
    return sorted([1, 2], key=lambda one: one / by)
"""


def _program(file: str) -> Callable[[], object]:
    scope: dict[str, Callable[[], object]] = {}
    exec(compile(SOURCE, file, "exec"), scope)
    return scope["step"]


def test_the_message_has_only_frames_of_the_program() -> None:
    with pytest.raises(ProgramFailed) as caught, told_to_its_author("<mine>"):
        _program("<mine>")()
    lines = str(caught.value).splitlines()
    assert lines[-1] == "ZeroDivisionError: division by zero"
    frames = [line for line in lines if "File" in line]
    assert [line.rpartition(" in ")[2] for line in frames] == ["step", "helper", "<lambda>"]
    assert all("<mine>" in line for line in frames)


def test_the_message_of_an_error_outside_of_the_program_has_no_frames() -> None:
    with pytest.raises(ProgramFailed) as caught, told_to_its_author("<mine>"):
        raise ValueError("the metric 'loss' is nan: it cannot be committed")
    assert str(caught.value) == (
        "the program failed: ValueError: the metric 'loss' is nan: it cannot be committed"
    )


def test_errors_of_this_package_pass_unchanged() -> None:
    with pytest.raises(Refused), told_to_its_author("<mine>"):
        raise Refused("budget exhausted")


def test_a_long_message_is_cut_and_survives_pickling() -> None:
    with pytest.raises(ProgramFailed) as caught, told_to_its_author("<mine>"):
        raise ValueError("x" * 100_000)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(copy, ProgramFailed)
    assert str(copy) == str(caught.value)
    assert len(str(copy)) < CHARACTERS + 100
