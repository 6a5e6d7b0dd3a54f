"""Whatever rows the hub may have, what is written of them is read back: a property of each writer with its
reader.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bistil.sources.write import conllu, iob2, labelled, pairs, squad
from bistil.tasks import task

WORD = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), min_size=1, max_size=8
).filter(lambda text: text.strip() == text)
TEXT = st.lists(WORD, min_size=1, max_size=6).map(" ".join)
QUICK = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)


def tree(words: list[str]) -> dict[str, Any]:
    """A sentence in which every word hangs on the first."""
    n = len(words)
    heads = ["0", *["1"] * (n - 1)]
    return {
        "tokens": words,
        "lemmas": words,
        "upos": [0] * n,
        "xpos": ["_"] * n,
        "feats": ["None"] * n,
        "head": heads,
        "deprel": ["root", *["dep"] * (n - 1)],
    }


@QUICK
@given(st.lists(st.lists(WORD, min_size=1, max_size=5), min_size=1, max_size=4))
def test_trees(tmp_path: Path, sentences: list[list[str]]) -> None:
    path = tmp_path / "file.conllu"
    path.write_text("".join(conllu(map(tree, sentences), {"upos": ["NOUN"]}, ())), encoding="utf-8")
    assert [list(one.words) for one in task("parsing").read(path)] == sentences
    assert [len(one.tags) for one in task("pos").read(path)] == list(map(len, sentences))


@QUICK
@given(
    st.lists(
        st.lists(st.tuples(WORD, st.sampled_from([0, 1, 2])), min_size=1, max_size=5), min_size=1, max_size=4
    )
)
def test_entities(tmp_path: Path, sentences: list[list[tuple[str, int]]]) -> None:
    rows: list[dict[str, Any]] = [
        {"tokens": [word for word, _ in one], "ner_tags": [tag for _, tag in one]} for one in sentences
    ]
    path = tmp_path / "file.txt"
    path.write_text("".join(iob2(rows, {"ner_tags": ["O", "B-PER", "I-PER"]}, ())), encoding="utf-8")
    found = [one for one in task("ner").read(path) if one.words]
    assert [list(one.words) for one in found] == [row["tokens"] for row in rows]
    assert [[tag != "O" for tag in one.tags] for one in found] == [
        [tag > 0 for tag in row["ner_tags"]] for row in rows
    ]


@QUICK
@given(st.lists(st.tuples(TEXT, TEXT, st.integers(0, 2)), min_size=1, max_size=5))
def test_pairs(tmp_path: Path, rows: list[tuple[str, str, int]]) -> None:
    names = ["entailment", "neutral", "contradiction"]
    path = tmp_path / "file.tsv"
    written = pairs(
        ({"premise": a, "hypothesis": b, "label": label} for a, b, label in rows), {"label": names}, ()
    )
    path.write_text("".join(written), encoding="utf-8")
    assert [(one.premise, one.hypothesis, names.index(one.label)) for one in task("nli").read(path)] == rows


@QUICK
@given(st.lists(st.tuples(TEXT, st.integers(0, 2)), min_size=1, max_size=5))
def test_texts(tmp_path: Path, rows: list[tuple[str, int]]) -> None:
    names = ["negative", "neutral", "positive"]
    path = tmp_path / "file.tsv"
    written = labelled(({"text": text, "label": label} for text, label in rows), {"label": names}, ())
    path.write_text("".join(written), encoding="utf-8")
    read = task("classification").read(path)
    assert [(one.text, names.index(one.label)) for one in read] == rows


@QUICK
@given(st.lists(st.tuples(TEXT, TEXT, st.integers(0, 20)), min_size=1, max_size=4))
def test_questions(tmp_path: Path, rows: list[tuple[str, str, int]]) -> None:
    made = []
    for number, (context, question, start) in enumerate(rows):
        start = start % len(context)
        text = context[start : start + 4].strip() or context[0]
        answers = {"text": [text], "answer_start": [context.index(text)]}
        made.append({"id": str(number), "context": context, "question": question, "answers": answers})
    path = tmp_path / "file.json"
    path.write_text("".join(squad(made, {}, ())), encoding="utf-8")
    found = {one.id: one for one in task("qa").read(path)}
    assert {row["id"]: (row["context"], row["question"]) for row in made} == {
        name: (one.context, one.question) for name, one in found.items()
    }
    assert json.loads(path.read_text(encoding="utf-8"))["version"] == "1.1"


def test_a_row_without_a_label_is_left_out() -> None:
    assert (
        "".join(pairs([{"premise": "a", "hypothesis": "b", "label": -1}], {"label": ["entailment"]}, ()))
        == "premise\thypothesis\tlabel\n"
    )


@pytest.mark.parametrize("feats", ["None", "", None, "{}", "_"])
def test_no_features_are_an_underscore(feats: str | None) -> None:
    row = {**tree(["a"]), "feats": [feats]}
    assert "".join(conllu([row], {"upos": ["NOUN"]}, ())).split("\t")[5] == "_"


def test_rows_without_a_label_and_nul_are_left_out() -> None:
    rows = [{"text": "a", "label": None}, {"text": "b\0c", "label": 0}]
    assert list(labelled(rows, {"label": ["one"]}, ())) == ["one\tbc\n"]
    sentences = [
        {"premise": "a", "hypothesis": "b", "label": None},
        {"premise": "a", "hypothesis": "b", "label": 0},
    ]
    assert list(pairs(sentences, {"label": ["yes"]}, ()))[1:] == ["a\tb\tyes\n"]
    tagged = [{"tokens": ["a", "b"], "ner_tags": [0, -1]}, {"tokens": ["c"], "ner_tags": [0]}]
    assert list(iob2(tagged, {"ner_tags": ["O"]}, ())) == ["c O\n\n"]
