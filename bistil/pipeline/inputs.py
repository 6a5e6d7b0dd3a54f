"""What every stage reads and how it keeps what it made: teacher, text, device, histories."""

import dataclasses
import json
from abc import abstractmethod
from collections.abc import Mapping
from functools import cache, cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bistil.adapt.worn import WORN, Worn
from bistil.distil.merge import UNION, MergeConfig
from bistil.errors import InputError
from bistil.experiment import Cell
from bistil.models.config import read_config
from bistil.models.device import has_bfloat16
from bistil.models.load import Teacher, load_teacher, save_student
from bistil.models.packaged import teacher_config, teacher_folder
from bistil.models.seq2seq import translation_folder
from bistil.pipeline.examples import Examples
from bistil.pipeline.identity import teacher_id
from bistil.pretrain import PretrainConfig
from bistil.settings.places import given
from bistil.settings.yaml import read_yaml
from bistil.sft.language import TextConfig
from bistil.sft.train_sft import phases
from bistil.store.artefacts import Artefact, file_id
from bistil.store.provenance import by_name
from bistil.tasks import RETRIEVAL
from bistil.tasks.retrieval import parallel, parallel_files
from bistil.text.corpora import Blocks, cut, read_lines
from bistil.text.typology import Typology, read_typology
from bistil.training.loop import Run

LARGE = 100_000
"""Tokens above which a teacher's vocabulary is cut to the experiment's, where `text.trim` says nothing."""
SELECTING = 200
"""Pairs of sentences, at most, that pick a student's checkpoint."""
CUT = "teacher"
"""The folder of a cut teacher in its artefact."""


class Inputs(Examples):
    """One experiment over one store and one data folder."""

    @abstractmethod
    def trimmed_teacher(self) -> Artefact:
        """The stage that cuts the teacher to the experiment."""

    @cached_property
    def trims(self) -> bool:
        """Whether every stage works on the teacher cut to the experiment."""
        asked, named = self.experiment.text.trim, self.experiment.teacher
        if asked is not None:
            return asked == "experiment"
        return int((teacher_config(named) or read_config(teacher_folder(named))).vocab_size) > LARGE

    @cached_property
    def teacher(self) -> Teacher:
        """The teacher of the stages as loaded, on the CPU; stages copy what they change."""
        return self.fresh_teacher()

    @cached_property
    def teacher_id(self) -> str:
        """What the teacher is, by content, before it is cut."""
        return teacher_id(self.uncut_teacher())

    @cached_property
    def teacher_input(self) -> Artefact | str:
        """What a stage is made from that reads the teacher; which files that are is looked up once."""
        return self.trimmed_teacher() if self.trims else self.teacher_id

    def fresh_teacher(self) -> Teacher:
        """A copy of the teacher of one's own, to adapt or to trim; the cut one where the experiment cuts
        it.
        """
        if self.trims:
            return load_teacher(self.trimmed_teacher().path(CUT))
        return load_teacher(teacher_folder(self.experiment.teacher))

    def uncut_teacher(self) -> Teacher:
        """The teacher as it is named, to look at; not kept where the stages have another."""
        return load_teacher(teacher_folder(self.experiment.teacher)) if self.trims else self.teacher

    def parameters_cut(self, encoder: PreTrainedModel) -> int:
        """How many parameters the cut took from an encoder that has the teacher's vocabulary: rows of
        embeddings.
        """
        if not self.trims:
            return 0
        words: Any = encoder.get_input_embeddings()
        return int(self.trimmed_teacher().metrics["rows"]) * int(words.weight.shape[1])

    def cut_from(self, cell: Cell, encoder: PreTrainedModel) -> tuple[int, int]:
        """How many parameters the cut took from a cell's encoder, and how many tokens it knew before."""
        system, student = self.system(cell), self.system(cell).student
        own = system.model or system.own_teacher or (student is not None and student.vocabulary != "teacher")
        if not self.trims or own:
            return 0, int(encoder.config.vocab_size)
        return self.parameters_cut(encoder), int(self.trimmed_teacher().metrics["vocabulary"][0])

    def text_of(self, codes: tuple[str, ...]) -> TextConfig:
        """How text is cut and masked, as the settings of a stage say it that holds out text of some
        languages: whether the teacher is cut says the teacher.
        """
        text = self.experiment.text
        return dataclasses.replace(text, trim=None, held_out_shares=text.shares_of(codes))

    @cache  # noqa: B019 - a pipeline lives as long as its process
    def blocks(self, code: str) -> Blocks:
        """A language's text in the teacher's tokens."""
        return self.student_blocks(code, self.teacher.tokenizer)

    def student_blocks(self, code: str, tokenizer: PreTrainedTokenizerFast) -> Blocks:
        """A language's text in a student's tokens."""
        text = self.experiment.text
        return cut(tokenizer, self.lines(code), text.length, packed=text.packed)

    def lines(self, code: str) -> list[str]:
        """A language's text as all stages read it, without retrieval's sentences where these are left out."""
        pairs = (pair for to in self._unseen for pair in parallel(self.data, self.experiment.source, to))
        without = {sentence.strip() for pair in pairs for sentence in pair}
        return read_lines(self.data.text(code), self.experiment.text.lines, without=without)

    def first_words(self, code: str, words: int) -> list[str]:
        """As many lines of a language's text, from the first, as hold so many words; all where it is
        shorter.
        """
        lines = self.lines(code)
        ends = accumulate(len(line.split()) for line in lines)
        return lines[: next((number for number, end in enumerate(ends, start=1) if end >= words), None)]

    @property
    def seen(self) -> tuple[str, ...]:
        """The languages that the teacher saw, which a multilingual student is distilled on."""
        return self.experiment.seen or tuple(
            code for code, language in self.data.languages.items() if language.seen
        )

    def pretraining(self, file: str) -> PretrainConfig:
        """How one of several teachers is made."""
        return read_yaml(PretrainConfig, given(file))

    def merging(self, cell: Cell) -> MergeConfig:
        """How a cell's system merges teachers."""
        return self.experiment.merging(cell.system)

    def reading(self, cell: Cell) -> dict[str, str]:
        """What a stage says of how text of a task is cut, where that is not by the model's own tokenizer."""
        if not (self.system(cell).merges and self.merging(cell).read_with == "teacher"):
            return {}
        return {"read_with": next(iter(self.merging(cell).teaches.get(cell.target, ())), UNION)}

    def languages(self, cell: Cell) -> tuple[str, ...]:
        """What the student of a cell is distilled on."""
        student = self.system(cell).student
        if student is not None and student.merges:
            return tuple(self.merging(cell).taught_by)
        match student.languages if student else "pair":
            case "seen":
                return self.seen
            case "target":
                return (cell.target,)
        return self.experiment.languages(cell.target)

    def member(self, cell: Cell) -> dict[str, str]:
        """What a stage says of whose student it is made from, where a family is of several targets."""
        student = self.system(cell).student
        several = student is not None and student.family and len(self.languages(cell)) > 2
        return {"member": cell.target} if several else {}

    @cached_property
    def typology(self) -> Typology:
        """The features of languages."""
        assert self.experiment.typology is not None, "systems that need features are checked to have some"
        return read_typology(self.experiment.typology, self.data)

    def translation_model(self, name: str) -> Path:
        """The folder of a translation model."""
        return translation_folder(name)

    @property
    def generator_languages(self) -> tuple[str, ...]:
        """What the generator is trained on: what its settings say, or every language with text and
        features.
        """
        asked = self.experiment.generator.languages if self.experiment.generator else ()
        return asked or tuple(
            code
            for code, language in self.data.languages.items()
            if code in self.typology.rows and (self.data.root / language.corpus).is_file()
        )

    def nearest(self, code: str) -> str:
        """The language whose adapter stands in for that of one: itself where it has one."""
        among = self.experiment.typology_among or self.generator_languages
        return code if code in among else self.typology.nearest(code, among)[0]

    @cached_property
    def codes(self) -> tuple[str, ...]:
        """Every language whose text a stage reads."""
        cells = self.experiment.cells()
        read = (code for cell in cells for code in (*self._read_for(cell), *self._worn_for_the_task(cell)))
        return tuple(dict.fromkeys(read))

    def _worn_for_the_task(self, cell: Cell) -> tuple[str, ...]:
        """The languages that a cell's model, or the teacher that it follows, wears while it learns its
        task.
        """
        system = self.system(cell)
        adaptation = system.adaptation
        wears = system.forced or (adaptation.worn in ("sft", "adapter") and adaptation.of == "own")
        worn = (*(part.language for part in self.examples(cell)), *self.exposed(cell))
        return worn if wears and (cell.regime or system.learning.exposed) else ()

    def _read_for(self, cell: Cell) -> tuple[str, ...]:
        """The languages whose text is read for a cell."""
        adaptation, student = self.system(cell).adaptation, self.system(cell).student
        if adaptation.worn == "nothing" and student is None and not self.trims:
            return ()
        if adaptation.worn == "generated":
            return (*self.generator_languages, *((cell.target,) if adaptation.start else ()))
        if adaptation.of == "nearest":
            return tuple(map(self.nearest, (*self.learnt_from(cell), cell.target)))
        start = student.start_from if student else ""
        return (*self.languages(cell), *(self.languages(cell._replace(target=start)) if start else ()))

    def texts(self, codes: tuple[str, ...]) -> dict[str, Artefact | str]:
        """The texts of some languages, as inputs of a stage, with what is left out of them."""
        return {f"text {code}": file_id(self.data.text(code)) for code in codes} | dict(self.left_out)

    @property
    def left_out(self) -> Mapping[str, Artefact | str]:
        """The files whose sentences are left out of every text, as inputs of a stage."""
        return self._pair_files("without", self._unseen)

    @property
    def _unseen(self) -> tuple[str, ...]:
        """The targets of retrieval whose sentences no text may have."""
        return self.experiment.targets.get(RETRIEVAL, ()) if self.experiment.text.without_pairs else ()

    @property
    def pairs_used(self) -> int | None:
        """So many of a file's pairs of sentences score retrieval, the first ones; None for all."""
        return self.experiment.retrieval.pairs if RETRIEVAL in self.experiment.targets else 0

    @property
    def paired(self) -> tuple[str, ...]:
        """The languages whose pairs of sentences with the source are read, to be scored or to pick a
        checkpoint.
        """
        codes = list(self.experiment.targets.get(RETRIEVAL, ()))
        for cell in self.experiment.cells() if self.experiment.general.select == "retrieval" else ():
            student = self.system(cell).student
            if student is not None and student.follows and not student.merges:
                codes += [code for code in self.languages(cell) if code != self.experiment.source]
        return tuple(dict.fromkeys(codes))

    def spare_pairs(self, codes: tuple[str, ...]) -> dict[str, list[tuple[str, str]]]:
        """For each language but the source some pairs of sentences that score nothing.

        Raises:
            InputError: where the source is none of the languages, or no pairs are left.
        """
        source, used = self.experiment.source, self.pairs_used
        others = [code for code in codes if code != source]
        found = {
            code: [] if used is None else parallel(self.data, source, code)[used : used + SELECTING]
            for code in others
        }
        if source not in codes or not found or not all(found.values()):
            raise InputError(
                "Students of the source and of other languages, and pairs of their sentences that score"
                f" nothing, were expected for `select: retrieval`, but got {', '.join(codes)}, and"
                f" {'all' if used is None else used} pairs score. Give a smaller `pairs` under `retrieval`,"
                " or `select: loss` under `general`."
            )
        return found

    def spare_files(self, codes: tuple[str, ...]) -> Mapping[str, Artefact | str]:
        """The files of those pairs, as inputs of a stage."""
        return self._pair_files("pairs", tuple(code for code in codes if code != self.experiment.source))

    def _pair_files(self, what: str, codes: tuple[str, ...]) -> Mapping[str, Artefact | str]:
        files = [parallel_files(self.data, self.experiment.source, code) for code in codes]
        return by_name(what, [path for both in files for path in both if path], self.data.root)

    def placed(self, model: Any) -> Any:
        """The model on this run's device."""
        return model.to(self.device)

    def run(self, folder: Path, stage: str) -> Run:
        """A training of this pipeline."""
        return Run(folder, stage, self.progress, self.stop)

    @property
    def where(self) -> dict[str, str | bool]:
        """The device, why, and whether a schedule's `bf16` has an effect there, for a manifest."""
        return {
            "device": str(self.device),
            "device_reason": self.device_reason,
            "bfloat16": has_bfloat16(self.device),
        }

    def keep(self, folder: Path, worn: Worn, history: list[dict[str, float]], metric: str) -> dict[str, Any]:
        """Write what can be worn and its history; return what a manifest says of them."""
        worn.save(folder / WORN)
        return {**keep_history(folder, history, metric), "values": worn.trained, **self.where}

    def keep_student(
        self,
        folder: Path,
        encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        history: list[dict[str, float]],
        name: str = "model",
        metric: str = "loss",
    ) -> dict[str, Any]:
        """Write a student, in a folder of that name, and its history, whose best value of a metric is told;
        return what a manifest says of them.
        """
        save_student(folder / name, encoder, tokenizer)
        parameters = sum(p.numel() for p in encoder.parameters())
        return {**keep_history(folder, history, metric), "parameters": parameters, **self.where}


def keep_history(folder: Path, history: list[dict[str, float]], metric: str) -> dict[str, Any]:
    """Write a history; return its steps and the best value of a metric in its last phase, whose model is
    kept.
    """
    (folder / "history.json").write_text(json.dumps(history, indent=1), encoding="utf-8")
    steps = max((int(entry["step"]) for entry in history), default=0)
    return {"steps": steps, f"best_{metric}": best(phases(history)[-1], metric)}


def best(history: list[dict[str, float]], metric: str) -> float | None:
    """The best value of a metric in a history, the lowest of a loss; None where it has none."""
    values = [entry[f"eval_{metric}"] for entry in history if f"eval_{metric}" in entry]
    return (min(values) if metric == "loss" else max(values)) if values else None
