"""Costs against closed forms, sizes against a real file, refusals."""

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from bistil.errors import InputError
from bistil.evaluation.cost import (
    Times,
    Turn,
    count_flops,
    disk_bytes,
    in_turns,
    measure,
    take_turn,
    times,
    typical,
)
from bistil.models.load import TaskModel
from bistil.tasks.ner import Ner
from bistil.tasks.parsing import Parsing

HIDDEN, LAYERS, INNER = 32, 3, 48
NER = Ner(labels=("O", "B-PER", "I-PER"))


def model_for(head: torch.nn.Module, layers: int = LAYERS) -> TaskModel:
    config = BertConfig(
        vocab_size=50,
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=INNER,
        max_position_embeddings=32,
    )
    return TaskModel(encoder=BertModel(config, add_pooling_layer=False), head=head)


def ner_rows(*lengths: int) -> list[dict[str, list[int]]]:
    return [{"input_ids": [2] * n, "labels": [-100, *[0] * (n - 2), -100]} for n in lengths]


def encoder_flops(length: int, layers: int = LAYERS) -> int:
    projections = 4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER
    return layers * (2 * length * projections + 4 * length * length * HIDDEN)


def test_flops_of_encoder_and_linear_head_have_the_closed_form() -> None:
    cost = measure(model_for(NER.head(HIDDEN)), NER, ner_rows(4, 9, 10, 17), batch_size=2, repeats=1)
    assert cost.head_flops_per_example == 2 * 10 * HIDDEN * 3
    assert cost.flops_per_example == encoder_flops(10) + cost.head_flops_per_example


def test_flops_of_the_biaffine_head_have_the_closed_form_and_do_not_need_gold_heads() -> None:
    parsing = Parsing(labels=("obj", "root"))
    words, size = 5, HIDDEN + 1
    rows = [
        {
            "input_ids": [2] * 8,
            "first_subwords": [1, 2, 3, 4, 6],
            "heads": [0, 1, 1, 3, 3],
            "relations": [1, 0, 0, 0, 0],
        }
    ]
    model = model_for(parsing.head(HIDDEN))

    def expected(governors: int) -> int:
        """Arcs, and for each of two relations a product a governor and one a word."""
        return 2 * (
            words * size * size + words * size * (words + 1) + 2 * size * size * governors + 2 * size * words
        )

    batch = parsing.collate(rows, 0)
    assert count_flops(model, batch) == (
        encoder_flops(8) + expected(3),
        expected(3),
    )  # the root, 1 and 3 govern
    total, head = count_flops(model, {k: v for k, v in batch.items() if k != "heads"})
    assert total == encoder_flops(8) + head
    assert head in [expected(governors) for governors in range(1, words + 1)]


def test_sizes_are_those_of_the_parts_and_of_the_file(tmp_path: Path) -> None:
    model = model_for(NER.head(HIDDEN)).train()
    cost = measure(model, NER, ner_rows(6), batch_size=4, repeats=2)
    save_file(dict(model.state_dict()), tmp_path / "model.safetensors")
    assert cost.disk_bytes == disk_bytes(model) == (tmp_path / "model.safetensors").stat().st_size
    assert cost.head_parameters == HIDDEN * 3 + 3
    assert (
        cost.parameters
        == cost.encoder_parameters + cost.head_parameters
        == sum(p.numel() for p in model.parameters())
    )
    assert cost.vocabulary == 50
    assert cost.latency_ms > 0
    assert cost.examples_per_second > 0
    assert model.training


def test_sides_take_turns_and_the_first_only_warms_up() -> None:
    calls: list[str] = []

    def call(name: str) -> int:
        calls.append(name)
        return len(calls)

    sides = {name: partial(call, name) for name in "ab"}
    assert in_turns(2, sides) == {"a": [3, 5], "b": [4, 6]}
    assert "".join(calls) == "ababab"


def test_times_are_medians_with_their_spread_and_tell_a_busy_machine() -> None:
    turns = [Turn(one, 0.25, 0.5, clock=1.0, processor=0.5) for one in (1.0, 2.0, 3.0, 4.0, 5.0)]
    found = times(turns, 8, torch.device("cpu"))
    assert found == Times(3000.0, 1000.0, 250.0, 16.0, 0.5)
    assert times([Turn(1, 1, 1, 1.0, processor=3.0)], 1, torch.device("cpu")).processor_share == 1.0
    assert times(turns[:1], 8, torch.device("cuda")).processor_share is None


def test_a_turn_of_a_deep_model_times_its_encoder_within_the_whole() -> None:
    model = model_for(NER.head(HIDDEN), 8).eval()
    batches = typical(NER, ner_rows(4, 9, 10, 17), torch.device("cpu"), batch_size=3)
    assert [batch["input_ids"].shape for batch in batches] == [(1, 10), (3, 17)]
    taken = [take_turn(model, NER, *batches) for _ in range(5)]
    assert all(turn.clock >= turn.one + turn.encoder + turn.many > 0 for turn in taken)


def test_half_the_layers_cost_half_the_encoder_flops() -> None:
    deep, shallow = (
        measure(model_for(NER.head(HIDDEN), n), NER, ner_rows(6), batch_size=1, repeats=1) for n in (4, 2)
    )
    encoder = [cost.flops_per_example - cost.head_flops_per_example for cost in (deep, shallow)]
    assert encoder[0] == 2 * encoder[1]


@pytest.mark.parametrize(
    ("rows", "batch_size", "repeats"), [([], 1, 1), (ner_rows(4), 0, 1), (ner_rows(4), 1, 0)]
)
def test_nothing_to_measure_is_refused(rows: list, batch_size: int, repeats: int) -> None:
    with pytest.raises(InputError, match="repeats"):
        measure(model_for(NER.head(HIDDEN)), NER, rows, batch_size=batch_size, repeats=repeats)
