"""Evaluation: order, batch size, modes, progress, refusals."""

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from bistil.errors import InputError
from bistil.evaluation.score import by_length, evaluate, predict_all
from bistil.models.load import TaskModel
from bistil.tasks import Task
from bistil.tasks.ner import Ner, Tagged
from bistil.tasks.parsing import Parsing
from bistil.tasks.treebank import Sentence
from bistil.training.progress import Event

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d", "##x"]
LENGTHS = [3, 1, 7, 2, 5, 4, 12]


def words(n: int) -> tuple[str, ...]:
    return tuple("abcd"[(i * i + n) % 4] + "x" * (i % 3 == 0) for i in range(n))


def sentences(name: str) -> tuple[Task, list]:
    if name == "ner":
        tagged = [Tagged(words(n), ("B-PER", *["O"] * (n - 1))) for n in LENGTHS]
        return Ner().for_training(tagged), tagged
    trees = [Sentence(words(n), tuple(range(n)), ("root", *["obj"] * (n - 1))) for n in LENGTHS]
    return Parsing().for_training(trees), trees


def random_model(task: Task) -> TaskModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    model = TaskModel(encoder=BertModel(config, add_pooling_layer=False), head=task.head(32))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(VOCABULARY)})


@pytest.mark.parametrize("name", ["parsing", "ner"])
def test_predictions_are_those_of_single_sentences_in_the_order_of_the_examples(
    name: str, tokenizer: BertTokenizer
) -> None:
    task, examples = sentences(name)
    model = random_model(task)
    single = [predict_all(model, task, [example], tokenizer, max_length=16)[0] for example in examples]
    for batch_size in (1, 2, 64):
        assert predict_all(model, task, examples, tokenizer, batch_size=batch_size, max_length=16) == single
    assert evaluate(model, task, examples, tokenizer, batch_size=3, max_length=16) == {
        **task.score(examples, single),
        "n_examples": 7,
    }


def test_words_beyond_the_limit_count_as_wrong(tokenizer: BertTokenizer) -> None:
    task, examples = sentences("parsing")
    model = random_model(task)
    predictions = predict_all(model, task, examples, tokenizer, max_length=6)
    assert len(predictions[-1].heads) < 12
    right = sum(
        g == h
        for e, p in zip(examples, predictions, strict=True)
        for g, h in zip(e.heads, p.heads, strict=False)
    )
    assert evaluate(model, task, examples, tokenizer, max_length=6)["uas"] == pytest.approx(
        100 * right / sum(LENGTHS)
    )


def test_modes_are_restored_and_progress_is_told(tokenizer: BertTokenizer) -> None:
    task, examples = sentences("ner")
    model = random_model(task).train()
    events: list[Event] = []
    evaluate(model, task, examples, tokenizer, batch_size=4, progress=events.append)
    assert model.training
    assert model.encoder.training
    assert [(event.step, event.of) for event in events] == [(4, 7), (7, 7)]
    evaluate(model.eval(), task, examples, tokenizer)
    assert not model.training


def test_no_examples_and_no_batch_size_are_refused(tokenizer: BertTokenizer) -> None:
    task, examples = sentences("ner")
    model = random_model(task)
    with pytest.raises(InputError, match="0 examples"):
        evaluate(model, task, [], tokenizer)
    with pytest.raises(InputError, match="batch size"):
        evaluate(model, task, examples, tokenizer, batch_size=0)


def test_batches_take_every_row_once_and_the_longest_come_in_small_ones() -> None:
    rows = [{"input_ids": [0] * n} for n in (3, 3000, 5, 700, 900, 2, 1)]
    found = list(by_length(rows, 3))
    assert found == [[1], [4, 3], [2, 0, 5], [6]]


@pytest.mark.parametrize("name", ["ner", "parsing"])
def test_what_is_longer_than_the_encoder_is_cut_as_it_has_positions(
    name: str, tokenizer: BertTokenizer
) -> None:
    task, _ = sentences(name)
    many = words(60)
    long = (
        Tagged(many, ("B-PER", *["O"] * 59))
        if name == "ner"
        else Sentence(many, tuple(range(60)), ("root",) * 60)
    )
    model = random_model(task)
    assert len(predict_all(model, task, [long], tokenizer)) == 1
    cut = predict_all(model, task, [long], tokenizer, max_length=32)
    assert predict_all(model, task, [long], tokenizer) == cut
