"""The diagrams in the ledger's README match its tables."""

from pathlib import Path

from ledger.core import parameters
from ledger.core.machines import markdown

README = Path(__file__).parents[3] / "ledger" / "README.md"
MARK = "<!-- printed by `python -m ledger.core.machines` -->\n"


def test_the_readme_draws_the_tables_as_they_are() -> None:
    _, _, drawn = README.read_text().partition(MARK)
    assert drawn == markdown()


def test_the_readme_names_every_parameter() -> None:
    text = README.read_text()
    for name in parameters.Parameters.__slots__:
        assert f"| `{name}` |" in text
