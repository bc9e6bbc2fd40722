"""docs/architecture.md names real paths and all folders; links between the pages resolve."""

import re
import tomllib
from pathlib import Path

import pytest

from verifier_actors.core.audit import TRANSITIONS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS = PROJECT["tool"]["importlinter"]["contracts"]


def test_every_path_on_the_page_exists() -> None:
    paths = re.findall(r"`([\w.-]+/[\w./-]*|[\w-]+\.(?:py|md|toml))`", PAGE)
    assert len(paths) > 40
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_map_lists_the_folders_of_the_contracts_in_their_order() -> None:
    section = PAGE.split("## The map of folders")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `([\w/]+?)(?:/|\.py)` \| .+ \|$", section, re.MULTILINE)
    in_contracts = [
        f"{container.replace('.', '/')}/{folder}"
        for contract in CONTRACTS
        for container in contract.get("containers", [])
        for layer in contract["layers"]
        for folder in re.split(r" [|:] ", layer)
    ]
    assert listed == in_contracts


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "ledger" / "README.md", *sorted((ROOT / "docs").glob("*.md"))],
)
def test_links_between_pages_resolve(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_picture_of_a_segment_has_the_transitions_of_an_audit() -> None:
    picture = PAGE.split("stateDiagram-v2")[1].split("```")[0]
    drawn = set(re.findall(r"^    ([A-Z]+) --> ([A-Z]+): ", picture, re.MULTILINE))
    assert drawn == {(before.name, after.name) for (before, _), after in TRANSITIONS.items()}
