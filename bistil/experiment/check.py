"""What an experiment file may say: refusals that need no data, each with its place in the file."""

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

from bistil.distil.merge import MergeConfig
from bistil.errors import InputError
from bistil.evaluation.results import METRICS, ON_SOURCE
from bistil.settings.places import check_name, world_file, worlds
from bistil.systems import regimes
from bistil.systems.system import System
from bistil.systems.table import SYSTEMS
from bistil.tasks import RETRIEVAL
from bistil.tasks.translation import check_translatable

if TYPE_CHECKING:
    from bistil.experiment import Experiment

NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
"""Names of an experiment's own: variants, regimes, teachers."""


def check(experiment: "Experiment") -> None:
    """Refuse an experiment that cannot be run as it is written.

    Raises:
        InputError: with the first thing that is wrong, and where.
    """
    check_name(experiment.name)
    if experiment.data != "folder" and world_file(experiment.data) is None:
        known = ", ".join([*worlds(), "folder"])
        raise InputError(f"data should be one of {known}, but is {experiment.data!r}.", at=("data",))
    _check_variants(experiment)
    _check_regimes(experiment)
    _check_twice(experiment)
    _check_schedules(experiment)
    _check_adapters(experiment)
    _check_merging(experiment)
    _check_masking(experiment)
    _check_targets(experiment)
    _check_groups(experiment)
    _check_claims(experiment)
    _check_target_groups(experiment)


def _check_variants(experiment: "Experiment") -> None:
    """Refuse variants that cannot be made: names that are taken, circles, changes that fit nothing."""
    for name, variant in experiment.variants.items():
        at: tuple[str | int, ...] = ("variants", name)
        if name in SYSTEMS or not NAME.fullmatch(name):
            raise InputError(
                "A name of small letters, digits and '-' that no system has was expected for a variant, but"
                f" got {name!r}.",
                at=at,
            )
        seen = [name]
        while variant.of in experiment.variants:
            if variant.of in seen:
                raise InputError(f"A variant of itself: {' of '.join([*seen, variant.of])}.", at=(*at, "of"))
            seen.append(variant.of)
            variant = experiment.variants[variant.of]
        try:
            experiment.system(name)
        except InputError as error:
            raise InputError(str(error), at=(*at, *error.at)) from error


def _check_regimes(experiment: "Experiment") -> None:
    """Refuse regimes that cannot be: names nobody can write, translations without a translator or of a task
    whose labels do not survive one, sources that a student cannot read.
    """
    for name, regime in experiment.regimes.items():
        if not NAME.fullmatch(name) or regimes.IN_ORDER.fullmatch(name):
            raise InputError(
                "A name of small letters, digits and '-', none of those that every experiment has, was"
                f" expected for a regime, but got {name!r}.",
                at=("regimes", name),
            )
        codes = [experiment.source if one == "source" else one for one in regime.sources or ()]
        if len(set(codes)) < len(codes):
            raise InputError(
                f"Each of `sources` was expected once, but {', '.join(codes)} came.",
                at=("regimes", name, "sources"),
            )
        by = regime.translator or next(iter(experiment.translators), "")
        if regime.translates and by not in experiment.translators:
            known = ", ".join(experiment.translators) or "none"
            raise InputError(
                f"`{regime.translates}` needs a translator, one of those under `translators` ({known}).",
                at=("regimes", name, "translator" if regime.translator else regime.translates),
            )
    for number, said in enumerate(experiment.systems):
        at = ("systems", number)
        name, *_ = experiment.parse_system(said, at=at)
        if told := _misfit(experiment, said, name, at):
            raise InputError(told, at=at)


def _misfit(experiment: "Experiment", said: str, name: str, at: tuple[str | int, ...]) -> str:
    """What is wrong with the rows that a system learns from; "" for nothing."""
    system, known = experiment.system(name), {"source", "target", "targets", experiment.source}
    rows = (*system.learning.rows, *system.learning.validated)
    asked = {part.translated for part in rows} | {system.translated_test}
    if strangers := sorted(asked - {"", *experiment.translators}):
        return f"{said} needs the translator {strangers[0]!r}, which is not under `translators`."
    if asked != {""}:
        for task in experiment.tuned:
            check_translatable(task, at=at)
    others = [task for task, one in experiment.task.items() if one.sft.lottery is None]
    if system.then is not None and others and not system.learning.select:
        return f"{said} tunes an SFT or all weights further; the settings of {others[0]} have neither."
    if system.learning.exposed and experiment.language_sft is None and not system.adaptation.hangs:
        return f"{said} is exposed to languages' SFTs, of which there are none: `language_sft: null`."
    named = {part.language for part in rows}
    many = "targets" in named and any(len(codes) > 1 for codes in experiment.tuned.values())
    several = len(named) > 1 or many or system.learning.exposed
    wears = system.adaptation.worn == "sft" and system.adaptation.in_training and experiment.language_sft
    by_settings = not system.learning.by and any(one.sft.peft for one in experiment.task.values())
    wrapped = system.learning.peft or by_settings
    if several and wears and wrapped:
        return (
            f"{said} reads examples of several languages, whose SFTs cannot be put on and off under peft's"
            " modules: tune it by a sparse or dense method, or without language SFTs."
        )
    pair = "@" in name and system.student is not None and system.student.languages != "seen"
    if pair and (codes := [part.language for part in rows if part.language not in known]):
        return (
            f"{said} is made for a pair of languages, so it cannot read the examples of"
            f" {', '.join(codes)}: take a whole teacher, or a student of all seen languages."
        )
    return ""


def _check_twice(experiment: "Experiment") -> None:
    """Refuse systems and seeds that are there twice, since a mean over seeds would count them twice."""
    for key, found in (("systems", experiment.parsed), ("seeds", experiment.seeds)):
        for number, one in enumerate(found):
            if one in found[:number]:
                said = getattr(experiment, key)[number]
                raise InputError(
                    f"Each of `{key}` was expected once, but {said} came again.", at=(key, number)
                )


def _check_schedules(experiment: "Experiment") -> None:
    """Refuse schedules of systems that have none of their own."""
    single = [name for name in experiment.all_systems if experiment.system(name).learning.one_phase]
    if strangers := sorted(set(experiment.schedules) - set(single)):
        raise InputError(
            f"`schedules` is for systems tuned in one phase, {', '.join(single)}; {strangers[0]!r} is none of"
            " them.",
            at=("schedules", strangers[0]),
        )


def _check_adapters(experiment: "Experiment") -> None:
    """Refuse systems with adapters that nothing says how to train, and adapters in the place of SFTs."""
    given = {
        "language_adapter": experiment.language_adapter,
        **{f"task.{task}.adapter": one.adapter for task, one in experiment.task.items()},
    }
    sparse = {
        "language_sft": experiment.language_sft,
        **{f"task.{task}.sft": one.sft for task, one in experiment.task.items()},
    }
    for name, asked in sparse.items():
        if asked is not None and asked.adapter is not None:
            raise InputError(
                f"`lottery`, `spiel` or `peft` was expected under `{name}`. Settings of adapters stand under"
                " `language_adapter` and a task's `adapter`, for systems that wear adapters.",
                at=(name.split(".")[0],),
            )
    for name, settings in given.items():
        if settings is not None and settings.adapter is None:
            raise InputError(
                f"`adapter` and its `sparse` schedule were expected under `{name}`.",
                at=(name.split(".")[0],),
            )
    for number, (name, *_) in enumerate(experiment.parsed):
        system = experiment.system(name)
        needed = ["language_adapter"] if system.adaptation.worn == "adapter" else []
        needed += [f"task.{task}.adapter" for task in experiment.tuned] if system.learning.adapter else []
        for one in needed:
            if given.get(one) is None:
                raise InputError(
                    f"{name} has adapters, so settings for them were expected under `{one}`: `adapter:"
                    " {reduction: 16}` and `sparse`, its schedule.",
                    at=("systems", number),
                )
        _check_typology(experiment, name, ("systems", number))


def _check_typology(experiment: "Experiment", name: str, at: tuple[str | int, ...]) -> None:
    adaptation = experiment.system(name).adaptation
    if not adaptation.needs_features:
        return
    if experiment.typology is None:
        raise InputError(
            f"{name} needs features of languages: say where they come from under `typology`, as in `from:"
            " table`.",
            at=at,
        )
    generated = adaptation.worn == "generated"
    if experiment.generator is None and (generated or not experiment.typology_among):
        raise InputError(
            f"Settings of a generator, `generator` with its `schedule`, were expected for {name}"
            + ("." if generated else ", or languages that have adapters: `among` under `typology`."),
            at=at,
        )


def _check_merging(experiment: "Experiment") -> None:
    """Refuse systems of several teachers that nothing says, and languages that none of these knows."""
    if experiment.merge is not None:
        _check_teachers(experiment, experiment.merge, ("merge",))
    for number, (name, *_) in enumerate(experiment.parsed):
        system = experiment.system(name)
        if system.model and system.model not in experiment.teachers:
            known = ", ".join(experiment.teachers) or "none"
            told = f"{name} is the model {system.model!r}, which is not under `teachers` ({known})."
            raise InputError(told, at=("systems", number))
        if system.merges or system.own_teacher:
            at = ("variants", name, "merge") if name in experiment.variants else ("systems", number)
            try:
                how = experiment.merging(name)
            except InputError as error:
                raise InputError(str(error), at=at) from error
            _check_teachers(experiment, how, at)
            _check_copies(experiment, system, how, at)
            for code in (code for codes in experiment.targets.values() for code in codes):
                if system.own_teacher and code not in how.taught_by:
                    told = f"A teacher of {code} was expected under `taught_by`, for {name} to be it."
                    raise InputError(told, at=at)


def _check_copies(
    experiment: "Experiment", system: System, how: MergeConfig, at: tuple[str | int, ...]
) -> None:
    """Refuse copies of a text that are cut at different places, and students without a loss to be judged
    by.
    """
    several = any(len(own) > 1 for own in how.teaches.values())
    if system.merges and several and experiment.text.packed:
        raise InputError(
            "Where a language has several teachers, their copies of a block are held out together, and"
            " `copies: best` compares them, but packed text is cut by each teacher's own tokens. Set"
            " `packed: false` under `text`.",
            at=at,
        )
    if system.merges and system.student and not any(t.by == "ce" for t in system.student.terms.values()):
        raise InputError(
            "A student of several teachers is judged by its loss on held-out tokens: keep the term `masked`,"
            " and set `constant: 1` under `merge` for stored labels alone.",
            at=at,
        )


def _check_teachers(experiment: "Experiment", how: MergeConfig, at: tuple[str | int, ...]) -> None:
    for name in experiment.teachers:
        if not NAME.fullmatch(name):
            told = f"A teacher's name has small letters, digits and '-', but got {name!r}."
            raise InputError(told, at=("teachers", name))
    try:
        how.check(tuple(experiment.teachers))
    except InputError as error:
        raise InputError(str(error), at=(*at, *error.at)) from error


def _check_masking(experiment: "Experiment") -> None:
    """Refuse students that predict masked tokens where none are masked."""
    students = [one.student for name, *_ in experiment.parsed if (one := experiment.system(name)).student]
    if any(one.masks and one.follows for one in students if one) and not experiment.general.mask_share:
        raise InputError(
            "A student that predicts masked tokens needs some: give a `mask_share` above 0 under `general`.",
            at=("general",),
        )


def _check_targets(experiment: "Experiment") -> None:
    """Refuse targets of tasks without settings, none at all, and any that is the source or there twice."""
    lacking = sorted(set(experiment.targets) - set(experiment.task) - {RETRIEVAL})
    if lacking:
        raise InputError(
            f"The experiment {experiment.name} has targets for {lacking[0]} but no settings for it under"
            " `task`.",
            at=("targets", lacking[0]),
        )
    if not any(experiment.targets.values()):
        raise InputError(f"The experiment {experiment.name} needs at least one target.", at=("targets",))
    for task, codes in experiment.targets.items():
        twice = [
            code for number, code in enumerate(codes) if code == experiment.source or code in codes[:number]
        ]
        if twice:
            raise InputError(
                f"The targets of {task} should be languages other than the source {experiment.source!r}, none"
                f" of them twice, but {twice[0]!r} is the source or there already.",
                at=("targets", task),
            )


def _check_groups(experiment: "Experiment") -> None:
    """Refuse groups that are empty, and languages in two of them."""
    grouped = [experiment.source, *(code for group in experiment.groups for code in group)]
    if len(set(grouped)) < len(grouped) or not all(experiment.groups):
        raise InputError(
            "Each of `groups` should name languages other than the source, none of them twice, but got"
            f" {experiment.groups}.",
            at=("groups",),
        )


def _check_target_groups(experiment: "Experiment") -> None:
    """Refuse groups of other languages than the targets, and claims about neither."""
    targets = {code for codes in experiment.targets.values() for code in codes}
    for name, codes in experiment.target_groups.items():
        if name in targets or not codes:
            why = "is a language's" if name in targets else "has no targets"
            raise InputError(
                f"Groups of targets with names of their own were expected, but {name} {why}.",
                at=("target_groups", name),
            )
        if strangers := [code for code in codes if code not in targets]:
            raise InputError(
                f"The group {name} should be of targets of the experiment, but {strangers[0]!r} is none.",
                at=("target_groups", name),
            )
    for number, chain in enumerate(experiment.claims):
        if strangers := [name for name in chain.targets if name not in {*targets, *experiment.target_groups}]:
            raise InputError(
                "A claim is about targets of the experiment, or groups of them under `target_groups`, but got"
                f" {strangers[0]!r}.",
                at=("claims", number, "targets"),
            )


def _check_claims(experiment: "Experiment") -> None:
    """Refuse claims about systems and tasks that there are not; about those that are not run, the report says
    so.
    """
    tasks = (*experiment.task, RETRIEVAL)
    for number, chain in enumerate(experiment.claims):
        for name in chain.names:
            experiment.parse_system(name, at=("claims", number, "order"))
        if strangers := [task for task in chain.tasks if task not in tasks]:
            raise InputError(
                f"A claim is about tasks of the experiment, {', '.join(tasks)}, but got {strangers[0]!r}.",
                at=("claims", number, "tasks"),
            )
        if chain.metric and chain.metric.removeprefix(ON_SOURCE) not in METRICS:
            near = get_close_matches(chain.metric, METRICS, 1, cutoff=0.3)
            raise InputError(
                f"A metric, one of {', '.join(METRICS)}, was expected in a claim, but got {chain.metric!r}."
                + (f" Did you mean {near[0]!r}?" if near else ""),
                at=("claims", number, "metric"),
            )
