"""The documentation names modules and functions that exist, its links lead somewhere, its commands run and
give the output that it shows, and every page is in its table of contents.
"""

import re
import shlex
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from test_arrows import FLOORS

from bistil.cli import main, parser
from bistil.plan.begin import Wish, begin
from bistil.plan.text import how_long

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "notebooks" / "README.md", *DOCS]


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", DOCS, ids=named)
def test_what_a_page_shows_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"^::: (\S+)$", text, re.M):
        assert find_spec(name), name
    assert f": {page.relative_to(ROOT / 'docs').as_posix()}\n" in (ROOT / "mkdocs.yml").read_text(
        encoding="utf-8"
    )


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page if not path else page.parent / path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


BLOCKS = re.compile(r"^```sh\n(.*?)^```(?:\n+```text\n(.*?)^```)?", re.DOTALL | re.MULTILINE)
OTHERS = ("make ", "papermill ", ". .venv/bin/activate", "pip install ")


def commands(page: Path) -> list[tuple[list[list[str]], str]]:
    """The blocks of commands of a page, each with the output that is shown after it."""
    found = []
    for block, shown in BLOCKS.findall(page.read_text(encoding="utf-8")):
        found.append(([shlex.split(line, comments=True) for line in block.splitlines() if line], shown))
    return found


def is_quick(command: list[str]) -> bool:
    return command[:2] in (["bistil", "new"], ["bistil", "predict"]) or (
        command[:3] == ["bistil", "data", "check"]
        or (command[:2] == ["bistil", "batch"] and "--dry-run" in command)
    )


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=named)
def test_the_commands_of_a_page_run_and_say_what_it_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for block, shown in commands(page):
        for command in block:
            if command[0] == "make":
                assert command[1] in targets
            elif command[0] != "bistil":
                assert " ".join(command).startswith(OTHERS), command
            elif is_quick(command):
                bare = command[1:3] == ["data", "check"] and not Path(command[3], "corpora").exists()
                assert main(command[1:]) == int(bare), command  # 1: nothing was fetched here
            else:
                assert parser().parse_args(command[1:]).run, command
        out = capsys.readouterr().out
        for line in filter(None, shown.splitlines()):
            at = 0
            for part in line.split("…"):
                assert part in out[at:], line
                at = out.index(part, at) + len(part)


def test_the_readme_activates_the_environment_before_its_first_command_and_stays_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    first = [command for block, _ in commands(ROOT / "README.md") for command in block]
    assert [" ".join(one) for one in first[:2]] == ["make install", ". .venv/bin/activate"]


@pytest.mark.slow
def test_the_readme_has_the_estimates_that_are_made(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for teacher in ("e5-small", "bert-base-multilingual-cased", "xlm-roberta-base"):
        [row] = [line for line in text.splitlines() if line.startswith(f"| `{teacher}`")]
        wish = Wish(name=teacher, teacher=teacher, source="eng", target="swa", task="ner")
        experiment, _ = begin(wish, tmp_path / teacher)
        for device in ("cpu", "cuda"):
            [told] = how_long(experiment, device, cores=2)
            took = re.match(r"About (\d+ \w+) of", told)[1]
            assert took in row or (took.endswith(" min") and "minutes" in row)


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
NAMED = r"`([\w/]+)\.py`,\s+`([\w.]+)`(?:\s+and\s+`([\w.]+)`)?"
PLACES = [(file, name) for file, *names in re.findall(NAMED, CONTRIBUTING) for name in names if name]


@pytest.mark.parametrize(("file", "name"), PLACES)
def test_a_place_that_a_newcomer_passes_is_there(file: str, name: str) -> None:
    module = import_module(f"bistil.{file.replace('/', '.').removesuffix('.__init__')}")
    assert reduce(getattr, name.split("."), module)


def test_the_plan_of_the_house_is_that_of_the_arrows() -> None:
    assert len(PLACES) > 20
    assert tuple(re.findall(r"^\| `(\w+)(?:/|\.py)` \|", CONTRIBUTING, re.M)) == FLOORS
