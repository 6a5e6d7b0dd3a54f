"""Data sets by name, from a hub that is stood in for, into a folder that a run can read; and checks of such a
folder.
"""

import io
import re
import shutil
import subprocess
import sys
import threading
import unicodedata
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from tiny import ROOT

from bistil import cli
from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.sources import get as sources
from bistil.sources.check import check_folder, lines
from bistil.sources.get import add_to_table, get, wanted
from bistil.sources.table import Without, data_set, data_sets
from bistil.sources.without import shared
from bistil.tasks import task
from bistil.text.languages import DataFolder, read_table

datasets = pytest.importorskip("datasets")
UPOS = [
    "NOUN",
    "PUNCT",
    "ADP",
    "NUM",
    "SYM",
    "SCONJ",
    "ADJ",
    "PART",
    "DET",
    "CCONJ",
    "PROPN",
    "PRON",
    "X",
    "_",
    "ADV",
    "INTJ",
    "VERB",
    "AUX",
]
NER = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
NLI = ["entailment", "neutral", "contradiction"]


def table(rows: list[dict[str, Any]], **classes: list[str]) -> Any:
    """Rows as the hub has them: numbers with class names as a feature, in lists where the rows have lists."""
    found = datasets.Dataset.from_list(rows)
    features = found.features.copy()
    for name, names in classes.items():
        kind = datasets.ClassLabel(names=names)
        features[name] = datasets.Sequence(kind) if isinstance(rows[0][name], list) else kind
    return found.cast(features)


def hub(name: str, part: str, revision: str | None, streamed: bool) -> Mapping[str, Any]:
    """One small data set of each format."""
    if name.endswith("universal_dependencies"):
        rows = {
            "idx": "s1",
            "tokens": ["vámonos", "vamos", "nos", "al mar"],
            "lemmas": ["_", "ir", "nosotros", "mar"],
            "upos": [UPOS.index("_"), UPOS.index("VERB"), UPOS.index("PRON"), UPOS.index("NOUN")],
            "xpos": [None, None, None, "NN"],
            "feats": ["None", "{'Number': 'Plur', 'Mood': 'Imp'}", "None", "None"],
            "head": ["None", "0", "1", "1"],
            "deprel": ["_", "root", "obj", "obl"],
        }
        return {split: table([rows], upos=UPOS) for split in ("train", "test")}
    if name in ("eriktks/conll2003", "masakhane/masakhaner"):
        return {
            "train": table(
                [
                    {"tokens": ["Ada", "at", "Wimbledon"], "ner_tags": [1, 0, 7]},
                    {"tokens": ["Ada"], "ner_tags": [1]},
                ],
                ner_tags=NER,
            )
        }
    if name == "nyu-mll/multi_nli":
        rows_ = [
            {"premise": "a\tb", "hypothesis": "c", "label": 2},
            {"premise": "d", "hypothesis": "e", "label": -1},
        ]
        return {"train": table(rows_, label=NLI), "validation_matched": table(rows_, label=NLI)}
    if name == "rajpurkar/squad":
        row = {
            "id": "1",
            "context": "It is red.",
            "question": "What colour?",
            "answers": {"text": ["red"], "answer_start": [6]},
        }
        return {"train": table([row, {**row, "id": "2"}])}
    if name == "indonlp/NusaX-senti":
        rows_ = [
            {"id": 1, "text": "Enak, murah!", "label": 2},
            {"id": 2, "text": "Pelayanan di sana lambat sekali, saya kecewa.", "label": 0},
        ]
        senti = ["negative", "neutral", "positive"]
        return {"train": table(rows_[:1], label=senti), "test": table(rows_, label=senti)}
    if name == "indonlp/indonlu":
        assert part == "smsa"
        texts = [
            ("enak , murah", 0),  # the first, tokenised
            ("pelayanan disana lambat sekali saya sangat kecewa", 2),  # the second, before it was changed
            ("pelayanan baik dan cepat", 0),
            ("saya tinggal di bandung", 1),
        ]
        rows_ = [{"text": text, "label": label} for text, label in texts]
        smsa = ["positive", "neutral", "negative"]
        return {
            "train": table(rows_, label=smsa),
            "validation": table([rows_[0], rows_[3]], label=smsa),
            "test": table([{"text": "x", "label": 0}], label=smsa),
        }
    if name == "wikimedia/wikipedia":
        assert streamed
        return {"train": table([{"text": "One.\n\n Two  words. "}])}
    raise ConnectionError("Couldn't reach it\nat all")


@pytest.mark.parametrize(
    ("name", "code", "files"),
    [
        ("ud-2.7", "eng", {"ud/ud-2.7/eng-train.conllu", "ud/ud-2.7/eng-test.conllu"}),
        ("conll2003", "eng", {"ner/conll2003/eng-train.txt"}),
        ("multinli", "eng", {"nli/multinli/eng-train.tsv", "nli/multinli/eng-dev.tsv"}),
        ("squad", "eng", {"qa/squad/eng-train.json"}),
        (
            "nusax-senti",
            "ace",
            {"classification/nusax-senti/ace-train.tsv", "classification/nusax-senti/ace-test.tsv"},
        ),
        ("wikipedia", "eng", {"corpora/eng.txt"}),
    ],
)
def test_what_comes_from_the_hub_is_read_as_the_public_files(
    name: str, code: str, files: set[str], tmp_path: Path
) -> None:
    entry = data_set(name)
    written = get(entry, tmp_path, [code], load=hub, say=lambda text: None)
    assert {path.relative_to(tmp_path).as_posix() for path in written} == files
    folder = DataFolder(tmp_path)
    checked = check_folder(folder)
    assert checked.malformed == []
    assert {one.path for one in checked.files} == set(written)
    if entry.task != "text":
        kind = task(entry.task)
        examples = kind.read(folder.file(kind.column, code, "train"))
        many = {"ud-2.7": 1, "conll2003": 2, "multinli": 1, "squad": 2, "nusax-senti": 1}
        assert len(examples) == many[name]


UNER = "# text = Ada at Wimbledon\n1\tAda\tB-PER\t-\tx\n2\tat\tO\t-\tx\n3\tWimbledon\tB-LOC\t-\tx\n\n"
SNLI = "sentence1\tsentence2\tgold_label\na b\tc\tneutral\nd\te\tentailment\n"


@pytest.mark.parametrize(
    ("name", "code", "text", "addresses", "path", "rows"),
    [
        (
            "uner-ewt",
            "eng",
            3 * UNER,
            ["/en_ewt-ud-train", "/en_ewt-ud-dev"],
            "ner/uner-ewt/eng-train.iob2",
            2,
        ),
        ("cad-snli", "eng", SNLI, ["/NLI/all_combined/train.tsv"], "nli/cad-snli/eng-train.tsv", 2),
    ],
)
def test_public_files_are_taken_as_they_are(
    tmp_path: Path, name: str, code: str, text: str, addresses: list[str], path: str, rows: int
) -> None:
    asked = list[str]()

    def web(address: str) -> list[str]:
        asked.append(address)
        return text.splitlines(keepends=True)

    get(data_set(name), tmp_path, [code], fetch=web, say=lambda text: None)
    assert (tmp_path / path).read_text(encoding="utf-8") == text
    assert all(any(one in address for address in asked) for one in addresses)
    assert len(asked) == 3
    get(data_set(name), tmp_path, [code], fetch=web, say=lambda text: None)
    assert len(asked) == 3  # what is there is not asked for again
    (tmp_path / path).unlink()
    get(data_set(name), tmp_path, [code], fetch=web, most=rows, say=lambda text: None)
    examples = task(data_set(name).task).read(tmp_path / path)
    assert len(examples) == rows


def test_lines_of_translations_stay_beside_each_other(tmp_path: Path) -> None:
    get(data_set("ntrex-128"), tmp_path, ["eng", "zho"], fetch=lambda at: [f"{at[-10:]}\n", "\n"], say=print)
    table_ = read_table(tmp_path / "languages.csv")
    assert {code: table_[code].files["parallel"] for code in table_} == {
        "eng": "parallel/ntrex-128/eng.txt",
        "zho": "parallel/ntrex-128/zho.txt",
    }
    assert (tmp_path / "parallel/ntrex-128/zho.txt").read_text(encoding="utf-8") == "zho-CN.txt\n\n"


def test_a_web_that_fails_is_told_in_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    def broken(address: str) -> Iterator[str]:
        yield UNER
        raise ConnectionError("reset")

    with pytest.raises(InputError, match=r"uner-ewt \(eng\) comes from https://.*1 lines and no more.*reset"):
        get(data_set("uner-ewt"), tmp_path, ["eng"], fetch=broken, say=print)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".csv"]

    answers = {"https://x.org/a": io.BytesIO("\ufeffä\r\nb".encode())}
    monkeypatch.setattr(sources.urllib.request, "urlopen", lambda address, timeout: answers[address])
    assert list(sources.from_web("https://x.org/a")) == ["ä\r\n", "b"]
    with pytest.raises(InputError, match="starts with https://"):
        list(sources.from_web("file:///etc/passwd"))


class CutShort(BaseHTTPRequestHandler):
    """Answers with less than it says."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(UNER) + 1))
        self.end_headers()
        self.wfile.write(UNER.encode())

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def test_a_file_that_is_cut_short_on_its_way_is_none(tmp_path: Path, monkeypatch) -> None:
    with HTTPServer(("127.0.0.1", 0), CutShort) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        real, here = urllib.request.urlopen, f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(urllib.request, "urlopen", lambda address, timeout: real(here, timeout=timeout))
        with pytest.raises(InputError, match="gave nothing: IncompleteRead"):
            get(data_set("uner-ewt"), tmp_path, ["eng"], say=print)
        server.shutdown()
    assert not list(tmp_path.rglob("*.iob2"))


ENDS = """
import os, signal, sys
from bistil import cli
from bistil.sources import get

def web(address):
    yield "the first half"
    os.kill(os.getpid(), signal.SIGTERM)
    yield "the other"

get.from_web = web
sys.exit(cli.main(["data", "get", "uner-ewt", "--to", sys.argv[1]]))
"""


def test_nothing_stays_of_a_file_whose_process_is_told_to_end(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ENDS, str(tmp_path)], capture_output=True, timeout=300)
    assert done.returncode == 130, done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_only_ends_of_lines_end_lines(monkeypatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda address, timeout: io.BytesIO(b"a\rb\x0bc\nd\r\n"))
    assert list(sources.from_web("https://x.org/a")) == ["a\rb\x0bc\n", "d\r\n"]


def test_files_as_they_are_go_without_what_would_change_them() -> None:
    for wrong in ({"drop": ("MISC",)}, {"hub": "a/b"}, {"without": Without(set="xnli")}):
        with pytest.raises(InputError, match="taken as they are"):
            replace(data_set("uner-ewt"), **wrong)


def test_nothing_is_fetched_before_all_that_is_asked_for_is_known(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sources, "from_web", lambda address: pytest.fail("it was fetched"))
    for wrong in (["no-such-set"], ["lafand-mt"], ["uner-ewt", "squad", "--languages", "eng, swa"]):
        assert cli.main(["data", "get", "cad-snli", *wrong, "--to", str(tmp_path)]) == 2
    assert not list(tmp_path.iterdir())


def test_languages_that_an_experiment_reads_beside_its_targets_are_told() -> None:
    told = list[str]()
    list(wanted([str(ROOT / "data" / "experiments" / "real-madg.yaml")], say=told.append))
    others = next(line for line in told if "are no targets" in line).rpartition(" ")[2].split(",")
    assert {"aym", "zho"} <= set(others)
    assert not {"eng", "kpv"} & set(others)


def test_a_premise_without_letters_is_written_as_one_that_is_read(tmp_path: Path) -> None:
    rows = table([{"premise": " ", "hypothesis": "b", "label": 0}], label=NLI)
    get(data_set("americasnli"), tmp_path, ["nah"], load=lambda *_: {"test": rows}, say=print)
    (pair,) = task("nli").read(tmp_path / "nli/americasnli/nah-test.tsv")
    assert (pair.premise, pair.hypothesis) == (" ", "b")


def test_details_of_the_formats(tmp_path: Path) -> None:
    for name in ("ud-2.7", "conll2003", "multinli", "wikipedia"):
        get(data_set(name), tmp_path, ["eng"], load=hub, say=lambda text: None)
    assert "\tVERB\t_\tMood=Imp|Number=Plur\t0\t" in (tmp_path / "ud/ud-2.7/eng-train.conllu").read_text(
        encoding="utf-8"
    )
    (tree,) = task("parsing").read(tmp_path / "ud/ud-2.7/eng-train.conllu")
    assert (tree.words, tree.heads) == (("vamos", "nos", "al\u00a0mar"), (0, 1, 1))
    assert "Wimbledon O" in (tmp_path / "ner/conll2003/eng-train.txt").read_text()
    assert task("nli").read(tmp_path / "nli/multinli/eng-train.tsv")[0].premise == "a b"
    assert (tmp_path / "corpora/eng.txt").read_text() == "One.\nTwo words.\n"


def test_what_another_set_tests_on_is_left_out_changed_or_not(tmp_path: Path) -> None:
    said: list[str] = []
    get(data_set("smsa"), tmp_path, ["ind"], load=hub, say=said.append)
    folder, kind = DataFolder(tmp_path), task("classification")
    kept = {
        split: [(one.text, one.label) for one in kind.read(folder.file("classification", "ind", split))]
        for split in ("train", "dev")
    }
    assert kept["train"] == [("pelayanan baik dan cepat", "positive"), ("saya tinggal di bandung", "neutral")]
    assert kept["dev"] == [("saya tinggal di bandung", "neutral")]
    assert not folder.has("classification", "ind", "test")
    assert [line.partition(", ")[2].split(" ")[0] for line in said] == ["2", "1"]
    few = tmp_path / "few"
    get(data_set("smsa"), few, ["ind"], most=1, load=hub, say=said.append)
    assert len(kind.read(DataFolder(few).file("classification", "ind", "train"))) == 1


def test_left_out_are_the_rows_of_the_same_letters_and_if_asked_the_nearest() -> None:
    def rows(*texts: str) -> list[dict[str, str]]:
        return [{"text": text} for text in texts]

    splits = {"train": rows("A b, c!", "one two three four", "one two three five", "!"), "dev": rows("abc")}
    assert shared(splits, rows("abc", "?")) == {("train", 0), ("dev", 0)}
    assert shared(splits, rows("!")) == {("train", 3)}
    assert shared(splits, rows("One, two, three; four more")) == set()
    assert shared(splits, rows("One, two, three; four more"), nearest=True) == {("train", 1)}
    assert shared(splits, rows("one two three six"), nearest=True) == {("train", 1), ("train", 2)}
    assert shared(splits, rows("quite another"), nearest=True) == set()
    pairs_ = {"train": [{"premise": "a", "hypothesis": "b"}, {"tokens": ["c", "d"]}]}
    assert shared(pairs_, [{"tokens": ["A", "B"]}, {"text": "c, d"}]) == {("train", 0), ("train", 1)}


def test_a_set_that_is_without_another_needs_it(tmp_path: Path) -> None:
    def refused(entry: Any, load: Any = hub) -> str:
        with pytest.raises(InputError) as error:
            get(entry, tmp_path, ["ind"], load=load, say=lambda text: None)
        assert list(tmp_path.iterdir()) == []
        return str(error.value)

    def gone(name: str, part: str, revision: str | None, streamed: bool) -> Mapping[str, Any]:
        return {"train": []} if "NusaX" in name else hub(name, part, revision, streamed)

    smsa = data_set("smsa")
    assert "should have a split test, but has train" in refused(smsa, gone)
    assert "with a part for ind" in refused(replace(smsa, without=Without(set="masakhaner")))
    assert "'nusax-sent' is not in it. Did you mean nusax-senti" in refused(
        replace(smsa, without=Without(set="nusax-sent"))
    )


def test_the_table_names_sets_to_leave_out_that_are_there() -> None:
    for entry in data_sets().values():
        if entry.without is not None:
            other = data_set(entry.without.set)
            assert other.hub
            assert set(entry.languages) <= set(other.languages)
            assert set(entry.without.splits) <= set(other.splits)


def test_a_column_that_is_filled_stays(tmp_path: Path) -> None:
    said: list[str] = []
    get(data_set("conll2003"), tmp_path, ["eng"], load=hub, say=said.append)
    get(data_set("masakhaner"), tmp_path, ["hau"], load=hub, say=said.append)
    assert not sources.add_to_table(tmp_path, "eng", "ner", "elsewhere-{split}.txt")
    languages = DataFolder(tmp_path).languages
    assert languages["eng"].files["ner"] == "ner/conll2003/eng-{split}.txt"
    assert (languages["hau"].name, languages["hau"].files["ner"]) == (
        "Hausa",
        "ner/masakhaner/hau-{split}.txt",
    )


def test_files_that_are_there_stay_and_nothing_is_asked_for(tmp_path: Path) -> None:
    said: list[str] = []
    get(data_set("conll2003"), tmp_path, ["eng"], load=hub, say=said.append)
    own = tmp_path / "ner/conll2003/eng-train.txt"
    own.write_text("mine O\n", encoding="utf-8")
    said.clear()
    get(data_set("conll2003"), tmp_path, ["eng"], load=hub, say=said.append)
    assert own.read_text(encoding="utf-8") == "mine O\n"
    assert f"{own} is there already and stays; take it away to get it anew" in said

    def never(*asked: Any) -> Mapping[str, Any]:
        raise AssertionError("the hub was asked")

    for split in ("train", "dev", "test"):
        (tmp_path / f"ner/conll2003/eng-{split}.txt").write_text("mine O\n", encoding="utf-8")
    assert get(data_set("conll2003"), tmp_path, ["eng"], load=never, say=said.append) == []
    corpus = tmp_path / "corpora" / "swa.txt"
    corpus.parent.mkdir()
    corpus.write_text("yangu\n", encoding="utf-8")
    get(data_set("wikipedia"), tmp_path, ["swa"], load=never, say=said.append)
    assert corpus.read_text(encoding="utf-8") == "yangu\n"
    assert DataFolder(tmp_path).language("swa").corpus == "corpora/swa.txt"


def test_a_connection_lost_between_rows_is_told_in_one_line(tmp_path: Path) -> None:
    def streamed(*asked: Any) -> Mapping[str, Any]:
        def rows() -> Any:
            yield {"text": "moja"}
            raise ConnectionError("aborted")

        return {"train": rows()}

    with pytest.raises(InputError, match=r"gave 1 rows and no more: ConnectionError, aborted") as error:
        get(data_set("wikipedia"), tmp_path, ["swa"], load=streamed, say=lambda text: None)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "corpora" / "swa.txt").exists()


def test_the_table_keeps_its_cells_and_its_link(tmp_path: Path) -> None:
    shared = tmp_path / "shared.csv"
    shared.write_text("code,name,family,seen,corpus\nqaa,A,F,yes,@texts/qaa.txt\n", encoding="utf-8")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "languages.csv").symlink_to(shared)
    assert add_to_table(folder, "qab", "ner", "ner/qab-{split}.txt")
    assert (folder / "languages.csv").is_symlink()
    assert set(read_table(shared)) == {"qaa", "qab"}
    assert read_table(shared)["qaa"].corpus == "@texts/qaa.txt"


def test_a_shipped_experiment_file_is_found_from_any_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [entry.name for entry, _ in sources.wanted(["data/experiments/paper-ner.yaml"], say=print)]


def test_a_check_tells_tags_without_trees_strange_columns_and_what_no_source_can_do_without(
    tmp_path: Path, capsys
) -> None:
    head = "code,name,family,seen,corpus,treebank,ner,sentiment\n"
    (tmp_path / "languages.csv").write_text(
        f"{head}qaa,A,F,yes,,t-{{split}}.conllu,n-{{split}}.txt,s-{{split}}.tsv\n", encoding="utf-8"
    )
    tags = "1\tx\t_\tNOUN\t_\t_\t_\t_\t_\t_\n2\ty\t_\tVERB\t_\t_\t_\t_\t_\t_\n\n"
    for split in ("train", "test"):
        (tmp_path / f"t-{split}.conllu").write_text(tags, encoding="utf-8")
    (tmp_path / "n-train.txt").write_text("x O\n", encoding="utf-8")
    assert cli.main(["data", "check", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "3 files, 0 malformed" in out
    assert "t-train.conllu, has tags and no trees: it serves pos, not parsing" in out
    assert "1 of 1 sentences (100.0 %) of t-test.conllu stand in t-train.conllu" in out
    assert "n-dev.txt (a source needs train and dev)" in out
    assert "columns that no task reads: sentiment (s-{split}.tsv)" in out
    (tmp_path / "t-train.conllu").write_text(tags.replace("NOUN\t_\t_\t_", "NOUN\t_\t_\t0"), encoding="utf-8")
    assert cli.main(["data", "check", str(tmp_path)]) == 1
    assert "malformed (parsing)" in capsys.readouterr().out
    (tmp_path / "languages.csv").write_text(head, encoding="utf-8")
    assert cli.main(["data", "check", str(tmp_path)]) == 2
    (tmp_path / "languages.csv").write_text(f"{head}qab,B,F,yes,b.txt,,,\n", encoding="utf-8")
    assert cli.main(["data", "check", str(tmp_path)]) == 1


def test_what_cannot_be_had_is_told_in_one_line(tmp_path: Path, capsys) -> None:
    for name, code, said in [
        ("xquad", "ell", "Couldn't reach it"),
        ("lafand-mt", "", "not on the hub"),
        ("squad", "ell", "has no ell"),
    ]:
        with pytest.raises(InputError, match=said) as error:
            get(data_set(name), tmp_path, [code] if code else [], load=hub, say=lambda text: None)
        assert "\n" not in str(error.value)
    assert cli.main(["data", "get", "no-such-set", "--to", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "task_name"),
    [
        ("paper-parsing", "parsing"),
        ("paper-ner", "ner"),
        ("paper-nli", "nli"),
        ("paper-qa", "qa"),
        ("paper-madg", "parsing"),
        ("paper-madg-low", "parsing"),
        ("paper-holistic-nli", "nli"),
        ("paper-holistic-sentiment", "classification"),
        ("paper-mono", "nli"),
        ("paper-eliquare", "ner"),
        ("paper-merge", "qa"),
    ],
)
def test_the_papers_data_sets_cover_the_papers_languages(name: str, task_name: str) -> None:
    path = ROOT / "data" / "experiments" / f"{name}.yaml"
    experiment = Experiment.read(path)
    found: dict[str, list[str]] = {}
    for entry, codes in wanted([str(path)]):
        found.setdefault(entry.task, []).extend(codes)
    assert found[task_name] == [experiment.source, *experiment.targets[task_name]]
    without_wikipedia = {
        "luo",
        "bzd",
        "cni",
        "hch",
        "oto",
        "shp",
        "tar",
        "bbc",
    }  # other corpora in the paper's table 8 and the thesis' D.1
    assert set(found["text"]) == {experiment.source, *experiment.targets[task_name]} - without_wikipedia


@pytest.mark.parametrize(
    "path", sorted((ROOT / "data" / "experiments").glob("real-*.yaml")), ids=lambda p: p.stem
)
def test_the_real_experiments_task_data_can_be_fetched(path: Path) -> None:
    experiment = Experiment.read(path)
    found: dict[str, set[str]] = {}
    for entry, codes in wanted([str(path)], say=lambda text: None):
        assert entry.fetched
        found.setdefault(entry.task, set()).update(codes)
    for name, targets in experiment.targets.items():
        kind = {"pos": "parsing", "retrieval": "parallel"}.get(name, name)
        assert found[kind] >= {experiment.source, *targets}


def test_languages_that_no_data_set_has_are_told_and_strangers_refused(tmp_path: Path) -> None:
    text = (ROOT / "data" / "experiments" / "paper-ner.yaml").read_text(encoding="utf-8")
    path, told = tmp_path / "mine.yaml", list[str]()
    path.write_text(re.sub("(?m)^data_sets:.*$", "data_sets: {ner: [conll2003]}", text), encoding="utf-8")
    found = list(wanted([str(path)], ["eng", "swa"], say=told.append))
    assert [codes for _, codes in found] == [("eng",)]
    assert told == [
        "conll2003 under `data_sets` has no ner of swa: add a set that has, or name files of your own in"
        " languages.csv"
    ]
    with pytest.raises(InputError, match=r"Languages of .*mine\.yaml were expected.*got 'enh'"):
        list(wanted([str(path)], ["enh"]))


def test_the_table_says_licence_and_homepage_of_everything(capsys) -> None:
    assert all(entry.licence and entry.homepage.startswith("https://") for entry in data_sets().values())
    assert cli.main(["data", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in data_sets())


def test_a_check_names_counts_labels_and_missing_files(world: Path) -> None:
    checked = check_folder(DataFolder(world))
    assert checked.malformed == []
    by_place = {(one.code, one.what, one.split): one for one in checked.files}
    assert by_place["qac", "ner", "test"].examples == 8
    assert set(by_place["qac", "nli", "test"].labels) == {
        "entailment",
        "neutral",
        "contradiction",
    }
    number = len({one.path for one in checked.files})
    assert any(line.startswith(f"{number} files, 0 malformed") for line in lines(checked, world))


def test_columns_for_people_are_no_files(world: Path, tmp_path: Path) -> None:
    table = (world / "languages.csv").read_text(encoding="utf-8").splitlines()
    told = [f"{line},{'remark' if number == 0 else 'SVO'}" for number, line in enumerate(table)]
    shutil.copytree(world, tmp_path / "world")
    (tmp_path / "world" / "languages.csv").write_text("\n".join(told) + "\n", encoding="utf-8")
    assert "SVO" not in check_folder(DataFolder(tmp_path / "world")).missing


STRICT = """# a
1-2\tdel\t_\t_\t_\t_\t_\t_\t_\t_
1\tde\t_\tX\t_\t_\t0\troot\t_\t_
2\tel\t_\tX\t_\t_\t1\tdep\t_\t_
2.1\tx\t_\tX\t_\t_\t_\t_\t_\t_

# b
1\tx y\t_\tX\t_\t_\t0\troot\t_\t_

"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("# a", "\n# a", "line 1: a blank line where no sentence ends"),
        ("\n\n# b", "\n\n\n# b", "line 7: a blank line where"),
        ("\n\n# b", "\n \n# b", "line 6: a blank line with white space"),
        ("\n\n# b", "\n# b\n\n# b", "line 6: a comment after the first word"),
        ("\t_\n\n# b", "\t_\n\n# c\n\n# b", "line 8: a blank line where"),
        ("1-2", "1-3", "line 5: the empty node 2.1 within"),
        ("2.1\t", "3-4\ta\t_\t_\t_\t_\t_\t_\t_\t_\n2.1\t", "line 6: the empty node 2.1 within"),
        ("1-2", "2-3", "line 3: the word 1 where the multiword token wants 2"),
        ("1-2", "2-2", "line 2: the multiword token 2-2 of no two words"),
        ("2\tel", "2-3\tx\t_\t_\t_\t_\t_\t_\t_\t_\n2\tel", "line 4: the multiword token 2-3 within another"),
        ("2.1\tx", "2-3\tx", "line 6: a multiword token without all its words"),
        ("root\t_\t_\n\n", "root\t_\t_", "line 8: no blank line after the last sentence"),
    ],
)
def test_what_the_conll18_script_refuses_is_remarked_and_read(
    old: str, new: str, said: str, tmp_path: Path, capsys
) -> None:
    (tmp_path / "languages.csv").write_text(
        "code,name,family,seen,corpus,treebank\nqaa,A,F,yes,,a.conllu\n", encoding="utf-8"
    )
    (tmp_path / "a.conllu").write_text(STRICT, encoding="utf-8")
    assert cli.main(["data", "check", str(tmp_path)]) == 0
    assert "read, but" not in capsys.readouterr().out
    begin, _, end = STRICT.rpartition(old)
    (tmp_path / "a.conllu").write_text(begin + new + end, encoding="utf-8")
    assert cli.main(["data", "check", str(tmp_path)]) == 0
    assert f"read, but a.conllu, {said}" in capsys.readouterr().out
    assert task("parsing").read(tmp_path / "a.conllu")[0].words == ("de", "el")


def test_paths_of_the_table_may_be_anywhere_or_nowhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "text.txt"
    elsewhere.write_text("a line", encoding="utf-8")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "languages.csv").write_text(
        f"code,name,family,seen,corpus,ner\nqaa,A,F,yes,{elsewhere},{'a' * 300}\n", encoding="utf-8"
    )
    checked = check_folder(DataFolder(tmp_path / "data"))
    assert any(str(elsewhere) in line for line in lines(checked, tmp_path / "data"))
    assert checked.missing == ("a" * 300,)


def test_a_table_with_a_byte_order_mark_is_added_to(tmp_path: Path) -> None:
    table = tmp_path / "languages.csv"
    table.write_text("\ufeffcode,name,family,seen,corpus\nqaa,A,F,yes,a.txt\n", encoding="utf-8")
    assert add_to_table(tmp_path, "qab", "ner", "ner/qab-{split}.txt")
    assert set(read_table(table)) == {"qaa", "qab"}
    table.write_text("code,name,family,seen,corpus\nqaa,A,F,yes,a\nqaa,B,F,no,b\n", encoding="utf-8")
    with pytest.raises(InputError, match="there already"):
        add_to_table(tmp_path, "qab", "ner", "ner/qab-{split}.txt")
    assert "qaa,A" in table.read_text(encoding="utf-8")


def test_a_check_names_the_bad_line_and_what_overlaps(world: Path, tmp_path: Path, capsys) -> None:
    folder = shutil.copytree(world, tmp_path / "world")
    train, test = (folder / "ner" / f"qab-{split}.txt" for split in ("train", "test"))
    first = train.read_text(encoding="utf-8").split("\n\n")[0]
    test.write_text(f"{test.read_text(encoding='utf-8').rstrip()}\n\n{first}\n", encoding="utf-8")
    with (folder / "corpora" / "qab.txt").open("a", encoding="utf-8") as file:
        file.write(" ".join(line.split()[0] for line in first.split("\n")) + "\n")
    bad = folder / "nli" / "qac-test.tsv"
    bad.write_text(bad.read_text(encoding="utf-8").replace("entailment", "perhaps", 1), encoding="utf-8")
    status = cli.main(["data", "check", str(folder)])
    out = capsys.readouterr().out
    assert status == 1
    assert "1 malformed" in out
    assert "perhaps" in next(
        line
        for line in out.splitlines()
        if line.startswith("malformed") and str(bad) in line and "line " in line
    )
    assert "of ner/qab-test.txt stand in ner/qab-train.txt" in out
    assert "of ner/qab-test.txt stand in corpora/qab.txt" in out


def test_likely_mistakes_in_files_that_can_be_read_are_told(tmp_path: Path, capsys) -> None:
    (tmp_path / "languages.csv").write_text(
        "code,name,family,seen,corpus,ner,classification\n"
        "qaa,A,F,,,n-{split}.txt,c-{split}.csv\nqab,B,F,no,,,\n",
        encoding="utf-8",
    )

    def told(ner: str, rows: list[str]) -> list[str]:
        (tmp_path / "n-test.txt").write_text(ner, encoding="utf-8")
        (tmp_path / "c-test.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        assert cli.main(["data", "check", str(tmp_path)]) == 0
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("read, but")]

    words = ["Anna B-PER\nMay I-PER\n"] * 200
    texts = [f"{'good' if number % 2 else 'bad'},text {number}" for number in range(20)]
    assert told("\n".join(words), ["label,text", *texts]) == []
    assert "`seen` is empty, which is read as no: qaa" in lines(check_folder(DataFolder(tmp_path)), tmp_path)
    assert told("".join(words), ["text,label", *texts]) == [
        "read, but n-test.txt, has a sentence of 400 words: are blank lines between sentences missing?",
        "read, but c-test.csv, has 20 labels in 20 texts: are label and text swapped?",
    ]
    assert told("Anna I-PER\nOslo I-LOC\nBay I-LOC\n", ["label,text", "good,x"]) == [
        "read, but n-test.txt, has 2 I- tags that continue no entity of their type: each is read as B-"
    ]


def test_translations_are_read_line_by_line_as_a_run_reads_them(tmp_path: Path, capsys) -> None:
    (tmp_path / "languages.csv").write_text(
        "code,name,family,seen,corpus,parallel\nqaa,A,F,yes,,a.txt\nqab,B,F,no,,b.txt\n", encoding="utf-8"
    )

    def told(first: str, second: str) -> tuple[int, str]:
        (tmp_path / "a.txt").write_text(first, encoding="utf-8")
        (tmp_path / "b.txt").write_text(second, encoding="utf-8")
        return cli.main(["data", "check", str(tmp_path)]), capsys.readouterr().out

    assert "read, but" not in told("a\nb\n", "c\nd\n")[1]
    assert "read, but b.txt, has 1 lines, others beside it 2" in told("a\nb\n", "c\n")[1]
    status, out = told("a\n\nb\n", "c\nd\n")
    assert status == 1
    assert "a.txt, line 2: expected two sentences, neither blank" in out


def test_texts_in_quotation_marks_of_a_table_are_told(tmp_path: Path) -> None:
    (tmp_path / "languages.csv").write_text(
        "code,name,family,seen,corpus,nli\nqaa,A,F,yes,,a.tsv\n", encoding="utf-8"
    )
    rows = ['"He said ""no"" twice."\tb', '"No," he said, "no."\t"b"', "a\tb"]
    (tmp_path / "a.tsv").write_text("".join(f"{row}\tneutral\n" for row in rows), encoding="utf-8")
    checked = check_folder(DataFolder(tmp_path))
    assert [one.remarks for one in checked.files] == [
        ("has 1 texts in quotation marks with doubled ones inside, which stay as they are",)
    ]


def test_labels_that_training_lacks_are_told_by_file_and_count(world: Path, tmp_path: Path, capsys) -> None:
    for code in ("qaa", "qab"):
        for split in ("train", "dev", "test"):
            (tmp_path / f"{code}-{split}.txt").write_text(
                "Anna B-PER\nlikes O\nOslo B-LOC\n", encoding="utf-8"
            )
    (tmp_path / "languages.csv").write_text(
        "code,name,family,seen,corpus,ner\n"
        + "".join(f"{code},A,F,yes,,{code}-{{split}}.txt\n" for code in ("qaa", "qab")),
        encoding="utf-8",
    )
    cli.main(["data", "check", str(tmp_path)])
    assert "lacks" not in capsys.readouterr().out
    (tmp_path / "qab-test.txt").write_text("a B-ORG\nb B-ORG\nc B-DATE\nd B-PER\n", encoding="utf-8")
    (tmp_path / "qab-train.txt").write_text("a B-DATE\nb B-PER\n", encoding="utf-8")
    cli.main(["data", "check", str(tmp_path)])
    told = [line for line in capsys.readouterr().out.splitlines() if "qab-test.txt has" in line]
    assert told == [
        "labels: qab-test.txt has ORG 2, DATE 1, which training in qaa lacks (O in every score)",
        "labels: qab-test.txt has ORG 2, which training in qab lacks (O in every score)",
    ]


def test_other_spellings_of_a_sentence_are_the_same_sentence() -> None:
    one, other = (unicodedata.normalize(form, "Café déjà vu") for form in ("NFC", "NFD"))
    assert shared({"train": [{"text": one}, {"text": "else"}]}, [{"text": other}]) == {("train", 0)}


def test_two_processes_add_to_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, together = sources.read_csv, threading.Barrier(2)

    def slowly(path: Path) -> object:
        found = read(path)
        with suppress(threading.BrokenBarrierError):
            together.wait(0.5)
        return found

    add_to_table(tmp_path, "eng", "corpus", "corpora/eng.txt")
    monkeypatch.setattr(sources, "read_csv", slowly)
    threads = [
        threading.Thread(target=add_to_table, args=(tmp_path, code, "ner", f"{code}.txt"))
        for code in ("swa", "hau")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {"eng", "swa", "hau"} <= set(read_table(tmp_path / "languages.csv"))
