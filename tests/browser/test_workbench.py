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
PHASE = {"steps": 400, "learning_rate": 1e-3, "evaluations": 2}
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
LAG = """async (seconds) => {
  const curves = document.querySelector('.bistil-curves'), title = curves.querySelector('p').textContent;
  const behind = [], drawn = [], end = Date.now() + 1000 * seconds;
  let last = curves.dataset.at;
  const goes = () => Date.now() < end || (drawn.length < 2 && Date.now() < end + 30000);
  while (goes() && curves.isConnected && curves.querySelector('p')?.textContent === title) {
    const at = curves.dataset.at;
    behind.push(Date.now() / 1000 - at);
    if (at !== last) drawn.push(behind.at(-1));
    last = at;
    await new Promise((done) => setTimeout(done, 40));
  }
  return [drawn, behind.sort((one, other) => one - other)];
}"""
"""How many seconds after the kernel had them new numbers are drawn, each time that some are; and how old what
is drawn is, again and again, the newest first. A kernel has new numbers every half second, or after a longer
step.
"""
CONTRAST = """(selector) => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[0-9.]+/g).map(Number).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    const own = node ? getComputedStyle(node).backgroundColor : 'rgb(255, 255, 255)';
    return /, 0\\)$/.test(own) ? ground(node.parentElement) : own;
  };
  return [...document.querySelectorAll(selector)].map((node) => {
    const style = getComputedStyle(node), ink = node instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(ink), light(ground(node))].sort((one, other) => other - one);
    return (a + 0.05) / (b + 0.05);
  });
}"""
"""The contrast of every text that a selector finds with its ground, by WCAG's formula."""
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
    for _ in range(360):
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
    """Save a picture of a panel in the light and in the dark theme; texts and choices can be read in both."""
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
        for found in page.evaluate(
            CONTRAST, "select, option, .bistil-curves svg text, .jp-OutputArea-output label"
        ):
            assert found >= 4.5, theme
        panel.screenshot(path=folder / f"{name}-{theme.lower()}.png")


def test_a_score_is_chosen_run_watched_found_again_paused_stopped_finished_reported_and_asked(
    page: Any, lab: str, tmp_path: Path
) -> None:
    notebook = f"{lab}/lab/tree/workbench.ipynb"
    panel = run_all(page, f"{notebook}?reset", "bistil-workbench")
    button = lambda name: panel.get_by_role("button", name=name)  # noqa: E731
    select = lambda label: panel.get_by_label(label, exact=True)  # noqa: E731
    assert "student, bistil-tf lrf 2" in panel.inner_text()
    select("target").select_option(label="Arvani (qaa)")
    panel.get_by_text("Source and target should be two languages").wait_for(timeout=60_000)
    select("seed").fill("1.5")
    select("seed").press("Enter")
    panel.get_by_text("A seed is a whole number").wait_for(timeout=60_000)
    assert select("seed").input_value() == "1"

    select("target").select_option(label="Arvel (qab)")
    panel.get_by_text("score on qab").wait_for(timeout=60_000)
    select("density").select_option(label="0.02")
    panel.get_by_text("stages are missing").wait_for(timeout=60_000)
    button("Run").click()
    curve = panel.locator(".bistil-curves svg").first
    curve.wait_for(timeout=90_000)
    drawn, behind = page.evaluate(LAG, 3)
    assert max(drawn) <= 1, drawn
    assert behind[len(behind) // 2] <= 1, behind
    curve.hover(position={"x": 60, "y": 60})
    pointed, newest = (int(text.split()[1]) for text in panel.locator(".bistil-step").all_inner_texts()[:2])
    assert pointed < newest

    button("Pause").click()
    panel.get_by_text("paused:").wait_for(timeout=30_000)
    select("lrf").select_option(label="3")
    panel.get_by_text("What is chosen here is for the next one").wait_for(timeout=60_000)
    panel = run_all(page, notebook, "bistil-workbench")
    moving = panel.get_by_text(re.compile(r"language SFT qa[ab], (dense|sparse): [0-9]"))
    moving.wait_for(timeout=90_000)
    assert "Running: parsing, Arvani (qaa) to Arvel (qab), bistil-tf:2" in panel.inner_text()
    assert "paused: working on: language SFT" in panel.inner_text()
    assert "▶" in panel.inner_text()
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
    panel.get_by_text("finished").wait_for(timeout=600_000)
    assert "Everything is in the store." in panel.inner_text()
    button("Report").click()
    report = panel.frame_locator("iframe.bistil-report")
    report.get_by_role("heading", level=1).wait_for(timeout=90_000)
    report.locator("a[href^='#']").first.click()
    assert "bilingual students" in report.locator("h1").inner_text()
    pictures(page, panel, "workbench-finished", tmp_path)

    asked = page.locator(".jp-OutputArea-output .bistil-try").first
    asked.get_by_role("button", name="Ask").click()
    asked.get_by_text("Median of").wait_for(timeout=90_000)
    assert "gold" in asked.inner_text()
    asked.get_by_label("sentence").fill("rut lilunma , no liru")
    asked.get_by_role("button", name="Ask").click()
    asked.get_by_text("lilunma").first.wait_for(timeout=90_000)
    pictures(page, asked, "try", tmp_path)

    compared = run_all(page, f"{lab}/lab/tree/panels.ipynb?reset", "bistil-comparison")
    compared.get_by_role("button", name="Worst errors").click()
    compared.locator("svg[aria-label=error-1]").wait_for(timeout=90_000)
    pictures(page, compared, "comparison", tmp_path)
    assert [error for error in page.errors if "Failed to load resource" not in error] == []
