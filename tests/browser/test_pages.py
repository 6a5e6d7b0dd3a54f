"""Every report page and every page of the built docs: open to everybody, on paper and on a phone, and nothing
fetched from elsewhere.

Notable: axe-core is packed from npm into a folder of the test; where npm or the package cannot be had, that
one test is skipped. The docs are looked at where `make docs` has built them."""

import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest
from chrome import CHROMIUM, chromium, docs_pages, report_pages, served

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
]
AXE = "axe-core@4"
PAGES = [*report_pages(), *docs_pages()]
IN_THEME = {"light": PAGES, "dark": [*report_pages(), *docs_pages()[:1]]}
"""The docs' theme has one style sheet for all pages."""
A4 = 688
"""Pixels between the margins of a page of A4: 210 - 2 * 14 millimetres."""
CUT = """width => [...document.querySelectorAll('main table, main figure svg, main pre')]
    .filter(one => one.checkVisibility() && one.getBoundingClientRect().right > width + 1)
    .map(one => one.outerHTML.slice(0, 120))"""
RUN = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations
    .filter(one => ['serious', 'critical'].includes(one.impact))
    .map(one => [one.impact, one.id, ...one.nodes.slice(0, 3).map(node => node.html.slice(0, 150))])"""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with served() as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("playwright.sync_api")
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core."""
    folder = tmp_path_factory.mktemp("axe")
    if not shutil.which("npm"):
        pytest.skip("no npm: apt-get install npm")
    packed = subprocess.run(
        ["npm", "pack", AXE, "--silent"], cwd=folder, capture_output=True, text=True, timeout=120
    )
    if packed.returncode:
        pytest.skip(f"{AXE} cannot be had from npm: {packed.stderr.strip()[-200:]}")
    with tarfile.open(folder / packed.stdout.strip()) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script
        return script.read().decode()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, site: str, axe: str, theme: str) -> None:
    found = {}
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=theme)
    for place in IN_THEME[theme]:
        page.goto(f"{site}/{place}")
        page.add_script_tag(content=axe)
        if told := page.evaluate(RUN):
            found[place] = told
    page.close()
    assert not found, json.dumps(found, indent=1)


def test_nothing_is_fetched_from_elsewhere_and_nothing_is_missing(browser: Any, site: str) -> None:
    asked: list[str] = []
    lacking: list[str] = []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("response", lambda response: lacking.extend([response.url] if response.status >= 400 else []))
    for place in PAGES:
        page.goto(f"{site}/{place}", wait_until="networkidle" if "docs" in place else "load")
    page.close()
    assert [url for url in asked if not url.startswith((site, "data:", "blob:"))] == []
    assert [url for url in lacking if not url.endswith(("favicon.ico", "/versions.json"))] == []


def test_no_column_is_cut_on_paper(browser: Any, site: str) -> None:
    page = browser.new_page(viewport={"width": A4, "height": 1000})
    page.emulate_media(media="print")
    found = {}
    for place in report_pages():
        page.goto(f"{site}/{place}")
        if told := page.evaluate(CUT, A4):
            found[place] = told
    page.close()
    assert not found, json.dumps(found, indent=1)


def test_a_phone_shows_a_page_without_moving_it_sideways(browser: Any, site: str) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    wide = {}
    for place in PAGES:
        page.goto(f"{site}/{place}")
        if (width := page.evaluate("document.documentElement.scrollWidth")) > 390:
            wide[place] = width
    page.close()
    assert not wide


def test_the_index_is_sorted_by_a_heading_and_narrowed_by_words(browser: Any, site: str) -> None:
    page = browser.new_page()
    page.goto(f"{site}/reports/index.html")
    names = lambda: page.locator("tbody tr:visible th").all_inner_texts()  # noqa: E731
    before = names()
    page.locator("thead button").first.click()  # its name has the arrow that says how it is sorted
    assert names() == sorted(before, reverse=True)
    page.get_by_label("Show only").fill("parsing real-small")
    assert set(names()) == {name for name in before if name.startswith("real-small")}
    assert f"of {len(before)} lines" in page.get_by_role("status").inner_text()
    page.close()
