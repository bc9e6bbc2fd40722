"""Classifies sentences: LoRA (Hu et al. 2021, arXiv 2106.09685) on a `transformers` encoder.

Data: the files below `model/` are a Hugging Face folder (`config.json`, weights in safetensors,
tokenizer); the splits `train` and `test` have the columns `text` and `label` (0, 1, ...). The base
weights belong to the data. The state has only the adapter, the modules that the base weights lack
(the new head) and the optimizer's moments.

Config: `lr`, `rank`, `alpha`; optional: `dropout`, `targets` (names of the modules with adapters),
`length` (tokens per sentence; longer ones are truncated), `batch`, `eval_rows`, `total_steps` of
the schedule; `classes`, if the data set keeps no names of its labels.

Not covered: base models that change state while they run in training mode (batch norm).
"""

# The extra `finetune` has these packages; `make lint` also runs without it.
# pyright: reportMissingImports=false

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from gensyn_ray.domain.errors import OperationError, UsageError
from workloads.core.dataset import BadData, DataSet, tensor
from workloads.core.program import Config, Program
from workloads.core.rng import Rng
from workloads.numerics.optim import AdamW, cosine, rewarmed

EVAL_BATCH = 32
HEADS = ("classifier", "score")
"""Names of the heads that peft itself trains and stores whole."""
REWARM = 5
"""Steps in which the learning rate warms up again in each DiLoCo round."""


class Sentiment(Program):
    """Minimizes the cross-entropy with AdamW, a warm-up and a cosine schedule.

    Metrics on held-out sentences: `accuracy`, `loss`."""

    steps_per_segment = 10
    segments = 20

    def init(self, config: Config, data: DataSet, rng: Rng) -> None:
        self._length = int(config.get("length", 40))
        self._rows = int(config.get("batch", 16))
        self._eval_rows = int(config.get("eval_rows", 256))
        classes = data.class_count(config.get("classes"))
        base, fresh, self._tokenizer = _load(data.files("model"), classes)
        self._model = _adapted(base, fresh, config)
        trained = {n: p for n, p in self._model.named_parameters() if p.requires_grad}
        # A public attribute with the trained tensors only: the frozen base is not state.
        self.adapter = nn.ParameterDict({n.replace(".", "/"): p for n, p in trained.items()})
        self._model.train()
        self.optimizer = AdamW(trained.values(), lr=float(config["lr"]))
        total = int(config.get("total_steps", self.steps_per_segment * self.segments))
        self._round_began = -REWARM
        self.schedule = LambdaLR(
            self.optimizer,
            lambda step: (
                cosine(step, warmup=total // 10, total=total)
                * rewarmed(step, began=self._round_began, over=REWARM)
            ),
        )

    def resume_at(self, step: int) -> None:
        self._round_began = step
        super().resume_at(step)

    def step(self, data: DataSet, rng: Rng) -> None:
        inputs, labels = self._batch(data["train"].draw(rng, self._rows))
        loss = functional.cross_entropy(self._model(**inputs).logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()

    def evaluate(self, data: DataSet) -> dict[str, float]:
        self._model.eval()
        right, loss, rows = 0, 0.0, 0
        for table in data["test"].batches(EVAL_BATCH):
            inputs, labels = self._batch(table)
            logits = self._model(**inputs).logits
            loss += float(functional.cross_entropy(logits, labels)) * len(labels)
            right += int((logits.argmax(1) == labels).sum())
            rows += len(labels)
            if rows >= self._eval_rows:
                break
        return {"accuracy": right / rows, "loss": loss / rows}

    def _batch(self, table: pa.Table) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        if "text" not in table.column_names:
            raise BadData(f"no column 'text', only {', '.join(table.column_names)}")
        coded = self._tokenizer(
            table["text"].to_pylist(),
            padding="max_length",
            truncation=True,
            max_length=self._length,
            return_tensors="pt",
        )
        return dict(coded), tensor(table, "label").to(torch.int64)


def _load(files: Mapping[str, bytes], classes: int) -> tuple[Any, list[str], Any]:
    """(the encoder with a new head, the modules that the files lack, its tokenizer).

    Raises `OperationError` if transformers is missing and `BadData` if the files are no model or
    the tokenizer knows no words."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        from transformers.models.auto import AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils import logging
    except ImportError:
        raise OperationError(
            "transformers is missing on this node: pip install 'gensyn-ray[finetune]'"
        ) from None
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        for path, data in files.items():
            target = Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model, loaded = AutoModelForSequenceClassification.from_pretrained(
                folder,
                num_labels=classes,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
            )
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise BadData(f"`model/` holds no model for classification: {reason}") from None
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise BadData(
            "`model/` holds no tokenizer: prepare the data with one in the model's folder"
        )
    if tokenizer.pad_token is None:
        # Models of text generation have no token to pad with. Masked positions do not count.
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise BadData(
            "the tokenizer has neither a pad nor an end token: set one and store it again"
        )
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    # A saved adapter names its base model: the folder above is gone by then.
    model.name_or_path = json.loads(files["config.json"]).get("_name_or_path", "")
    fresh = sorted({name.rpartition(".")[0] for name in loaded["missing_keys"]})
    return model, fresh, tokenizer


def _adapted(base: Any, fresh: list[str], config: Config) -> Any:
    """The model with adapters. Its `fresh` modules are random: nobody could make them again from
    the base weights. So they are trained and stored whole; peft alone does this for `HEADS` only.
    """
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        task_type="SEQ_CLS",
        r=int(config["rank"]),
        lora_alpha=int(config["alpha"]),
        lora_dropout=float(config.get("dropout", 0.0)),
        target_modules=list(config.get("targets", ("query", "value"))),
        modules_to_save=[name for name in fresh if name.partition(".")[0] not in HEADS] or None,
    )
    try:
        return get_peft_model(base, lora)
    except ValueError as error:
        raise UsageError(f"no adapter fits: {error}") from None
