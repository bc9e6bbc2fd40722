"""A fine-tuned model is built again in plain `transformers` and `peft`, to the same logits."""

# The extra `finetune` has these packages.
# pyright: reportMissingImports=false

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from gensyn_ray.domain.errors import UsageError
from workloads.core.dataset import DataSet, prepare
from workloads.core.program import Config, Program
from workloads.core.rng import Rng
from workloads.core.segment import Runner
from workloads.core.task_spec import TaskSpec
from workloads.numerics.arithmetic import arithmetic
from workloads.programs import recipes
from workloads.programs.pretrained import save_pretrained
from workloads.programs.sentiment import Sentiment

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

WORDS = ("good", "bad", "film", "very", "not")
TEXTS = ["good film", "bad film", "very good", "not good", "very bad", "not bad film"]
SIZES: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2},
    "bert": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
}
TARGETS = {"distilbert": ["q_lin", "v_lin"], "bert": ["query", "value"]}


def base_model(family: str, folder: Path) -> Path:
    """A small encoder with random weights and without a head, as a Hugging Face folder.

    The one of BERT has no pooler."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    config = transformers.AutoConfig.for_model(
        family, vocab_size=len(vocabulary), max_position_embeddings=16, **SIZES[family]
    )
    torch.manual_seed(7)
    more = {"add_pooling_layer": False} if family == "bert" else {}
    kind = {"bert": transformers.BertModel, "distilbert": transformers.DistilBertModel}[family]
    kind(config, **more).save_pretrained(folder)
    numbers = {word: at for at, word in enumerate(vocabulary)}
    transformers.BertTokenizer(vocab=numbers).save_pretrained(folder)
    return folder


def tuned(family: str, folder: Path) -> tuple[Sentiment, Path]:
    """A program in the state that another one stored, and its base model."""
    base = base_model(family, folder / "base")
    rows = pa.table({"text": TEXTS, "label": [1, 0, 1, 0, 0, 1]})
    prepared = prepare({"train": rows, "test": rows}, recipes.model_files(base))
    data = DataSet(prepared.manifest, prepared.blobs.__getitem__)
    config = {"lr": 0.05, "rank": 2, "alpha": 4, "batch": 4, "length": 6, "classes": 2}
    spec = TaskSpec(
        bundle="b", config={**config, "targets": TARGETS[family]}, seed=1, task="t000", data="d"
    )
    state = Runner(Sentiment(), spec, data, arithmetic).run_segment().state
    program = Sentiment()
    Runner(program, spec, data, arithmetic).load(state)
    return program, base


def logits_of(model: Any, tokenizer: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits


@pytest.mark.parametrize("family", list(SIZES))
def test_plain_libraries_give_the_same_logits(family: str, tmp_path: Path) -> None:
    program, base = tuned(family, tmp_path)
    save_pretrained(program, tmp_path / "out")
    adapter, merged = tmp_path / "out" / "adapter", tmp_path / "out" / "merged"
    expected = logits_of(program._model, program._tokenizer)
    tokenizer = transformers.AutoTokenizer.from_pretrained(merged)
    classifier = transformers.AutoModelForSequenceClassification
    whole = classifier.from_pretrained(merged)
    torch.testing.assert_close(logits_of(whole, tokenizer), expected)
    torch.manual_seed(99)  # what the base lacks must come from the adapter, not from chance
    plain = classifier.from_pretrained(base, num_labels=2)
    rebuilt = peft.PeftModel.from_pretrained(plain, adapter)
    torch.testing.assert_close(logits_of(rebuilt, tokenizer), expected)
    written = json.loads((adapter / "adapter_config.json").read_text())
    assert "tmp" not in (written["base_model_name_or_path"] or "")
    again = logits_of(program._model, program._tokenizer)
    assert torch.equal(again, expected), "saving changes nothing"


@pytest.mark.parametrize(
    ("family", "fresh"), [("distilbert", "pre_classifier"), ("bert", "bert/pooler/dense")]
)
def test_what_the_base_model_lacks_is_trained_and_in_the_state(
    family: str, fresh: str, tmp_path: Path
) -> None:
    program, _ = tuned(family, tmp_path)
    names = [name for name in program.get_state() if name.startswith("adapter/")]
    assert any(fresh in name for name in names)


class Whole(Program):
    """Holds a whole model, without an adapter. Config: `models`, how many."""

    steps_per_segment = segments = 1

    def init(self, config: Config, data: Any, rng: Rng) -> None:
        sizes = transformers.AutoConfig.for_model("distilbert", vocab_size=9, **SIZES["distilbert"])
        for at in range(int(config["models"])):
            kind = transformers.DistilBertForSequenceClassification
            setattr(self, f"model{at}", kind(sizes))

    def step(self, data: Any, rng: Rng) -> None: ...

    def evaluate(self, data: Any) -> dict[str, float]:
        return {}


def test_a_whole_model_is_written_into_the_folder(tmp_path: Path) -> None:
    program: Any = Whole()
    program.init({"models": 1}, {}, Rng("init"))
    save_pretrained(program, tmp_path)
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    inputs = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(again.eval()(inputs).logits, program.model0.eval()(inputs).logits)


def test_several_models_are_named(tmp_path: Path) -> None:
    program = Whole()
    program.init({"models": 2}, {}, Rng("init"))
    with pytest.raises(UsageError, match="here are model0, model1"):
        save_pretrained(program, tmp_path)
