"""The students that BiStil is compared with, each by its own recipe: MiniLMv2's and DistilBERT's.

Notable: they see the same text for as many steps as BiStil's stage 1, start from the same layers, and differ
in loss, languages and vocabulary only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from bistil import vocab
from bistil.distil.distilbert import DistilBertDistillation, with_head
from bistil.distil.general import distil
from bistil.distil.minilm import MiniLMDistillation
from bistil.distil.start import initialise
from bistil.experiment import Cell
from bistil.models.architectures import head_state
from bistil.pipeline.students import OWN_HEAD, Students, kept_ids, trimmed_tokenizer
from bistil.store.artefacts import Artefact
from bistil.systems.table import SYSTEMS


class Baselines(Students):
    """General students by other recipes."""

    def _minilm_student(self, cell: Cell) -> Artefact:
        codes = self.seen
        config = self._general(cell, codes)

        def build(folder: Path) -> Mapping[str, Any]:
            teacher, tokenizer = self._placed(self.fresh_teacher().encoder), self.teacher.tokenizer
            student = self._placed(initialise(self.teacher.encoder, cell.lrf))
            corpora = {code: self.blocks(code) for code in codes}
            objective = MiniLMDistillation(student, teacher, self.experiment.minilm)
            history = distil(
                objective,
                tokenizer,
                corpora,
                config=config,
                run=self._run(folder, "MiniLMv2"),
            )
            return self._keep_student(folder, student, tokenizer, history)

        settings = {
            "recipe": "minilm",
            "text": self.experiment.text,
            "general": config,
            "minilm": self.experiment.minilm,
        }
        return self.store.run("student", settings, self._teacher_and_text(codes), build)

    def _distilmbert_student(self, cell: Cell) -> Artefact:
        pair = SYSTEMS[cell.system].languages == "pair"
        codes = self.experiment.languages(cell.target) if pair else self.seen
        config = self._general(cell, codes)
        vocabulary = self.vocabulary(cell.target) if pair else None

        def build(folder: Path) -> Mapping[str, Any]:
            teacher, tokenizer = self.fresh_teacher().mlm, self.teacher.tokenizer
            if vocabulary is not None:
                tokenizer = trimmed_tokenizer(vocabulary)
                vocab.trim_model(teacher, kept_ids(vocabulary).numpy())
            student = self._placed(with_head(teacher, cell.lrf))
            corpora = {code: self.student_blocks(code, tokenizer) for code in codes}
            objective = DistilBertDistillation(student, self._placed(teacher))
            history = distil(
                objective,
                tokenizer,
                corpora,
                config=config,
                run=self._run(folder, "DistilBERT's recipe"),
            )
            save_file(head_state(student), folder / OWN_HEAD)
            return self._keep_student(folder, student.base_model, tokenizer, history)

        inputs = {**self._teacher_and_text(codes), **({"vocabulary": vocabulary} if vocabulary else {})}
        return self.store.run(
            "student",
            {"recipe": "distilmbert", "text": self.experiment.text, "general": config},
            inputs,
            build,
        )
