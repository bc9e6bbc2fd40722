"""The Hugging Face folder that a data set brings: complete, or refused before it is stored.

A node reads `config.json`, weights in safetensors and the tokenizer. Other files stay behind.
"""

import json
from pathlib import Path
from typing import Any

import safetensors

from gensyn_ray.domain.errors import UsageError

CARRIED = (".json", ".txt", ".safetensors")
TOKENIZERS = (("tokenizer.json",), ("vocab.txt",), ("vocab.json", "merges.txt"))
"""Each is enough to build a tokenizer."""
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LFS = b"version https://git-lfs"


def model_files(folder: Path) -> dict[str, bytes]:
    """The files of a Hugging Face folder: path below `model/` -> bytes.

    Raises `UsageError` if the configuration, weights or tokenizer is missing or damaged."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder: give the folder of a Hugging Face model")
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in CARRIED and path.is_file()
    }
    if "config.json" not in files:
        raise UsageError(f"{folder} is no model folder: it has no config.json")
    for path, data in files.items():
        if data.startswith(LFS):
            raise UsageError(f"{folder / path} is a pointer of Git LFS: run `git lfs pull` there")
    if not _json(folder, files, "config.json").get("model_type"):
        raise UsageError(f"{folder / 'config.json'} has no model_type: store the model again")
    _check_weights(folder, files)
    if not any(all(part in files for part in parts) for parts in TOKENIZERS):
        raise UsageError(
            f"{folder} has no tokenizer.json, so each word would be unknown: "
            "store it there with AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
    return {f"model/{path}": data for path, data in files.items()}


def _check_weights(folder: Path, files: dict[str, bytes]) -> None:
    parts = [WEIGHTS]
    if WEIGHTS not in files and INDEX in files:
        parts = sorted(set(_json(folder, files, INDEX).get("weight_map", {}).values()))
    elif WEIGHTS not in files:
        other = next((path.name for path in sorted(folder.glob("*.bin"))), "")
        found = f"has its weights only in {other}" if other else "has no weights"
        raise UsageError(
            f"{folder} {found}: store them as {WEIGHTS} with "
            "AutoModel.from_pretrained(...).save_pretrained(...)"
        )
    for part in parts:
        if part not in files:
            raise UsageError(f"{folder} lacks {part}, which {INDEX} names: fetch it")
        try:
            with safetensors.safe_open(folder / part, framework="np"):
                pass
        except safetensors.SafetensorError as error:
            raise UsageError(f"{folder / part} is damaged: {error}: fetch it again") from None


def _json(folder: Path, files: dict[str, bytes], path: str) -> dict[str, Any]:
    try:
        found = json.loads(files[path])
    except ValueError as error:
        raise UsageError(f"{folder / path} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{folder / path} holds no JSON object")
    return found
