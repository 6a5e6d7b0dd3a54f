"""Taking an experiment out of a store: what it alone uses goes, and with it whatever was made from that.

Notable: artefacts are shared, so experiments that are to stay are named; what they need stays whole.
"""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from bistil.batch.stage import stages_of
from bistil.pipeline import Pipeline
from bistil.settings.files import read_csv
from bistil.store.artefacts import Artefact, Store
from bistil.store.locks import alone


def going(pipeline: Pipeline, staying: Iterable[Pipeline] = ()) -> list[Artefact]:
    """What leaves the store with a pipeline's experiment, what is made from others before these.

    Raises:
        InputError: where files are not at hand, so that ids cannot be known.
    """
    gone, stays = _gone(pipeline, staying)
    there = [one for kind in kinds(pipeline.store) for one in pipeline.store.all(kind)]
    found: list[Artefact] = []
    while more := [one for one in there if one not in found and _goes(one, gone, stays)]:
        found += more
        gone |= {one.id for one in more}
    return _last_first(found)


def begun(pipeline: Pipeline, staying: Iterable[Pipeline] = ()) -> list[Path]:
    """The folders of stages of a pipeline's experiment alone that are begun and not finished; their
    checkpoints are often what takes most room.
    """
    gone, _ = _gone(pipeline, staying)
    return sorted(path for path in pipeline.store.root.glob("*/*.partial") if path.stem in gone)


def kinds(store: Store) -> list[str]:
    """The kinds of artefacts that a store has."""
    return sorted({path.parent.parent.name for path in store.root.glob("*/*/manifest.json")})


def remove(folders: Iterable[Path], store: Store) -> None:
    """Delete folders of a store, in this order, each at one stroke: whenever this ends, an artefact is whole
    or it is not there.
    """
    _sweep(store)
    for folder in folders:
        with alone(folder.with_name(f"{folder.stem}.lock")):
            folder.rename(folder.with_name(f"{folder.stem}.gone"))
    _sweep(store)


def _sweep(store: Store) -> None:
    """Delete what left its place, in a call that was cut off too."""
    for left in store.root.glob("*/*.gone"):
        shutil.rmtree(left)


def size(folder: Path) -> int:
    """Bytes of all its files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def cited(artefacts: Iterable[Artefact], reports: Path) -> list[Path]:
    """The reports whose rows name one of these."""
    names = {one.id for one in artefacts}
    found = {path.parent: read_csv(path)[1] for path in sorted(reports.glob("*/results.csv"))}
    return [
        folder for folder, lines in found.items() if any(line.get("artefact") in names for _, line in lines)
    ]


def _gone(pipeline: Pipeline, staying: Iterable[Pipeline]) -> tuple[set[str], set[str]]:
    """The ids of a pipeline's own stages, and of those that stay."""
    stays = {name for other in staying for name in stages_of(other)}
    return stages_of(pipeline).keys() - stays, stays


def _goes(one: Artefact, gone: set[str], stays: set[str]) -> bool:
    return one.id not in stays and (one.id in gone or bool(gone & set(one.manifest["inputs"].values())))


def _last_first(found: Sequence[Artefact]) -> list[Artefact]:
    """Whatever is cut off in the middle leaves no artefact without what it was made from."""
    waiting, ordered = {one.id: one for one in found}, list[Artefact]()
    while waiting:
        needed = {name for one in waiting.values() for name in one.manifest["inputs"].values()}
        free = [one for name, one in waiting.items() if name not in needed]
        ordered += free
        waiting = {name: one for name, one in waiting.items() if name in needed}
    return ordered
