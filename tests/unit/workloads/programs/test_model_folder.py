"""A model's folder is complete and trains, or is refused before it is stored."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.numpy import save_file

from gensyn_ray.domain.errors import UsageError
from workloads.core.dataset import BadData, DataSet, prepare
from workloads.core.rng import Rng
from workloads.numerics.arithmetic import arithmetic
from workloads.programs import recipes
from workloads.programs.model_folder import model_files
from workloads.programs.sentiment import Sentiment

needs_transformers = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("transformers", "peft"))), reason="not installed"
)
TEXTS, LABELS = ["good film 😀", "bad film", "very good", "very bad thing"] * 4, ["+", "-"] * 8
CONFIG = {"lr": 1e-3, "rank": 2, "alpha": 4, "targets": ["c_attn"], "batch": 4, "length": 8}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "vocab.txt").write_text("[UNK]\ngood\n")
    save_file({"weight": np.zeros(2, dtype=np.float32)}, tmp_path / "model.safetensors")
    return tmp_path


def only_bin(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def missing_part(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))


def pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def merges_alone(folder: Path) -> None:
    (folder / "vocab.txt").rename(folder / "merges.txt")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda at: (at / "config.json").unlink(), r"it has no config\.json"),
        (lambda at: (at / "config.json").write_text("{}"), r"config\.json has no model_type"),
        (lambda at: (at / "config.json").write_text("{"), r"config\.json is no JSON"),
        (lambda at: (at / "config.json").write_text("[]"), r"config\.json holds no JSON object"),
        (lambda at: (at / "vocab.txt").unlink(), r"has no tokenizer\.json, .*save_pretrained"),
        (merges_alone, r"has no tokenizer\.json"),
        (lambda at: (at / "model.safetensors").unlink(), r"has no weights: .*save_pretrained"),
        (only_bin, r"its weights only in pytorch_model\.bin: store them as model\.safetensors"),
        (missing_part, r"lacks model-00002-of-00002\.safetensors, which .*index\.json names"),
        (pointer, r"model\.safetensors is a pointer of Git LFS"),
        (cut, r"model\.safetensors is damaged"),
    ],
)
def test_an_incomplete_folder_is_refused(
    folder: Path, change: Callable[[Path], object], said: str
) -> None:
    assert set(model_files(folder)) == {
        "model/config.json",
        "model/vocab.txt",
        "model/model.safetensors",
    }
    change(folder)
    with pytest.raises(UsageError, match=said):
        model_files(folder)


def tiny_gpt2(folder: Path, **stored: Any) -> None:
    """A GPT-2 whose head is tied to its embedding, and a tokenizer without a pad token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    end = "<|endoftext|>"
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=280, initial_alphabet=alphabet, special_tokens=[end], show_progress=False
    )
    words.train_from_iterator(TEXTS, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token=end)
    tokenizer.save_pretrained(folder)
    shape = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16}
    number = tokenizer.eos_token_id
    config = GPT2Config(vocab_size=280, bos_token_id=number, eos_token_id=number, **shape)
    torch.manual_seed(0)
    GPT2LMHeadModel(config).save_pretrained(folder, **stored)


def trained(folder: Path) -> dict[str, float]:
    table = pa.table({"text": TEXTS, "label": LABELS})
    prepared = recipes.sentences(table, "text", "label", folder, 4)
    data = DataSet(prepared.manifest, prepared.blobs.__getitem__)
    program = Sentiment()
    torch.manual_seed(1)  # as the run of a task does
    with arithmetic("reproducible/v1/highest"):
        program.init(CONFIG, data, Rng("init"))
        program.step(data, Rng("step"))
        return program.evaluate(data)


@needs_transformers
def test_sharded_tied_weights_without_a_pad_token_train(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    tiny_gpt2(whole)
    tiny_gpt2(parts, max_shard_size="10KB")
    assert len(list(parts.glob("*.safetensors"))) > 1
    assert trained(whole) == trained(parts)


@needs_transformers
def test_a_tokenizer_that_knows_no_words_is_refused(tmp_path: Path) -> None:
    """A data set that was stored before its folder was checked."""
    tiny_gpt2(tmp_path)
    files = model_files(tmp_path)
    kept = {path: data for path, data in files.items() if "token" not in path}
    rows = pa.table({"text": TEXTS, "label": [0, 1] * 8})
    prepared = prepare({"train": rows, "test": rows}, kept)
    data = DataSet(prepared.manifest, prepared.blobs.__getitem__)
    with pytest.raises(BadData, match="holds no tokenizer"):
        Sentiment().init({**CONFIG, "classes": 2}, data, Rng("init"))


@needs_transformers
def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    """Its tokenizer's settings name a file that is not there."""
    tiny_gpt2(tmp_path)
    files = {**model_files(tmp_path), "model/vocab.json": b"{}", "model/merges.txt": b""}
    del files["model/tokenizer.json"]
    rows = pa.table({"text": TEXTS, "label": [0, 1] * 8})
    prepared = prepare({"train": rows, "test": rows}, files)
    data = DataSet(prepared.manifest, prepared.blobs.__getitem__)
    with pytest.raises(BadData, match="holds no model for classification") as refused:
        Sentiment().init({**CONFIG, "classes": 2}, data, Rng("init"))
    assert "\n" not in str(refused.value)
