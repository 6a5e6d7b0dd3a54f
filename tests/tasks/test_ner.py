"""Named entities: column formats and their refusals, IOB repair, scores by hand, overfitting eight
sentences.
"""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BertTokenizer

from bistil.errors import InputError
from bistil.models.load import TaskModel
from bistil.tasks import Task
from bistil.tasks.ner import Ner, Tagged, unmarked_starts


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("utf-8"))
    return path


@pytest.mark.parametrize(
    "text",
    [
        "Anna B-PER\n# O\n\n\nOslo B-LOC\n",
        "\ufeffAnna\tB-PER\r\n#\tO\r\n \r\nOslo\tB-LOC",
        "-DOCSTART- O\n\nAnna B-PER\n# O\n\nOslo B-LOC",
    ],
)
def test_two_columns_with_space_tab_mark_or_carriage_return(tmp_path: Path, text: str) -> None:
    assert Ner().read(write(tmp_path / "a.txt", text)) == [
        Tagged(("Anna", "#"), ("B-PER", "O")),
        Tagged(("Oslo",), ("B-LOC",)),
    ]


def test_iob2_files_have_comments_and_three_or_five_columns(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.iob2",
        "# text = Anna x\n1\tAnna\tB-PER\t-\tme\n2\tx y\tO\n\n1-2\tdu\tO\n1\tde\tO\n2\tle\tO\n",
    )
    assert Ner().read(path) == [Tagged(("Anna", "x y"), ("B-PER", "O")), Tagged(("de", "le"), ("O", "O"))]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "Anna B-PER\nruns\n", "line 2: expected 2 columns"),
        ("a.txt", "Anna B-PER\n\nNew York B-LOC\n", "line 3: expected 2 columns"),
        ("a.txt", "Anna S-PER\n", "line 1: expected the tag"),
        ("a.txt", "Anna B-\n", "line 1: expected the tag"),
        ("a.iob2", "# x\n1\tAnna\tB-PER\t-\n", "line 2: expected 3 or 5 columns"),
        ("a.txt", "Anna B-PER\n\u00a0 O\n", r"line 2: expected a word before the tag 'O', but got the blank"),
        ("a.txt", "Anna B-PER\n\tO\n", "line 2: expected a word before the tag 'O', but got the blank ''"),
        ("a.iob2", "1\tAnna\tB-PER\n2\tsings\tO\n1\tBo\tB-PER\n", "line 3: expected a blank line before"),
        ("a.iob2", "1\t \tB-PER\n", "line 1: expected a word before the tag 'B-PER'"),
        ("a.txt", "en:Anna B-PER\nen:runs O\n", "every one begins with 'en:', as in WikiANN's own"),
        ("a.txt", "_ B-PER\n_ O\n", "every one is '_'"),
        ("a.iob2", "# x\n", "only comments"),
        ("a.txt", "\n\n", "empty"),
    ],
)
def test_malformed_files_are_refused_with_the_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Ner().read(write(tmp_path / name, text))


@pytest.mark.skipif(shutil.which("awk") is None, reason="the command needs awk")
def test_conll2003s_own_columns_are_refused_with_a_command_that_makes_them_two(tmp_path: Path) -> None:
    old = write(
        tmp_path / "old.txt",
        "-DOCSTART- -X- -X- O\n\nAnna NNP I-NP I-PER\nruns VBZ I-VP O\n\nOslo NNP I-NP I-LOC\n",
    )
    with pytest.raises(InputError, match="line 1: expected 2 columns") as refused:
        Ner().read(old)
    _, _, command = str(refused.value).partition("take two: ")
    subprocess.run(command.replace("OLD", "old.txt").replace("NEW", "new.txt"), shell=True, cwd=tmp_path)
    assert Ner().read(tmp_path / "new.txt") == [
        Tagged(("Anna", "runs"), ("B-PER", "O")),
        Tagged(("Oslo",), ("B-LOC",)),
    ]
    with pytest.raises(InputError) as refused:
        Ner().read(write(tmp_path / "three.txt", "New York B-LOC\n"))
    assert "awk" not in str(refused.value)


def test_text_that_is_not_utf8_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("Anna B-PER\nJosé B-PER\n".encode("latin-1"))
    with pytest.raises(InputError, match="line 2 holds the byte 0xe9"):
        Ner().read(path)


def test_inside_tags_that_continue_nothing_start_an_entity(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "a I-PER\nb I-PER\nc I-LOC\nd B-LOC\ne O\nf I-LOC\n\ng I-LOC\n")
    first, second = Ner().read(path)
    assert first.tags == ("B-PER", "I-PER", "B-LOC", "B-LOC", "O", "B-LOC")
    assert second.tags == ("B-LOC",)
    assert unmarked_starts(path) == 4


def test_labels_come_from_training_and_other_types_are_outside(tokenizer: BertTokenizer) -> None:
    ner = Ner().for_training([Tagged(("a",), ("B-PER",)), Tagged(("b",), ("I-LOC",))])
    assert ner.labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    (row,) = ner.encode(
        [Tagged(("visits", "rome", "anna"), ("B-DATE", "I-DATE", "B-PER"))], tokenizer, max_length=8
    )
    assert row["labels"] == [-100, 0, -100, 0, 3, -100]
    with pytest.raises(InputError, match="for_training"):
        Ner().score([], [])


def test_scores_by_hand_with_unknown_types_wrong_borders_and_cut_off_words() -> None:
    ner = Ner(labels=("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
    gold = [
        Tagged(("a", "b", "c", "d"), ("B-PER", "I-PER", "O", "B-DATE")),
        Tagged(("e", "f", "g"), ("B-LOC", "I-LOC", "O")),
        Tagged(("h", "i"), ("O", "B-LOC")),
    ]
    guess = [("B-PER", "I-PER", "O", "O"), ("B-LOC", "O", "B-PER"), ("O",)]
    scores = ner.score(gold, guess)
    assert scores == {
        "precision": pytest.approx(100 / 3),
        "recall": pytest.approx(100 / 3),
        "f1": pytest.approx(100 / 3),
    }


def test_floor_is_zero(ner_file: Path) -> None:
    examples = Ner().read(ner_file)
    assert Ner().floor(examples, examples) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_losses_look_at_first_subwords_only(
    ner_file: Path, tokenizer: BertTokenizer, tiny_model: Callable[[Task], TaskModel]
) -> None:
    examples = Ner().read(ner_file)
    ner = Ner().for_training(examples)
    batch = ner.collate(ner.encode(examples, tokenizer, max_length=32), 0)
    logits = tiny_model(ner)(batch).logits
    first = batch["labels"] != -100
    assert int(first.sum()) == sum(len(example.words) for example in examples)
    log_p = logits["labels"].log_softmax(-1)[first]
    torch.testing.assert_close(
        ner.loss(logits, batch), -log_p[torch.arange(len(log_p)), batch["labels"][first]].mean()
    )
    torch.testing.assert_close(
        ner.distillation_loss(logits, logits, batch), -(log_p.exp() * log_p).sum(-1).mean()
    )


def test_tiny_model_learns_eight_sentences(
    ner_file: Path, tokenizer: BertTokenizer, tiny_model: Callable[[Task], TaskModel]
) -> None:
    examples = Ner().read(ner_file)
    ner = Ner(dropout=0.0).for_training(examples)
    model = tiny_model(ner)
    batch = ner.collate(ner.encode(examples, tokenizer, max_length=32), 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        loss = ner.loss(model(batch).logits, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ner.score(examples, ner.predict(model, batch))["f1"] == 100.0
    (short,) = ner.predict(model, ner.collate(ner.encode(examples[:1], tokenizer, max_length=4), 0))
    assert len(short) == 2
