"""The quick zero-shot test of a teacher."""

from pathlib import Path

from bistil import probe as room
from bistil.probe import probe, read_pos
from bistil.tasks.ner import Tagged


def test_parts_of_speech_are_read_as_tags(data) -> None:
    sentences = read_pos(data.file("parsing", "qaa", "train"))
    assert len(sentences) == 24
    assert all(len(sentence.words) == len(sentence.tags) > 0 for sentence in sentences)
    assert {"NOUN", "VERB"} <= {tag for sentence in sentences for tag in sentence.tags}


def test_accuracy_counts_words_that_were_cut_off_as_wrong() -> None:
    examples = [Tagged(words=("a", "b", "c"), tags=("X", "Y", "Z")), Tagged(words=("d",), tags=("X",))]
    assert room._accuracy(examples, [("X", "Y", "Z"), ("X",)]) == 100.0
    assert room._accuracy(examples, [("X", "Z"), ("X",)]) == 50.0


def test_a_probe_scores_source_and_targets_the_same_every_time(teacher_folder: Path, data) -> None:
    scores = [probe(teacher_folder, data, "qaa", {"pos": ["qab", "qac"], "ner": ["qac"]}, steps=4, batch_size=4) for _ in range(2)]
    assert scores[0] == scores[1]
    assert {name: list(found) for name, found in scores[0].items()} == {"pos": ["qaa", "qab", "qac"], "ner": ["qaa", "qac"]}
    assert all(0.0 <= value <= 100.0 for found in scores[0].values() for value in found.values())
