"""The README's Python example is the file that `tests/ray/test_up.py` runs."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_readmes_example_is_the_quickstart_file() -> None:
    (shown,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    _, _, body = (ROOT / "docs/examples/quickstart.py").read_text().partition('"""\n\n')
    assert shown == body
