"""From an experiment to artefacts: each method is one stage, asks for the stages it needs, and returns what
the store holds.

Notable: nothing is computed twice. A notebook, the demo and a batch worker call the same methods, and whoever
comes first does the work. The stages come in the order of the rooms: `inputs`, `students`, `tuned`, and here
what is measured and handed on.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bistil.evaluation import cost
from bistil.evaluation.results import METRICS
from bistil.evaluation.score import predict_all
from bistil.evaluation.significance import KEPT, keep_outcomes
from bistil.experiment import RETRIEVAL, Cell
from bistil.pipeline.finished import save_finished
from bistil.pipeline.tuned import Tuned
from bistil.store.artefacts import Artefact, NotBuilt, file_id
from bistil.systems.table import SYSTEMS
from bistil.tasks import task as find_task
from bistil.tasks.retrieval import Side, parallel, parallel_files, retrieve


class Pipeline(Tuned):
    """All stages of one experiment over one store and one data folder."""

    def evaluation(self, cell: Cell) -> Artefact:
        """The zero-shot score of a cell on the target's test file, with what the model costs, as metrics.

        What each example adds to the scores is kept beside them (`significance.read_outcomes`), where the
        task can tell."""
        if cell.task == RETRIEVAL:
            return self._retrieval(cell)
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
            found = predict_all(
                model, task, examples, tokenizer, max_length=settings.max_length, progress=self.progress
            )
            keep_outcomes(folder / KEPT, task, examples, found, test=file_id(test))
            rows = task.encode(examples, tokenizer, max_length=settings.max_length)
            costs = cost.measure(
                model,
                task,
                rows,
                batch_size=settings.batch_size,
                repeats=3,
                pad_id=int(tokenizer.pad_token_id),
            )
            return {**task.score(examples, found), "n_examples": len(examples), **vars(costs), **self._where}

        inputs: dict[str, Artefact | str] = {
            "test": file_id(test),
            **({"target sft": target_sft} if target_sft else {}),
        }
        inputs["task sft"] = task_artefact or file_id(
            self.data.file(cell.task, self.experiment.source, "train")
        )
        return self.store.run(
            "evaluation",
            {"task": cell.task, "max_length": self.experiment.task[cell.task].max_length},
            inputs,
            build,
        )

    def _retrieval(self, cell: Cell) -> Artefact:
        """How often a cell's encoder, before any task, finds a sentence's translation; the floor is
        chance.
        """
        config, languages = self.experiment.retrieval, (self.experiment.source, cell.target)

        def build(folder: Path) -> Mapping[str, Any]:
            pairs = parallel(self.data, *languages)
            if cell.system == "floor":
                return {"accuracy": 100 / len(pairs), "n_examples": len(pairs)}
            source, target = (Side(*self.encoder(cell, code)) for code in languages)
            layer = round(config.depth * source.encoder.config.num_hidden_layers)
            found = retrieve(
                source, target, pairs, layer=layer, by=config.by, max_length=self.experiment.text.length
            )
            size = {
                "parameters": source.encoder.num_parameters(),
                "vocabulary": source.encoder.config.vocab_size,
            }
            return {**found, "layer": layer, "n_examples": len(pairs), **size, **self._where}

        inputs: dict[str, Artefact | str] = {
            f"pairs {number}": file_id(path)
            for number, path in enumerate(parallel_files(self.data, *languages))
            if path
        }
        if cell.system != "floor":
            worn = {f"sft {code}": self._language_delta(cell, code) for code in languages}
            inputs |= {
                "base": self._base(cell) or self.teacher_id,
                **{name: sft for name, sft in worn.items() if sft},
            }
        length = self.experiment.text.length
        return self.store.run(
            "evaluation", {"task": RETRIEVAL, "settings": config, "max_length": length}, inputs, build
        )

    def timed(self, task: str) -> list[Cell]:
        """The cells whose models are timed together: every system on the task's first target, first seed."""
        first, seed = self.experiment.targets[task][0], self.experiment.seeds[0]
        return [
            c
            for c in self.experiment.cells()
            if (c.task, c.target, c.seed) == (task, first, seed) and c.system != "floor"
        ]

    def timing(self, task: str) -> Artefact:
        """Latency and throughput of every system on the task's first target and seed, one after the other in
        one process.
        """
        first, cells = self.experiment.targets[task][0], self.timed(task)

        def build(folder: Path) -> Mapping[str, Any]:
            found = {}
            for cell in cells:
                model, kind, tokenizer = self.task_model(cell, first)
                settings = self.experiment.task[task]
                examples = kind.read(self.data.file(task, first, "test"))
                rows = kind.encode(examples, tokenizer, max_length=settings.max_length)
                measured = cost.measure(
                    model,
                    kind,
                    rows,
                    batch_size=settings.batch_size,
                    repeats=15,
                    pad_id=int(tokenizer.pad_token_id),
                )
                found[f"{cell.in_results}:{cell.lrf}"] = {
                    name: getattr(measured, name) for name in ("latency_ms", "examples_per_second")
                }
            return {"systems": found, **self._where}

        return self.store.run(
            "timing", {"task": task}, {f"{c.in_results}:{c.lrf}": self.task_sft(c) for c in cells}, build
        )

    def deployed(self, cell: Cell) -> Artefact:
        """The finished student of a cell in `model/`, for use without bistil: a class of transformers where
        that has such a head.

        Otherwise (a parser, or any task on ModernBERT) it is an encoder folder plus `head.safetensors` and
        `labels.json`.
        """
        tuned = self.task_sft(cell)

        def build(folder: Path) -> Mapping[str, Any]:
            model, task, tokenizer = self.task_model(cell, cell.target)
            save_finished(folder / "model", model, task.labels, tokenizer)
            return {"labels": list(task.labels)}

        target_sft = self._language_delta(cell, cell.target)
        return self.store.run(
            "deployed",
            {"task": cell.task},
            {"task sft": tuned, **({"target sft": target_sft} if target_sft else {})},
            build,
        )

    def rows(self, cell: Cell) -> list[dict[str, Any]]:
        """The tidy result rows of a cell, one a metric. Times are those of the joint timing, where that has
        been run.
        """
        found = self.evaluation(cell)
        measured = found.metrics
        with suppress(NotBuilt):
            timed = self.timing(cell.task).metrics["systems"] if cell.task in self.experiment.tuned else {}
            measured |= timed.get(f"{cell.in_results}:{cell.lrf}", {})
        shared = {
            "experiment": self.experiment.name,
            "system": cell.in_results,
            "teacher": Path(self.experiment.teacher).name,
            "task": cell.task,
            "source": self.experiment.source,
            "target": cell.target,
            "lrf": cell.lrf if cell.lrf > 1 else None,
            "density": self._density(cell, measured),
            "seed": cell.seed,
            "artefact": found.id,
        }
        names = (
            "n_examples",
            "parameters",
            "vocabulary",
            "flops_per_example",
            "latency_ms",
            "examples_per_second",
            "disk_bytes",
        )
        costs = {name: measured.get(name) for name in names}
        scores = [name for name in METRICS if name in measured]
        return [{**shared, **costs, "metric": name, "value": measured[name]} for name in scores]

    def _density(self, cell: Cell, measured: Mapping[str, Any]) -> float | None:
        """The density of a cell's task SFT: the one asked for, or what came of a choice that has its own;
        None where nothing is tuned.
        """
        if cell.task == RETRIEVAL:
            return None
        if not SYSTEMS[cell.system].one_phase or SYSTEMS[cell.system].select == "random":
            return self.experiment.task[cell.task].sft.density
        return float(
            f"{self.task_sft(cell).metrics['values'] / measured['encoder_parameters']:.3g}"
        )  # seeds differ by single values
