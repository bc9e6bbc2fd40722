"""Texts that users bring: decoded, never with replacement characters."""

import codecs
from pathlib import Path

from gensyn_ray.domain.errors import UsageError

UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(source: Path, encoding: str = "utf-8") -> str:
    """The text of a file, with a line feed at each end of line.

    Raises `UsageError` if the file is empty, is binary, or has another encoding."""
    text = decode(source, source.read_bytes(), encoding)
    check_text(source, text)
    if not text.strip():
        raise UsageError(f"{source} is empty: remove it")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decode(source: Path, data: bytes, encoding: str) -> str:
    """The bytes of a file as text, without a byte order mark.

    Raises `UsageError` that names the first wrong byte."""
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except LookupError:
        raise UsageError(f"{encoding!r} is no encoding: write for example cp1252") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        likely = "utf-16" if data.startswith(UTF16) else "cp1252"
        raise UsageError(
            f"{source} is not {encoding}: byte {data[error.start]:#04x} in line {line}: "
            f"store it as UTF-8, or name its encoding, for example --encoding {likely}"
        ) from None


def check_text(source: Path, text: str) -> None:
    """Raises `UsageError` if a text has a zero character, as binary files do."""
    if "\0" in text:
        raise UsageError(f"{source} has zero bytes: it is no text, or name its --encoding")
