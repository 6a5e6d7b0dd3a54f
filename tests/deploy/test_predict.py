"""What a finished student says of a text file is what its task model says of the same words."""

import io
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import ROOT, masked_lm
from transformers import BertTokenizer

from bistil import cli
from bistil.deploy.predict import predict
from bistil.errors import InputError
from bistil.evaluation.score import predict_all
from bistil.models.architectures import longest_sequence
from bistil.models.load import TaskModel
from bistil.pipeline.finished import export, save_finished
from bistil.tasks import task as find_task
from bistil.tasks.asking import asked
from bistil.text.languages import DataFolder


def trained(name: str, data: DataFolder, wordpiece: BertTokenizer) -> tuple[TaskModel, Any, list[Any]]:
    kind = find_task(name)
    examples = kind.read(data.file(kind.column, "qaa", "test"))[:5]
    task = kind.for_training(examples)
    torch.manual_seed(1)
    model = TaskModel(encoder=masked_lm(len(wordpiece), layers=2).bert, head=task.head(32)).eval()
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model, task, examples


def told(capsys: pytest.CaptureFixture[str], model: Path, file: Path) -> list[list[str]]:
    assert cli.main(["predict", str(model), str(file)]) == 0
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("name", ["ner", "pos"])
def test_tags(name: str, data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path, capsys) -> None:
    model, task, examples = trained(name, data, wordpiece)
    export(tmp_path / "model", model, task.labels, wordpiece)
    file = tmp_path / "text.txt"
    file.write_text("".join("\n" + " ".join(example.words) + "\n" for example in examples), encoding="utf-8")
    expected = predict_all(model, task, examples, wordpiece, max_length=64)
    lines = [
        line
        for example, tags in zip(examples, expected, strict=True)
        for line in ([""], *([word, tag] for word, tag in zip(example.words, tags, strict=True)), [""])
    ]
    assert told(capsys, tmp_path / "model", file) == lines


def test_answers(data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path, capsys) -> None:
    model, task, examples = trained("qa", data, wordpiece)
    export(tmp_path / "model", model, task.labels, wordpiece)
    file = tmp_path / "questions.tsv"
    file.write_text("\n\n".join(f"{one.question}\t{one.context}" for one in examples), encoding="utf-8")
    expected = predict_all(model, task, examples, wordpiece, max_length=64)
    lines = told(capsys, tmp_path / "model", file)
    assert lines[1::2] == [[""]] * (len(examples) - 1)
    lines = lines[::2]
    assert [line[0] for line in lines] == [
        one.context[said[0].start : said[0].end] for one, said in zip(examples, expected, strict=True)
    ]
    assert [tuple(line[1:]) for line in lines] == [(one.question, one.context) for one in examples]
    assert len({line[0] for line in lines}) > 1
    file.write_text("\na question?\t\n", encoding="utf-8")
    assert cli.main(["predict", str(tmp_path / "model"), str(file)]) == 2
    assert "line 2: a question and a paragraph" in capsys.readouterr().err
    file.write_text("\n \n", encoding="utf-8")
    assert cli.main(["predict", str(tmp_path / "model"), str(file)]) == 2
    assert "A line of text was expected" in capsys.readouterr().err


def test_parses(data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path, capsys) -> None:
    model, task, examples = trained("parsing", data, wordpiece)
    save_finished(tmp_path / "model", model, task.labels, wordpiece)
    file = tmp_path / "text.txt"
    file.write_text("".join(" ".join(example.words) + "\n\n" for example in examples), encoding="utf-8")
    assert cli.main(["predict", str(tmp_path / "model"), str(file)]) == 0
    (tmp_path / "parsed.conllu").write_text(said := capsys.readouterr().out, encoding="utf-8")
    numbers = [line for line in said.splitlines() if line.startswith("# sent_id")]
    assert numbers == [f"# sent_id = {2 * number + 1}" for number in range(len(examples))]
    found = find_task("parsing").read(tmp_path / "parsed.conllu")
    expected = predict_all(model, task, examples, wordpiece, max_length=64)
    assert [(one.words, one.heads, one.relations) for one in found] == [
        (example.words, tree.heads, tree.relations) for example, tree in zip(examples, expected, strict=True)
    ]


def test_pairs_and_what_is_none(data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path, capsys) -> None:
    model, task, examples = trained("nli", data, wordpiece)
    export(tmp_path / "model", model, task.labels, wordpiece)
    file = tmp_path / "pairs.tsv"
    file.write_text("".join(f"{one.premise}\t{one.hypothesis}\n" for one in examples), encoding="utf-8")
    expected = predict_all(model, task, examples, wordpiece, max_length=64)
    assert [line[0] for line in told(capsys, tmp_path / "model", file)] == expected
    file.write_text("a sentence alone\n", encoding="utf-8")
    assert cli.main(["predict", str(tmp_path / "model"), str(file)]) == 2
    assert "line 1" in capsys.readouterr().err
    for folder in (tmp_path / "nowhere", tmp_path):
        assert cli.main(["predict", str(folder), str(file)]) == 2
        assert "config.json" in capsys.readouterr().err


def test_labels_of_texts(data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path, capsys) -> None:
    model, task, examples = trained("classification", data, wordpiece)
    export(tmp_path / "model", model, task.labels, wordpiece)
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"{one.text}\n" for one in examples), encoding="utf-8")
    expected = predict_all(model, task, examples, wordpiece, max_length=64)
    texts = [one.text for one in examples]
    assert told(capsys, tmp_path / "model", file) == [
        list(both) for both in zip(expected, texts, strict=True)
    ]
    [first, *_] = (json.loads(line) for line in predict(tmp_path / "model", file, as_json=True))
    assert (first["text"], first["label"]) == (texts[0], expected[0])
    assert 1 / len(task.labels) < first["confidence"] <= 1


def test_choices(data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path, capsys) -> None:
    model, task, examples = trained("choice", data, wordpiece)
    save_finished(tmp_path / "model", model, task.labels, wordpiece)
    lines = ["\t".join([one.context, one.question, " | ".join(one.choices)]) for one in examples]
    (tmp_path / "questions.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    best = predict_all(model, task, examples, wordpiece, max_length=64)
    expected = [one.choices[number] for one, number in zip(examples, best, strict=True)]
    found = told(capsys, tmp_path / "model", tmp_path / "questions.tsv")
    assert [line[0] for line in found] == expected
    assert ["\t".join(line[1:]) for line in found] == lines
    [first, *_] = (
        json.loads(line) for line in predict(tmp_path / "model", tmp_path / "questions.tsv", as_json=True)
    )
    assert (first["answer"], first["choices"]) == (expected[0], list(examples[0].choices))
    assert 1 / 2 <= first["confidence"] < 1
    long = [" ".join([examples[0].context] * 40), *lines[0].split("\t")[1:]]
    (tmp_path / "questions.tsv").write_text("\t".join(long) + "\n", encoding="utf-8")
    assert cli.main(["predict", str(tmp_path / "model"), str(tmp_path / "questions.tsv")]) == 0
    assert "warning: line 1: " in capsys.readouterr().err
    (tmp_path / "questions.tsv").write_text("a\tb\tc\n", encoding="utf-8")
    assert cli.main(["predict", str(tmp_path / "model"), str(tmp_path / "questions.tsv")]) == 2
    assert "Two choices or more" in capsys.readouterr().err


def test_standard_input_json_lines_and_confidences(
    data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, task, examples = trained("ner", data, wordpiece)
    export(tmp_path / "model", model, task.labels, wordpiece)
    text = "\n\n".join(" ".join(example.words) for example in examples)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert cli.main(["predict", str(tmp_path / "model"), "--json", "-"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["line"] for one in found] == list(range(1, 2 * len(examples)))
    assert found[1] == {"line": 2}
    expected = predict_all(model, task, examples, wordpiece, max_length=64)
    assert [tuple(one["tags"]) for one in found[::2]] == expected
    assert all(1 / len(task.labels) < sure <= 1 for one in found[::2] for sure in one["confidence"])
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    assert cli.main(["predict", str(tmp_path / "model"), str(tmp_path / "text.txt"), "--confidence"]) == 0
    [word, tag, sure] = capsys.readouterr().out.splitlines()[0].split("\t")
    assert (word, tag) == (examples[0].words[0], expected[0][0])
    assert float(sure) == pytest.approx(found[0]["confidence"][0], abs=1e-3)


def test_words_beyond_the_models_length_are_tagged_in_windows(
    data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path, capsys
) -> None:
    model, task, examples = trained("ner", data, wordpiece)
    export(tmp_path / "model", model, task.labels, wordpiece)
    words = [word for example in examples for word in example.words] * 12
    (tmp_path / "text.txt").write_text(" ".join(words) + "\n", encoding="utf-8")
    lines = told(capsys, tmp_path / "model", tmp_path / "text.txt")
    assert [line[0] for line in lines[:-1]] == words
    assert {line[1] for line in lines[:-1]} <= set(task.labels)
    length = longest_sequence(model.encoder.config)
    whole = task.encode([asked("ner", " ".join(words))], wordpiece, max_length=length)
    assert sum(label != -100 for label in whole[0]["labels"]) < len(words)  # they do not fit at once


def test_the_time_of_a_line_grows_with_its_length_alone(
    data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, task, examples = trained("ner", data, wordpiece)
    export(tmp_path / "model", model, task.labels, wordpiece)
    words = ([word for example in examples for word in example.words] * 100)[:2000]
    (tmp_path / "text.txt").write_text(" ".join(words) + "\n", encoding="utf-8")
    read: list[int] = []
    encode = type(task).encode

    def counted(self: Any, some: Any, *more: Any, **named: Any) -> Any:
        read.append(sum(len(one.words) for one in some))
        return encode(self, some, *more, **named)

    monkeypatch.setattr(type(task), "encode", counted)
    assert len(list(predict(tmp_path / "model", tmp_path / "text.txt"))) == len(words) + 1
    assert sum(read) < 5 * len(words)


def test_a_parse_that_is_cut_is_told(
    data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path, capsys
) -> None:
    model, task, examples = trained("parsing", data, wordpiece)
    save_finished(tmp_path / "model", model, task.labels, wordpiece)
    words = [word for example in examples for word in example.words] * 12
    (tmp_path / "text.txt").write_text("\n" + " ".join(words) + "\n", encoding="utf-8")
    assert cli.main(["predict", str(tmp_path / "model"), str(tmp_path / "text.txt")]) == 0
    assert "warning: line 2: the model takes" in capsys.readouterr().err


def test_the_student_in_the_repository_works() -> None:
    pytest.importorskip("onnxruntime")
    students = ROOT / "data" / "students"
    found = list(predict(students / "miniworld-ner", students / "sentences.txt"))
    assert found[:4] == ["Lolnalat\tB-PER", "Murteba\tI-PER", "fetgelap\tO", "Obi\tB-PER"]
    assert sum(path.stat().st_size for path in (students / "miniworld-ner").iterdir()) < 2e6


def spoilt(file: Path, name: str) -> None:
    """Put a value that is no number into the first tensor of a file with such a name."""
    tensors = load_file(file)
    next(tensor for key, tensor in tensors.items() if name in key).view(-1)[0] = torch.nan
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "file", "tensor"),
    [
        ("ner", "model.safetensors", "layer.1.output.dense.weight"),
        ("choice", "model.safetensors", "layer.1.output.dense.weight"),
        ("choice", "head.safetensors", "unit"),
    ],
)
def test_weights_that_are_no_numbers_say_nothing(
    name: str, file: str, tensor: str, data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path, capsys
) -> None:
    model, task, _ = trained(name, data, wordpiece)
    save_finished(tmp_path / "model", model, task.labels, wordpiece)
    spoilt(tmp_path / "model" / file, tensor)
    (tmp_path / "text.txt").write_text("a\tb\tc | d\n", encoding="utf-8")
    assert cli.main(["predict", str(tmp_path / "model"), str(tmp_path / "text.txt"), "--json"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "Finite weights were expected" in err


def test_a_graph_that_gives_no_numbers_says_nothing(
    data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, task, _ = trained("ner", data, wordpiece)
    save_finished(tmp_path / "model", model, task.labels, wordpiece)
    (tmp_path / "model" / "model.onnx").touch()
    (tmp_path / "text.txt").write_text("Ada\n", encoding="utf-8")
    for value, wrong in ((torch.nan, True), (0.5, False)):
        monkeypatch.setattr(
            "bistil.deploy.read.open_graph",
            lambda path, value=value: (
                lambda inputs: (torch.full((*inputs["input_ids"].shape, len(task.labels)), value),)
            ),
        )
        with pytest.raises(InputError, match="Numbers were expected") if wrong else nullcontext():
            assert len(list(predict(tmp_path / "model", tmp_path / "text.txt"))) == 2


@pytest.mark.parametrize("name", ["parsing", "choice"])
def test_a_student_in_half_precision_answers_with_its_head_beside_it(
    name: str, data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path
) -> None:
    model, task, _ = trained(name, data, wordpiece)
    model.encoder.half()
    save_finished(tmp_path / "model", model, task.labels, wordpiece)
    (tmp_path / "text.txt").write_text("Ada\tsaw\tBo | Al\n", encoding="utf-8")
    [said, *_] = predict(tmp_path / "model", tmp_path / "text.txt", as_json=True)
    assert json.loads(said)["line"] == 1


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(
    data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path
) -> None:
    model, task, _ = trained("ner", data, wordpiece)
    save_finished(tmp_path / "model", model, task.labels, wordpiece)
    larger = BertTokenizer.from_pretrained(tmp_path / "model")
    larger.add_tokens(["Ada"])
    larger.save_pretrained(tmp_path / "model")
    (tmp_path / "text.txt").write_text("Ada\n", encoding="utf-8")
    with pytest.raises(InputError, match="embedding rows"):
        list(predict(tmp_path / "model", tmp_path / "text.txt"))


def test_answers_are_utf8_whatever_the_terminal_is(
    data: DataFolder, wordpiece: BertTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, task, _ = trained("ner", data, wordpiece)
    save_finished(tmp_path / "model", model, task.labels, wordpiece)
    (tmp_path / "text.txt").write_text("Köln\n", encoding="utf-8")
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written := io.BytesIO(), encoding="ascii"))
    assert cli.main(["predict", str(tmp_path / "model"), str(tmp_path / "text.txt")]) == 0
    assert written.getvalue().decode().startswith("Köln\t")
