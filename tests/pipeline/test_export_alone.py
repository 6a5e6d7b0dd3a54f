"""Every trimmed student, every architecture with every tokenizer, in a Python that has no bistil: the same
tokens, the same numbers.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast
from zoo import TOKENIZERS, masked_lm, modernbert_tokenizer

from bistil import vocab
from bistil.distil.start import initialise
from bistil.models.architectures import ARCHITECTURES
from bistil.models.load import TaskModel, save_student
from bistil.pipeline.finished import export, exportable
from bistil.tasks.labelling import ClsClassifier
from bistil.tasks.qa import SpanHead
from bistil.tasks.tagging import TokenClassifier

LINES = [
    "the cat sat on the mat",
    "a dog ran after the cats",
    "where is the dog now ?",
    "é è ñandú corrió rápido",
    "der Hund läuft",
] * 8
HEADS: dict[str, Callable[[], torch.nn.Module]] = {
    "TokenClassification": lambda: TokenClassifier(hidden_size=32, labels=3, dropout=0.1),
    "SequenceClassification": lambda: ClsClassifier(hidden_size=32, labels=3, dropout=0.1),
    "QuestionAnswering": lambda: SpanHead(hidden_size=32),
}
OTHERS = ("distilbert", "electra")
"""Families with BERT's tokenizer, whose classes for sentences are not our head."""
FAMILIES = [*(make for name, make in TOKENIZERS.items() if name not in OTHERS), modernbert_tokenizer]
"""Every kind of tokenizer once."""
ALONE = """
import sys
sys.modules["bistil"] = None  # any import of it fails
import torch, transformers
from pathlib import Path
from safetensors.torch import load_file, save_file

for folder in sorted(path.parent for path in Path(sys.argv[1]).glob("*/config.json")):
    _, _, kind = folder.name.rpartition("=")
    model = getattr(transformers, f"AutoModel{kind}").from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(LINES, padding=True, return_tensors="pt")
    with torch.inference_mode():
        out = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
    spans = ("start_logits", "end_logits")
    names = ("last_hidden_state",) if not kind else spans if "Question" in kind else ("logits",)
    found = {name: out[name].contiguous() for name in names}
    save_file({"ids": inputs["input_ids"], **found}, folder / "found.safetensors")
loaded = (name for name, module in sys.modules.items() if module is not None)
print(*(name for name in loaded if name.partition(".")[0] == "bistil"))
"""


def students(root: Path, name: str, tokenizer: PreTrainedTokenizerFast) -> dict[str, dict[str, torch.Tensor]]:
    """Write an encoder and one student a head, all trimmed and of half the layers; what each should give, by
    its folder.
    """
    kept = vocab.choose(tokenizer, [vocab.count_tokens(tokenizer, LINES[:3])])
    trimmed, expected = vocab.trim_tokenizer(tokenizer, kept), {}
    positions = 64 + int(tokenizer.pad_token_id)  # RoBERTa's begin behind the padding id
    encoder = initialise(masked_lm(name, tokenizer, max_position_embeddings=positions).base_model, 2).eval()
    vocab.trim_model(encoder, kept)
    inputs = trimmed(LINES[:5], padding=True, return_tensors="pt")
    batch = {
        "input_ids": inputs["input_ids"],
        "attention_mask": inputs["attention_mask"],
        "starts": torch.zeros_like(inputs["input_ids"]),
    }
    torch.manual_seed(3)
    for kind, head in {"": torch.nn.Identity, **{f"For{one}": made for one, made in HEADS.items()}}.items():
        model = TaskModel(encoder=encoder, head=head() if kind else _Nothing()).eval()
        folder = root / f"{name}-{type(tokenizer).__name__}-{len(tokenizer)}={kind}"
        if kind and not exportable(model):
            # whose task classes have one more layer, or another activation
            assert name == "modernbert" or (name in OTHERS and kind == "ForSequenceClassification")
            continue
        if kind:
            labels = ("start", "end") if kind == "ForQuestionAnswering" else ("x", "y", "z")
            export(folder, model, labels, trimmed)
        else:
            save_student(folder, encoder, trimmed)
        with torch.inference_mode():
            out = model(batch)
        renamed = {"labels": "logits", "start": "start_logits", "end": "end_logits"}
        found = (
            {renamed[key]: value for key, value in out.logits.items()}
            if kind
            else {"last_hidden_state": out.last}
        )
        expected[folder.name] = {"ids": inputs["input_ids"], **found}
    return expected


class _Nothing(torch.nn.Module):
    """A head without logits."""

    def forward(self, hidden: torch.Tensor, batch: Any) -> dict[str, torch.Tensor]:
        return {}


Expected = dict[str, dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Expected], str]:
    """Students of every architecture, read by one Python without bistil: their folder, what each should
    give, and which modules of bistil were loaded.
    """
    root = tmp_path_factory.mktemp("alone")
    expected: dict[str, Expected] = {name: {} for name in ARCHITECTURES}
    for name, make in product(ARCHITECTURES, FAMILIES):
        expected[name] |= students(root, name, make(LINES))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    code = f"LINES = {LINES[:5]!r}\n{ALONE}\ntorch"
    run = subprocess.run(
        [sys.executable, "-c", code, str(root)],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return root, expected, run.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_plain_transformers_gives_identical_logits(
    name: str, alone: tuple[Path, dict[str, Expected], str]
) -> None:
    root, expected, loaded = alone
    heads = len(HEADS) - {"modernbert": len(HEADS), **dict.fromkeys(OTHERS, 1)}.get(name, 0)
    assert len(expected[name]) == len(FAMILIES) * (1 + heads)
    assert loaded == ""
    for folder, wanted in expected[name].items():
        found = load_file(root / folder / "found.safetensors")
        assert found.keys() == wanted.keys()
        for key, tensor in wanted.items():
            assert torch.equal(found[key], tensor), f"{folder}: {key}"
