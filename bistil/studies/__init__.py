"""Studies that no single score answers: which parameters sparse fine-tunings share, their ages, the best
density, what more trained values are worth, decoders, how alignment of languages goes with scores, and which
features a generator of adapters leans on.

Notable: a study only says what it adds to an experiment file (languages, methods, densities), so all else is
that experiment's and its artefacts are shared; what comes out is tidy tables, figures and verdicts, each with
the artefacts that it was computed from.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bistil import batch
from bistil.batch import Place
from bistil.errors import InputError
from bistil.experiment import Experiment
from bistil.pipeline import Pipeline
from bistil.settings.places import ROOT, check_name
from bistil.settings.ranges import Settings
from bistil.settings.yaml import read_yaml
from bistil.store.artefacts import Store
from bistil.store.provenance import git_state, plain, versions
from bistil.store.whole import check_place, write_whole
from bistil.studies.alignment import Alignment, study_alignment
from bistil.studies.budgets import Budgets, study_budgets
from bistil.studies.decoder import Decoder, study_decoder
from bistil.studies.densities import Densities, study_densities
from bistil.studies.features import Features, study_features
from bistil.studies.kept import Found, Jobs, built, save
from bistil.studies.supports import Supports, study_supports
from bistil.tasks import RETRIEVAL
from bistil.text.languages import DataFolder, check_known

__all__ = ["Alignment", "Budgets", "Decoder", "Densities", "Features", "Study", "Supports", "run_study"]


@dataclass(frozen=True, kw_only=True)
class Study(Settings):
    """A study file.

    Attributes:
        name: The name of the folder under reports/.
        experiment: The experiment file that the study builds on, relative to the project, for teacher, data
            and every setting that is not named here.
        question: What is asked, in words, for the study's page.
        supports: By a name for the method, whose language SFTs to compare.
        densities: A grid of densities.
        decoder: Ways of tuning a small decoder, on that experiment's data.
        alignment: Translations found layer by layer, beside a task's score.
        budgets: Systems at equal numbers of values trained for a task.
        features: Typological features flipped one at a time, for a generator of adapters.
    """

    name: str
    experiment: str
    question: str = ""
    supports: Mapping[str, Supports] = field(default_factory=dict)
    densities: Densities | None = None
    decoder: Decoder | None = None
    alignment: Alignment | None = None
    budgets: Budgets | None = None
    features: Features | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.name)
        kinds = ("supports", "densities", "decoder", "alignment", "budgets", "features")
        if not any(getattr(self, kind) for kind in kinds):
            raise InputError(f"The study {self.name} asks nothing: give it one of {', '.join(kinds)}.")

    @property
    def codes(self) -> tuple[str, ...]:
        """Every language that a part is about."""
        grids = (self.densities, self.alignment, self.budgets, self.features)
        targets = (code for one in grids if one for code in one.targets)
        return (*(code for one in self.supports.values() for code in one.languages), *targets)

    @classmethod
    def read(cls, path: Path) -> "Study":
        """Read and check a study file."""
        return read_yaml(cls, path)

    def base(self) -> Experiment:
        """The experiment that the study builds on.

        Raises:
            InputError: where that file is missing, or a method has no language SFT.
        """
        inside = ROOT / self.experiment
        found = Experiment.read(inside if inside.is_file() else Path(self.experiment))
        if found.language_sft is None and (
            self.densities or any(one.sft is None for one in self.supports.values())
        ):
            raise InputError(
                f"The study {self.name} needs language SFTs, but {self.experiment} has none under"
                " `language_sft`."
            )
        if self.densities and (self.densities.task not in found.task or self.densities.task == RETRIEVAL):
            raise InputError(
                f"The study {self.name} varies the density of {self.densities.task} SFTs, but"
                f" {self.experiment} has none."
            )
        for asked in (self.alignment, self.budgets, self.features):
            if asked:
                asked.check(found)
        return found


def run_study(
    study: Study,
    place: Place,
    folder: Path,
    *,
    workers: int = 1,
    device: str | None = None,
    say: Callable[[str], None],
) -> list[str]:
    """Build what the study needs and write its tables, figures, verdicts and manifests into `folder`; return
    the errors of stages.

    What could be built is told even where a stage failed; whatever is in the store already is not built
    again.
    """
    start, base = time.perf_counter(), study.base()
    check_place(folder, "The study's page")
    check_place(place.store, "Artefacts")
    errors, parts = list[str](), list[Found]()

    def build(experiment: Experiment, jobs: Jobs) -> Pipeline:
        reader = batch.reader(experiment, place)
        there = built(reader, jobs)
        missing = {
            job: tuple(one for one in after if one not in there)
            for job, after in jobs.items()
            if job not in there
        }
        if missing:
            errors.extend(batch.run(experiment, place, workers=workers, device=device, say=say, jobs=missing))
        return reader

    check_known(study.codes, DataFolder(place.data).languages)
    if study.supports:
        parts.append(study_supports(base, study.supports, build))
    if study.densities:
        parts.append(study_densities(base, study.densities, build, say=say))
    if study.decoder:
        parts.append(study_decoder(DataFolder(place.data), Store(place.store), study.decoder, say=say))
    if study.alignment:
        parts.append(study_alignment(base, study.alignment, build))
    if study.budgets:
        parts.append(study_budgets(base, study.budgets, build, say=say))
    if study.features:
        parts.append(study_features(base, study.features, build, Store(place.store), say=say))
    about = {
        "study": plain(study),
        "versions": versions(),
        "git": git_state(),
        "wall_seconds": round(time.perf_counter() - start, 1),
    }
    save(folder, parts, title=study.name, question=study.question, errors=errors)
    write_whole(folder / "study.json", json.dumps({**about, "errors": errors}, indent=1) + "\n")
    return errors
