"""From an experiment to artefacts: each method is one stage, asks for the stages it needs, and returns what
the store holds.

Notable: nothing is computed twice. A notebook, the demo and a batch worker call the same methods, and whoever
comes first does the work. A stage's work is a function of `students`, `tuned` or `scores`; what it is made
from is said here.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bistil.adapt.wardrobe import Wardrobe
from bistil.adapt.worn import WORN, load_worn
from bistil.errors import InputError
from bistil.evaluation.results import ON_SOURCE
from bistil.evaluation.score import predict_all
from bistil.experiment import Cell
from bistil.models.load import TaskModel
from bistil.pipeline import gathered, generated, merged, scores, students, trimmed, tuned
from bistil.pipeline.bases import Base
from bistil.pipeline.check import check
from bistil.pipeline.finished import save_finished
from bistil.pipeline.inputs import Inputs
from bistil.pipeline.students import LANGUAGE_SEED
from bistil.sft.generator import Kind
from bistil.sft.lottery import Selection
from bistil.store.artefacts import Artefact, NotBuilt
from bistil.systems.layers import Part
from bistil.systems.learning import Side
from bistil.systems.table import FULL_TEACHER, TEACHER
from bistil.tasks import RETRIEVAL, column
from bistil.tasks.task import Task


class Pipeline(Inputs):
    """All stages of one experiment over one store and one data folder."""

    def check(self) -> list[str]:
        """Fail now on whatever would fail later; return warnings of what would not.

        Raises:
            InputError: at the first thing that cannot work.
        """
        return check(self)

    def trimmed_teacher(self) -> Artefact:
        """The teacher cut, exactly, to the tokens that the experiment's texts use, in `teacher/`."""
        return trimmed.make_trimmed_teacher(self)

    def shots(self, task: str, code: str, most: int, seed: int, overlap: str) -> Artefact:
        """The shots of a language: the numbers of some examples of its train file, as `rows`."""
        return gathered.make_shots(self, task, code, most, seed, overlap)

    def translation(self, task: str, split: str, code: str, to: str, by: str) -> Artefact:
        """A file of a task in another language, in the task's own format."""
        return gathered.make_translation(self, task, split, code, to, by)

    def vocabulary(self, target: str, of: Literal["pair", "target"] = "pair") -> Artefact:
        """The tokens that the student of a target needs, or one of the target alone: `kept.safetensors`, the
        trimmed `tokenizer/`, and the report as metrics.
        """
        codes = (target,) if of == "target" else self.experiment.languages(target)
        return students.make_vocabulary(self, codes)

    def language_sft(
        self,
        code: str,
        student: Artefact | None = None,
        select: Selection | None = None,
        seed: int = LANGUAGE_SEED,
        vocabulary: Artefact | None = None,
        part: Part | None = None,
    ) -> Artefact:
        """The language SFT of the teacher, or of a student: `delta.safetensors`.

        Args:
            vocabulary: what the student is trimmed to; None for the teacher's.
            select: a baseline of LT-SFT, instead of the method that the experiment asks for.
            seed: another one than all models of the experiment wear, to see what of a delta is chance.
            part: the part of the encoder in which it may change entries; None for all of it.

        Raises:
            InputError: where the experiment has none.
        """
        return students.make_language_sft(self, code, student, vocabulary, select, seed, part)

    def language_adapter(self, code: str) -> Artefact:
        """The language adapter of the teacher (MAD-X)."""
        return students.make_language_adapter(self, code)

    def nearest_adapter(self, code: str) -> Artefact:
        """The language adapter of the language nearest to one by its features, among those that have one."""
        return students.make_language_adapter(self, self.nearest(code))

    def generator(self, kind: Kind | None = None) -> Artefact:
        """The generator of language adapters (MAD-G): `generator.safetensors`.

        Args:
            kind: another one than the experiment's settings say.
        """
        return generated.make_generator(self, kind)

    def generated_adapter(self, code: str, kind: Kind | None = None) -> Artefact:
        """What a generator makes for a language, from its features alone."""
        return generated.make_generated(self, code, self.generator(kind))

    def further_adapter(
        self, code: str, start: Literal["generated", "random"], words: int, kind: Kind | None = None
    ) -> Artefact:
        """An adapter of the generator's form, trained on the first words of a language's text from the
        generated one or a random one.
        """
        generated_one = self.generated_adapter(code, kind) if start == "generated" else None
        return generated.make_further(self, code, words, generated_one)

    def named_teacher(self, name: str) -> Artefact:
        """One of several teachers, in `model/`."""
        return merged.make_teacher(self, name)

    def union_vocabulary(self, cell: Cell) -> Artefact:
        """The union of the vocabularies that a cell's student has: `tokenizer/` and `maps.safetensors`."""
        how = self.merging(cell)
        names = how.vocabularies(tuple(self.experiment.teachers))
        normaliser = how.normaliser if how.normaliser in names else None
        return merged.make_union(self, {name: self.named_teacher(name) for name in names}, normaliser)

    def teacher_labels(self, cell: Cell, code: str, name: str) -> Artefact:
        """What a teacher says of a language's masked tokens, in `labels/`, for a cell's student."""
        teacher, union = self.named_teacher(name), self.union_vocabulary(cell)
        return merged.make_labels(self, cell, code, name, teacher, union)

    def _merged(self, cell: Cell) -> Artefact:
        recipe, how = self.system(cell).student, self.merging(cell)
        assert recipe is not None
        pairs = [(code, name) for code, names in how.teaches.items() for name in names]
        labels = {(code, name): self.teacher_labels(cell, code, name) for code, name in pairs}
        names = how.vocabularies(tuple(self.experiment.teachers)) if how.start != "random" else ()
        teachers = {name: self.named_teacher(name) for name in names}
        return merged.make_merged(self, cell, recipe, self.union_vocabulary(cell), teachers, labels)

    def student(self, cell: Cell, vocabulary: Literal["teacher"] | None = None) -> Artefact:
        """The general student of a cell: `model/` (encoder and tokenizer) and `history.json`.

        Args:
            vocabulary: for one that is trimmed when it is finished, itself with the teacher's vocabulary.
        """
        recipe = self.system(cell).student
        assert recipe is not None, f"{cell.system} has no student"
        if recipe.merges:
            return self._merged(cell)
        kept = self._kept(cell)
        if recipe.trim == "after":
            if vocabulary is None and kept is not None:
                return students.make_cut_student(self, self.student(cell, "teacher"), kept)
            recipe, kept = replace(recipe, vocabulary="teacher", trim="before"), None
        donor = None
        if recipe.start_from:
            if recipe.start_from != cell.target:
                pair = cell._replace(target=recipe.start_from)
                donor = Base(self.student(pair), self._kept(pair))
            recipe = replace(recipe, start_from="")
        adapted = recipe.adapted and recipe.follows and self.experiment.language_sft is not None
        worn = {code: self.language_sft(code) for code in self.languages(cell)} if adapted else {}
        return students.make_student(self, cell, recipe, kept, worn, donor)

    def task_sft(self, cell: Cell) -> Artefact:
        """The task SFT of a cell: `delta.safetensors` with the head in it, and the labels as a metric."""
        system = self.system(cell)
        if system.translated_test:
            return self.task_sft(cell.without_regime)
        base = self._base(cell, system.learning.tuned)
        if system.merges:
            base = replace(base, tokenizer=merged.tokenizer_folder(self, cell, self.learnt_from(cell)[0]))
        read = (*self.learnt_from(cell), *(part.language for part in self.validated(cell)))
        codes = dict.fromkeys((*read, *self.exposed(cell)))
        worn = {code: one for code in codes if (one := self.worn(cell, code, in_training=True))}
        if system.then is not None:
            finished = self.task_sft(cell.without_regime)
            return tuned.make_task_sft(self, cell, base, worn, None, self._followed, finished)
        follows = self.task_sft(self._guide(cell)) if system.forced or system.guided else None
        beside = self._base(cell) if system.learning.through == "both" else None
        return tuned.make_task_sft(self, cell, base, worn, follows, self._followed, beside=beside)

    def evaluation(self, cell: Cell) -> Artefact:
        """The zero-shot score of a cell, with what the model costs, as metrics."""
        guesses = self.system(cell).guesses
        if cell.task == RETRIEVAL:
            bases = None if guesses else (self._base(cell, "source"), self._base(cell))
            codes = (self.experiment.source, cell.target)
            worn = {} if guesses else {code: self.worn(cell, code) for code in codes}
            return scores.make_retrieval(self, cell, bases, worn)
        sft = None if guesses else self.task_sft(cell)
        test, code = self.test_file(cell), self.tested_in(cell)
        own = self.worn(cell, code)
        return scores.make_evaluation(self, cell, test, sft, own, lambda: self.task_model(cell, code))

    def source_evaluation(self, cell: Cell) -> Artefact:
        """The score of a cell's model on the source's test file, which is not zero-shot."""
        code = self.experiment.source
        test, own = self.data.file(column(cell.task), code, "test"), self.worn(cell, code)
        return scores.make_evaluation(
            self, cell, test, self.task_sft(cell), own, lambda: self.task_model(cell, code)
        )

    def timed(self, task: str) -> list[Cell]:
        """The cells whose models are timed together: every system on the task's first target, first seed,
        under one regime.
        """
        first, seed = self.experiment.targets[task][0], self.experiment.seeds[0]
        cells = [c for c in self.experiment.cells() if (c.task, c.target, c.seed) == (task, first, seed)]
        models: dict[str, Cell] = {}
        for cell in cells:
            if not self.system(cell).guesses:
                models.setdefault(cell.timed_as, cell)
        return list(models.values())

    def timing(self, task: str) -> Artefact:
        """Latency and throughput of every system on the task's first target and seed, in one process."""
        cells = self.timed(task)
        made = {cell.timed_as: self.task_sft(cell) for cell in cells}
        return scores.make_timing(self, task, cells, made, lambda cell: self.task_model(cell, cell.target))

    def deployed(self, cell: Cell) -> Artefact:
        """The finished student of a cell in `model/`, for use without bistil: a class of transformers where
        that has such a head.

        Otherwise (a parser, a choice, adapters, any task on ModernBERT, pairs and whole texts on DistilBERT
        and ELECTRA) it is an encoder folder plus
        `head.safetensors` and `labels.json`.
        """
        code = self.tested_in(cell)
        sft, target = self.task_sft(cell), self.worn(cell, code)

        def build(folder: Path) -> Mapping[str, Any]:
            model, task, tokenizer = self.task_model(cell, code)
            save_finished(folder / "model", model, task.labels, tokenizer)
            return {"labels": list(task.labels)}

        made_from = {"task sft": sft, **({"target sft": target} if target else {})}
        config = {"task": cell.task, **scores.moved(self, cell)}
        return self.store.run("deployed", config, made_from, build)

    def rows(self, cell: Cell) -> list[dict[str, Any]]:
        """The tidy result rows of a cell, one a metric. Times are those of the joint timing, where it was
        run; another system's damaged artefact, which that would meet, is no matter of this cell's.
        """
        found, times = self.evaluation(cell), {}
        with suppress(NotBuilt, InputError):
            if cell.task in self.experiment.tuned:
                times = self.timing(cell.task).metrics["systems"].get(cell.timed_as, {})
        own_density = self.system(cell).learning.one_phase and cell.task != RETRIEVAL
        tuned = self.task_sft(cell) if own_density else None
        rows = scores.make_rows(self, cell, found, times, tuned)
        with suppress(NotBuilt):
            if self.experiment.scores_source(cell):
                rows += scores.make_rows(self, cell, self.source_evaluation(cell), {}, tuned, of=ON_SOURCE)
        return rows

    def task_model(self, cell: Cell, language: str) -> tuple[TaskModel, Task, PreTrainedTokenizerFast]:
        """A cell's finished model for text in `language`: base, language SFT where it wears one, task SFT,
        head.
        """
        learning, worn = self.system(cell).learning, self.worn(cell, language)
        base, tuned_on = self._base(cell, learning.used), self._base(cell, learning.tuned)
        if self.system(cell).merges:
            base = replace(base, tokenizer=merged.tokenizer_folder(self, cell, language))
        return tuned.make_task_model(self, cell, base, worn, self.task_sft(cell), tuned_on)

    def _followed(self, cell: Cell) -> tuple[TaskModel, Wardrobe | None]:
        """The model of the task's teacher that a cell follows, and what it wears for each batch where there
        are several languages; where there is one, the teacher wears that already.
        """
        teacher = self._guide(cell)
        first, *more = dict.fromkeys((*self.learnt_from(cell), *self.exposed(cell)))
        if not more:
            return self.task_model(teacher, first)[0], None
        worn = {code: self.worn(teacher, code) for code in (first, *more)}
        task_sft = self.task_sft(teacher)
        bare, *_ = tuned.make_task_model(self, teacher, Base(None, None), None, task_sft, Base(None, None))
        clothes = {code: load_worn(one.path(WORN)) for code, one in worn.items() if one}
        return bare, Wardrobe(bare.encoder, clothes)

    def _guide(self, cell: Cell) -> Cell:
        """The cell of the teacher that a student learns the task from: the language-adapted one, or the one
        that is tuned in all its weights where it learns from gold labels too.
        """
        return cell.of_whole(TEACHER if self.system(cell).forced else FULL_TEACHER)

    def encoder(self, cell: Cell, language: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        """A cell's encoder for text in `language` before any task: base, and what it wears."""
        side: Side = "source" if language == self.experiment.source else "target"
        return tuned.worn_encoder(self, self._base(cell, side), self.worn(cell, language))

    def predictions(self, cell: Cell, sentences: list[Any]) -> list[Any]:
        """What the cell's model says of some examples of its task, in the language that it is tested in."""
        model, task, tokenizer = self.task_model(cell, self.tested_in(cell))
        length = self.experiment.task[cell.task].max_length
        return predict_all(model, task, sentences, tokenizer, max_length=length)

    def _base(self, cell: Cell, side: Side = "target") -> Base:
        """What a cell tunes: its student, one of its family's two, or the teacher itself."""
        system, recipe = self.system(cell), self.system(cell).student
        code = cell.target if side == "target" else self.experiment.source
        if system.model:
            made = self.named_teacher(system.model)
            return Base(made, made)
        if system.own_teacher:
            teacher = self.named_teacher(self.merging(cell).taught_by[cell.target][0])
            return Base(teacher, teacher)
        if recipe is None:
            return Base(None, None)
        if recipe.merges:
            folder = merged.tokenizer_folder(self, cell, code)
            return Base(self.student(cell), self.union_vocabulary(cell), tokenizer=folder)
        return Base(self.student(cell), self._kept(cell), code if recipe.family else "")

    def _kept(self, cell: Cell) -> Artefact | None:
        """The vocabulary of a cell's student; None for the teacher's."""
        recipe = self.system(cell).student
        if recipe is None or recipe.vocabulary == "teacher":
            return None
        if recipe.languages == "target":
            return self.vocabulary(cell.target, "target")
        return self.vocabulary(cell.target)

    def worn(self, cell: Cell, code: str, *, in_training: bool = False) -> Artefact | None:
        """What a cell's model wears for a language, the teacher's SFT or its student's own."""
        adaptation = self.system(cell).adaptation
        wanted = adaptation.in_training if in_training else adaptation.in_use
        if adaptation.hangs and wanted:
            whose = self.experiment.source if adaptation.of == "source" and not in_training else code
            if adaptation.start and adaptation.words and not in_training and code == cell.target:
                return self.further_adapter(code, adaptation.start, adaptation.words, adaptation.generator)
            if adaptation.worn == "generated":
                return self.generated_adapter(whose, adaptation.generator)
            return self.nearest_adapter(code) if adaptation.of == "nearest" else self.language_adapter(whose)
        if self.experiment.language_sft is None or adaptation.worn == "nothing" or not wanted:
            return None
        base, part = self._base(cell), adaptation.part
        if part:
            where = base.student, adaptation.select, LANGUAGE_SEED, base.vocabulary, part
            return self.language_sft(code, *where)
        if base.vocabulary is None:
            return self.language_sft(code, base.student, adaptation.select)
        return self.language_sft(code, base.student, adaptation.select, LANGUAGE_SEED, base.vocabulary)
