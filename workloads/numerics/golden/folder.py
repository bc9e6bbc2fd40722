"""The folder of the golden files of a version of the operator set."""

from pathlib import Path

HERE = Path(__file__).parent


def folder_of(version: int) -> Path:
    """The folder of a version: one file of vectors per operator, and the digests of trainings."""
    return HERE / f"v{version}"
