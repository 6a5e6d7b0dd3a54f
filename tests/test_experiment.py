"""Experiment files: the grid they expand to and what they may not say."""

import pytest

from bistil.errors import InputError
from bistil.experiment import Cell


def test_cells_are_the_whole_grid(experiment) -> None:
    grid = experiment(
        systems=["teacher-ltsft", "bistil-tf:2", "bistil-tf:3", "floor"],
        seeds=[1, 2],
        targets={"ner": ["qab", "qac"]},
    )
    cells = grid.cells()
    assert len(cells) == len(set(cells)) == 2 * 2 * 4
    assert Cell("bistil-tf", "ner", "qac", 3, 2) in cells
    assert {cell.lrf for cell in cells if cell.system in ("teacher-ltsft", "floor")} == {1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"systems": ["bistil-tf"]}, "'bistil-tf' is not a system"),
        ({"systems": ["bistil-tf:0"]}, "not a system"),
        ({"systems": ["bistil-tf:two"]}, "not a system"),
        ({"systems": ["teacher-ltsft:2"]}, "not a system"),
        ({"systems": ["distil:2"]}, "not a system"),
        ({"targets": {"qa": ["qac"]}}, "targets for qa but no settings"),
        ({"targets": {"ner": []}}, "at least one target"),
        ({"seeds": [1, 2, 1]}, "Each of `seeds` was expected once, but 1 came again"),
        (
            {"systems": ["bistil-tf:2", "bistil-tf:2x1"]},
            "Each of `systems` was expected once, but bistil-tf:2x1",
        ),
        ({"seeds": []}, "seeds should be a list with at least one entry"),
        ({"data": "minworld"}, "data should be one of miniworld, miniworld-wide, folder, but is 'minworld'"),
        ({"vocabulary": {"criterion": "bigram"}}, "criterion"),
        (
            {"vocabulary": {"threshold": -0.1}},
            "at least 0 and at most 1, but is -0.1",
        ),
        ({"text": {"mask_share": 1.5}}, "text.mask_share should be above 0 and below 1"),
        ({"text": {"length": 4}}, "text.length should be at least 8"),
        ({"text": {"held_out_share": 0.0}}, "text.held_out_share should be above 0"),
        ({"groups": [["qab", "qaa"]]}, "other than the source"),
        ({"groups": [["qab"], ["qab", "qac"]]}, "none of them twice"),
        ({"groups": [[]]}, "should name languages"),
        (
            {"general": {"lrf": 2, "schedule": {"steps": 2, "learning_rate": 0.1}, "weights": {"qab": 0.0}}},
            r"general\.weights\.qab should be above 0, but is 0\.0",
        ),
        ({"sources": "qaa"}, "unknown key 'sources'"),
        ({"claims": [{"order": "scratch:2 > minilm"}]}, "'minilm' is not a system"),
        ({"claims": [{"order": "floor > teacher-ltfst"}]}, "Did you mean teacher-ltsft"),
        ({"claims": [{"order": "floor > floor", "tasks": ["qa"]}]}, "about tasks of the experiment"),
        ({"claims": [{"order": "better"}]}, "Two systems or more"),
        ({"claims": [{"order": "floor > floor", "metric": "F-1"}]}, "Did you mean 'f1'"),
        (
            {"claims": [{"order": "floor > floor", "targets": ["qbz"]}]},
            "groups of them under `target_groups`",
        ),
        (
            {
                "task": {
                    "ner": {
                        "batch_size": 4,
                        "sft": {
                            "peft": {"method": "lora", "density": 0.1},
                            "sparse": {"steps": 2, "learning_rate": 0.1},
                        },
                    }
                },
                "targets": {"ner": ["qac"]},
                "regimes": {"two": {"sources": ["qaa", "qab"], "total": 8}},
                "systems": ["teacher-ltsft@two"],
            },
            "cannot be put on and off under peft's modules",
        ),
        (
            {
                "systems": ["bistil-tf:2@exposed"],
                "regimes": {"exposed": {"expose": "target"}},
                "language_sft": None,
            },
            "of which there are none: `language_sft: null`",
        ),
        ({"target_groups": {"far": ["qbz"]}}, "of targets of the experiment"),
        ({"target_groups": {"far": []}}, "has no targets"),
        ({"target_groups": {"qac": ["qac"]}}, "is a language's"),
    ],
)
def test_what_an_experiment_may_not_say(experiment, changes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        experiment(**changes)


def test_only_what_peft_wraps_cannot_change_its_sfts_from_batch_to_batch(experiment) -> None:
    phase = {"steps": 2, "learning_rate": 0.1}
    learnt = {"rows": [{"language": "target"}], "validated": [{"language": "source", "split": "dev"}]}

    def made(**learning: str) -> None:
        experiment(
            systems=["own"],
            variants={"own": {"of": "teacher-ltsft", "learning": {**learnt, **learning}}},
            targets={"ner": ["qac"]},
            task={"ner": {"sft": {"peft": {"density": 0.1}, "sparse": phase}}},
        )

    with pytest.raises(InputError, match="cannot be put on and off under peft's modules"):
        made()  # what chooses the checkpoint is read in the source's SFT
    made(select="biases")


@pytest.mark.parametrize("density", [0.0, -0.1, 1.5])
def test_a_density_outside_0_to_1_is_refused_while_reading(experiment, density: float) -> None:
    good = experiment()
    assert good.language_sft.lottery.density == 0.1
    phase = {"steps": 2, "learning_rate": 1e-3}
    with pytest.raises(InputError, match=r"density should be above 0 and at most 1"):
        experiment(language_sft={"lottery": {"density": density}, "dense": phase, "sparse": phase})


def test_another_source_is_a_target_no_longer(experiment) -> None:
    asked = experiment(targets={"ner": ["qab", "qac"], "parsing": ["qab"]}, groups=[["qab", "qac"]])
    other = asked.from_source("qab")
    assert other.source == "qab"
    assert other.targets == {"ner": ("qac",), "parsing": ("qaa",)}
    assert other.groups == (("qac",),)
    assert asked.from_source("qaa") is asked
