"""Whether an experiment's page is there whole and still shows what there is to show.

Notable: a page is noted after it has been written, with what it shows and the files as they were written, so
whatever ended the writing early, or cut a file later, has it made again."""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import bistil
from bistil.evaluation.results import Row
from bistil.experiment import Experiment
from bistil.report.experiment import behind
from bistil.store.artefacts import Store
from bistil.store.provenance import canonical_json, file_id
from bistil.store.whole import write_whole

NOTE = "shown.json"
FILES = ("index.html", "results.csv")


def shown(
    folder: Path, experiment: Experiment, rows: Sequence[Row], store: Store, failures: Sequence[str]
) -> str:
    """What names all that an experiment's page shows."""
    parts = {
        "experiment": experiment,
        "rows": rows,
        "artefacts": [artefact.manifest.get("checksum", artefact.id) for artefact in behind(rows, store)],
        "notebooks": {path.name: file_id(path) for path in (folder / "notebooks").glob("*.ipynb")},
        "failures": failures,
        "version": bistil.__version__,
    }
    return f"sha256:{sha256(canonical_json(parts).encode()).hexdigest()}"


def is_fresh(folder: Path, what: str) -> bool:
    """Whether the page in `folder` shows just this, and its files are as they were written."""
    try:
        return bool(json.loads((folder / NOTE).read_text(encoding="utf-8")) == _note(folder, what))
    except (OSError, ValueError):
        return False


def note(folder: Path, what: str) -> None:
    """Note that the page in `folder` has been written and shows this."""
    write_whole(folder / NOTE, json.dumps(_note(folder, what), indent=1) + "\n")


def _note(folder: Path, what: str) -> dict[str, str]:
    return {"shows": what, **{name: file_id(folder / name) for name in FILES}}
