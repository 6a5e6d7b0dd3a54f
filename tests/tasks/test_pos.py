"""Parts of speech: reading and refusals, accuracy by hand, the floor, overfitting eight sentences."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BertTokenizer

from bistil.errors import InputError
from bistil.models.load import TaskModel
from bistil.tasks import Task, task
from bistil.tasks.pos import Pos
from bistil.tasks.tagging import Tagged

LINE = "{0}\t{1}\t_\t{2}\t_\t_\t_\t_\t_\t_\n"


def write(path: Path, *rows: tuple[str, str, str]) -> Path:
    path.write_text("# text = x\n" + "".join(LINE.format(*row) for row in rows) + "\n", encoding="utf-8")
    return path


def test_words_with_tags_are_read_without_trees_ranges_and_empty_nodes(tmp_path: Path) -> None:
    rows = [
        ("1-2", "du", "_"),
        ("1", "de", "ADP"),
        ("2", "le", "DET"),
        ("2.1", "x", "VERB"),
        ("3", "x y", "NOUN"),
    ]
    assert Pos().read(write(tmp_path / "a.conllu", *rows)) == [
        Tagged(("de", "le", "x y"), ("ADP", "DET", "NOUN"))
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("1\ta\tNOUN\n", "line 1: expected 10 columns"),
        (
            "# x\n" + LINE.format(1, "a", "NOUN") + LINE.format(2, "b", "N"),
            r"line 3: expected one of the universal .* but got 'N'",
        ),
        (LINE.format(1, "a", "_"), "but got '_'"),
        (LINE.format(1, "_", "X"), "every one is '_'"),
        (LINE.format(1, " ", "X"), "line 1: expected a word in the second column"),
        (LINE.format(1, "a", "X") + LINE.format(3, "b", "X"), "line 2: expected the word id 2, but got '3'"),
        ("# only\n\n# this\n", "only comments"),
        ("\n", "empty"),
    ],
)
def test_malformed_files_are_refused_with_the_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "a.conllu"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        Pos().read(path)


def test_the_world_and_its_trees_have_the_same_words(data) -> None:
    sentences, trees = (task(name).read(data.file("treebank", "qaa", "train")) for name in ("pos", "parsing"))
    assert [sentence.words for sentence in sentences] == [tree.words for tree in trees]
    assert {"NOUN", "VERB"} <= {tag for sentence in sentences for tag in sentence.tags}


def test_accuracy_by_hand_with_cut_off_words_and_tags_that_training_lacks() -> None:
    pos = Pos().for_training([Tagged(("a",), ("NOUN",)), Tagged(("b",), ("ADJ",))])
    assert pos.labels == ("_", "ADJ", "NOUN")
    gold = [Tagged(("a", "b", "c"), ("NOUN", "X", "ADJ")), Tagged(("d",), ("ADJ",))]
    assert pos.score(gold, [("NOUN", "_", "ADJ"), ("ADJ",)]) == {"accuracy": 75.0}
    assert pos.score(gold, [("NOUN",), ("NOUN",)]) == {"accuracy": 25.0}
    assert Pos().floor([Tagged(("a", "b", "c"), ("X", "ADJ", "ADJ"))], gold) == {"accuracy": 50.0}


def test_a_tag_that_training_lacks_has_a_place_and_no_crash(tokenizer: BertTokenizer) -> None:
    pos = Pos().for_training([Tagged(("a",), ("NOUN",))])
    (row,) = pos.encode([Tagged(("visits", "rome"), ("VERB", "NOUN"))], tokenizer, max_length=8)
    assert row["labels"] == [-100, 0, -100, 1, -100]
    with pytest.raises(InputError, match="for_training"):
        Pos().head(4)
    with pytest.raises(InputError, match="there are none"):
        Pos().for_training([])


def test_tiny_model_learns_eight_sentences(
    ner_file: Path, tokenizer: BertTokenizer, tiny_model: Callable[[Task], TaskModel]
) -> None:
    nouns = {
        "anna": "PROPN",
        "ben": "PROPN",
        "rome": "PROPN",
        "oslo": "PROPN",
        ".": "PUNCT",
        "the": "DET",
        "and": "CCONJ",
        "in": "ADP",
    }
    sentences = [sentence.words for sentence in task("ner").read(ner_file)]
    examples = [
        Tagged(words, tuple(nouns.get(word, "VERB" if word.endswith("s") else "NOUN") for word in words))
        for words in sentences
    ]
    pos = Pos(dropout=0.0).for_training(examples)
    model = tiny_model(pos)
    batch = pos.collate(pos.encode(examples, tokenizer, max_length=32), 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(40):
        loss = pos.loss(model(batch).logits, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert pos.score(examples, pos.predict(model, batch)) == {"accuracy": 100.0}
