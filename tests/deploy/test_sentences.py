"""Sentence encoders taken away: the vectors of sentence-transformers, of plain transformers and of graphs are
those that were scored.
"""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

from bistil.cli import main
from bistil.deploy import graph
from bistil.deploy import write as deploy
from bistil.deploy.card_code import sentence_code
from bistil.deploy.sentences import SentenceEncoder, fill, load_sentences, write_sentences
from bistil.errors import InputError
from bistil.experiment import Cell
from bistil.pipeline import Pipeline
from bistil.store.artefacts import Store
from bistil.tasks.retrieval import parallel
from bistil.text.languages import DataFolder

PREFIX = "qu : "
TEXTS = ["vabu", "Lopu vebu gu .", "ku " * 40, "?"]
ASKED = {"by": "sentence", "depth": 1.0, "prefix": PREFIX}


@pytest.fixture(scope="module")
def made(
    experiment: Any, data: DataFolder, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Pipeline, Cell]:
    """An experiment on retrieval, and its student's cell, evaluated."""
    systems = ["teacher-ltsft", "bistil-sentence:2", "floor"]
    small = experiment(systems=systems, targets={"retrieval": ["qac"]}, task={}, retrieval=ASKED)
    pipeline = Pipeline(small, data, Store(tmp_path_factory.mktemp("store")))
    cell = deploy.choose(small, deploy.Asked(), "sentence-transformers")
    pipeline.evaluation(cell)
    return pipeline, cell


def expected(pipeline: Pipeline, cell: Cell, texts: list[str]) -> torch.Tensor:
    """The vectors by the definition, one sentence at a time."""
    encoder, tokenizer = pipeline.encoder(cell, "qac")
    found = []
    for text in texts:
        batch = tokenizer(PREFIX + text, truncation=True, max_length=64, return_tensors="pt")
        tokenizer.backend_tokenizer.no_truncation()
        with torch.inference_mode():
            found.append(encoder.eval()(**batch).last_hidden_state[0].mean(0))
    return normalize(torch.stack(found), dim=1)


def of_card(folder: Path) -> float:
    """What the code of a folder's model card prints."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    [python] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    space: dict[str, Any] = {}
    exec(python.replace('FOLDER = "."', f"FOLDER = {str(folder)!r}"), space)
    return float(space["found"])


@pytest.mark.slow
def test_a_folder_gives_the_vectors_that_were_scored_to_every_package(made, tmp_path: Path) -> None:
    pipeline, cell = made
    lines: list[str] = []
    measured = deploy.export(pipeline, cell, "sentence-transformers", tmp_path / "x", say=lines.append)
    goal = expected(pipeline, cell, TEXTS)
    torch.testing.assert_close(load_sentences(tmp_path / "x")(TEXTS), goal, atol=1e-6, rtol=0)
    assert (measured.metric, measured.apart) == ("accuracy", 0)
    assert measured.exported_score == measured.score == pipeline.evaluation(cell).metrics["accuracy"]
    card = (tmp_path / "x" / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: sentence-similarity" in card
    assert "Sentence retrieval in" in card
    assert f"| {measured.score:.1f} |" in card

    plain = AutoModel.from_pretrained(tmp_path / "x").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "x")
    batch = tokenizer(PREFIX + TEXTS[1], return_tensors="pt")
    with torch.inference_mode():
        mean = plain(**batch).last_hidden_state[0].mean(0)
    torch.testing.assert_close(normalize(mean, dim=0), goal[1], atol=1e-6, rtol=0)


@pytest.mark.slow
def test_sentence_transformers_gives_the_same_vectors(made, tmp_path: Path) -> None:
    package = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    pipeline, cell = made
    deploy.export(pipeline, cell, "sentence-transformers", tmp_path / "x", say=lambda line: None)
    model = package.SentenceTransformer(str(tmp_path / "x"), device="cpu")
    found = torch.from_numpy(model.encode(TEXTS))
    torch.testing.assert_close(found, expected(pipeline, cell, TEXTS), atol=1e-6, rtol=0)
    assert model.max_seq_length == 64
    assert model.similarity_fn_name == "cosine"
    both = expected(pipeline, cell, ["A sentence.", "Its translation."])
    assert of_card(tmp_path / "x") == pytest.approx(float(both[0] @ both[1]), abs=1e-6)


@pytest.mark.skipif(bool(graph.missing()), reason=graph.missing())
@pytest.mark.slow
def test_graphs_give_one_vector_a_sentence_whatever_its_length(made, tmp_path: Path) -> None:
    pipeline, cell = made
    goal = expected(pipeline, cell, TEXTS)
    size = {}
    for form, near in (("onnx", 1e-5), ("onnx-int8", 0.1)):
        measured = deploy.export(pipeline, cell, form, tmp_path / form, say=lambda line: None)
        found = load_sentences(tmp_path / form)(TEXTS)
        torch.testing.assert_close(found, goal, atol=near, rtol=0)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(len(TEXTS)))
        both = expected(pipeline, cell, ["A sentence.", "Its translation."])
        assert of_card(tmp_path / form) == pytest.approx(float(both[0] @ both[1]), abs=near)
        assert not (tmp_path / form / "model.safetensors").exists()
        size[form] = measured.megabytes
    assert size["onnx-int8"] < size["onnx"]


def test_a_folder_without_a_prefix_has_no_prompt(made, tmp_path: Path) -> None:
    pipeline, cell = made
    encoder, tokenizer = pipeline.encoder(cell, "qac")
    tmp_path.joinpath("x").mkdir()
    write_sentences(tmp_path / "x", encoder, tokenizer, prefix="")
    told = json.loads((tmp_path / "x" / "config_sentence_transformers.json").read_text(encoding="utf-8"))
    assert (told["prompts"], told["default_prompt_name"]) == ({}, None)
    assert load_sentences(tmp_path / "x").prefix == ""
    with pytest.raises(InputError, match="A sentence encoder was expected"):
        load_sentences(tmp_path)


def test_what_is_no_single_scored_encoder_is_refused(made, experiment, data, tmp_path: Path, capsys) -> None:
    pipeline, cell = made
    teacher = cell.of_teacher
    pipeline.evaluation(teacher)
    with pytest.raises(InputError, match="wears a language SFT for each"):
        deploy.export(pipeline, teacher, "onnx", tmp_path / "x", say=lambda line: None)
    settings = {"systems": ["bistil-sentence:2"], "targets": {"retrieval": ["qac"]}, "task": {}}
    other = Pipeline(experiment(**settings), data, Store(tmp_path / "store"))
    other.evaluation(other.experiment.cells()[0])
    apart = experiment(**{**settings, "systems": ["monoshot:2"]}, retrieval=ASKED)
    family = Pipeline(apart, data, Store(tmp_path / "family"))
    with pytest.raises(InputError, match="has one for each"):
        fill(family, apart.cells()[0], pipeline.evaluation(cell), "folder", tmp_path / "z")
    with pytest.raises(InputError, match=r"by: cosine, depth: 0\.67"):
        deploy.export(other, other.experiment.cells()[0], "folder", tmp_path / "y", say=lambda line: None)
    with pytest.raises(InputError, match="has no score with"):
        deploy.choose(experiment(), deploy.Asked(), "sentence-transformers")
    assert deploy.choose(pipeline.experiment, deploy.Asked(task="retrieval"), "onnx") == cell
    assert not list(tmp_path.glob("[xy]"))
    assert main(["export", str(tmp_path / "none.yaml"), "--to", "sentence-transformers"]) == 2
    assert "none.yaml" in capsys.readouterr().err
    assert len(parallel(data, "qaa", "qac")) == 20


def test_a_prefix_with_quotes_is_code_too(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    for prefix in ('say "', "it's ", "query: ", "\\"):
        text = sentence_code(tmp_path, prefix).removeprefix("```python\n").removesuffix("\n```")
        found = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
        assert prefix in found


def test_vectors_of_nothing_are_refused() -> None:
    encoder: Any = SentenceEncoder(lambda inputs: (), None, "", 8)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="At least one sentence"):
        encoder([])
