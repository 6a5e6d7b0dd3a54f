"""What our way of doing five things costs, each against a named baseline measured in the same run on the same random BERT.

Notable: both sides of a comparison take turns, the fastest of several turns counts, and only ratios are meant to be compared between
machines. Baselines are written here after what the published implementations do; they are not those implementations themselves.
"""

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from transformers import BertConfig, BertForMaskedLM, BertModel

from bistil import vocab
from bistil.distil.general import state_losses
from bistil.distil.wardrobe import AdaptedTeacher
from bistil.models import encode
from bistil.provenance import git_state, versions
from bistil.sft.delta import SparseDelta, base_hash
from bistil.sft.lottery import SparseTraining, select_top_k, snapshot
from bistil.student import initialise, layer_map

Turn = Callable[[], Any]
DENSITY = 0.08


@dataclass(frozen=True, kw_only=True)
class Size:
    """The random BERT (`hidden` a multiple of 64) and how often each side takes its turn."""

    layers: int = 6
    hidden: int = 256
    vocabulary: int = 30000
    batch: int = 8
    length: int = 64
    turns: int = 7
    lines: int = 2000


def run_bench(folder: Path, size: Size, *, say: Callable[[str], None]) -> Path:
    """Run all comparisons one after the other, write `bench.json` into `folder`, and return its path."""
    comparisons = []
    for compare in (sparse_step, language_switch, top_k, token_counts, stage_one_step):
        torch.manual_seed(1)
        comparisons.append(compare(size))
        say(sentence(comparisons[-1]))
    found = {
        "size": asdict(size),
        "environment": {**versions(), "git": git_state(), "threads": torch.get_num_threads(), "device": "cpu"},
        "comparisons": comparisons,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "bench.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return path


def sentence(comparison: Mapping[str, Any]) -> str:
    """One comparison as a line of text."""
    ours, baseline = comparison["ours"], comparison["baseline"]
    parts = [f"{ours[name]:.4g} against {baseline[name]:.4g} {name} ({ratio:.2f}×)" for name, ratio in comparison["ratios"].items()]
    return f"{comparison['name']}: {'; '.join(parts)}; baseline: {comparison['against']}"


def sparse_step(size: Size) -> dict[str, Any]:
    """One optimiser step of the sparse phase of LT-SFT: O(K) optimiser state against dense AdamW with a masked dense gradient."""
    encoder = _bert(size)
    other = deepcopy(encoder)
    theta0 = snapshot(encoder)
    support = _support(theta0)
    batch = torch.randint(5, size.vocabulary, (size.batch, size.length))
    masks = {name: torch.zeros(tensor.numel()) for name, tensor in theta0.items()}
    for name, positions in support.items():
        masks[name][positions] = 1.0
    dense = torch.optim.AdamW(other.parameters())

    def backward(model: BertModel) -> None:
        model(input_ids=batch).last_hidden_state.square().mean().backward()

    def baseline() -> None:
        dense.zero_grad()
        backward(other)
        for name, parameter in other.named_parameters():
            if parameter.grad is not None:
                parameter.grad *= masks[name].view_as(parameter)
        dense.step()

    with SparseTraining(encoder, support=support, theta0=theta0) as sparse:
        optimizer = torch.optim.AdamW([sparse.values])
        sparse.attach(optimizer)

        def ours() -> None:
            optimizer.zero_grad()
            backward(encoder)
            optimizer.step()

        seconds = _alternate(size.turns, ours=ours, baseline=baseline)
        ours_bytes = {"optimiser state, bytes": _state_bytes(optimizer), "gradient kept, bytes": _gradient_bytes(encoder)}
    kept = {"optimiser state, bytes": _state_bytes(dense), "gradient kept, bytes": _gradient_bytes(other)}
    text = "dense AdamW, every gradient multiplied by a 0/1 mask (as composable-sft does)"
    return _comparison(f"sparse step, density {DENSITY}", text, {**seconds["ours"], **ours_bytes}, {**seconds["baseline"], **kept})


def language_switch(size: Size) -> dict[str, Any]:
    """Taking one language's SFT off the teacher and putting another's on; also what 20 switches leave of the base."""
    encoder = _bert(size)
    other = deepcopy(encoder)
    base, before = base_hash(encoder), snapshot(other)
    deltas = {code: _delta(before, base) for code in ("aaa", "bbb")}
    full = {code: {name: _dense(delta, name, before[name]) for name in delta.tensors} for code, delta in deltas.items()}
    teacher, parameters, worn, turn = AdaptedTeacher(encoder, deltas, None), dict(other.named_parameters()), "aaa", 0

    def ours() -> None:
        nonlocal turn
        turn += 1
        teacher.wear(("aaa", "bbb")[turn % 2])

    @torch.no_grad()
    def baseline() -> None:
        nonlocal worn
        new = "bbb" if worn == "aaa" else "aaa"
        for sign, code in ((-1, worn), (1, new)):
            for name, change in full[code].items():
                parameters[name].add_(change, alpha=sign)
        worn = new

    with torch.no_grad():
        for name, change in full["aaa"].items():
            parameters[name].add_(change)
    teacher.wear("aaa")
    seconds = _alternate(20, ours=ours, baseline=baseline)
    teacher.wear(None)
    with torch.no_grad():
        for name, change in full[worn].items():
            parameters[name].sub_(change)
    ours_off, dense_off = (
        max(float((after.detach() - before[name]).abs().max()) for name, after in model.named_parameters()) for model in (encoder, other)
    )
    kept = sum(positions.nbytes + values.nbytes for positions, values in deltas["aaa"].tensors.values())
    found = _comparison(
        f"language switch, density {DENSITY}",
        "adding and subtracting whole tensors",
        {**seconds["ours"], "kept for a language, bytes": kept},
        {**seconds["baseline"], "kept for a language, bytes": sum(change.nbytes for change in full["aaa"].values())},
    )
    return {**found, "largest change of the base after all switches": {"ours": ours_off, "baseline": dense_off}}


def top_k(size: Size) -> dict[str, Any]:
    """Selecting the K entries that moved most, over all tensors together."""
    before = snapshot(_bert(size))
    after = {name: tensor + torch.randn_like(tensor) for name, tensor in before.items()}
    k = round(DENSITY * sum(tensor.numel() for tensor in before.values()))

    def baseline() -> dict[str, Tensor]:
        moved: list[float] = []
        for name in before:
            moved.extend((after[name] - before[name]).abs().view(-1).tolist())
        threshold = np.partition(moved, len(moved) - k)[len(moved) - k]
        return {name: ((after[name] - before[name]).abs() >= threshold) for name in before}

    seconds = _alternate(3, ours=lambda: select_top_k(before, after, k), baseline=baseline)
    return _comparison("top-k selection", "one Python list of all differences, then np.partition (as composable-sft does)", **seconds)


def token_counts(size: Size) -> dict[str, Any]:
    """Counting the tokens of a corpus, against the tokenizer's own time on the same lines."""
    tokenizer, lines = _tokenizer_and_text(size)
    seconds = _alternate(
        size.turns,
        ours=lambda: vocab.count_tokens(tokenizer, lines),
        baseline=lambda: tokenizer.backend_tokenizer.encode_batch(lines, add_special_tokens=False),
    )
    return _comparison(
        f"token counts, {size.lines} lines", "the tokenizer's own encode_batch on all lines at once, nothing counted", **seconds
    )


def stage_one_step(size: Size) -> dict[str, Any]:
    """One step of general distillation at lrf 2: encoders and masked means against whole masked-LM models and boolean selection."""
    config = _config(size, layers=2 * size.layers)
    teachers = [BertForMaskedLM(config).eval().requires_grad_(False) for _ in range(2)]
    student = initialise(teachers[0].bert, 2)
    other = BertForMaskedLM(_config(size, layers=size.layers))
    other.bert = initialise(teachers[1].bert, 2)
    for model in (teachers[1], other):
        model.set_attn_implementation("eager")
    layers, ids = layer_map(2 * size.layers, 2), torch.randint(5, size.vocabulary, (size.batch, size.length))
    lengths = torch.randint(size.length // 2, size.length + 1, (size.batch, 1))
    mask = (torch.arange(size.length)[None] < lengths).long()
    adapted = AdaptedTeacher(teachers[0].bert, {}, None)

    def ours() -> None:
        states = encode(student, ids, mask, states=True)
        state_losses(states, adapted.states(ids, mask), layers, mask)[0].backward()
        student.zero_grad()

    def baseline() -> None:
        wanted = {"output_hidden_states": True, "output_attentions": True}
        with torch.no_grad():
            theirs = teachers[1](input_ids=ids, attention_mask=mask, **wanted)
        own = other(input_ids=ids, attention_mask=mask, **wanted)
        loss = torch.zeros(())
        for mine, layer in enumerate(layers):
            attention = theirs.attentions[layer - 1]
            real = attention != 0.0
            loss = loss + mse_loss(own.attentions[mine][real], attention[real])
        for mine, layer in enumerate((0, *layers)):
            loss = loss + mse_loss(own.hidden_states[mine][mask.bool()], theirs.hidden_states[layer][mask.bool()])
        loss.backward()
        other.zero_grad()

    seconds = _alternate(size.turns, ours=ours, baseline=baseline)
    text = "both whole masked-LM models with their heads, losses on boolean selections (as the published BiStil code does)"
    return _comparison("stage-1 step, forward and backward", text, **seconds)


def _alternate(turns: int, **sides: Turn) -> dict[str, dict[str, float]]:
    """Let the sides take turns after one turn to warm up; seconds of each side's fastest and median turn."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for turn in range(turns + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: {"seconds": min(found), "median seconds": statistics.median(found)} for name, found in seconds.items()}


def _comparison(name: str, against: str, ours: Mapping[str, float], baseline: Mapping[str, float]) -> dict[str, Any]:
    ratios = {unit: ours[unit] / baseline[unit] for unit in ours if baseline[unit]}
    return {"name": name, "against": against, "ours": dict(ours), "baseline": dict(baseline), "ratios": ratios}


def _config(size: Size, *, layers: int) -> BertConfig:
    return BertConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(1, size.hidden // 64),
        intermediate_size=4 * size.hidden,
        max_position_embeddings=max(128, size.length),
    )


def _bert(size: Size) -> BertModel:
    return BertModel(_config(size, layers=size.layers), add_pooling_layer=False).eval()


def _support(theta: Mapping[str, Tensor]) -> dict[str, Tensor]:
    total = sum(tensor.numel() for tensor in theta.values())
    return select_top_k(theta, {name: tensor + torch.randn_like(tensor) for name, tensor in theta.items()}, round(DENSITY * total))


def _delta(before: Mapping[str, Tensor], base: str) -> SparseDelta:
    tensors = {name: (positions, 0.01 * torch.randn(len(positions))) for name, positions in _support(before).items()}
    return SparseDelta(tensors=tensors, base=base)


def _dense(delta: SparseDelta, name: str, like: Tensor) -> Tensor:
    positions, values = delta.tensors[name]
    return torch.zeros(like.numel()).index_put_((positions,), values).view_as(like)


def _state_bytes(optimizer: torch.optim.Optimizer) -> int:
    tensors = (item for state in optimizer.state.values() for item in state.values() if isinstance(item, Tensor))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _gradient_bytes(model: nn.Module) -> int:
    return sum(p.grad.numel() * p.grad.element_size() for p in model.parameters() if p.grad is not None)


def _tokenizer_and_text(size: Size) -> tuple[Any, list[str]]:
    """A WordPiece tokenizer of random words and lines made of them, some in pieces."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    draw = np.random.Generator(np.random.PCG64(1))
    letters = [chr(ord("a") + i) for i in range(26)]
    words = sorted({"".join(draw.choice(letters, draw.integers(2, 8))) for _ in range(min(size.vocabulary, 5000))})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), *words]
    raw = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(dict.fromkeys(pieces))}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    lines = [" ".join(words[i] for i in draw.integers(0, len(words), 20)) + " zzzyx" for _ in range(size.lines)]
    return PreTrainedTokenizerFast(tokenizer_object=raw, **names), lines
