"""The workbench in a real browser: JupyterLab with its own configuration, Debian's chromium driven by
Playwright.

Notable: run-all is executed as a command once the kernel answers (a menu click before that is dropped
silently); the experiment is tiny, but its first stage is long enough to be paused and stopped. Pictures of
the panels, light and dark, go to BISTIL_SCREENSHOTS if it is set."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
]
PHASE = {"steps": 1200, "learning_rate": 1e-3, "evaluations": 2}
LONG = {
    "lottery": {"density": 0.1, "l1": 0.1, "freeze_layer_norms": True},
    "dense": PHASE,
    "sparse": {**PHASE, "steps": 60},
}
PANELS = """\
from bistil import workbench
panel = workbench.workbench_panel({experiment!r}, store={store!r})
panel.model.choose(target="qab", density=0.02)
workbench.comparison_panel({results!r}, panel.model.reader())
"""
READY = (
    "window.jupyterapp && window.jupyterapp.shell.currentWidget &&"
    " window.jupyterapp.shell.currentWidget.sessionContext"
)
RUN_ALL = """async () => {
  const app = window.jupyterapp, panel = app.shell.currentWidget;
  await app.restored; await panel.revealed; await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
  await app.commands.execute('notebook:run-all-cells');
}"""


@pytest.fixture
def folder(tmp_path: Path, experiment_file: Callable[..., Path]) -> Path:
    """A notebook folder with the workbench on the tiny experiment, and a notebook of further panels over
    what the workbench will have made.
    """
    made = tmp_path / "notebooks"
    made.mkdir()
    experiment, store = str(experiment_file(language_sft=LONG)), str(tmp_path / "store")
    notebook = nbformat.read(ROOT / "notebooks" / "00_workbench.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if "parameters" in cell["metadata"].get("tags", ()))
    cell.source = "\n".join(
        [f"experiment = {experiment!r}", f"store = {store!r}", *cell.source.splitlines()[2:]]
    )
    nbformat.write(notebook, made / "workbench.ipynb")
    code = PANELS.format(
        experiment=experiment, store=store, results=str(tmp_path / "reports" / "tiny" / "results.csv")
    )
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)], metadata=notebook.metadata),
        made / "panels.ipynb",
    )
    return made


@pytest.fixture
def lab(folder: Path, tmp_path: Path, world: Path) -> Iterator[str]:
    """The address of a JupyterLab of our own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = tmp_path / "lab" / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(
        json.dumps({"fetchNews": "false", "checkForUpdates": False})
    )
    own = {
        "JUPYTERLAB_SETTINGS_DIR": tmp_path / "lab" / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": tmp_path / "lab" / "workspaces",
    }
    own |= {
        "JUPYTER_CONFIG_DIR": tmp_path / "lab" / "config",
        "JUPYTER_RUNTIME_DIR": tmp_path / "lab" / "runtime",
        "BISTIL_DATA": world,
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--expose-app-in-browser",
        "--allow-root",
        f"--port={port}",
    ]
    command += ["--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}"]
    environment = {**os.environ, **{name: str(value) for name, value in own.items()}}
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/api", server, tmp_path / "lab.log")
        yield address
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(120):
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"JupyterLab did not answer: {log.read_text()[-3000:]}")


@pytest.fixture
def page(lab: str) -> Iterator[Any]:
    """An empty page of a browser, with the errors of its console in `page.errors`."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda said: page.errors.append(said.text) if said.type == "error" else None)
        yield page
        browser.close()


def run_all(page: Any, address: str, panel: str) -> Any:
    """Open a notebook, run all its cells, and return a panel by its class."""
    page.goto(address)
    page.wait_for_function(READY, timeout=90_000)
    page.evaluate(RUN_ALL)
    found = page.locator(f".jp-OutputArea-output .{panel}").first
    found.wait_for(timeout=90_000)
    return found


def pictures(page: Any, panel: Any, name: str, folder: Path) -> None:
    """Save a picture of a panel in the light and in the dark theme."""
    folder = Path(os.environ.get("BISTIL_SCREENSHOTS", folder / "screenshots"))
    folder.mkdir(exist_ok=True)
    page.set_viewport_size(
        {"width": 1280, "height": min(int(panel.bounding_box()["height"]) + 300, 6000)}
    )  # or what is below is cut off
    for theme in ("Dark", "Light"):
        page.evaluate(
            "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})",
            f"JupyterLab {theme}",
        )
        page.wait_for_function(
            "theme => document.body.dataset.jpThemeName === theme", arg=f"JupyterLab {theme}"
        )
        page.wait_for_function(
            "!document.getElementById('jupyterlab-splash')", timeout=30_000
        )  # it dims the page while styles load
        panel.screenshot(path=folder / f"{name}-{theme.lower()}.png")


def test_a_score_is_chosen_run_paused_stopped_finished_asked_and_reported(
    page: Any, lab: str, tmp_path: Path
) -> None:
    panel = run_all(page, f"{lab}/lab/tree/workbench.ipynb?reset", "bistil-workbench")
    button = lambda name: panel.get_by_role("button", name=name)  # noqa: E731
    select = lambda label: panel.get_by_label(label, exact=True)  # noqa: E731
    assert "student, bistil-tf lrf 2" in panel.inner_text()
    select("target").select_option(label="Arvani (qaa)")
    panel.get_by_text("Source and target should be two languages").wait_for(timeout=60_000)

    select("target").select_option(label="Arvel (qab)")
    panel.get_by_text("score on qab").wait_for(timeout=60_000)
    select("density").select_option(label="0.02")
    panel.get_by_text("stages are missing").wait_for(timeout=60_000)
    button("Run").click()
    moving = panel.get_by_text(re.compile(r"language SFT qa[ab], (dense|sparse): "))
    moving.wait_for(timeout=90_000)
    curve = panel.locator("svg[aria-label=training-curves]")
    curve.wait_for(timeout=90_000)
    first = curve.inner_html()
    moved = "([curve, first]) => !curve.isConnected || curve.innerHTML !== first"
    page.wait_for_function(moved, arg=[curve.element_handle(), first], timeout=90_000)

    button("Pause").click()
    panel.get_by_text("paused:").wait_for(timeout=30_000)
    assert "tokens a second" in panel.inner_text()
    pictures(page, panel, "workbench-paused", tmp_path)
    held = moving.inner_text()
    time.sleep(1)
    assert moving.inner_text() == held
    button("Resume").click()
    page.wait_for_function(
        "([panel, held]) => !panel.innerText.includes(held)",
        arg=[panel.element_handle(), held],
        timeout=60_000,
    )
    button("Stop").click()
    panel.get_by_text("stopped at step").wait_for(timeout=30_000)

    button("Run").click()
    panel.get_by_text("finished").wait_for(timeout=240_000)
    assert "Everything is in the store." in panel.inner_text()
    button("Report").click()
    report = panel.frame_locator("iframe.bistil-report")
    report.get_by_role("heading", level=1).wait_for(timeout=90_000)
    assert "bilingual students" in report.locator("h1").inner_text()
    pictures(page, panel, "workbench-finished", tmp_path)

    asked = page.locator(".jp-OutputArea-output .bistil-try").first
    asked.get_by_label("sentence").fill("rut lilunma , no liru")
    asked.get_by_role("button", name="Ask").click()
    asked.get_by_text("Median of").wait_for(timeout=90_000)
    pictures(page, asked, "try", tmp_path)

    compared = run_all(page, f"{lab}/lab/tree/panels.ipynb?reset", "bistil-comparison")
    compared.get_by_role("button", name="Worst errors").click()
    compared.locator("svg[aria-label=error-1]").wait_for(timeout=90_000)
    pictures(page, compared, "comparison", tmp_path)
    assert [error for error in page.errors if "Failed to load resource" not in error] == []
