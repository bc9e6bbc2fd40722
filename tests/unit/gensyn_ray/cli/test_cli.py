"""Wrong usage gives one line and the right exit code, without a traceback."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from inspect import getdoc
from pathlib import Path

import pytest
from cyclopts import App
from docstring_parser import parse

from gensyn_ray.cli import main
from gensyn_ray.domain import canonical
from gensyn_ray.testnet.local import LocalNetwork, Member
from tests.kits.command_line import Said, gensyn_ray


def _cli(*arguments: str) -> tuple[int, str]:
    return _line(gensyn_ray(*arguments))


def _line(done: Said | subprocess.CompletedProcess[str]) -> tuple[int, str]:
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return done.returncode, lines[0]


def test_an_unknown_program_is_answered_with_the_known_ones() -> None:
    command = [sys.executable, "-m", "gensyn_ray.cli.main", "demo", "--program", "alchemy"]
    code, line = _line(subprocess.run(command, capture_output=True, text=True, check=False))
    assert code == 2
    assert "'alchemy'" in line
    assert "digits" in line


def test_an_unknown_option_is_wrong_usage() -> None:
    assert _cli("demo", "--sed", "1")[0] == 2


def test_a_budget_of_nothing_is_wrong_usage() -> None:
    assert _cli("demo", "--budget", "0")[0] == 2


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, line = _cli("demo", "--port", port)
    assert code == 2
    assert port in line


def test_no_cluster_at_an_address_is_a_failure_that_says_so() -> None:
    code, line = _cli("submit", "digits", "--address", "127.0.0.1:1")
    assert code == 1
    assert "127.0.0.1:1" in line


@pytest.mark.parametrize("also", [[], ["--quote"]])
@pytest.mark.parametrize(("job", "said"), [("none.toml", "none.toml"), ("alchemy", "digits")])
def test_a_mistaken_job_is_answered_before_a_network_is_asked(
    job: str, said: str, also: list[str]
) -> None:
    code, line = _cli("submit", job, "--address", "127.0.0.1:1", *also)
    assert code == 2
    assert said in line


def test_a_missing_journal_is_wrong_usage(tmp_path: Path) -> None:
    code, line = _cli("ledger", "verify", str(tmp_path / "none"), "--key", "00" * 32)
    assert code == 2
    assert "none" in line


@pytest.fixture
def books() -> Iterator[LocalNetwork]:
    """An authority without Ray."""
    with LocalNetwork(seed=21) as network:
        network.start_authority()
        yield network


def test_an_operator_without_stake_is_told_what_a_job_reserves(books: LocalNetwork) -> None:
    member = Member(name="poor", role="operator", key=books.key("poor"), numerics="x")
    config = books.write_agent_config(member, books.home / "poor.sock")
    code, line = _cli("agent", str(config))
    assert code == 1
    assert "stake" in line
    assert "50" in line


def test_a_file_that_is_no_agents_configuration_is_wrong_usage(tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    file.write_bytes(canonical.encode({"role": "operator"}))
    assert _cli("agent", str(file))[0] == 2


def _commands(app: App, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of each command that has no subcommands."""
    names = [name for name in app if not name.startswith("-")]
    if not names:
        yield path
    for name in names:
        yield from _commands(app[name], (*path, name))


@pytest.mark.parametrize("command", list(_commands(main.app)), ids=" ".join)
def test_the_help_has_every_parameters_whole_description(command: tuple[str, ...]) -> None:
    """Regression: the first line of each description was taken for its type, and lost."""
    app = main.app
    for word in command:
        app = app[word]
    documented = parse(getdoc(app.default_command) or "").params
    page = gensyn_ray(*command, "--help").stdout
    shown = " ".join(page.translate(str.maketrans("│╭╮╰╯─", " " * 6, "`")).split())
    for one in documented:
        said = " ".join((one.description or "").replace("`", "").split())
        assert said, one.arg_name
        assert said in shown, one.arg_name
