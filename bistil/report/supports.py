"""What the language SFTs behind a report have in common, and how old the entries of SpIEL's are (thesis
Figures 4.4 and 7.4).

Notable: only what the store holds is shown; a study (`bistil.studies.supports`) adds families, other seeds
and verdicts.
"""

from collections.abc import Mapping
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bistil import plots
from bistil.adapt.worn import WORN
from bistil.settings.files import read_json
from bistil.settings.yaml import build
from bistil.sft.anatomy import overlap_by_chance
from bistil.sft.delta import SparseDelta
from bistil.sft.spiel.config import SpielSft
from bistil.sft.tune import AGES
from bistil.store.artefacts import Artefact


def support_figures(sfts: Mapping[str, Artefact]) -> dict[str, tuple[Figure, str]]:
    """Draw, by file name and with a caption each, which parameters some language SFTs share, and the ages of
    SpIEL's entries.

    sfts: of one model by one method, by language. Less than two share nothing, and LoRA, which changes every
    weight a little, has neither.
    """
    ordered = {code: sfts[code] for code in sorted(sfts)}
    asked: dict[str, Any] = next((artefact.manifest["config"]["sft"] for artefact in ordered.values()), {})
    if not (asked.get("lottery") or asked.get("spiel")):
        return {}
    drawn = _overlap(ordered) if len(ordered) > 1 else {}
    return drawn | (_ages(ordered, asked) if asked.get("spiel") else {})


def _overlap(sfts: Mapping[str, Artefact]) -> dict[str, tuple[Figure, str]]:
    """By chance is the stricter of a study's two nulls: SpIEL's entries, say, are in matrices only, so that
    more of them meet.
    """
    deltas = [SparseDelta.load(artefact.path(WORN)) for artefact in sfts.values()]
    matrix = np.eye(len(deltas))
    for i, j in combinations(range(len(deltas)), 2):
        matrix[i, j] = matrix[j, i] = deltas[i].overlap(deltas[j])
    chance = fmean(overlap_by_chance(*pair) for pair in combinations(deltas, 2))
    caption = (
        "Language SFTs of the teacher: the share of the changed parameters that two languages have in common."
        " By chance: the mean of all pairs, had each drawn as many entries of each tensor at random."
    )
    return {"language-sfts-overlap": (plots.overlap(matrix, list(sfts), chance=chance), caption)}


def _ages(sfts: Mapping[str, Artefact], asked: Mapping[str, Any]) -> dict[str, tuple[Figure, str]]:
    """Nothing where the SFTs are from before ages were kept."""
    kept = {code: path for code, artefact in sfts.items() if (path := artefact.path(AGES)).is_file()}
    born = {code: {int(step): n for step, n in read_json(path, dict).items()} for code, path in kept.items()}
    if not born:
        return {}
    settings: SpielSft = build(SpielSft, asked["spiel"], "spiel")
    steps = asked["sparse"]["steps"]
    parameters = round(sum(next(iter(born.values())).values()) / settings.density)
    chance = settings.for_run(parameters, steps=steps, seed=asked["seed"]).ages_by_chance()
    caption = (
        "SpIEL's language SFTs of the teacher: when their entries were last grown, one line a language;"
        " dashed, were drops random."
    )
    return {"language-sfts-ages": (plots.parameter_ages(born, steps=steps, chance=chance), caption)}
