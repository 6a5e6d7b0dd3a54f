"""The oracle: what was meant, in another language's grammar, and its errors by count."""

from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from tiny import ROOT

from bistil.errors import InputError
from bistil.miniworld import load_settings
from bistil.miniworld.grammar import Grammar
from bistil.miniworld.lexicon import Lexicon
from bistil.miniworld.oracle import oracle
from bistil.miniworld.questions import inferences, say, write_nli
from bistil.miniworld.settings import Splits, WorldSettings
from bistil.miniworld.topics import topics, write_topics
from bistil.miniworld.world import World
from bistil.tasks import task
from bistil.tasks.translation import measured, translated, write_translated


@pytest.fixture(scope="module")
def settings() -> WorldSettings:
    found = load_settings(ROOT / "data" / "miniworld.yaml")
    sizes = replace(found.sizes, nli=Splits(train=300, dev=9, test=9))
    return replace(found, sizes=sizes)


def grammar(settings: WorldSettings, code: str) -> Grammar:
    language = next(one for one in settings.languages if one.code == code)
    return Grammar(language, Lexicon(settings, language))


@pytest.fixture(scope="module")
def pairs(settings: WorldSettings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    folder = tmp_path_factory.mktemp("nli")
    (folder / "nli").mkdir()
    write_nli(folder, grammar(settings, "qaa"), World(settings.seed), settings)
    return {split: task("nli").read(folder / "nli" / f"qaa-{split}.tsv") for split in ("train", "test")}


def test_without_noise_it_is_the_targets_own_words_for_the_same_meanings(settings, pairs, tmp_path) -> None:
    ours = grammar(settings, "qac")
    meant = dict(inferences(grammar(settings, "qaa"), World(settings.seed), settings))
    for split, own in pairs.items():
        found = translated(own, oracle(settings, "qaa", "qac", split))
        assert [one.label for one in found] == [one.label for one in own]
        expected = [tuple(say(ours, meaning) for meaning in one.meanings) for one in meant[split]]
        same = [(one.premise, one.hypothesis) == text for one, text in zip(found, expected, strict=True)]
        # a sentence that means two things is translated once
        assert sum(same) / len(same) > 0.95
        write_translated(tmp_path / "x.tsv", found)
        assert task("nli").read(tmp_path / "x.tsv") == found


def test_texts_with_topics_are_translated_whole(settings, tmp_path) -> None:
    (tmp_path / "topic").mkdir()
    few = replace(settings, sizes=replace(settings.sizes, topic=Splits(train=12, dev=6, test=6)))
    write_topics(tmp_path, grammar(few, "qaa"), World(few.seed), few)
    own = task("classification").read(tmp_path / "topic" / "qaa-test.tsv")
    found = translated(own, oracle(few, "qaa", "qac", "test", task="classification"))
    assert [one.label for one in found] == [one.label for one in own]
    meant = dict(topics(grammar(few, "qaa"), World(few.seed), few))["test"]
    ours = grammar(few, "qac")
    assert [one.text for one in found] == [" ".join(say(ours, m) for m in one.meanings) for one in meant]


def test_errors_come_as_often_as_asked_and_always_alike(settings, pairs) -> None:
    sentences = list(dict.fromkeys(one.premise for one in pairs["train"]))
    right = oracle(settings, "qaa", "qac", "train")(sentences)
    words = sum(len(one.split()) for one in right)

    def told(**noise: float) -> list[str]:
        return oracle(settings, "qaa", "qac", "train", **noise)(sentences)

    dropped = told(drop=0.2)
    assert dropped == told(drop=0.2)
    assert sum(len(one.split()) for one in dropped) / words == pytest.approx(0.8, abs=0.03)
    assert not any(
        Counter(one.split()) - Counter(old.split()) for one, old in zip(dropped, right, strict=True)
    )
    swapped = told(swap=0.2)
    assert [sorted(one.split()) for one in swapped] == [sorted(one.split()) for one in right]
    assert swapped != right
    wrong = [
        zip(one.split(), old.split(), strict=True) for one, old in zip(told(wrong=0.3), right, strict=True)
    ]
    changed = sum(one != old for both in wrong for one, old in both)
    assert changed / words == pytest.approx(0.3, abs=0.04)
    assert all(told(drop=1.0))


def test_what_it_does_not_know_is_told(settings, pairs) -> None:
    with pytest.raises(InputError, match="'xyz' is none of them"):
        oracle(settings, "qaa", "xyz", "train")
    with pytest.raises(InputError, match=r"'Something else.' is none: name the settings"):
        oracle(settings, "qaa", "qac", "train")(["Something else."])


def test_the_files_of_the_project_s_world_are_as_they_were(settings, tmp_path: Path) -> None:
    """A new way to draw them leaves every byte of the NLI files."""
    (tmp_path / "nli").mkdir()
    write_nli(tmp_path, grammar(settings, "qab"), World(settings.seed), settings)
    content = b"".join(
        (tmp_path / "nli" / f"qab-{split}.tsv").read_bytes() for split in ("train", "dev", "test")
    )
    assert sha256(content).hexdigest()[:16] == "6e87c20b2e1f17c2"


def test_what_can_be_seen_of_a_translation(pairs) -> None:
    own = pairs["test"]
    sentences = {text for one in own for text in (one.premise, one.hypothesis)}
    same = measured(own, own)
    assert (same["copied"], same["identical"], same["length_ratio"]) == (1.0, len(sentences), 1.0)
    bad = measured(own, [replace(one, premise="", hypothesis="ha ha ha") for one in own])
    assert (bad["lines"], bad["empty"], bad["one_word"]) == (9, 9, len({one.hypothesis for one in own}))
