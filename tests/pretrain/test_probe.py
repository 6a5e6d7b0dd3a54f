"""The quick zero-shot test of a teacher."""

from pathlib import Path

from bistil.pretrain.probe import probe


def test_a_probe_scores_source_and_targets_the_same_every_time(teacher_folder: Path, data) -> None:
    scores = [
        probe(teacher_folder, data, "qaa", {"pos": ["qab", "qac"], "ner": ["qac"]}, steps=4, batch_size=4)
        for _ in range(2)
    ]
    assert scores[0] == scores[1]
    assert {name: list(found) for name, found in scores[0].items()} == {
        "pos": ["qaa", "qab", "qac"],
        "ner": ["qaa", "qac"],
    }
    assert all(0.0 <= value <= 100.0 for found in scores[0].values() for value in found.values())
