"""Where the golden files of a version of the operator set lie."""

from pathlib import Path

HERE = Path(__file__).parent


def folder_of(version: int) -> Path:
    """Vectors, one file an operator, and the digests of trainings."""
    return HERE / f"v{version}"
