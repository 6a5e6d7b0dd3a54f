"""The documentation names modules that exist, and every page is in its table of contents."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

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
