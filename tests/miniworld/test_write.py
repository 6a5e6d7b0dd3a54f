"""The written world: determinism, and every file read back by its own reader's rules."""

import csv
import dataclasses
import hashlib
import json
from collections import Counter
from pathlib import Path

import conllu
import pytest

from bistil.errors import InputError
from bistil.miniworld import load_settings, questions, write_world
from bistil.miniworld.lexicon import Lexicon
from bistil.miniworld.settings import Sizes, Splits, WorldSettings

SPLITS = ("train", "dev", "test")
PINNED = "ff9c058ca3243266a41961ca3a54b7a1cdf79df5aeebe4bc86086178b1d8beef"
FIRST = "f9d6355e63c9bcf7f5ef043590b346e0b1d618b530ee9939dd204abc9c056c29"
"""The files that the first format had."""


def tiny() -> WorldSettings:
    few = Splits(train=40, dev=6, test=12)
    sizes = Sizes(corpus=60, treebank=few, ner=few, nli=Splits(train=30, dev=6, test=12), qa=few, parallel=30)
    return dataclasses.replace(
        load_settings(Path(__file__).parents[2] / "data" / "miniworld.yaml"), sizes=sizes
    )


ADDED = ("languages.csv", "topic", "choice")
"""What later formats changed or added; all other files are as they were."""


def digest(folder: Path, *, but: tuple[str, ...] = ()) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).parts[0] not in but:
            total.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, tiny())
    return folder


CODES = [language.code for language in tiny().languages]


def test_equal_settings_give_equal_bytes_here_and_everywhere(world: Path, tmp_path: Path) -> None:
    write_world(tmp_path / "again", tiny())
    assert digest(tmp_path / "again") == digest(world) == PINNED
    assert digest(world, but=ADDED) == FIRST


@pytest.mark.parametrize("code", CODES)
def test_candidates_differ_in_a_name_that_the_context_may_have(world: Path, code: str) -> None:
    contexts = set[str]()
    for split, count in zip(SPLITS, (3, 3, 2), strict=True):
        lines = (world / "choice" / f"{code}-{split}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        assert {len(set(row["choices"])) for row in rows} == {count}
        share = Counter(row["label"] for row in rows)
        assert all(abs(share[n] / len(rows) - 1 / count) < 0.1 for n in range(count))
        own = {row["context"] for row in rows}
        assert not contexts & own
        assert len(own) == len(rows)
        contexts |= own


def test_topics_are_equally_frequent_and_no_text_is_there_twice(world: Path) -> None:
    for code in CODES:
        files = [(world / "topic" / f"{code}-{split}.tsv").read_text(encoding="utf-8") for split in SPLITS]
        rows = [line.split("\t") for content in files for line in content.splitlines()]
        assert len({text for _, text in rows}) == len(rows) == 2000 - 1000 + 700
        assert Counter(label for label, _ in rows[:1200]) == {f"topic{n}": 200 for n in range(1, 7)}
    assert not any(b"\r" in path.read_bytes() for path in world.rglob("*.*"))


def test_another_seed_is_another_world(world: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(tiny(), seed=2, languages=tiny().languages[:1])
    write_world(tmp_path, settings)
    assert (tmp_path / "corpora/qaa.txt").read_bytes() != (world / "corpora/qaa.txt").read_bytes()


def test_the_table_leads_to_every_file(world: Path) -> None:
    rows = list(csv.DictReader((world / "languages.csv").open(encoding="utf-8", newline="")))
    assert [row["code"] for row in rows] == CODES
    for row in rows:
        assert len((world / row["corpus"]).read_text(encoding="utf-8").splitlines()) == 60
        for split in SPLITS:
            assert (world / row["treebank"].format(split=split)).is_file()
            assert all((world / row[column].format(split=split)).is_file() for column in ("ner", "nli", "qa"))
        assert (row["parallel"] == "") == (row["code"] == "qaa")
        assert (world / row["parallel"]).exists()


def read_trees(world: Path, code: str, split: str) -> list[conllu.TokenList]:
    return conllu.parse((world / "ud" / f"{code}-{split}.conllu").read_text(encoding="utf-8"))


def crossing(heads: dict[int, int]) -> bool:
    arcs = [(min(a, b), max(a, b)) for a, b in heads.items() if b]
    return any(a < c < b < d for a, b in arcs for c, d in arcs)


@pytest.mark.parametrize("code", CODES)
def test_treebanks_are_trees(world: Path, code: str) -> None:
    trees, lengths, projective = read_trees(world, code, "train"), [], 0
    for tree in trees:
        words = [token for token in tree if isinstance(token["id"], int)]
        heads = {token["id"]: token["head"] for token in words}
        assert sorted(heads) == list(range(1, len(words) + 1))
        assert [token["deprel"] for token in words if token["head"] == 0] == ["root"]
        for start in heads:
            seen, here = set(), start
            while here:
                assert here not in seen, "a cycle"
                seen.add(here)
                here = heads[here]
        projective += not crossing(heads)
        lengths.append(sum(token["upos"] != "PUNCT" for token in words))
    assert min(lengths) >= 4
    assert max(lengths) <= 18
    assert projective >= 0.9 * len(trees)


def test_readers_meet_multiword_tokens_empty_nodes_and_crossing_arcs(world: Path) -> None:
    qac = [tree for split in SPLITS for tree in read_trees(world, "qac", split)]
    heads = [{token["id"]: token["head"] for token in tree if isinstance(token["id"], int)} for tree in qac]
    print("share of projective trees:", 1 - sum(map(crossing, heads)) / len(heads))
    assert any(map(crossing, heads)), "qac extraposes relative clauses"
    ids = [token["id"] for code in CODES for tree in read_trees(world, code, "train") for token in tree]
    assert any(isinstance(i, tuple) and i[1] == "-" for i in ids)
    assert any(isinstance(i, tuple) and i[1] == "." for i in ids)
    relations = {
        token["deprel"] for code in CODES for tree in read_trees(world, code, "train") for token in tree
    }
    assert {
        "nsubj",
        "obj",
        "obl",
        "case",
        "amod",
        "det",
        "conj",
        "cc",
        "mark",
        "acl:relcl",
        "cop",
        "aux",
        "flat",
    } <= relations


@pytest.mark.parametrize("code", CODES)
def test_tree_text_is_its_tokens(world: Path, code: str) -> None:
    for tree in read_trees(world, code, "train"):
        line, skip = "", 0
        for token in tree:
            number = token["id"]
            if isinstance(number, tuple):
                if number[1] == ".":
                    continue
                skip = number[2]
            elif number <= skip:
                continue
            line += token["form"] if token["upos"] == "PUNCT" or not line else " " + token["form"]
        assert line == tree.metadata["text"]


def blocks(path: Path) -> list[list[tuple[str, str]]]:
    pieces = path.read_text(encoding="utf-8").strip("\n").split("\n\n")
    return [[(line.split(" ")[0], line.split(" ")[1]) for line in piece.split("\n")] for piece in pieces]


@pytest.mark.parametrize("code", CODES)
def test_entities_are_valid_iob2_and_rare_names_are_new(world: Path, code: str) -> None:
    language = next(item for item in tiny().languages if item.code == code)
    lexicon = Lexicon(tiny(), language)
    rare = {
        form.lower()
        for key, form in lexicon.names.items()
        if key.startswith("place") and int(key[6:]) % 4 == 2
    }
    train: set[str] = set()
    for split in SPLITS:
        for sentence in blocks(world / "ner" / f"{code}-{split}.txt"):
            previous = "O"
            for token, tag in sentence:
                assert tag == "O" or tag[2:] in {"PER", "LOC", "ORG", "DATE"}
                assert not tag.startswith("I-") or previous[2:] == tag[2:]
                previous = tag
                if split == "train" and tag != "O":
                    train.add(token.lower())
    assert not rare & train


def test_capital_letters_do_not_give_entities_away(world: Path) -> None:
    for code in ("qaa", "qac", "qbb"):
        tokens = [pair for sentence in blocks(world / "ner" / f"{code}-train.txt") for pair in sentence]
        capital = [tag for token, tag in tokens if token[0].isupper()]
        plain = [tag for token, tag in tokens if not token[0].isupper()]
        assert capital.count("O") > 0.15 * len(capital) or any(tag[2:] == "PER" for tag in plain)


def test_splits_do_not_overlap(world: Path) -> None:
    for code in CODES:
        lines = [tree.metadata["text"] for split in SPLITS for tree in read_trees(world, code, split)]
        lines += (world / "corpora" / f"{code}.txt").read_text(encoding="utf-8").splitlines()
        named = [
            " ".join(token for token, _ in sentence)
            for split in SPLITS
            for sentence in blocks(world / "ner" / f"{code}-{split}.txt")
        ]
        assert len(set(lines[:58])) == 58
        assert not set(lines[:58]) & set(lines[58:])
        assert len(set(named)) == len(named)


@pytest.mark.parametrize("code", CODES)
def test_the_hypothesis_alone_says_nothing(world: Path, code: str) -> None:
    hypotheses: list[set[str]] = []
    for split in SPLITS:
        rows = list(
            csv.DictReader(
                (world / "nli" / f"{code}-{split}.tsv").open(encoding="utf-8", newline=""), delimiter="\t"
            )
        )
        labels: dict[str, list[str]] = {}
        for row in rows:
            labels.setdefault(row["hypothesis"], []).append(row["label"])
        assert all(sorted(found) == ["contradiction", "entailment", "neutral"] for found in labels.values())
        majority = {hypothesis: Counter(found).most_common(1)[0][0] for hypothesis, found in labels.items()}
        assert sum(majority[row["hypothesis"]] == row["label"] for row in rows) * 3 == len(rows)
        hypotheses.append(set(labels))
    assert not hypotheses[0] & hypotheses[2]


@pytest.mark.parametrize("code", CODES)
def test_answers_stand_where_the_offset_says(world: Path, code: str) -> None:
    for split, count in zip(SPLITS, (40, 6, 12), strict=True):
        found = json.loads((world / "qa" / f"{code}-{split}.json").read_text(encoding="utf-8"))
        asked = [
            (p["context"], qa) for article in found["data"] for p in article["paragraphs"] for qa in p["qas"]
        ]
        assert len(asked) == count == len({qa["id"] for _, qa in asked})
        for context, qa in asked:
            assert qa["question"].endswith("?")
            for answer in qa["answers"]:
                assert context[answer["answer_start"] :].startswith(answer["text"])
                assert answer["text"]


def test_parallel_sentences_name_the_same_things(world: Path) -> None:
    settings = tiny()
    lexicons = {language.code: Lexicon(settings, language) for language in settings.languages}
    for code in CODES[1:]:
        lines = (world / "parallel" / f"qaa-{code}.tsv").read_text(encoding="utf-8").splitlines()
        assert len(lines) == 30
        for line in lines:
            left, right = line.split("\t")
            digits = [
                sorted(token.strip(".,?") for token in side.split() if token.strip(".,?").isdigit())
                for side in (left, right)
            ]
            assert digits[0] == digits[1]
            for key, form in lexicons["qaa"].names.items():
                if (
                    key.startswith(("place", "firm", "given"))
                    and form.capitalize() in left.replace(".", "").split()[1:]
                ):
                    assert lexicons[code].names[key][:2].lower() in right.lower()


def test_a_world_that_cannot_be_filled_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "_PATIENCE", 2)
    sizes = dataclasses.replace(tiny().sizes, nli=Splits(train=30000, dev=0, test=0))
    with pytest.raises(InputError, match=r"sizes\.nli"):
        write_world(tmp_path, dataclasses.replace(tiny(), sizes=sizes, languages=tiny().languages[:1]))
