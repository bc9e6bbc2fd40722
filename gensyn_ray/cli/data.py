"""`gensyn-ray data`: prepared data sets in the network's store."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter, validators

from gensyn_ray.domain.errors import UsageError

if TYPE_CHECKING:
    from workloads.core.dataset import DataSet, Prepared

app = App(name="data", help="Prepare data sets for jobs.")

Recipe = Literal["fashion-mnist", "rotten-tomatoes", "shakespeare", "sentences", "text", "table"]
SHOWN = 50
"""The most labels that are printed."""
Positive = Annotated[int, Parameter(validator=validators.Number(gte=1))]


@app.command
def prepare(
    recipe: Recipe,
    source: Path | None = None,
    *,
    store: str = "",
    address: str = "auto",
    key_file: Path | None = None,
    model: Path | None = None,
    text: str = "text",
    label: str = "label",
    test_rows: Positive = 500,
    length: Positive = 128,
    vocabulary: Positive = 256,
    encoding: str = "utf-8",
    drop_missing: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Shuffle and cut a data set to Parquet, store it, print the digest that jobs name it by.

    Args:
        recipe: `sentences`, `table` and `text` read SOURCE; the others read a package of that name.
        source: A Parquet, Arrow or CSV file or a folder of Parquet; for `text` a folder of .txt
            files.
        store: Where to store it (`file:///...`); otherwise the store of the network at `address`.
        address: The Ray head's address.
        key_file: The submitter's key.
        model: A Hugging Face folder whose model is tuned on the sentences.
        text: The column of texts.
        label: The column of labels.
        test_rows: Number of held-out rows.
        length: Number of tokens in a passage.
        vocabulary: Number of tokens. 256 means bytes; a larger one is learnt by byte-pair encoding.
        encoding: Of a CSV file or of .txt files, for example cp1252.
        drop_missing: Leave out the rows that lack a value. Without it such a table is refused.
    """
    from gensyn_ray.api.network import connect
    from gensyn_ray.object_store.blobs import Blobs
    from workloads.core.dataset import DataSet

    prepared = _prepare(
        recipe=recipe,
        source=source,
        model=model,
        text=text,
        label=label,
        test_rows=test_rows,
        length=length,
        vocabulary=vocabulary,
        encoding=encoding,
        drop_missing=drop_missing,
    )
    where = Blobs(store) if store else connect(address, key_file=key_file).store
    where.put_prepared(prepared)
    rows = {
        name: sum(sum(shard.groups) for shard in shards)
        for name, shards in prepared.manifest.splits.items()
    }
    counts = ", ".join(f"{count:,} {name}" for name, count in rows.items())
    _print_labels(DataSet(prepared.manifest, prepared.blobs.__getitem__))
    print(f"{counts} rows, {sum(map(len, prepared.blobs.values())) / 1e6:.1f} MB")
    print(prepared.manifest.digest)


def _print_labels(data: "DataSet") -> None:
    """Print the name and the rows of each label, so that a wrong one or a rare one is seen."""
    import numpy as np

    names = data.labels()
    if not names:
        return
    numbers = [rows["label"].to_numpy() for split in data.values() for rows in split.batches(4096)]
    counts = np.bincount(np.concatenate(numbers), minlength=len(names))
    for number, name in enumerate(names[:SHOWN]):
        print(f"label {number} is {name!r}: {counts[number]:,} rows")
    if len(names) > SHOWN:
        print(f"{len(names)} labels in all")


def _prepare(
    *,
    recipe: Recipe,
    source: Path | None,
    model: Path | None,
    text: str,
    label: str,
    test_rows: int,
    length: int,
    vocabulary: int,
    encoding: str,
    drop_missing: bool,
) -> "Prepared":
    from workloads.programs import recipes
    from workloads.programs.tables import composed, read_table

    match recipe:
        case "fashion-mnist":
            return recipes.fashion_mnist()
        case "rotten-tomatoes":
            return recipes.rotten_tomatoes(model)
        case "shakespeare":
            return recipes.shakespeare(length, vocabulary)
    if source is None or not source.exists():
        raise UsageError(f"the recipe {recipe} needs a SOURCE that exists")
    match recipe:
        case "text":
            return recipes.text_folder(source, length, vocabulary, encoding=encoding)
        case "table":
            return recipes.tabular(
                read_table(source, encoding),
                composed(label),
                test_rows,
                name=str(source),
                drop_missing=drop_missing,
            )
        case "sentences":
            if model is None:
                raise UsageError("sentences need --model, a Hugging Face folder to tune")
            return recipes.sentences(
                read_table(source, encoding),
                composed(text),
                composed(label),
                model,
                test_rows,
                name=str(source),
                drop_missing=drop_missing,
            )
