"""The pages under reports/ and of the built docs in Debian's chromium, and pictures of them.

Notable: `python tests/browser/chrome.py FOLDER` takes all of them at 1280 pixels, light and dark, at twice
the dots; `make screenshots` does so, and has the browser test put the panels of the workbench beside them.
"""

import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "build" / "docs"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def report_pages() -> list[str]:
    """The index of the kept reports and every report, by their places in the project."""
    reports = ROOT / "reports"
    return [_place(page) for page in (reports / "index.html", *sorted(reports.glob("*/index.html")))]


def docs_pages() -> list[str]:
    """The pages of the built documentation; none where it was not built."""
    return [_place(page) for page in sorted(DOCS.rglob("index.html"))]


@contextmanager
def served() -> Iterator[str]:
    """The project's folder as a site, for as long as the block runs: its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *told: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(ROOT)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def take(pages: Sequence[str], folder: Path) -> None:
    """Take pictures of whole pages, named by where these lie."""
    folder.mkdir(parents=True, exist_ok=True)
    with served() as site, chromium() as browser:
        for theme in ("light", "dark"):
            size = {"width": 1280, "height": 900}
            page = browser.new_page(viewport=size, color_scheme=theme, device_scale_factor=2)
            for place in pages:
                page.goto(f"{site}/{place}")
                name = "-".join(Path(place).parent.parts)
                page.screenshot(path=folder / f"{name}-{theme}.png", full_page=True)
            page.close()


def _place(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


if __name__ == "__main__":
    take([*report_pages(), *docs_pages()], Path(sys.argv[1]))
