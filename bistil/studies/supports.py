"""Which parameters language SFTs share, and how old SpIEL's are (LT-SFT, thesis Figure 4.4; SpIEL, thesis
Figures 7.4 and E.2).

Notable: every overlap stands beside two nulls, random entries of the whole encoder and random entries of the
same tensors, and beside the control that the thesis leaves out, the same language trained with another seed.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Annotated, Any

import numpy as np
from matplotlib.figure import Figure

from bistil import plots
from bistil.adapt.worn import WORN
from bistil.batch import Job
from bistil.experiment import Experiment, LanguageSftConfig
from bistil.settings.files import read_json
from bistil.settings.ranges import Filled, Seed, Settings
from bistil.sft.anatomy import common_to_all, densities, overlap_by_chance
from bistil.sft.config import SftConfig
from bistil.sft.delta import SparseDelta
from bistil.sft.tune import AGES
from bistil.store.artefacts import Artefact
from bistil.studies.kept import Build, Found, Jobs, Verdict, built
from bistil.text.corpora import read_lines

NEAR = 1.25
"""An overlap below this many times its chance level is called near it."""


@dataclass(frozen=True, kw_only=True)
class Supports(Settings):
    """Whose language SFTs to compare.

    Attributes:
        languages: Codes of languages.
        seeds: The seeds of the SFTs. Languages are compared at the first, and all are the control.
        sft: How the SFTs are trained, None for the experiment's own settings.
    """

    languages: Annotated[tuple[str, ...], Filled()]
    seeds: Annotated[tuple[Seed, ...], Filled()] = (1, 2)
    sft: LanguageSftConfig | None = None


def study_supports(base: Experiment, methods: Mapping[str, Supports], build: Build) -> Found:
    """Build every method's language SFTs and compare those that are there."""
    found, pairs, ages, common = Found(), *(list[dict[str, Any]]() for _ in range(3))
    data = build(base, {}).data
    families = {code: data.language(code).family for asked in methods.values() for code in asked.languages}
    for code in families:
        read_lines(data.text(code), 1)  # fails now, before any long work
    for method, asked in methods.items():
        experiment = dataclasses.replace(base, language_sft=asked.sft or base.language_sft)
        jobs: Jobs = {
            Job("language_sft", (code, None, None, seed)): ()
            for seed in asked.seeds
            for code in asked.languages
        }
        reader = build(experiment, jobs)
        made = {
            (job.arguments[0], job.arguments[3]): artefact for job, artefact in built(reader, jobs).items()
        }
        deltas = {key: SparseDelta.load(artefact.path(WORN)) for key, artefact in made.items()}
        encoder = reader.teacher.encoder
        total = encoder.num_parameters() + reader.parameters_cut(encoder)
        own = [
            _pair(method, one, other, deltas, families, total)
            for one, other in combinations(sorted(deltas), 2)
        ]
        pairs += own
        common += _common(method, asked, deltas)
        ages += [
            row
            for (code, seed), artefact in made.items()
            for row in _ages(method, code, seed, artefact, experiment, total)
        ]
        found.artefacts |= {artefact.id: artefact for artefact in made.values()}
        found.figures |= _figures(
            method, own, deltas, {code: families[code] for code in asked.languages}, asked.seeds[0]
        )
        found.verdicts += verdicts(method, own)
    found.tables |= {"overlaps": pairs, "ages": ages, **({"common": common} if common else {})}
    found.figures |= _ages_figure(methods, ages)
    found.verdicts += across(pairs, ages)
    return found


def _pair(
    method: str,
    one: tuple[str, int],
    other: tuple[str, int],
    deltas: Mapping[tuple[str, int], SparseDelta],
    families: Mapping[str, str],
    total: int,
) -> dict[str, Any]:
    """One row of overlaps.csv; shares in percent of the smaller support."""
    a, b = deltas[one], deltas[other]
    return {
        "method": method,
        **{"first": one[0], "first_seed": one[1], "second": other[0], "second_seed": other[1]},
        **{"first_family": families[one[0]], "second_family": families[other[0]]},
        "overlap": round(100 * a.overlap(b), 4),
        "chance": round(100 * max(a.size, b.size) / total, 4),
        "chance_by_tensor": round(100 * overlap_by_chance(a, b), 4),
    }


def _common(
    method: str, asked: Supports, deltas: Mapping[tuple[str, int], SparseDelta]
) -> list[dict[str, Any]]:
    """The rows of common.csv: what the supports of all seeds of a language have in common, of three or
    more.
    """
    found = []
    for code in asked.languages:
        own = [deltas[code, seed] for seed in asked.seeds if (code, seed) in deltas]
        if len(own) > 2:
            share = round(100 * common_to_all(own), 4)
            found.append({"method": method, "language": code, "seeds": len(own), "common": share})
    return found


def _ages(
    method: str, code: str, seed: int, artefact: Artefact, experiment: Experiment, total: int
) -> list[dict[str, Any]]:
    """The rows of ages.csv of one SpIEL SFT: percent of its entries last grown at each update, and were drops
    random.

    None of LT-SFT, and none of an SFT from before ages were kept.
    """
    asked = experiment.language_sft
    if asked is None or asked.spiel is None or not artefact.path(AGES).is_file():
        return []
    counts = {int(step): count for step, count in read_json(artefact.path(AGES), dict).items()}
    config, trained = SftConfig(**vars(asked), seed=seed), int(artefact.metrics["steps"])
    steps, shares = config.spiel.for_run(total, steps=trained, seed=seed).ages_by_chance()  # type: ignore[union-attr]
    whole = sum(counts.values())
    return [
        {
            "method": method,
            "language": code,
            "seed": seed,
            "steps": trained,
            "born": step,
            "share": round(100 * counts.get(step, 0) / whole, 4),
            "chance": round(100 * share, 4),
        }
        for step, share in zip(steps, shares, strict=True)
    ]


def _of(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The pairs of one kind: `seeds` of one language, `related` and `unrelated` languages trained with the
    same seed.
    """
    same_seed = [
        row for row in rows if row["first"] != row["second"] and row["first_seed"] == row["second_seed"]
    ]
    if kind == "seeds":
        return [row for row in rows if row["first"] == row["second"]]
    return [row for row in same_seed if (row["first_family"] == row["second_family"]) == (kind == "related")]


def _mean(rows: list[dict[str, Any]], column: str = "overlap") -> float | None:
    return fmean(row[column] for row in rows) if rows else None


def verdicts(method: str, rows: list[dict[str, Any]]) -> list[Verdict]:
    """LT-SFT's claim on overlaps, in percent of parameters shared, each where both sides were measured."""
    related, unrelated, seeds = (_mean(_of(rows, kind)) for kind in ("related", "unrelated", "seeds"))
    asked = (
        (
            "related languages share more parameters than by chance",
            related,
            _mean(_of(rows, "related"), "chance"),
        ),
        (
            "related languages share more than random entries of the same tensors",
            related,
            _mean(_of(rows, "related"), "chance_by_tensor"),
        ),
        ("related languages share more parameters than unrelated ones", related, unrelated),
        (
            f"unrelated languages stay below {NEAR:g} times chance",
            _times(_mean(_of(rows, "unrelated"), "chance")),
            unrelated,
        ),
        ("two seeds of one language share more than two related languages", seeds, related),
    )
    return [
        Verdict(f"{method}: {claim}", left, right)
        for claim, left, right in asked
        if left is not None and right is not None
    ]


def _times(value: float | None) -> float | None:
    return None if value is None else NEAR * value


def across(pairs: list[dict[str, Any]], ages: list[dict[str, Any]]) -> list[Verdict]:
    """What the thesis says of SpIEL's two variants (section 7.5.3 and appendix E.6), where methods are called
    after them.
    """
    told = list[Verdict]()
    seeds = {
        name: _mean(_of([row for row in pairs if row["method"] == name], "seeds"))
        for name in ("SpIEL-AG", "SpIEL-MA")
    }
    if seeds["SpIEL-AG"] is not None and seeds["SpIEL-MA"] is not None:
        told.append(
            Verdict(
                "seeds share more parameters by SpIEL-MA than by SpIEL-AG",
                seeds["SpIEL-MA"],
                seeds["SpIEL-AG"],
            )
        )
    born = {name: _born([row for row in ages if row["method"] == name]) for name in seeds}
    if born["SpIEL-AG"] is not None and born["SpIEL-MA"] is not None:
        claim = "SpIEL-AG's entries are younger than SpIEL-MA's (mean step of growth)"
        told.append(Verdict(claim, born["SpIEL-AG"], born["SpIEL-MA"]))
    return told


def _born(rows: list[dict[str, Any]]) -> float | None:
    """The mean step at which entries were last grown."""
    whole = sum(row["share"] for row in rows)
    return sum(row["born"] * row["share"] for row in rows) / whole if whole else None


def _figures(
    method: str,
    rows: list[dict[str, Any]],
    deltas: Mapping[tuple[str, int], SparseDelta],
    families: Mapping[str, str],
    seed: int,
) -> dict[str, tuple[Figure, str]]:
    """The overlap of languages with its controls, and where the first language's entries sit."""
    codes = [
        code for code in sorted(families, key=lambda code: (families[code], code)) if (code, seed) in deltas
    ]
    drawn, name = dict[str, tuple[Figure, str]](), method.lower().replace(" ", "-")
    if len(codes) > 1:
        matrix = [[deltas[a, seed].overlap(deltas[b, seed]) for b in codes] for a in codes]
        again = {
            row["first"]: row["overlap"] / 100
            for row in _of(rows, "seeds")
            if seed in (row["first_seed"], row["second_seed"])
        }
        made = plots.overlap(
            matrix,
            codes,
            chance=rows[0]["chance"] / 100,
            families=[families[code] for code in codes],
            control=[again.get(code, np.nan) for code in codes] if again else None,
        )
        drawn[f"overlap-{name}"] = made, f"{method}: how many of their parameters two language SFTs share."
    if codes:
        where = (
            f"{method}: where in the encoder the parameters of {codes[0]}'s SFT sit, in percent of each"
            " tensor."
        )
        drawn[f"places-{name}"] = plots.delta_map(*densities(deltas[codes[0], seed])), where
    return drawn


def _ages_figure(
    methods: Mapping[str, Supports], ages: list[dict[str, Any]]
) -> dict[str, tuple[Figure, str]]:
    """Ages of every method and language with the first seed, against random drops; methods of another
    schedule would need another null.
    """
    firsts = {name: methods[name].seeds[0] for name in methods}
    rows = [row for row in ages if row["seed"] == firsts[row["method"]]]
    if not rows:
        return {}
    born: dict[str, dict[int, float]] = {}
    for row in rows:
        born.setdefault(f"{row['method']}, {row['language']}", {})[row["born"]] = row["share"]
    label = next(iter(born))
    null = [
        (row["born"], row["chance"] / 100) for row in rows if f"{row['method']}, {row['language']}" == label
    ]
    chance = ([step for step, _ in null], [share for _, share in null])
    grown = {label: {step: share for step, share in found.items() if share} for label, found in born.items()}
    caption = "How old the entries of SpIEL's final supports are, by the step at which they were last grown."
    return {"ages": (plots.parameter_ages(grown, steps=rows[0]["steps"], chance=chance), caption)}
