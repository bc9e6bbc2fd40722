"""Writes a trained Hugging Face model as `transformers` and `peft` read it.

AutoModelForSequenceClassification.from_pretrained(folder / "merged")
PeftModel.from_pretrained(base, folder / "adapter")
"""

# The extra `finetune` has these packages; `make lint` also runs without it.
# pyright: reportMissingImports=false

import copy
from pathlib import Path
from typing import Any

from gensyn_ray.domain.errors import OperationError, UsageError
from workloads.core.program import Program


def save_pretrained(program: Program, folder: Path) -> None:
    """Write the program's model, and its tokenizer if it has one.

    A model with an adapter gives the folders `adapter` (what was trained) and `merged` (the whole
    model); any other model is written into `folder` itself. Raises `OperationError` if
    transformers is missing, and `UsageError` if the program has no such model or several."""
    try:
        from transformers import PreTrainedModel, PreTrainedTokenizerBase
    except ImportError:
        raise OperationError(
            "transformers is missing: pip install 'gensyn-ray[finetune]'"
        ) from None
    adapted = _peft_model()
    held: dict[str, Any] = vars(program)
    models = {
        name: one for name, one in held.items() if isinstance(one, (PreTrainedModel, *adapted))
    }
    if len(models) != 1:
        found = ", ".join(models) or "none"
        raise UsageError(
            f"save_pretrained needs one Hugging Face model among the program's attributes, here "
            f"are {found}: call `result.program()` and save what you need"
        )
    (model,) = models.values()
    if isinstance(model, adapted):
        # Layers of an embedding's size would make peft ask the hub for the base model.
        model.save_pretrained(folder / "adapter", save_embedding_layers=False)
        copy.deepcopy(model).merge_and_unload().save_pretrained(folder / "merged")
        written = [folder / "adapter", folder / "merged"]
    else:
        model.save_pretrained(folder)
        written = [folder]
    for tokenizer in held.values():
        if isinstance(tokenizer, PreTrainedTokenizerBase):
            for target in written:
                tokenizer.save_pretrained(target)


def _peft_model() -> tuple[type, ...]:
    """The class of models with adapters; none if peft is missing, because then no model has one."""
    try:
        from peft import PeftModel
    except ImportError:
        return ()
    return (PeftModel,)
