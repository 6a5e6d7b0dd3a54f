"""From an experiment to artefacts: each method is one stage, asks for the stages it needs, and returns what the store holds.

Notable: nothing is computed twice. A notebook, the demo and a batch worker call the same methods, and whoever comes first does the work.
"""

import dataclasses
import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertModel, PreTrainedTokenizerFast, set_seed

from bistil import cost, vocab
from bistil.corpora import Batches, Blocks, check_enough, cut, held_out, read_lines
from bistil.distil.general import GeneralConfig, distil_general
from bistil.distil.task import task_sft
from bistil.distil.wardrobe import AdaptedTeacher
from bistil.errors import InputError
from bistil.evaluate import evaluate, predict_all
from bistil.experiment import Cell, Experiment
from bistil.export import export, exportable
from bistil.languages import DATA, DataFolder
from bistil.mlm import MaskedLM, evaluate_mlm
from bistil.models import TaskModel, Teacher, device_and_dtype, load_encoder, load_teacher, save_student
from bistil.progress import Listener, silent
from bistil.results import METRICS
from bistil.sft.delta import SparseDelta, base_hash
from bistil.sft.language import language_sft
from bistil.sft.train_sft import SftConfig
from bistil.store import Artefact, NotBuilt, Store, file_id
from bistil.student import initialise, layer_map
from bistil.tasks import task as find_task
from bistil.tasks.task import Task
from bistil.train import fit

LANGUAGE_SEED = 1


class Pipeline:
    """All stages of one experiment over one store and one data folder."""

    def __init__(
        self,
        experiment: Experiment,
        data: DataFolder,
        store: Store,
        *,
        device: str | None = None,
        progress: Listener = silent,
        stop: threading.Event | None = None,
    ) -> None:
        self.experiment, self.data, self.store = experiment, data, store
        self.device, _, self.device_reason = device_and_dtype(device)
        self.progress, self.stop = progress, stop

    def check(self) -> None:
        """Fail now on whatever would fail later: languages, every file that will be read, lengths, layer reduction factors.

        :raises InputError: at the first thing that cannot work.
        """
        experiment, teacher = self.experiment, self.teacher
        longest = max(experiment.text.length, *(experiment.task[task].max_length for task in experiment.targets))
        if longest > teacher.encoder.config.max_position_embeddings:
            raise InputError(
                f"Lengths up to the {teacher.encoder.config.max_position_embeddings} positions of the teacher {experiment.teacher} were "
                f"expected, but the experiment asks for {longest}. Lower `length` under `text` or `max_length` under `task`."
            )
        for cell in experiment.cells():
            layer_map(teacher.encoder.config.num_hidden_layers, cell.lrf)
        for task, targets in experiment.targets.items():
            kind = find_task(task)
            for code, split in ((experiment.source, "train"), (experiment.source, "dev"), *((target, "test") for target in targets)):
                kind.read(self.data.file(task, code, split))
        texts = [experiment.source, *(target for targets in experiment.targets.values() for target in targets)]
        if any(system.startswith("multilingual-distil") for system in experiment.systems):
            texts += self._seen
        for code in dict.fromkeys(texts):
            path = self.data.text(code)
            check_enough(teacher.tokenizer, read_lines(path, experiment.text.lines), experiment.text.length, path)

    # -- inputs ---------------------------------------------------------------------------------------------------------------------

    @cached_property
    def teacher(self) -> Teacher:
        """The teacher as loaded, on the CPU; stages copy what they change."""
        return self.fresh_teacher()

    @cached_property
    def teacher_id(self) -> str:
        """What the teacher's encoder is, by content."""
        return f"sha256:{base_hash(self.teacher.encoder)}"

    def fresh_teacher(self) -> Teacher:
        """A copy of the teacher of one's own, to adapt or to trim."""
        named = self.experiment.teacher
        inside = DATA.parent / named  # a folder is named relative to the project, wherever the process was started
        return load_teacher(inside if inside.is_dir() and not Path(named).is_dir() else named)

    @cache  # noqa: B019 - a pipeline lives as long as its process
    def blocks(self, code: str) -> Blocks:
        """A language's text in the teacher's tokens."""
        return self.student_blocks(code, self.teacher.tokenizer)

    def student_blocks(self, code: str, tokenizer: PreTrainedTokenizerFast) -> Blocks:
        """A language's text in a student's tokens."""
        text = self.experiment.text
        return cut(tokenizer, read_lines(self.data.text(code), text.lines), text.length, packed=text.packed)

    # -- stages ---------------------------------------------------------------------------------------------------------------------

    def vocabulary(self, target: str) -> Artefact:
        """The tokens that source and target need: `kept.safetensors`, the trimmed `tokenizer/`, and the report as metrics."""
        codes, config = (self.experiment.source, target), self.experiment.vocabulary

        def build(folder: Path) -> Mapping[str, Any]:
            tokenizer = self.teacher.tokenizer
            lines = {code: read_lines(self.data.text(code), self.experiment.text.lines) for code in codes}
            count = vocab.count_tokens if config.criterion == "unigram" else vocab.sentence_share
            counts = [count(tokenizer, text) for text in lines.values()]
            kept = vocab.choose(tokenizer, counts, threshold=config.threshold, criterion=config.criterion)  # type: ignore[arg-type]
            trimmed = vocab.trim_tokenizer(tokenizer, kept)
            trimmed.save_pretrained(folder / "tokenizer")
            save_file({"kept": torch.from_numpy(kept)}, folder / "kept.safetensors")
            return vocab.report(tokenizer, trimmed, kept, lines)

        inputs = {"teacher": self.teacher_id, **{f"text {code}": file_id(self.data.text(code)) for code in codes}}
        return self.store.run("vocabulary", {"vocabulary": config, "lines": self.experiment.text.lines}, inputs, build)

    def language_sft(self, code: str, student: Artefact | None = None) -> Artefact:
        """The language SFT of the teacher, or of a multilingual student: `delta.safetensors`."""
        experiment = self.experiment
        sft = SftConfig(**vars(experiment.language_sft), seed=LANGUAGE_SEED)

        def build(folder: Path) -> Mapping[str, Any]:
            teacher = self.fresh_teacher()
            mlm = teacher.mlm
            if student is not None:  # the student's last states are trained to be the teacher's, so the teacher's head fits
                encoder = load_encoder(student.path("model"))
                mlm = BertForMaskedLM(encoder.config)
                mlm.bert, mlm.cls = encoder, teacher.mlm.cls
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
        makers = {"multilingual-distil": self._multilingual_student, "scratch": self._scratch_student}
        return makers.get(cell.system, self._bilingual_student)(cell)

    def _bilingual_student(self, cell: Cell) -> Artefact:
        codes = (self.experiment.source, cell.target)
        vocabulary = self.vocabulary(cell.target)
        deltas = {code: self.language_sft(code) for code in codes}
        config = dataclasses.replace(self.experiment.general, lrf=cell.lrf, seed=cell.seed)

        def build(folder: Path) -> Mapping[str, Any]:
            teacher, tokenizer, kept = self._placed(self.fresh_teacher().encoder), _tokenizer(vocabulary), _kept(vocabulary)
            base = base_hash(teacher)
            worn = {code: SparseDelta.load(found.path("delta.safetensors"), base=base) for code, found in deltas.items()}
            adapted = AdaptedTeacher(teacher, worn, kept)
            student = initialise(self.teacher.encoder, cell.lrf)
            vocab.trim_model(student, kept.numpy())
            return self._distil(folder, self._placed(student), adapted, tokenizer, codes, config)

        inputs: dict[str, Artefact | str] = {
            "vocabulary": vocabulary,
            "teacher": self.teacher_id,
            **{f"sft {c}": found for c, found in deltas.items()},
        }
        return self.store.run("student", {"recipe": "bistil", "text": self.experiment.text, "general": config}, inputs, build)

    def _multilingual_student(self, cell: Cell) -> Artefact:
        codes = self._seen
        config = dataclasses.replace(self.experiment.general, lrf=cell.lrf, seed=cell.seed)

        def build(folder: Path) -> Mapping[str, Any]:
            adapted = AdaptedTeacher(self._placed(self.fresh_teacher().encoder), {}, None)
            student = self._placed(initialise(self.teacher.encoder, cell.lrf))
            return self._distil(folder, student, adapted, self.teacher.tokenizer, codes, config)

        inputs = {"teacher": self.teacher_id, **{f"text {code}": file_id(self.data.text(code)) for code in codes}}
        return self.store.run("student", {"recipe": "multilingual", "text": self.experiment.text, "general": config}, inputs, build)

    def _distil(
        self,
        folder: Path,
        student: BertModel,
        teacher: AdaptedTeacher,
        tokenizer: PreTrainedTokenizerFast,
        codes: tuple[str, ...],
        config: GeneralConfig,
    ) -> Mapping[str, Any]:
        corpora = {code: self.student_blocks(code, tokenizer) for code in codes}
        history = distil_general(student, teacher, tokenizer, corpora, config=config, folder=folder, **self._listeners)
        return self._keep_student(folder, student, tokenizer, history)

    def _scratch_student(self, cell: Cell) -> Artefact:
        experiment, codes, vocabulary = self.experiment, (self.experiment.source, cell.target), self.vocabulary(cell.target)

        def build(folder: Path) -> Mapping[str, Any]:
            tokenizer, teacher = _tokenizer(vocabulary), self.teacher.encoder.config
            set_seed(cell.seed)
            layers = len(layer_map(teacher.num_hidden_layers, cell.lrf))
            changed = {"vocab_size": len(tokenizer), "num_hidden_layers": layers, "pad_token_id": tokenizer.pad_token_id}
            mlm = self._placed(BertForMaskedLM(BertConfig(**{**teacher.to_dict(), **changed})))
            parts = {code: self.student_blocks(code, tokenizer).split(experiment.text.held_out_share) for code in codes}
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
            evaluation = held_out({code: kept for code, (_, kept) in parts.items()}, tokenizer, batch_size=size, mask_share=share)
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
            return self._keep_student(folder, mlm.bert, tokenizer, history)

        config = {"recipe": "scratch", "text": experiment.text, "scratch": experiment.scratch, "lrf": cell.lrf, "seed": cell.seed}
        return self.store.run("student", config, {"vocabulary": vocabulary, "teacher": self.teacher_id}, build)

    def task_sft(self, cell: Cell) -> Artefact:
        """The task SFT of a cell: `delta.safetensors` with the head in it, and the labels as a metric."""
        base, source_sft = self._base(cell), self._language_delta(cell, self.experiment.source)
        follows = self.task_sft(cell._replace(system="teacher-ltsft", lrf=1)) if cell.system == "bistil-tf" else None
        config = self.experiment.task[cell.task]
        config = dataclasses.replace(config, sft=dataclasses.replace(config.sft, seed=cell.seed))

        def build(folder: Path) -> Mapping[str, Any]:
            task, examples = self._training(cell.task)
            validation = task.read(self.data.file(cell.task, self.experiment.source, "dev"))
            encoder, tokenizer, kept = self._load_base(cell)
            set_seed(cell.seed)
            model = TaskModel(encoder=encoder, head=task.head(encoder.config.hidden_size)).to(self.device)
            base_id = base_hash(encoder)
            if source_sft is not None:
                SparseDelta.load(source_sft.path("delta.safetensors"), base=base_id).apply(encoder)
            delta, history = task_sft(
                model,
                task,
                examples,
                tokenizer,
                config=config,
                validate=lambda: evaluate(model, task, validation, tokenizer, max_length=config.max_length),
                base=base_id,
                folder=folder,
                teacher=self.task_model(cell._replace(system="teacher-ltsft", lrf=1), self.experiment.source)[0] if follows else None,
                kept=kept if follows else None,
                stage=f"{cell.task} SFT, {cell.system}" + (f" lrf {cell.lrf}, {cell.target}" if cell.lrf > 1 else ""),
                **self._listeners,
            )
            return {**self._keep(folder, delta, history, task.metric), "labels": list(task.labels)}

        inputs: dict[str, Artefact | str] = {
            "base": base or self.teacher_id,
            **{split: file_id(self.data.file(cell.task, self.experiment.source, split)) for split in ("train", "dev")},
            **({"source sft": source_sft} if source_sft else {}),
            **({"task teacher": follows} if follows else {}),
        }
        return self.store.run("task-sft", {"task": cell.task, "settings": config, "forced": follows is not None}, inputs, build)

    def evaluation(self, cell: Cell) -> Artefact:
        """The zero-shot score of a cell on the target's test file, with what the model costs, as metrics."""
        task_artefact = self.task_sft(cell) if cell.system != "floor" else None
        target_sft = self._language_delta(cell, cell.target)
        test = self.data.file(cell.task, cell.target, "test")

        def build(folder: Path) -> Mapping[str, Any]:
            examples = find_task(cell.task).read(test)
            if task_artefact is None:
                task, training = self._training(cell.task)
                return {**task.floor(training, examples), "n_examples": len(examples)}
            model, task, tokenizer = self.task_model(cell, cell.target)
            settings = self.experiment.task[cell.task]
            scores = evaluate(model, task, examples, tokenizer, max_length=settings.max_length, progress=self.progress)
            rows = task.encode(examples, tokenizer, max_length=settings.max_length)
            costs = cost.measure(model, task, rows, batch_size=settings.batch_size, repeats=3, pad_id=int(tokenizer.pad_token_id))
            return {**scores, **vars(costs), **self._where}

        inputs: dict[str, Artefact | str] = {"test": file_id(test), **({"target sft": target_sft} if target_sft else {})}
        inputs["task sft"] = task_artefact or file_id(self.data.file(cell.task, self.experiment.source, "train"))
        return self.store.run("evaluation", {"task": cell.task, "max_length": self.experiment.task[cell.task].max_length}, inputs, build)

    def timing(self, task: str) -> Artefact:
        """Latency and throughput of every system on the task's first target and seed, one after the other in one process."""
        first = self.experiment.targets[task][0]
        cells = [
            c
            for c in self.experiment.cells()
            if c.task == task and c.target == first and c.seed == self.experiment.seeds[0] and c.system != "floor"
        ]

        def build(folder: Path) -> Mapping[str, Any]:
            found = {}
            for cell in cells:
                model, kind, tokenizer = self.task_model(cell, first)
                settings = self.experiment.task[task]
                examples = kind.read(self.data.file(task, first, "test"))
                rows = kind.encode(examples, tokenizer, max_length=settings.max_length)
                measured = cost.measure(model, kind, rows, batch_size=settings.batch_size, repeats=15, pad_id=int(tokenizer.pad_token_id))
                found[f"{cell.system}:{cell.lrf}"] = {name: getattr(measured, name) for name in ("latency_ms", "examples_per_second")}
            return {"systems": found, **self._where}

        return self.store.run("timing", {"task": task}, {f"{c.system}:{c.lrf}": self.task_sft(c) for c in cells}, build)

    def deployed(self, cell: Cell) -> Artefact:
        """The finished student of a cell in `model/`, for use without bistil: a class of transformers where that has such a head.

        A parser is an encoder folder plus `head.safetensors` and `labels.json`, which bistil.tasks.biaffine reads.
        """
        tuned = self.task_sft(cell)

        def build(folder: Path) -> Mapping[str, Any]:
            model, task, tokenizer = self.task_model(cell, cell.target)
            if exportable(model.head):
                export(folder / "model", model, task.labels, tokenizer)
            else:
                save_student(folder / "model", model.encoder, tokenizer)
                save_file(dict(model.head.state_dict()), folder / "model" / "head.safetensors")
                (folder / "model" / "labels.json").write_text(json.dumps(list(task.labels)), encoding="utf-8")
            return {"labels": list(task.labels)}

        target_sft = self._language_delta(cell, cell.target)
        return self.store.run(
            "deployed", {"task": cell.task}, {"task sft": tuned, **({"target sft": target_sft} if target_sft else {})}, build
        )

    # -- use ------------------------------------------------------------------------------------------------------------------------

    def task_model(self, cell: Cell, language: str) -> tuple[TaskModel, Task, PreTrainedTokenizerFast]:
        """A cell's finished model for text in `language`: base, language SFT where the system has one, task SFT, head."""
        tuned = self.task_sft(cell)
        encoder, tokenizer, _ = self._load_base(cell)
        base = base_hash(encoder)
        language_delta = self._language_delta(cell, language)
        delta = SparseDelta.load(tuned.path("delta.safetensors"), base=base)
        for one in (*([SparseDelta.load(language_delta.path("delta.safetensors"), base=base)] if language_delta else []), delta):
            one.apply(encoder)
        task, _ = self._training(cell.task)
        model = TaskModel(encoder=encoder, head=task.head(encoder.config.hidden_size))
        model.head.load_state_dict({name.removeprefix("head."): tensor for name, tensor in delta.full.items()})
        return model.to(self.device).eval(), task, tokenizer

    def encoder(self, cell: Cell, language: str) -> tuple[BertModel, PreTrainedTokenizerFast]:
        """A cell's encoder for text in `language` before any task: base, and language SFT where the system has one."""
        encoder, tokenizer, _ = self._load_base(cell)
        if worn := self._language_delta(cell, language):
            SparseDelta.load(worn.path("delta.safetensors"), base=base_hash(encoder)).apply(encoder)
        return self._placed(encoder).eval(), tokenizer

    def predictions(self, cell: Cell, sentences: list[Any]) -> list[Any]:
        """What the cell's model says of some examples of its task."""
        model, task, tokenizer = self.task_model(cell, cell.target)
        return predict_all(model, task, sentences, tokenizer, max_length=self.experiment.task[cell.task].max_length)

    def rows(self, cell: Cell) -> list[dict[str, Any]]:
        """The tidy result rows of a cell, one a metric. Times are those of the joint timing, where that has been run."""
        found = self.evaluation(cell)
        measured = found.metrics
        with suppress(NotBuilt):
            measured |= self.timing(cell.task).metrics["systems"].get(f"{cell.system}:{cell.lrf}", {})
        shared = {
            "experiment": self.experiment.name,
            "system": cell.system,
            "teacher": Path(self.experiment.teacher).name,
            "task": cell.task,
            "source": self.experiment.source,
            "target": cell.target,
            "lrf": cell.lrf if cell.lrf > 1 else None,
            "density": self.experiment.task[cell.task].sft.lottery.density,
            "seed": cell.seed,
            "artefact": found.id,
        }
        names = ("n_examples", "parameters", "vocabulary", "flops_per_example", "latency_ms", "examples_per_second", "disk_bytes")
        costs = {name: measured.get(name) for name in names}
        scores = [name for name in METRICS if name in measured]
        return [{**shared, **costs, "metric": name, "value": measured[name]} for name in scores]

    # -- shared steps ---------------------------------------------------------------------------------------------------------------

    @property
    def _seen(self) -> tuple[str, ...]:
        """What a multilingual student is distilled on."""
        return self.experiment.seen or tuple(code for code, language in self.data.languages.items() if language.seen)

    def _placed(self, model: Any) -> Any:
        """The model on this run's device."""
        return model.to(self.device)

    @property
    def _listeners(self) -> dict[str, Any]:
        return {"progress": self.progress, "stop": self.stop}

    @property
    def _where(self) -> dict[str, str]:
        return {"device": str(self.device), "device_reason": self.device_reason}

    @cache  # noqa: B019
    def _training(self, name: str) -> tuple[Task, list[Any]]:
        task = find_task(name)
        examples = task.read(self.data.file(name, self.experiment.source, "train"))
        return task.for_training(examples), examples

    def _base(self, cell: Cell) -> Artefact | None:
        """The student a cell tunes, or None for the teacher itself."""
        return None if cell.system.startswith("teacher-") else self.student(cell)

    def _language_delta(self, cell: Cell, code: str) -> Artefact | None:
        """The language SFT a cell's model wears for `code`: the teacher's, or the multilingual student's own; bilingual ones have none."""
        if cell.system == "teacher-ltsft":
            return self.language_sft(code)
        return self.language_sft(code, self.student(cell)) if cell.system == "multilingual-distil" else None

    def _load_base(self, cell: Cell) -> tuple[BertModel, PreTrainedTokenizerFast, torch.Tensor | None]:
        base = self._base(cell)
        if base is None:
            return self.fresh_teacher().encoder, self.teacher.tokenizer, None
        if cell.system == "multilingual-distil":
            return load_encoder(base.path("model")), self.teacher.tokenizer, None
        vocabulary = self.vocabulary(cell.target)
        return load_encoder(base.path("model")), _tokenizer(vocabulary), _kept(vocabulary)

    def _keep(self, folder: Path, delta: SparseDelta, history: list[dict[str, float]], metric: str) -> dict[str, Any]:
        delta.save(folder / "delta.safetensors")
        return {**self._history(folder, history), f"best_{metric}": _best(history, metric), "values": delta.size, **self._where}

    def _keep_student(
        self, folder: Path, encoder: BertModel, tokenizer: PreTrainedTokenizerFast, history: list[dict[str, float]]
    ) -> dict[str, Any]:
        save_student(folder / "model", encoder, tokenizer)
        parameters = sum(p.numel() for p in encoder.parameters())
        return {**self._history(folder, history), "best_loss": _best(history, "loss"), "parameters": parameters, **self._where}

    def _history(self, folder: Path, history: list[dict[str, float]]) -> dict[str, Any]:
        (folder / "history.json").write_text(json.dumps(history, indent=1), encoding="utf-8")
        return {"steps": max((int(entry["step"]) for entry in history), default=0)}


def _best(history: list[dict[str, float]], metric: str) -> float | None:
    values = [entry[f"eval_{metric}"] for entry in history if f"eval_{metric}" in entry]
    return (min(values) if metric == "loss" else max(values)) if values else None


def _tokenizer(vocabulary: Artefact) -> PreTrainedTokenizerFast:
    tokenizer: Any = AutoTokenizer.from_pretrained(vocabulary.path("tokenizer"))
    return cast(PreTrainedTokenizerFast, tokenizer)


def _kept(vocabulary: Artefact) -> torch.Tensor:
    return load_file(vocabulary.path("kept.safetensors"))["kept"]
