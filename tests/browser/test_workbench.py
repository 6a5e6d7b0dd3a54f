"""The bench in a real browser: JupyterLab with its own configuration, Debian's chromium driven by Playwright.

Notable: run-all is executed as a command once the kernel answers (a menu click before that is dropped silently); the experiment is tiny,
but its first stage is long enough to be stopped.
"""

import json
import os
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
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")]
PHASE = {"steps": 2000, "learning_rate": 1e-3, "evaluations": 2}
LONG = {"lottery": {"density": 0.1, "l1": 0.1, "freeze_layer_norms": True}, "dense": PHASE, "sparse": PHASE}
READY = "window.jupyterapp && window.jupyterapp.shell.currentWidget && window.jupyterapp.shell.currentWidget.sessionContext"
RUN_ALL = """async () => {
  const app = window.jupyterapp, panel = app.shell.currentWidget;
  await app.restored; await panel.revealed; await panel.sessionContext.ready; await panel.sessionContext.session.kernel.info;
  await app.commands.execute('notebook:run-all-cells');
}"""


@pytest.fixture
def folder(tmp_path: Path, experiment_file: Callable[..., Path]) -> Path:
    """A notebook folder with the bench on the tiny experiment."""
    made = tmp_path / "notebooks"
    made.mkdir()
    notebook = nbformat.read(ROOT / "notebooks" / "00_bench.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if "parameters" in cell["metadata"].get("tags", ()))
    named = [f"experiment = {str(experiment_file(language_sft=LONG))!r}", f"store = {str(tmp_path / 'store')!r}"]
    cell.source = "\n".join([*named, *cell.source.splitlines()[2:]])
    nbformat.write(notebook, made / "bench.ipynb")
    return made


@pytest.fixture
def lab(folder: Path, tmp_path: Path, world: Path) -> Iterator[str]:
    """The address of a JupyterLab of our own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = tmp_path / "lab" / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    own = {"JUPYTERLAB_SETTINGS_DIR": tmp_path / "lab" / "settings", "JUPYTERLAB_WORKSPACES_DIR": tmp_path / "lab" / "workspaces"}
    own |= {"JUPYTER_CONFIG_DIR": tmp_path / "lab" / "config", "JUPYTER_RUNTIME_DIR": tmp_path / "lab" / "runtime", "BISTIL_DATA": world}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--expose-app-in-browser", "--allow-root", f"--port={port}"]
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
    """The bench notebook, all its cells run."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        page.goto(f"{lab}/lab/tree/bench.ipynb?reset")
        page.wait_for_function(READY, timeout=90_000)
        page.evaluate(RUN_ALL)
        yield page
        browser.close()


def test_the_bench_shows_runs_and_stops(page: Any) -> None:
    panel = page.locator(".jp-OutputArea-output .bistil-bench").first
    panel.wait_for(timeout=60_000)
    text = panel.inner_text()
    assert "student, bistil-tf lrf 2" in text
    assert "stages are missing" in text
    panel.get_by_role("button", name="Run").click()
    moving = panel.get_by_text("language SFT qaa, dense: ")
    moving.wait_for(timeout=60_000)
    first = moving.inner_text()
    page.wait_for_function("([panel, text]) => !panel.innerText.includes(text)", arg=[panel.element_handle(), first], timeout=60_000)
    panel.locator("img").first.wait_for(timeout=60_000)
    panel.get_by_role("button", name="Stop").click()
    panel.get_by_text("stopped at step").wait_for(timeout=60_000)
    assert panel.get_by_role("button", name="Run").is_enabled()


def test_a_wrong_choice_is_told_in_the_panel(page: Any) -> None:
    panel = page.locator(".jp-OutputArea-output .bistil-bench").first
    panel.wait_for(timeout=60_000)
    panel.locator("select").nth(1).select_option(label="Arvani (qaa)")
    panel.get_by_text("Source and target should be two languages").wait_for(timeout=30_000)
