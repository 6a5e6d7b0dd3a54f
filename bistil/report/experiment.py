"""The report of an experiment: its rows, and what the store knows of how they came about.

Notable: the artefacts are found by following the inputs from each score back to the teacher, so the page
shows what was really used."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from bistil import plots
from bistil.evaluation.results import ON_SOURCE, Row, is_student, of_run_seeds, tidy
from bistil.evaluation.significance import KEPT, read_outcomes
from bistil.experiment import Experiment
from bistil.pipeline.scores import UNLEARNT
from bistil.report.asked import Asked, asked_by, claims_of, keep_asked, run_in_words
from bistil.report.index import write_index
from bistil.report.orderings import orderings
from bistil.report.page import write_report
from bistil.report.published import beside
from bistil.report.ranks import rank_tables
from bistil.report.readme import refresh
from bistil.report.supports import support_figures
from bistil.report.tables import Table, group_tables
from bistil.report.templates import signed
from bistil.settings.files import read_json
from bistil.sft.train_sft import phases
from bistil.store.artefacts import Artefact, Store
from bistil.systems.recipe import Student
from bistil.systems.table import rank
from bistil.tasks.gold import consequence, in_words

KINDS = (
    "evaluation",
    "timing",
    "task-sft",
    "student",
    "language-sft",
    "language-adapter",
    "generated-adapter",
    "further-adapter",
    "generator",
    "translation",
    "shots",
    "vocabulary",
    "teacher-labels",
    "union-vocabulary",
    "teacher",
    "trimmed-teacher",
)


def write_experiment_report(
    folder: Path,
    experiment: Experiment,
    rows: Sequence[Row],
    store: Store,
    failures: Sequence[str],
    *,
    seen: Collection[str] | None = None,
) -> Path:
    """Write an experiment's report into `folder`, refresh its table in the README where that has one; return
    the page's path.

    Args:
        failures: what went wrong, one line a stage; told on the page.
        seen: the languages that the teacher saw.

    Raises:
        InputError: without a single row.
    """
    rows = of_run_seeds(rows)
    found = behind(rows, store)
    first = [artefact for artefact in found if _seed(artefact, found) in (None, experiment.seeds[0])]
    sfts = _language_sfts(first, found)
    asked = asked_by(experiment)
    failed = (
        [f"{len(failures)} stages failed, so cells are missing. " + " ".join(failures)] if failures else []
    )
    path = write_report(
        folder,
        rows,
        title=_page_title(experiment, rows),
        manifests=[artefact.manifest for artefact in found],
        notes="\n\n".join([run_in_words(asked, rows), *failed]),
        claims=orderings(tidy(rows), seen=seen, chains=claims_of(asked)),
        told={name: _told(experiment, name) for name, *_ in experiment.parsed},
        figures={
            **_student_curves(first, rows, store, experiment),
            **_language_curves(sfts),
            **support_figures(sfts.get("teacher", {})),
        },
        tables=further_tables(rows, [artefact.manifest for artefact in found], asked),
        groups=asked.get("target_groups"),
        links=notebooks(folder),
        kept={
            artefact.id: kept
            for artefact in found
            if artefact.kind == "evaluation" and (kept := read_outcomes(artefact.path(KEPT)))
        },
    )
    keep_asked(folder, asked)
    refresh(folder)
    write_index(folder.parent)
    return path


def _page_title(experiment: Experiment, rows: Iterable[Row]) -> str:
    """The experiment's name, and from what to what its students go, the smallest kind that there is."""
    made = {row["system"]: experiment.system(row["system"]).student for row in rows if is_student(row)}
    students = [one for one in made.values() if one is not None]
    if not students:
        return experiment.name
    few = {one.languages for one in students}
    kind = "bilingual" if "pair" in few else "monolingual" if few & {"target", "each"} else "smaller"
    teachers = "several teachers" if all(one.merges for one in students) else "a multilingual teacher"
    return f"{experiment.name}: from {teachers} to {kind} students"


def behind(rows: Iterable[Row], store: Store) -> list[Artefact]:
    """Return every artefact that the rows' scores come from, by kind and id; the joint timings of reached
    models too.
    """
    known = {artefact.id: artefact for kind in KINDS for artefact in store.all(kind)}
    reached: dict[str, Artefact] = {}
    waiting = [str(row["artefact"]) for row in rows]
    while waiting:
        name = waiting.pop()
        if name in known and name not in reached:
            reached[name] = known[name]
            waiting += known[name].manifest["inputs"].values()
    for artefact in store.all("timing"):
        if set(artefact.manifest["inputs"].values()) <= reached.keys():
            reached[artefact.id] = artefact
    return sorted(reached.values(), key=lambda artefact: (KINDS.index(artefact.kind), artefact.id))


def _student_curves(
    artefacts: Iterable[Artefact], rows: Sequence[Row], store: Store, experiment: Experiment
) -> dict[str, tuple[Figure, str]]:
    """Draw held-out loss over steps of every student: one figure for each recipe and size."""
    recipes = _recipes(rows, store, experiment)
    groups: dict[tuple[str, str], dict[str, list[dict[str, float]]]] = defaultdict(dict)
    titles: dict[str, tuple[str, str]] = {}
    known = {artefact.id: artefact for artefact in store.all("vocabulary")}
    for artefact in artefacts:
        if artefact.kind == "student" and artefact.id in recipes and _history(artefact):
            name, recipe = recipes[artefact.id]
            config = artefact.manifest["config"]
            size = config.get("general", config)
            factors = " ".join(f"{one} {size[one]}" for one in ("lrf", "drf") if size.get(one, 1) > 1)
            groups[recipe.named or name, factors][_languages(artefact, known)] = _history(artefact)
            title = recipe.title if recipe.named else f"{recipe.title} ({name})"
            titles[recipe.named or name] = title, f"held-out loss ({', '.join(recipe.terms)})"
    drawn = {}
    for (name, factors), histories in sorted(groups.items()):
        title, axis = titles[name]
        drawn["-".join(["student", name, *factors.split()])] = (
            plots.learning_curve(dict(sorted(histories.items())), metric="eval_loss", label=axis),
            ", ".join(filter(None, [title, factors])) + ": held-out loss, one line a student.",
        )
    return drawn


def _recipes(rows: Sequence[Row], store: Store, experiment: Experiment) -> dict[str, tuple[str, Student]]:
    """For each student artefact behind the rows, the first system that it is of, and that system's recipe."""
    found: dict[str, tuple[str, Student]] = {}
    by_system: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_system[str(row["system"])].append(row)
    for name in sorted(by_system, key=lambda name: (rank(name), name)):
        recipe = experiment.system(name).student
        for artefact in behind(by_system[name], store) if recipe else ():
            if artefact.kind == "student" and recipe:
                found.setdefault(artefact.id, (name, recipe))
    return found


def _told(experiment: Experiment, name: str) -> str:
    """What a system is, with what this experiment leaves out of it."""
    system = experiment.system(name)
    adapts = system.adaptation.worn == "sft" or system.forced or (system.student and system.student.adapted)
    bare = adapts and experiment.language_sft is None
    return system.told + (
        " Here nothing is adapted to a language: there are no language SFTs." if bare else ""
    )


def _language_sfts(
    artefacts: Iterable[Artefact], found: Iterable[Artefact]
) -> dict[str, dict[str, Artefact]]:
    """Language SFTs by language, for each owner (teacher, kind of student) and choice of what changes."""
    known = {artefact.id: artefact for artefact in found}
    groups: dict[str, dict[str, Artefact]] = defaultdict(dict)
    for artefact in artefacts:
        if artefact.kind == "language-sft":
            base, code = known.get(artefact.manifest["inputs"]["base"]), _languages(artefact, {})
            pair = _languages(base, known) if base is not None and base.kind == "student" else ""
            groups[_owner(artefact, known)][f"{code} in {pair}" if pair else code] = artefact
    return dict(sorted(groups.items()))


def _language_curves(sfts: Mapping[str, Mapping[str, Artefact]]) -> dict[str, tuple[Figure, str]]:
    """Draw held-out loss of every language SFT: one figure for each owner."""
    label = "held-out loss (nats a masked token)"
    return {
        f"language-sfts-{owner}": (
            plots.learning_curve(
                {code: phases(_history(own[code]))[-1] for code in sorted(own)},
                metric="eval_loss",
                label=label,
            ),
            f"Language SFTs of the {owner}, sparse phase: held-out loss, one line a language.",
        )
        for owner, own in sfts.items()
    }


def _owner(artefact: Artefact, known: Mapping[str, Artefact]) -> str:
    """Whose language SFT this is: the teacher's or a student's of some size, and what may change in it where
    that is not LT-SFT's own choice in all of the encoder.
    """
    base = known.get(artefact.manifest["inputs"]["base"])
    owner = "teacher"
    if base is not None and base.kind == "student":
        recipe = base.manifest["config"].get("recipe", {})
        size = base.manifest["config"].get("general", base.manifest["config"])
        factors = "".join(f" {name} {size[name]}" for name in ("lrf", "drf") if size.get(name, 1) > 1)
        owner = f"{recipe if isinstance(recipe, str) else base.id} student{factors}"
    lottery = artefact.manifest["config"]["sft"].get("lottery") or {}
    chosen = [str(lottery[name]) for name in ("select", "part") if lottery.get(name)]
    return f"{owner} ({', '.join(chosen)})" if chosen else owner


def further_tables(
    rows: Sequence[Row], manifests: Iterable[Mapping[str, Any]], asked: Asked | None
) -> list[Table]:
    """Means over groups of targets, the papers' numbers beside ours, signed ranks over cells, labels that
    training lacks, what was left of vocabularies, and what can be seen of translations.
    """
    known, groups = list(manifests), (asked or {}).get("target_groups", {})
    found = _unlearnt_tables(rows, known) + _vocabulary_tables(known) + _translation_tables(known)
    grouped = group_tables(tidy(rows), groups)
    return [*grouped, *_published_tables(rows), *rank_tables(rows), *found]


def notebooks(folder: Path) -> dict[str, str]:
    """Where a report's executed notebooks lie, by title."""
    return {
        _title(path): f"notebooks/{path.name}" for path in sorted((folder / "notebooks").glob("[0-9]*.ipynb"))
    }


def _published_tables(rows: Sequence[Row]) -> list[Table]:
    """Ours beside the papers' numbers, one table for each task and metric; none where nothing is in
    common.
    """
    head = ("system", "target", "ours", "published", "difference", "their teacher", "printed in")
    return [
        Table(
            comparison.title,
            head,
            [
                (
                    pair.variant.label,
                    pair.target,
                    f"{pair.ours:.1f}",
                    f"{pair.published:.1f}",
                    signed(pair.difference),
                    pair.teacher,
                    pair.reference,
                )
                for pair in comparison.pairs
            ],
        )
        for comparison in beside(rows)
    ]


def _unlearnt_tables(rows: Iterable[Row], manifests: Iterable[Mapping[str, Any]]) -> list[Table]:
    """The labels of test files that training lacks, with the systems that lack them."""
    lacking = {
        manifest["id"]: in_words(found)
        for manifest in manifests
        if manifest["kind"] == "evaluation" and (found := manifest["metrics"].get(UNLEARNT))
    }
    systems: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for row in rows:
        if labels := lacking.get(row["artefact"]):
            tested = row["source"] if row["metric"].startswith(ON_SOURCE) else row["target"]
            systems[row["task"], tested, labels, consequence(row["task"])].add(row["system"])
    lines = [(*line, ", ".join(sorted(names, key=rank))) for line, names in sorted(systems.items())]
    head = ("task", "tested in", "labels and how often they occur", "are", "for")
    return [Table("Labels of test files that training lacks", head, lines)] if lines else []


def _vocabulary_tables(manifests: Iterable[Mapping[str, Any]]) -> list[Table]:
    """What each vocabulary reduction left, one line for each language of each pair."""
    lines = []
    for manifest in manifests:
        if manifest["kind"] == "vocabulary":
            metrics = manifest["metrics"]
            pair = " + ".join(sorted(metrics["corpora"]))  # a manifest that was kept is sorted
            for code, text in metrics["corpora"].items():
                length = f"{text['mean_tokens_before']:.2f} → {text['mean_tokens_after']:.2f}"
                same = f"{100 * text['share_identical']:.2f} %"
                lines.append(
                    (pair, f"{metrics['tokens_before']:,} → {metrics['tokens_after']:,}", code, same, length)
                )
    head = ("pair", "vocabulary (tokens)", "text in", "lines tokenised as before", "tokens a line")
    return [Table("Vocabulary reduction", head, sorted(lines))] if lines else []


def _translation_tables(manifests: Iterable[Mapping[str, Any]]) -> list[Table]:
    """What can be seen of each translated file, a line each."""
    lines = []
    for manifest in manifests:
        if manifest["kind"] == "translation":
            config, found = manifest["config"], manifest["metrics"]
            file = f"{config['task']} {config['split']}, {config['source']} → {config['target']}"
            shares = (f"{found['length_ratio']:.2f}", f"{100 * found['copied']:.1f} %")
            odd = (f"{found[name]:,}" for name in ("identical", "empty", "one_word", "long"))
            lines.append((file, config["translator"]["kind"], f"{found['lines']:,}", *shares, *odd))
    head = ("file", "by", "lines", "length ratio", "words copied", "identical", "empty", "one word", "long")
    return [Table("Translations", head, sorted(lines))] if lines else []


def _seed(artefact: Artefact, found: Sequence[Artefact]) -> int | None:
    """The seed of a student, wherever its recipe keeps it; of a student's language SFT, that student's; None
    for what seeds share.
    """
    if artefact.kind == "language-sft":
        base = next((other for other in found if other.id == artefact.manifest["inputs"]["base"]), None)
        return _seed(base, found) if base else None
    config = artefact.manifest["config"]
    seed: int | None = config.get("seed", config.get("general", {}).get("seed"))
    return seed


def _languages(artefact: Artefact, known: Mapping[str, Artefact]) -> str:
    """What languages an artefact is of, read from its inputs or the held-out losses of its history."""
    inputs = artefact.manifest["inputs"]
    vocabulary = known.get(inputs.get("vocabulary", ""))
    if vocabulary:
        return " + ".join(vocabulary.metrics["corpora"])
    codes = [name.removeprefix("text ") for name in inputs if name.startswith("text ")]
    losses = {
        name.removeprefix("eval_loss_")
        for entry in _history(artefact)
        for name in entry
        if name.startswith("eval_loss_")
    }
    return " + ".join(codes or sorted(losses))


def _history(artefact: Artefact) -> list[dict[str, float]]:
    path = artefact.path("history.json")
    history: list[dict[str, float]] = read_json(path, list) if path.is_file() else []
    return history


def _title(notebook: Path) -> str:
    """The first heading of a notebook, or its name; after it what its name has behind a hyphen, as the task
    in 05_…-ner.ipynb.
    """
    cells: list[Mapping[str, Any]] = read_json(notebook, dict)["cells"]
    lines = [
        line
        for cell in cells
        if cell["cell_type"] == "markdown"
        for line in "".join(cell["source"]).splitlines()
    ]
    title = next((line.removeprefix("# ") for line in lines if line.startswith("# ")), notebook.stem)
    of = notebook.stem.partition("-")[2]
    return f"{title} ({of})" if of and title != notebook.stem else title
