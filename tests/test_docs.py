"""The documentation names modules and functions that exist, and every page is in its table of contents."""

import re
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from test_arrows import FLOORS

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_shows_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"^::: (\S+)$", text, re.M):
        assert find_spec(name), name
    for link in re.findall(r"\]\((\w+\.md)\)", text):
        assert (page.parent / link).is_file(), link
    assert f": {page.name}\n" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


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
