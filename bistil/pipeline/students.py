"""The stages before any task: vocabularies, language SFTs, and students by every recipe (BiStil section 3.1
and the baselines).
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast, set_seed

from bistil import vocab
from bistil.distil.general import GeneralConfig, distil_general
from bistil.distil.start import initialise, layer_map
from bistil.distil.teachers import AdaptedTeacher
from bistil.distil.width import Narrowing, initialise_narrow
from bistil.errors import InputError
from bistil.experiment import Cell
from bistil.models.architectures import load_head, student_config, with_encoder
from bistil.models.load import load_encoder
from bistil.pipeline.inputs import Inputs
from bistil.sft.config import SftConfig
from bistil.sft.delta import SparseDelta, base_hash
from bistil.sft.language import language_sft
from bistil.sft.lottery import Selection
from bistil.store.artefacts import Artefact, file_id
from bistil.systems.table import SYSTEMS
from bistil.text.corpora import Batches, held_out, read_lines
from bistil.training.loop import fit
from bistil.training.mlm import MaskedLM, evaluate_mlm

LANGUAGE_SEED = 1
CALIBRATION = 256  # sequences a language that a narrower student is projected by
NARROWING = "narrowing.safetensors"  # of a narrower student, for stage 2
OWN_HEAD = "mlm-head.safetensors"  # of a student whose recipe trains its masked-LM head


class Students(Inputs):
    """From a teacher and text to general students."""

    def vocabulary(self, target: str) -> Artefact:
        """The tokens that a target's student needs: `kept.safetensors`, the trimmed `tokenizer/`, and the
        report as metrics.
        """
        codes, config = self.experiment.languages(target), self.experiment.vocabulary

        def build(folder: Path) -> Mapping[str, Any]:
            tokenizer = self.teacher.tokenizer
            lines = {code: read_lines(self.data.text(code), self.experiment.text.lines) for code in codes}
            count = vocab.count_tokens if config.criterion == "unigram" else vocab.sentence_share
            counts = [count(tokenizer, text) for text in lines.values()]
            kept = vocab.choose(tokenizer, counts, **vars(config))
            trimmed = vocab.trim_tokenizer(tokenizer, kept)
            trimmed.save_pretrained(folder / "tokenizer")
            save_file({"kept": torch.from_numpy(kept)}, folder / "kept.safetensors")
            return vocab.report(tokenizer, trimmed, kept, lines)

        inputs = self._teacher_and_text(codes)
        return self.store.run(
            "vocabulary", {"vocabulary": config, "lines": self.experiment.text.lines}, inputs, build
        )

    def language_sft(
        self,
        code: str,
        student: Artefact | None = None,
        select: Selection | None = None,
        seed: int = LANGUAGE_SEED,
    ) -> Artefact:
        """The language SFT of the teacher, or of a multilingual student: `delta.safetensors`.

        :param select: a baseline of LT-SFT, instead of the method that the experiment asks for. :param seed:
            another one than all models of the experiment wear, to see what of a delta is chance.
        :raises InputError: where the experiment has none.
        """
        experiment = self.experiment
        if experiment.language_sft is None:
            raise InputError(
                f"The experiment {experiment.name} adapts nothing to a language. Give it settings under"
                " `language_sft`."
            )
        sft = SftConfig(**vars(experiment.language_sft), seed=seed)
        sft = sft.selecting(select) if select else sft

        def build(folder: Path) -> Mapping[str, Any]:
            teacher = self.fresh_teacher()
            mlm = teacher.mlm
            if (
                student is not None
            ):  # the student's last states are trained to be the teacher's, so the teacher's head fits
                mlm = with_encoder(mlm, load_encoder(student.path("model")))
                if (own := student.path(OWN_HEAD)).is_file():
                    load_head(mlm, load_file(own))
            delta, history = language_sft(
                self._placed(mlm),
                teacher.tokenizer,
                code,
                self.blocks(code),
                text=experiment.text,
                sft=sft,
                folder=folder,
                **self._listeners,
            )
            return self._keep(folder, delta, history, "loss")

        inputs = {"base": student.id if student else self.teacher_id, "text": file_id(self.data.text(code))}
        return self.store.run("language-sft", {"text": experiment.text, "sft": sft}, inputs, build)

    def student(self, cell: Cell) -> Artefact:
        """The general student of a cell: `model/` (encoder and tokenizer) and `history.json`."""
        make: Callable[[Cell], Artefact] = getattr(self, f"_{SYSTEMS[cell.system].recipe}_student")
        return make(cell)

    def _bilingual_student(self, cell: Cell) -> Artefact:
        codes = self.experiment.languages(cell.target)
        vocabulary = self.vocabulary(cell.target)
        deltas = {code: self.language_sft(code) for code in codes} if self.experiment.language_sft else {}
        config = self._general(cell, codes)

        def build(folder: Path) -> Mapping[str, Any]:
            teacher, tokenizer, kept = (
                self._placed(self.fresh_teacher().encoder),
                trimmed_tokenizer(vocabulary),
                kept_ids(vocabulary),
            )
            base = base_hash(teacher)
            worn = {
                code: SparseDelta.load(found.path("delta.safetensors"), base=base)
                for code, found in deltas.items()
            }
            adapted = AdaptedTeacher(teacher, worn, kept)
            student, narrowing = self._started(config, adapted, codes)
            vocab.trim_model(student, kept.numpy())
            return self._distil(folder, self._placed(student), adapted, tokenizer, codes, config, narrowing)

        inputs: dict[str, Artefact | str] = {
            "vocabulary": vocabulary,
            "teacher": self.teacher_id,
            **{f"sft {c}": found for c, found in deltas.items()},
        }
        return self.store.run(
            "student", {"recipe": "bistil", "text": self.experiment.text, "general": config}, inputs, build
        )

    def _multilingual_student(self, cell: Cell) -> Artefact:
        codes = self.seen
        config = self._general(cell, codes)

        def build(folder: Path) -> Mapping[str, Any]:
            adapted = AdaptedTeacher(self._placed(self.fresh_teacher().encoder), {}, None)
            student = self._placed(initialise(self.teacher.encoder, cell.lrf))
            return self._distil(folder, student, adapted, self.teacher.tokenizer, codes, config)

        settings = {"recipe": "multilingual", "text": self.experiment.text, "general": config}
        return self.store.run("student", settings, self._teacher_and_text(codes), build)

    def _teacher_and_text(self, codes: tuple[str, ...]) -> dict[str, Artefact | str]:
        """The inputs of a stage that reads the teacher and the text of some languages."""
        return {
            "teacher": self.teacher_id,
            **{f"text {code}": file_id(self.data.text(code)) for code in codes},
        }

    def _distil(
        self,
        folder: Path,
        student: PreTrainedModel,
        teacher: AdaptedTeacher,
        tokenizer: PreTrainedTokenizerFast,
        codes: tuple[str, ...],
        config: GeneralConfig,
        narrowing: Narrowing | None = None,
    ) -> Mapping[str, Any]:
        corpora = {code: self.student_blocks(code, tokenizer) for code in codes}
        history = distil_general(
            student,
            teacher,
            tokenizer,
            corpora,
            config=config,
            folder=folder,
            narrowing=narrowing,
            **self._listeners,
        )
        if narrowing is not None:
            save_file(dict(narrowing.state_dict()), folder / NARROWING)
        return self._keep_student(folder, student, tokenizer, history)

    def _general(self, cell: Cell, codes: tuple[str, ...]) -> GeneralConfig:
        """Stage 1's settings for a cell, without those that do not touch it."""
        general = self.experiment.general
        weights = {code: weight for code, weight in (general.weights or {}).items() if code in codes} or None
        own = {
            "lrf": cell.lrf,
            "drf": cell.drf,
            "seed": cell.seed,
            "learn_map": general.learn_map and cell.drf > 1,
            "weights": weights,
        }
        return dataclasses.replace(general, **own)  # type: ignore[arg-type]

    def _started(
        self, config: GeneralConfig, teacher: AdaptedTeacher, codes: tuple[str, ...]
    ) -> tuple[PreTrainedModel, Narrowing | None]:
        """A bilingual student before it learns anything, in the teacher's vocabulary."""
        if config.drf == 1:
            return initialise(self.teacher.encoder, config.lrf), None
        text = partial(self._calibration, teacher, codes)
        return initialise_narrow(teacher.encoder, config.lrf, config.drf, text, learned=config.learn_map)

    def _calibration(
        self, teacher: AdaptedTeacher, codes: tuple[str, ...]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches of the first sequences of each language, the teacher wearing its SFT; in the end it wears
        none.
        """
        for code in codes:
            teacher.wear(code)
            for rows in torch.arange(min(CALIBRATION, len(self.blocks(code)))).split(32):
                ids, mask = self.blocks(code).rows(rows.numpy())
                yield ids.to(self.device), mask.to(self.device)
        teacher.wear(None)

    def _scratch_student(self, cell: Cell) -> Artefact:
        experiment, codes, vocabulary = (
            self.experiment,
            self.experiment.languages(cell.target),
            self.vocabulary(cell.target),
        )

        def build(folder: Path) -> Mapping[str, Any]:
            tokenizer, teacher = trimmed_tokenizer(vocabulary), self.teacher.encoder.config
            set_seed(cell.seed)
            shape = student_config(teacher, layer_map(teacher.num_hidden_layers, cell.lrf))
            vocab.trim_config(shape, kept_ids(vocabulary).numpy())
            mlm = self._placed(type(self.teacher.mlm)(shape))
            parts = {
                code: self.student_blocks(code, tokenizer).split(experiment.text.held_out_share)
                for code in codes
            }
            size, share = experiment.scratch.batch_size, experiment.text.mask_share
            batches = Batches(
                {code: training for code, (training, _) in parts.items()},
                tokenizer,
                weights=dict.fromkeys(codes, 1.0),
                batch_size=size,
                steps=experiment.scratch.schedule.steps,
                mask_share=share,
                seed=cell.seed,
            )
            evaluation = held_out(
                {code: kept for code, (_, kept) in parts.items()},
                tokenizer,
                batch_size=size,
                mask_share=share,
            )
            history = fit(
                MaskedLM(mlm),
                batches,
                lambda: evaluate_mlm(mlm, evaluation),
                schedule=experiment.scratch.schedule,
                select="loss",
                folder=folder,
                seed=cell.seed,
                stage=f"scratch, {' + '.join(codes)}",
                **self._listeners,
            )
            return self._keep_student(folder, mlm.base_model, tokenizer, history)

        config = {
            "recipe": "scratch",
            "text": experiment.text,
            "scratch": experiment.scratch,
            "lrf": cell.lrf,
            "seed": cell.seed,
        }
        return self.store.run(
            "student", config, {"vocabulary": vocabulary, "teacher": self.teacher_id}, build
        )


def trimmed_tokenizer(vocabulary: Artefact) -> PreTrainedTokenizerFast:
    """The tokenizer of a vocabulary artefact."""
    tokenizer: Any = AutoTokenizer.from_pretrained(vocabulary.path("tokenizer"), trust_remote_code=False)
    return cast(PreTrainedTokenizerFast, tokenizer)


def kept_ids(vocabulary: Artefact) -> torch.Tensor:
    """The teacher's ids of a vocabulary artefact's tokens. Shape: [V]."""
    return load_file(vocabulary.path("kept.safetensors"))["kept"]
