"""What the experiment of a report asked for, as its folder keeps it, and what follows from that alone."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bistil.evaluation.results import Row
from bistil.experiment import Experiment
from bistil.miniworld import load_settings
from bistil.report.tables import learns_elsewhere
from bistil.settings.files import read_json
from bistil.settings.places import DATA, world_file
from bistil.settings.yaml import build
from bistil.store.provenance import plain
from bistil.store.whole import write_whole
from bistil.systems.claims import Chain
from bistil.text.languages import read_table

TABLE = DATA / "languages.csv"
EXPERIMENT = "experiment.json"
"""The settings that were asked for, in the report's folder."""
Asked = Mapping[str, Any]


def asked_by(experiment: Experiment) -> dict[str, Any]:
    """Its settings as they are kept: a teacher by its place on this machine has its name alone."""
    here = Path(experiment.teacher).is_absolute()
    return {**plain(experiment), **({"teacher": Path(experiment.teacher).name} if here else {})}


def read_asked(folder: Path) -> dict[str, Any] | None:
    """The settings of a report's experiment, None where they were not kept."""
    path = folder / EXPERIMENT
    found: dict[str, Any] | None = read_json(path, dict) if path.is_file() else None
    return found


def keep_asked(folder: Path, asked: Asked) -> None:
    """Keep them in a report's folder."""
    write_whole(folder / EXPERIMENT, json.dumps(asked, indent=1) + "\n")


def seen_by_teacher(asked: Asked) -> Collection[str]:
    """The languages that the teacher saw, by the settings or the project's language tables."""
    if asked.get("seen"):
        return list(asked["seen"])
    world = world_file(asked["data"])
    table = load_settings(world).languages if world else read_table(TABLE).values()
    return [language.code for language in table if language.seen]


def claims_of(asked: Asked) -> list[Chain]:
    """What the experiment claims, groups of targets as their languages.

    Raises:
        InputError: for what is no claim.
    """
    said: tuple[Chain, ...] = build(tuple[Chain, ...], asked.get("claims", []), f"`claims` of {EXPERIMENT}")
    groups = asked.get("target_groups", {})
    return [
        replace(one, targets=tuple(code for name in one.targets for code in groups.get(name, [name])))
        for one in said
    ]


def run_in_words(asked: Asked, rows: Sequence[Row]) -> str:
    """The first note of a page: what was asked for, and what of it there is."""
    seeds = {row["seed"] for row in rows}
    there, lacking = (
        ", ".join(str(seed) for seed in asked["seeds"] if (seed in seeds) == run) for run in (True, False)
    )
    told = f"{'seeds' if ',' in there else 'seed'} {there}" + (
        f" (not run yet: {lacking})" if lacking else ""
    )
    learnt = (
        f"Task data in {asked['source']}, where a system's regime names no other examples"
        if learns_elsewhere(rows)
        else f"Task data in {asked['source']} only; scores are zero-shot"
    )
    return (
        f"Teacher: {Path(asked['teacher']).name}. {learnt}, {told}. Everything below is computed from"
        " results.csv and the manifests beside this page."
    )
