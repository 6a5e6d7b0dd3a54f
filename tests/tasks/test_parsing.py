"""Parsing: reading and its refusals, the head against plain loops, scores by hand, overfitting eight
sentences.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BertTokenizer

from bistil.errors import InputError
from bistil.models.load import TaskModel
from bistil.tasks import Task, task
from bistil.tasks.biaffine import ShallowBiaffine, impossible
from bistil.tasks.parsing import Parsing, Tree, left_attachment, most_frequent_relation, right_attachment
from bistil.tasks.treebank import Sentence

ROW = "{}\t{}\t_\t_\t_\t_\t{}\t{}\t_\t_"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_multiword_tokens_empty_nodes_and_comments_are_no_words(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.conllu",
        "# sent_id = one",
        "1-2\tdel\t_\t_\t_\t_\t_\t_\t_\t_",
        ROW.format(1, "de", 3, "case"),
        ROW.format(2, "el", 3, "det"),
        ROW.format(3, "10 000", 0, "root"),
        "3.1\tgap\t_\t_\t_\t_\t_\t_\t_\t_",
        ROW.format(4, "x", 3, "nsubj:pass"),
        "",
        "# text = y",
        ROW.format(1, "#", 0, "root"),
    )
    first, second = Parsing().read(path)
    assert first == Sentence(
        ("de", "el", "10 000", "x"), (3, 3, 0, 3), ("case", "det", "root", "nsubj:pass"), "one"
    )
    assert second.words == ("#",)


@pytest.mark.parametrize("column", [1, 2, 5, 9])
def test_two_spaces_in_a_column_move_no_other(column: int, tmp_path: Path) -> None:
    rows = [ROW.format(1, "a", 2, "nsubj"), ROW.format(2, "b", 0, "root"), ROW.format(3, "c", 2, "punct")]
    columns = rows[1].split("\t")
    columns[column] = "x  y   z"
    (found,) = Parsing().read(write(tmp_path / "x.conllu", rows[0], "\t".join(columns), rows[2]))
    assert (found.heads, found.relations) == ((2, 0, 2), ("nsubj", "root", "punct"))
    assert found.words == ("a", columns[1], "c")


def test_a_treebank_without_its_text_is_refused(tmp_path: Path) -> None:
    rows = [ROW.format(1, "_", 2, "det"), ROW.format(2, "_", 0, "root")]
    with pytest.raises(InputError, match="every one is '_'"):
        Parsing().read(write(tmp_path / "x.conllu", *rows))
    assert Parsing().read(write(tmp_path / "x.conllu", *rows, "", ROW.format(1, "a", 0, "root")))


@pytest.mark.parametrize(
    ("rows", "line", "said"),
    [
        ([ROW.format(1, "a", 0, "root"), "2\tb\t_\t1"], 4, "10 columns"),
        ([ROW.format(1, "a", 0, "root"), ROW.format(3, "b", 1, "obj")], 4, "word id 2"),
        ([ROW.format(1, "a", 0, "root"), ROW.format(2, "b", 7, "obj")], 4, "head from 0 to 2"),
        ([ROW.format(1, "a", 0, "root"), ROW.format(2, "b", "_", "obj")], 4, "'_'"),
        ([ROW.format(1, "a", 1, "root")], 3, "other than the word itself"),
        ([ROW.format(1, "a", 0, "root"), ROW.format(2, "b", 0, "root")], 3, "exactly one root"),
        ([ROW.format(1, "a", 2, "x"), ROW.format(2, "b", 1, "x"), ROW.format(3, "c", 0, "root")], 3, "cycle"),
        ([ROW.format(1, "a", 0, "_")], 3, "relation"),
    ],
)
def test_malformed_lines_are_named_by_file_and_number(
    tmp_path: Path, rows: list[str], line: int, said: str
) -> None:
    path = write(tmp_path / "bad.conllu", "", "# comment", *rows)
    with pytest.raises(InputError) as caught:
        Parsing().read(path)
    assert f"{path}, line {line}:" in str(caught.value)
    assert said in str(caught.value)


def test_missing_and_empty_files_and_unlabelled_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is none"):
        Parsing().read(tmp_path / "none.conllu")
    with pytest.raises(InputError, match="empty"):
        Parsing().read(write(tmp_path / "empty.conllu", ""))
    with pytest.raises(InputError, match="only comments"):
        Parsing().read(write(tmp_path / "comments.conllu", "# text = a", ""))
    with pytest.raises(InputError, match="for_training"):
        Parsing().head(8)
    with pytest.raises(InputError, match="parsing, ner"):
        task("chunking")


def test_rows_hold_first_subwords_and_heads_that_were_not_cut_off(tokenizer: BertTokenizer) -> None:
    example = Sentence(("anna", "visits", "­", "rome"), (2, 0, 4, 2), ("nsubj", "root", "odd", "obj:x"))
    parsing = Parsing(labels=("nsubj", "obj", "root"))
    (row,) = parsing.encode([example], tokenizer, max_length=16)
    assert tokenizer.convert_ids_to_tokens(row["input_ids"]) == [
        "[CLS]",
        "anna",
        "visit",
        "##s",
        "[UNK]",
        "rome",
        "[SEP]",
    ]
    assert row["first_subwords"] == [1, 2, 4, 5]
    assert row["heads"] == [2, 0, 4, 2]
    assert row["relations"] == [0, 2, -100, 1]
    (cut,) = parsing.encode([example], tokenizer, max_length=6)
    assert cut["first_subwords"] == [1, 2, 4]
    assert cut["heads"] == [2, 0, -100]
    assert tokenizer.backend_tokenizer.truncation is None


def test_head_equals_plain_loops() -> None:
    torch.manual_seed(1)
    head = ShallowBiaffine(hidden_size=5, relations=3, dropout=0.0)
    torch.nn.init.normal_(head.arcs)
    torch.nn.init.normal_(head.relations)
    hidden = torch.randn(2, 6, 5)
    batch = {
        "first_subwords": torch.tensor([[1, 3, 4], [2, -1, -1]]),
        "heads": torch.tensor([[2, 0, -100], [0, -100, -100]]),
    }
    logits = head(hidden, batch)
    assert logits["arcs"].shape == (2, 3, 4)
    one = torch.ones(1)
    for b, n in enumerate([3, 1]):
        states = [torch.cat([hidden[b, i], one]) for i in [0, *batch["first_subwords"][b, :n].tolist()]]
        for word in range(1, n + 1):
            for candidate in range(4):
                possible = candidate <= n and candidate != word
                expected = (
                    states[word] @ head.arcs @ states[candidate]
                    if possible
                    else torch.tensor(impossible(states[word]))
                )
                torch.testing.assert_close(logits["arcs"][b, word - 1, candidate], expected)
            governor = int(batch["heads"][b, word - 1])
            expected = (
                torch.stack([states[word] @ w @ states[governor] for w in head.relations])
                if governor >= 0
                else torch.zeros(3)
            )
            torch.testing.assert_close(logits["relations"][b, word - 1], expected)


def test_prediction_finds_trees_and_relations_at_their_heads(
    conllu_file: Path, tokenizer: BertTokenizer, tiny_model: Callable[[Task], TaskModel]
) -> None:
    parsing = Parsing().for_training(Parsing().read(conllu_file))
    model = tiny_model(parsing)
    torch.nn.init.normal_(model.head.arcs)
    torch.nn.init.normal_(model.head.relations)
    batch = parsing.collate(parsing.encode(Parsing().read(conllu_file), tokenizer, max_length=32), 0)
    with torch.no_grad():
        found = model({k: v for k, v in batch.items() if k != "heads"}).logits
        again = model({**batch, "heads": found["heads"]}).logits
    torch.testing.assert_close(found["relations"], again["relations"])
    trees = parsing.predict(model, batch)
    assert [len(tree.heads) for tree in trees] == [6, 4, 6, 6, 6, 2, 5, 1]
    assert all(tree.heads.count(0) == 1 for tree in trees)


def test_scores_by_hand_with_subtypes_punctuation_and_cut_off_words() -> None:
    gold = [
        Sentence(("a", "b", "c", "."), (2, 0, 2, 2), ("nsubj:pass", "root", "obj", "punct")),
        Sentence(("d",), (0,), ("root",)),
    ]
    guess = [Tree((2, 0, 1), ("nsubj", "dep", "obj")), Tree((0,), ("root",))]
    assert Parsing().score(gold, guess) == {"uas": 60.0, "las": 40.0}


def test_floor_takes_the_better_direction_and_the_commonest_relation() -> None:
    train = [Sentence(("a", "b", "c"), (2, 0, 2), ("obj", "root", "obj:x"))]
    test = [Sentence(("a", "b", "c"), (0, 1, 2), ("root", "obj", "nsubj"))]
    assert most_frequent_relation(train) == "obj"
    assert left_attachment(test, "obj") == [Tree((0, 1, 2), ("root", "obj", "obj"))]
    assert right_attachment(test, "obj") == [Tree((2, 3, 0), ("obj", "obj", "root"))]
    scores = Parsing().floor(train, test)
    assert scores["uas"] == 100.0
    assert scores["las"] == pytest.approx(200 / 3)


def test_losses_are_means_over_words_and_soft_loss_is_entropy_at_the_teacher(
    conllu_file: Path, tokenizer: BertTokenizer, tiny_model: Callable[[Task], TaskModel]
) -> None:
    examples = Parsing().read(conllu_file)
    parsing = Parsing().for_training(examples)
    model = tiny_model(parsing)
    batch = parsing.collate(parsing.encode(examples, tokenizer, max_length=32), 0)
    logits = model(batch).logits
    words = [len(example.words) for example in examples]
    uniform = (
        sum(n * torch.tensor(float(n)).log() for n in words) / sum(words)
        + torch.tensor(float(len(parsing.labels))).log()
    )
    torch.testing.assert_close(
        parsing.loss(logits, batch), uniform
    )  # zero weights: n candidates for each of n words
    torch.testing.assert_close(parsing.distillation_loss(logits, logits, batch), uniform)
    empty = {**batch, "heads": torch.full_like(batch["heads"], -100)}
    assert parsing.loss(logits, empty) == 0


def test_tiny_model_learns_eight_sentences(
    conllu_file: Path, tokenizer: BertTokenizer, tiny_model: Callable[[Task], TaskModel]
) -> None:
    examples = Parsing().read(conllu_file)
    parsing = Parsing(dropout=0.0).for_training(examples)
    model = tiny_model(parsing)
    batch = parsing.collate(parsing.encode(examples, tokenizer, max_length=32), 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        loss = parsing.loss(model(batch).logits, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert parsing.score(examples, parsing.predict(model, batch)) == {"uas": 100.0, "las": 100.0}


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
def test_what_cannot_be_scores_below_all_else_and_leaves_losses_finite(kind: torch.dtype) -> None:
    """Arc scores of -44,732 have been seen."""
    head = ShallowBiaffine(hidden_size=2, relations=1, dropout=0.0).to(kind)
    torch.nn.init.zeros_(head.arcs)
    with torch.no_grad():
        head.arcs[2, 2] = -44732.0
    words = torch.tensor([[True, True, False]])
    states = head.states(torch.zeros(1, 3, 2, dtype=kind), torch.tensor([[1, 2, -1]]))
    arcs = head.arc_scores(states, words)[0]
    possible = arcs[0, [0, 2]]
    assert (arcs[0, [1, 3]] < possible.min()).all()
    assert torch.isfinite(arcs).all()
    assert torch.isfinite(arcs.float().log_softmax(-1)).all()
    assert arcs[0, [1, 3]].float().sub(arcs[0].float().logsumexp(-1)).exp().sum() == 0
