"""Pages without a server in Debian's chromium: those under reports/ and of the built docs, and pictures of
them.

Notable: `python tests/browser/chrome.py FOLDER` takes all of them at 1280 pixels, light and dark, at twice
the dots; `make screenshots` does so, and has the browser test put its panels beside them.
"""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "build" / "docs"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def report_pages() -> list[Path]:
    """The index of the kept reports and every report."""
    return [ROOT / "reports" / "index.html", *sorted((ROOT / "reports").glob("*/index.html"))]


def docs_pages(site: Path = DOCS) -> list[Path]:
    """The pages of the built documentation; none where it was not built."""
    return sorted(site.rglob("index.html"))


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def take(pages: Sequence[Path], folder: Path) -> None:
    """Pictures of whole pages, named by where these lie."""
    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for theme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": 1280, "height": 900}, color_scheme=theme, device_scale_factor=2
            )
            page = context.new_page()
            for path in pages:
                page.goto(path.as_uri())
                name = "-".join(path.relative_to(ROOT).parent.parts)
                page.screenshot(path=folder / f"{name}-{theme}.png", full_page=True)
            context.close()


if __name__ == "__main__":
    take([*report_pages(), *docs_pages()], Path(sys.argv[1]))
