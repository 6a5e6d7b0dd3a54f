"""What every stage reads and how it keeps what it made: teacher, text, task data, device, histories.

Notable: `check` fails on whatever would fail later, before any long work starts.
"""

import json
import threading
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bistil.distil.start import layer_map
from bistil.distil.width import check_drf
from bistil.errors import InputError
from bistil.experiment import RETRIEVAL, Experiment
from bistil.models.architectures import longest_sequence, student_config
from bistil.models.load import Teacher, choose_device, load_teacher, save_student
from bistil.models.packaged import teacher_folder
from bistil.sft import peers
from bistil.sft.delta import SparseDelta, base_hash
from bistil.store.artefacts import Store
from bistil.systems.table import SYSTEMS
from bistil.tasks import task as find_task
from bistil.tasks.retrieval import parallel
from bistil.tasks.task import Task
from bistil.text.corpora import Blocks, check_enough, cut, read_lines
from bistil.text.languages import DataFolder
from bistil.training.progress import Listener, silent
from bistil.vocab.family import family_of


class Inputs:
    """One experiment over one store and one data folder."""

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
        self.device, self.device_reason = choose_device(device)
        self.progress, self.stop = progress, stop

    def check(self) -> None:
        """Fail now on whatever would fail later: languages, every file that will be read, lengths, layer
        reduction factors.

        :raises InputError: at the first thing that cannot work.
        """
        experiment, teacher = self.experiment, self.teacher
        longest = max(
            experiment.text.length, *(experiment.task[task].max_length for task in experiment.tuned), 0
        )
        if longest > longest_sequence(teacher.encoder.config):
            raise InputError(
                f"Lengths up to the {longest_sequence(teacher.encoder.config)} positions of the teacher"
                f" {experiment.teacher} were expected, but the experiment asks for {longest}. Lower `length`"
                " under `text` or `max_length` under `task`."
            )
        for cell in experiment.cells():
            student_config(
                teacher.encoder.config, layer_map(teacher.encoder.config.num_hidden_layers, cell.lrf)
            )
            if cell.lrf > 1:
                family_of(teacher.tokenizer.backend_tokenizer)  # refuses a vocabulary that cannot be reduced
            check_drf(teacher.encoder.config, cell.drf)
            if cell.system == "minilm":
                experiment.minilm.check(teacher.encoder.config)
        for target in experiment.targets.get(RETRIEVAL, ()):
            parallel(self.data, experiment.source, target)
        asked = (experiment.language_sft, *(settings.sft for settings in experiment.task.values()))
        if any(SYSTEMS[cell.system].peft for cell in experiment.cells()) or any(
            sft and sft.peft for sft in asked
        ):
            peers.library()
        for task, targets in experiment.tuned.items():
            kind = find_task(task)
            for code, split in (
                (experiment.source, "train"),
                (experiment.source, "dev"),
                *((target, "test") for target in targets),
            ):
                kind.read(self.data.file(task, code, split))
        texts = [
            code
            for targets in experiment.targets.values()
            for target in targets
            for code in experiment.languages(target)
        ]
        if any(SYSTEMS[cell.system].languages == "seen" for cell in experiment.cells()):
            texts += self.seen
        for code in dict.fromkeys(texts):
            path = self.data.text(code)
            check_enough(
                teacher.tokenizer, read_lines(path, experiment.text.lines), experiment.text.length, path
            )

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
        return load_teacher(teacher_folder(self.experiment.teacher))

    @cache  # noqa: B019 - a pipeline lives as long as its process
    def blocks(self, code: str) -> Blocks:
        """A language's text in the teacher's tokens."""
        return self.student_blocks(code, self.teacher.tokenizer)

    def student_blocks(self, code: str, tokenizer: PreTrainedTokenizerFast) -> Blocks:
        """A language's text in a student's tokens."""
        text = self.experiment.text
        return cut(tokenizer, read_lines(self.data.text(code), text.lines), text.length, packed=text.packed)

    @property
    def seen(self) -> tuple[str, ...]:
        """The languages that the teacher saw, which a multilingual student is distilled on."""
        return self.experiment.seen or tuple(
            code for code, language in self.data.languages.items() if language.seen
        )

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

    def _keep(
        self, folder: Path, delta: SparseDelta, history: list[dict[str, float]], metric: str
    ) -> dict[str, Any]:
        delta.save(folder / "delta.safetensors")
        values = int(delta.notes.get("trainable", delta.size))
        return {
            **self._history(folder, history),
            f"best_{metric}": _best(history, metric),
            "values": values,
            **self._where,
        }

    def _keep_student(
        self,
        folder: Path,
        encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        history: list[dict[str, float]],
    ) -> dict[str, Any]:
        save_student(folder / "model", encoder, tokenizer)
        parameters = sum(p.numel() for p in encoder.parameters())
        return {
            **self._history(folder, history),
            "best_loss": _best(history, "loss"),
            "parameters": parameters,
            **self._where,
        }

    def _history(self, folder: Path, history: list[dict[str, float]]) -> dict[str, Any]:
        (folder / "history.json").write_text(json.dumps(history, indent=1), encoding="utf-8")
        return {"steps": max((int(entry["step"]) for entry in history), default=0)}


def _best(history: list[dict[str, float]], metric: str) -> float | None:
    values = [entry[f"eval_{metric}"] for entry in history if f"eval_{metric}" in entry]
    return (min(values) if metric == "loss" else max(values)) if values else None
