"""transformers.Trainer for objectives, and what watches it.

Notable: transformers imports peft with its Trainer, seconds that a plan or an error has no need of; so `fit`
imports this file when a training begins.
"""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback

from bistil.training import checkpoints
from bistil.training.meter import Meter, Pace, of_step
from bistil.training.parallel import exchange, over_processes
from bistil.training.progress import Event, Listener


class ObjectiveTrainer(Trainer):
    """transformers.Trainer for objectives: the loss is the module's output, the evaluation a callable, the
    order sequential.
    """

    evaluate_model: Callable[[], Mapping[str, float]]
    live: Meter
    scheduled: int
    """Steps of the schedule that the learning rate follows, of which fewer may be taken."""
    _parts: Meter

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch; its parts are noted for the log."""
        loss, parts = model(inputs)
        self._parts.add(parts)
        self.live.add(of_step(loss, parts, inputs))
        return (loss, parts) if return_outputs else loss

    def training_step(self, model: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """A batch of this process; after the last one of a step the gradients are those of all."""
        loss = super().training_step(model, *args, **kwargs)
        if self.accelerator.sync_gradients:
            exchange(model.parameters())
        return loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The callable's metrics, in eval mode and without gradients."""
        model: Any = self.model
        model.eval()
        with torch.no_grad():
            metrics = {f"eval_{name}": float(value) for name, value in self.evaluate_model().items()}
        model.train()
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, beside the loss, the means of its parts over all processes."""
        if "loss" in logs:
            parts = {
                name: torch.tensor(value, device=self.args.device)
                for name, value in self._parts.take().items()
            }
            logs |= {name: float(over_processes(value)) for name, value in parts.items()}
        super().log(logs, start_time)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The learning rates of the whole schedule."""
        return super().create_scheduler(self.scheduled, optimizer)

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        dataset: Any = train_dataset if train_dataset is not None else self.train_dataset
        return SequentialSampler(dataset)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, from no parts noted."""
        self._parts = Meter()
        return super().train(*args, **kwargs)


class Watcher(TrainerCallback):
    """Reports progress, obeys the stop event, evaluates at the last step and marks checkpoints complete."""

    def __init__(self, stage: str, progress: Listener, stop: threading.Event | None) -> None:
        self.stage, self.progress, self.stop, self.stopped = stage, progress, stop, False
        self.live = Meter()
        self._latest: dict[str, float] = {}
        self._told_live: set[str] = set()
        self._pace = Pace()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock at the step that the run goes on from."""
        self._pace = Pace(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Take what the log alone has. Its losses are means since its last entry, which may be long ago; its
        rate is that before the step.
        """
        alone = {name: value for name, value in (logs or {}).items() if name not in self._told_live}
        self._latest |= {name: value for name, value in alone.items() if isinstance(value, float)}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell the step, evaluate and save after the last, and stop where that is asked for."""
        self._pace.stepped(state.global_step)
        new: dict[str, float] = {}
        if self._pace.due or state.global_step == state.max_steps:
            means = self.live.take()
            if "tokens" in means:  # of a batch, of which a step may have several
                means["tokens"] *= args.gradient_accumulation_steps
            live = self._pace.read(means, state.max_steps)
            new = {"learning_rate": float(kwargs["optimizer"].param_groups[0]["lr"]), **live}
            self._told_live |= new.keys()
        self._tell(state, new)
        if state.global_step == state.max_steps:
            control.should_evaluate = control.should_save = True
        elif self.stop is not None and self.stop.is_set():
            self.stopped = control.should_save = control.should_training_stop = True

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """Tell the evaluation of the step, and leave it out of the pace."""
        self._tell(state, metrics)

    def _tell(self, state: Any, new: Mapping[str, float]) -> None:
        """Tell the newest of each number, the new ones by name; the pace leaves that out."""
        self._latest |= new
        with self._pace.aside():
            step, of = state.global_step, state.max_steps
            self.progress(Event(self.stage, step, of, dict(self._latest), frozenset(new)))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark the checkpoint complete, and delete those that nothing needs."""
        if state.is_world_process_zero:
            checkpoints.mark(Path(args.output_dir) / f"checkpoint-{state.global_step}")
            best = state.best_model_checkpoint
            checkpoints.keep(Path(args.output_dir), Path(best).name if best else None)
        self._pace.rested()
