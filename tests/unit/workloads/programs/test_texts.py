"""Texts that users bring are decoded as written, or refused with the file and the remedy."""

from pathlib import Path

import pytest

from gensyn_ray.domain.errors import UsageError
from workloads.core.dataset import DataSet, Prepared, tensor
from workloads.programs.recipes import text_folder

LONG = "to be or not to be " * 20


def folder(at: Path, *texts: bytes) -> Path:
    for number, text in enumerate(texts):
        (at / f"{number}.txt").write_bytes(text)
    return at


def train_text(prepared: Prepared) -> str:
    data = DataSet(prepared.manifest, prepared.blobs.__getitem__)
    (rows,) = data["train"].batches(1000)
    return bytes(tensor(rows, "tokens")[0].tolist()).decode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("café ".encode("latin-1") * 90, r"1\.txt is not utf-8: byte 0xe9 in line 1: .*--encoding"),
        (b"\x89PNG\r\n\x1a\n" * 90, r"1\.txt is not utf-8: byte 0x89 in line 1"),
        (b"\x00\x01\x02" * 90, r"1\.txt has zero bytes: it is no text"),
        (b"", r"1\.txt is empty: remove it"),
        (b" \r\n", r"1\.txt is empty: remove it"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, text: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        text_folder(folder(tmp_path, LONG.encode(), text), 32)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("\ufeffabcde\r\n".encode(), "utf-8"),
        ("abcde\r".encode("utf-16"), "utf-16"),
    ],
)
def test_marks_and_ends_of_line_are_plain(tmp_path: Path, text: bytes, encoding: str) -> None:
    first = LONG.encode(encoding)
    assert train_text(text_folder(folder(tmp_path, first, text), 5, encoding=encoding)) == "abcde\n"


def test_a_named_encoding_is_decoded(tmp_path: Path) -> None:
    texts = [f"{LONG}“é”".encode("cp1252"), "“é”".encode("cp1252")]
    prepared = text_folder(folder(tmp_path, *texts), 7, encoding="cp1252")
    assert train_text(prepared) == "“é”"


def test_emoji_are_kept(tmp_path: Path) -> None:
    assert train_text(text_folder(folder(tmp_path, LONG.encode(), "😀😢".encode()), 7)) == "😀😢"
