"""Finished students taken away: folders and graphs say what the model said, model cards work, the hub is
asked only when told.
"""

import json
import math
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_pipeline import NER, reader
from test_predict import trained
from tiny import ROOT
from transformers import BertTokenizer

from bistil import cli
from bistil.deploy import graph
from bistil.deploy import write as deploy
from bistil.deploy.card_code import beyond, code
from bistil.deploy.read import load_deployed
from bistil.errors import InputError
from bistil.evaluation.score import predict_all
from bistil.models.load import TaskModel
from bistil.pipeline.finished import save_finished
from bistil.store.artefacts import Store
from bistil.tasks.deeper import task_head
from bistil.text.languages import DataFolder

TASKS = ("ner", "pos", "nli", "classification", "choice", "qa", "parsing")
needs_onnx = pytest.mark.skipif(bool(graph.missing()), reason=graph.missing())


def saved(name: str, data: DataFolder, wordpiece: BertTokenizer, folder: Path) -> tuple[Any, Any, list[Any]]:
    model, task, examples = trained(name, data, wordpiece)
    save_finished(folder, model, task.labels, wordpiece)
    if name == "qa":  # a card's code reads one window
        examples = [
            replace(one, context=" ".join(one.context.split()[:9]), answers=(("", 0),)) for one in examples
        ]
    return model, task, examples


def shown(text: str, name: str, example: Any, folder: Path) -> Any:
    """What the code of a card says of an example instead of its own."""
    [python] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    if name in ("nli", "classification", "qa"):
        own, given = {
            "classification": (('"A text."',), lambda: (example.text,)),
            "nli": (('"A premise."', '"A hypothesis."'), lambda: (example.premise, example.hypothesis)),
            "qa": (
                ('"A question?"', '"The paragraph that holds the answer."'),
                lambda: (example.question, example.context),
            ),
        }[name]
        for old, new in zip(own, given(), strict=True):
            python = python.replace(old, repr(new))
    else:
        python = python.replace('"Words with blanks between them ."', repr(" ".join(example.words)))
    space: dict[str, Any] = {}
    exec(python.replace('FOLDER = "."', f"FOLDER = {str(folder)!r}"), space)
    return space["found"]


def expected(name: str, model: Any, task: Any, example: Any, wordpiece: BertTokenizer) -> Any:
    """What bistil says of the same example, in the words of the card's code."""
    [said] = predict_all(model, task, [example], wordpiece, max_length=64)
    if name == "qa":
        return example.context[said[0].start : said[0].end]
    if name in ("nli", "classification"):
        return said
    if name != "parsing":
        return list(zip(example.words, said, strict=True))
    batch = task.collate(task.encode([example], wordpiece, max_length=64), 0)
    heads = (
        model({key: batch[key] for key in ("input_ids", "attention_mask", "first_subwords")})
        .logits["arcs"]
        .argmax(-1)
    )
    relations = model({**batch, "heads": heads}).logits["relations"].argmax(-1)[0]
    return [
        (word, int(head), task.labels[one])
        for word, head, one in zip(example.words, heads[0], relations, strict=True)
    ]


@pytest.mark.parametrize("name", TASKS)
def test_a_folder_says_what_the_model_said_and_its_card_works(
    name: str, data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path, capsys
) -> None:
    model, task, examples = saved(name, data, wordpiece, tmp_path / "x")
    loaded, found, tokenizer = load_deployed(tmp_path / "x")
    assert (found.name, found.labels) == (task.name, task.labels)
    assert predict_all(loaded, found, examples, tokenizer, max_length=64) == predict_all(
        model, task, examples, wordpiece, max_length=64
    )
    text = code(name, tmp_path / "x", segments=True, bare=True, longest=64)
    assert max(map(len, text.splitlines())) <= 140
    if name == "choice":
        assert "transformers has no class for the head" in text
        return
    with torch.inference_mode():
        assert shown(text, name, examples[0], tmp_path / "x") == expected(
            name, model, task, examples[0], wordpiece
        )
    assert "MISSING" not in capsys.readouterr().out


def test_a_bare_encoder_is_refused(data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path) -> None:
    saved("parsing", data, wordpiece, tmp_path / "x")
    (tmp_path / "x" / "head.safetensors").unlink()
    with pytest.raises(InputError, match="but it holds BertModel"):
        load_deployed(tmp_path / "x")


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_graphs_say_the_same_at_every_shape(
    name: str, data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path
) -> None:
    model, task, examples = saved(name, data, wordpiece, tmp_path / "onnx")
    saved(name, data, wordpiece, tmp_path / "onnx-int8")
    plain, _, _ = load_deployed(tmp_path / "onnx")
    rows = task.encode(examples, wordpiece, max_length=64)
    for form in ("onnx", "onnx-int8"):
        graph.in_place(tmp_path / form, form, plain.encoder, plain.inputs(task.collate(rows[:2], 0)))
        assert not (tmp_path / form / "model.safetensors").exists()
        exported, found, tokenizer = load_deployed(tmp_path / form)
        for chosen in (rows[:1], rows[1:3], rows):
            apart = deploy.largest_difference(plain, exported, task.collate(chosen, 0))
            assert apart < deploy.EXACT if form == "onnx" else 1e-3 < apart < 1.0
        said = predict_all(exported, found, examples, tokenizer, max_length=64)
        written = next((tmp_path / form).glob("*.onnx")).read_bytes()
        assert not [place for place in (str(ROOT), sys.prefix, str(tmp_path)) if place.encode() in written]
        if form == "onnx":
            whole = predict_all(model, task, examples, wordpiece, max_length=64)
            assert (
                [[one.start for one in answers[:1]] for answers in said]
                == [[one.start for one in answers[:1]] for answers in whole]
                if name == "qa"
                else said == whole
            )
            if name == "choice":
                continue
            with torch.inference_mode():
                text = code(name, tmp_path / form, segments=True, bare=True, longest=64)
                assert shown(text, name, examples[0], tmp_path / form) == expected(
                    name, model, task, examples[0], wordpiece
                )


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "place", "found"),
    [
        ([(2, 3)], (0, 0, 2), 5.0),  # labels of whole texts, as many as tokens: the last is no padding
        ([(2, 3, 4)], (0, 0, 2, 1), 0.0),
        ([(2, 3), (2, 3)], (1, 0, 2), 0.0),  # beginnings and ends of answers, one value a token
        ([(2, 3), (2, 3)], (1, 0, 1), 5.0),
    ],
)
def test_differences_on_padding_alone_do_not_count(
    shape: list[tuple[int, ...]], place: tuple[int, ...], found: float
) -> None:
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])

    def model(value: float) -> Any:
        outputs = [torch.zeros(one) for one in shape]
        outputs[place[0]][place[1:]] = value
        return SimpleNamespace(outputs=lambda batch: outputs)

    batch = {"attention_mask": mask}
    assert deploy.largest_difference(model(0.0), model(5.0), batch) == found
    if found:
        assert math.isnan(deploy.largest_difference(model(0.0), model(math.nan), batch))


def test_int8_weights_leave_a_bit_for_processors_that_add_in_16(
    data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path
) -> None:
    import onnx

    _, task, examples = saved("ner", data, wordpiece, tmp_path / "onnx-int8")
    plain, _, _ = load_deployed(tmp_path / "onnx-int8")
    rows = task.encode(examples, wordpiece, max_length=64)
    inputs = plain.inputs(task.collate(rows[:2], 0))
    graph.in_place(tmp_path / "onnx-int8", "onnx-int8", plain.encoder, inputs)
    made = onnx.load(str(tmp_path / "onnx-int8" / deploy.GRAPHS["onnx-int8"])).graph
    weights = [
        onnx.numpy_helper.to_array(one).astype(int)
        for one in made.initializer
        if one.data_type == onnx.TensorProto.INT8
    ]
    assert sum(weight.ndim == 2 for weight in weights) >= 6 * plain.encoder.config.num_hidden_layers
    assert all(abs(weight).max() <= 64 for weight in weights if weight.size)


@pytest.mark.slow
def test_an_export_is_scored_and_told_with_numbers_of_the_manifest(
    finished, tmp_path: Path, data: DataFolder
) -> None:
    lines: list[str] = []
    (tmp_path / "x.partial").mkdir()
    before = os.umask(0o027)
    measured = deploy.export(finished, NER, "folder", tmp_path / "x", say=lines.append)
    os.umask(before)
    assert {path.name for path in tmp_path.iterdir()} == {"x", "x.partial"}
    assert {path.stat().st_mode & 0o777 for path in [tmp_path / "x", *(tmp_path / "x").iterdir()]} == {
        0o750,
        0o640,
    }
    metrics = finished.evaluation(NER).metrics
    assert measured.score == metrics["f1"]
    assert measured.exported_score == pytest.approx(metrics["f1"], abs=1e-6)
    assert measured.apart < deploy.EXACT
    assert any("in the store" in line for line in lines)
    text = (tmp_path / "x" / "README.md").read_text(encoding="utf-8")
    for number in (
        f"{metrics['parameters']:,} parameters",
        f"{metrics['f1']:.1f}",
        finished.evaluation(NER).id,
        finished.teacher_id,
    ):
        assert number in text
    assert "on the same examples, as the evaluation does" in text
    assert "licences the experiment does not name" in text
    assert data.language("qac").name in text
    assert "pipeline_tag: token-classification" in text
    assert load_deployed(tmp_path / "x")[1].name == "ner"
    with pytest.raises(InputError, match="there already"):
        deploy.export(finished, NER, "folder", tmp_path / "x", say=lines.append)
    nothing = reader(finished)
    nothing.store = Store(tmp_path / "empty")
    with pytest.raises(InputError, match="Run `bistil batch`"):
        deploy.export(nothing, NER, "folder", tmp_path / "y", say=lines.append)
    assert not list(tmp_path.glob("y*"))


@needs_onnx
@pytest.mark.slow
def test_a_parser_leaves_as_a_graph(finished, tmp_path: Path) -> None:
    cell = deploy.choose(finished.experiment, deploy.Asked(system="bistil-st:2", task="parsing"))
    measured = deploy.export(finished, cell, "onnx", tmp_path / "x", say=lambda line: None)
    assert measured.apart < deploy.EXACT
    assert measured.exported_score == pytest.approx(measured.score, abs=0.01)
    assert {"model.onnx", "head.safetensors", "labels.json", "README.md"} <= {
        path.name for path in (tmp_path / "x").iterdir()
    }


def test_what_is_asked_for_is_found_or_what_there_is_is_told(experiment) -> None:
    plan = experiment()
    assert plan.named(deploy.choose(plan, deploy.Asked(task="ner"))) == "bistil-tf:2"
    assert deploy.choose(plan, deploy.Asked(system="teacher-ltsft")).system == "teacher-ltsft"
    with pytest.raises(InputError, match=r"has no score with .*qax.*target qac"):
        deploy.choose(plan, deploy.Asked(target="qax"))


def test_an_evaluation_of_a_report_is_found_by_its_id() -> None:
    from bistil.evaluation.results import read_results
    from bistil.settings.places import ROOT

    results = ROOT / "reports" / "miniworld-claims" / "results.csv"
    row = next(row for row in read_results(results) if row["lrf"] == 3 and row["seed"] == 2)
    file, asked = deploy.of_evaluation(row["artefact"], [results], ROOT / "data" / "experiments")
    assert file.name == "miniworld-claims.yaml"
    assert (asked.system, asked.task, asked.target, asked.seed) == (
        f"{row['system']}:3",
        row["task"],
        row["target"],
        2,
    )
    with pytest.raises(InputError, match="none names 'nothing'"):
        deploy.of_evaluation("nothing", [results], ROOT / "data" / "experiments")
    with pytest.raises(InputError, match=r"miniworld-claims.yaml is not there"):
        deploy.of_evaluation(row["artefact"], [results], ROOT / "data")


def test_the_hub_needs_a_name_and_a_token_before_any_work(monkeypatch, capsys, experiment_file) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    for repository in (None, "name", "/name"):
        with pytest.raises(InputError, match="--repo OWNER/NAME"):
            deploy.check_hub(repository)
    assert cli.main(["export", str(experiment_file()), "--to", "hub", "--repo", "me/student"]) == 2
    assert "token" in capsys.readouterr().err


def test_each_adapter_has_a_folder_of_its_own_and_none_goes_to_the_hub(
    world: Path, monkeypatch, capsys, experiment_file
) -> None:
    monkeypatch.setattr("bistil.deploy.write.write_adapter", lambda pipeline, cell, code, to: to)
    command = ["export", str(experiment_file()), "--data", str(world), "--adapter"]
    assert [cli.main([*command, language]) for language in ("qaa", "qac")] == [0, 0]
    one, other = capsys.readouterr().out.split()
    assert (Path(one).name[-11:], Path(other).name[-11:]) == ("adapter-qaa", "adapter-qac")
    assert cli.main([*command, "qaa", "--to", "hub", "--repo", "me/student"]) == 2
    assert "--to hub came with --adapter" in capsys.readouterr().err


def hub(monkeypatch: pytest.MonkeyPatch, found: Any) -> list[tuple[str, Any]]:
    """A hub that notes what is done to it; `found` is whether the repository is private, or the error instead
    of one.
    """
    calls: list[tuple[str, Any]] = []

    def info(repository: str) -> Any:
        if isinstance(found, Exception):
            raise found
        return SimpleNamespace(private=found)

    def create(*named: str, **more: Any) -> str:
        calls.append(("create", (*named, more)))
        return "address"

    def api(token: str) -> Any:
        assert token == "secret"
        return SimpleNamespace(
            repo_info=info, create_repo=create, upload_folder=lambda **more: calls.append(("upload", more))
        )

    monkeypatch.setattr("huggingface_hub.get_token", lambda: "secret")
    monkeypatch.setattr("huggingface_hub.HfApi", api)
    return calls


def missing() -> Exception:
    from huggingface_hub.errors import RepositoryNotFoundError

    return RepositoryNotFoundError.__new__(RepositoryNotFoundError)


@pytest.mark.parametrize("found", [True, missing()])
def test_an_upload_is_private_and_whole(found: Any, monkeypatch, tmp_path: Path) -> None:
    calls = hub(monkeypatch, found)
    assert deploy.upload(tmp_path, "me/student") == "address"
    (_, created), (_, uploaded) = calls
    assert created == ("me/student", {"private": True, "exist_ok": True})
    assert (uploaded["repo_id"], uploaded["folder_path"]) == ("me/student", str(tmp_path))


def test_nothing_goes_where_anybody_can_read_unless_asked_for(monkeypatch, tmp_path: Path) -> None:
    calls = hub(monkeypatch, False)
    with pytest.raises(InputError, match="anybody can read me/student"):
        deploy.check_hub("me/student")
    with pytest.raises(InputError, match="--public"):
        deploy.upload(tmp_path, "me/student")
    assert not calls
    assert deploy.upload(tmp_path, "me/student", public=True) == "address"


def test_a_hub_that_does_not_answer_is_told(monkeypatch) -> None:
    hub(monkeypatch, ConnectionError("no route"))
    with pytest.raises(InputError, match="no route"):
        deploy.check_hub("me/student")


def changed(folder: Path, **fields: Any) -> None:
    """Other fields in a folder's config.json, its keys sorted as text."""
    path = folder / "config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | fields, sort_keys=True), encoding="utf-8"
    )


def test_labels_go_by_their_numbers_and_not_by_their_order_in_the_file(
    data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path
) -> None:
    _, task, _ = saved("pos", data, wordpiece, tmp_path)
    assert len(task.labels) > 10  # as text, 10 comes before 2
    changed(tmp_path)
    assert load_deployed(tmp_path)[1].labels == task.labels


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"id2label": {"0": "O", "2": "B-PER"}}, r"from 0 to 1 .* numbers are 0, 2"),
        ({"num_hidden_layers": 3}, r"tensors are missing, .*such as .*layer\.2"),
        ({"num_hidden_layers": 1}, r"tensors have no place .*such as .*layer\.1"),
        ({"num_hidden_layers": -1}, r"from 1 to 1,000 .*num_hidden_layers.* is -1"),
        ({"num_hidden_layers": 10**7}, r"from 1 to 1,000 .*num_hidden_layers.* is 10000000"),
        ({"hidden_size": 64}, r"is stored with the size .*, but by config.json it has"),
        ({"hidden_size": "many"}, r"hidden_size.* is many"),
        ({"model_type": "nothing"}, r"config.json cannot be used .*nothing"),
        ({"architectures": ["NoneForTokenClassification"]}, r"but it holds NoneForTokenClassification"),
    ],
)
def test_a_folder_that_would_be_filled_up_or_cut_is_refused(
    fields: dict[str, Any], told: str, data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path
) -> None:
    saved("ner", data, wordpiece, tmp_path)
    changed(tmp_path, **fields)
    with pytest.raises(InputError, match=told):
        load_deployed(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.json", b"{", "config.json, line 1: expected JSON"),
        ("head.safetensors", b"no tensors", "head.safetensors should hold the tensors of a head"),
        ("labels.json", b"[", "labels.json, line 1: expected JSON"),
        ("labels.json", b'{"0": "_"}', "labels.json: expected a list in JSON"),
        ("labels.json", b"[1]", "A list of labels was expected"),
        ("labels.json", b'["root"]', "head.safetensors should hold the tensors of a ShallowBiaffine"),
        ("model.safetensors", b"no tensors", "The weights of .* could not be read"),
    ],
)
def test_a_damaged_file_is_named(
    name: str, content: bytes, told: str, data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path
) -> None:
    saved("parsing", data, wordpiece, tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=told):
        load_deployed(tmp_path)


def test_a_parser_with_fresh_layers_is_shown_with_the_command(
    data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path
) -> None:
    model, task, _ = trained("parsing", data, wordpiece)
    for layers, shown_as in ((0, "```python"), (1, "transformers has no class for the head")):
        head = task_head(task, model.encoder.config, layers)
        folder = tmp_path / str(layers)
        save_finished(folder, TaskModel(encoder=model.encoder, head=head), task.labels, wordpiece)
        assert code("parsing", folder, segments=True, bare=True, longest=64).startswith(shown_as)
        assert beyond("parsing", folder) == ("head" if layers else "")
