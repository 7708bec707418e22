"""A run from where it stands to its end: steps, validations, checkpoints, and what is shown meanwhile."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from transformers.image_processing_utils import BaseImageProcessor

from lclipseg.console.errors import InputError
from lclipseg.console.stop import StopRequest
from lclipseg.prediction.metrics import SegmentationScores
from lclipseg.prediction.several import SeveralScores
from lclipseg.training.folder import Progress, RunFolder
from lclipseg.training.steps import Step, Training

LOG_EVERY = 10  # steps
LINES = 50  # of a whole run, where there is no terminal for a bar


@dataclass(frozen=True)
class Intervals:
    """After how many steps a run is validated, and after how many it is saved besides (0: never)."""

    validate: int
    save: int


class TrainingRun:
    """
    Args:
        training ([`Training`]): The steps.
        folder ([`RunFolder`]): Where everything goes.
        image_processor ([`BaseImageProcessor`]): Kept beside the weights.
        progress ([`Progress`]): Where the run stands; counted on.
        intervals ([`Intervals`]): When to validate and save.
        validate (`Callable`): Scores the model as it is, on one data set or several; for all processes to call.
        patience (`int`, *optional*): After how many validations in a row without a better one the run ends.
        on_step (`Callable`, *optional*): Called in every process with the run's progress after each step, before it is
            saved.
    """

    def __init__(
        self,
        training: Training,
        folder: RunFolder,
        image_processor: BaseImageProcessor,
        progress: Progress,
        intervals: Intervals,
        validate: Callable[[], SegmentationScores | SeveralScores],
        patience: int | None = None,
        on_step: Callable[[Progress], None] | None = None,
    ):
        self.training = training
        self.accelerator = training.accelerator
        self.folder = folder
        self.image_processor = image_processor
        self.progress = progress
        self.intervals = intervals
        self.validate = validate
        self.patience = patience
        self.on_step = on_step
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  lr {task.fields[rate]:.1e}  data {task.fields[data]:.0%}"),
            TextColumn("val mIoU {task.fields[iou]}"),
            TimeRemainingColumn(),
            disable=not self.accelerator.is_main_process,
        )
        self.lines_every = max(LOG_EVERY, self.total // LINES) if not self.bar.console.is_terminal else None
        self.began = (time.perf_counter(), progress.step)
        self.task = self.bar.add_task(
            "step", total=self.total, completed=progress.step, loss="-", rate=0.0, data=0.0, iou="-"
        )

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return self.training.schedule.steps

    def go_on(self, stop: StopRequest) -> None:
        """Train to the end, or until `stop` is asked for in any process; then the run is saved where it stands."""
        with self.bar:
            steps = self.training.steps(self.progress)
            while True:
                if self._is_validation_due():
                    self._validate()
                    if self.progress.ended_early:
                        return
                if self.progress.step < self.total and self._is_asked_to_stop(stop):
                    self._save_last()
                    self.bar.console.print(
                        f"stopped after step {self.progress.step}; --resume true goes on from there"
                    )
                    return
                try:
                    step = next(steps, None)
                except InputError:  # the run itself is sound
                    self._save_last()
                    raise
                if step is None:
                    return
                self._show(step)
                if self.on_step is not None:
                    self.on_step(self.progress)
                if self.intervals.save and self.progress.step % self.intervals.save == 0:
                    self._save_last()

    def _is_validation_due(self) -> bool:
        step = self.progress.step
        return step > self.progress.validated_step and (step % self.intervals.validate == 0 or step == self.total)

    def _is_asked_to_stop(self, stop: StopRequest) -> bool:
        if stop.signal is not None:
            self.accelerator.set_trigger()
        return bool(self.accelerator.check_trigger())

    def _validate(self) -> None:
        """Score the model, and keep it if it is the best so far."""
        progress = self.progress
        self._save_last()  # first, lest a fault in the validation data cost the steps till now
        scores = self.validate()
        if math.isnan(scores.mean_iou):
            raise InputError(
                "the images to validate on have no labelled pixel, so that no checkpoint could be the best; "
                "`lclipseg check-data` says what their masks hold."
            )
        progress.validated_step = progress.step
        best = progress.best_mean_iou is None or scores.mean_iou > progress.best_mean_iou
        if best:
            progress.best_mean_iou, progress.best_step = scores.mean_iou, progress.step
        self.accelerator.log({"val_mean_iou": scores.mean_iou}, step=progress.step)
        self.bar.update(self.task, iou=f"{100 * scores.mean_iou:.1f}")
        if self.accelerator.is_main_process:
            counts = {"skipped_steps": progress.skipped_steps, "unreadable_samples": progress.unreadable_samples}
            self.folder.log({"step": progress.step, "loss": progress.loss, **counts, **scores.to_dict()})
            self.bar.console.print(f"step {progress.step}: val mIoU {100 * scores.mean_iou:.2f}")
        if best:
            self.folder.save("best", self.training.state, self.image_processor, progress, resumable=False)
        if self.patience is not None and progress.step - progress.best_step >= self.patience * self.intervals.validate:
            progress.ended_early = progress.step < self.total
            self.bar.console.print(f"no better validation since step {progress.best_step}: the run ends here")
        self._save_last()  # after all else, so that whoever resumes from it finds everything of this step done

    def _save_last(self) -> None:
        self.folder.save("last", self.training.state, self.image_processor, self.progress, resumable=True)

    def _show(self, step: Step) -> None:
        number = self.progress.step
        if number % LOG_EVERY == 0 or number == self.total:
            values = {"loss": step.loss, "learning_rate": step.learning_rate, "gradient_norm": step.gradient_norm}
            self.accelerator.log(values, step=number)
            self.bar.update(self.task, loss=f"{step.loss:.3f}", rate=step.learning_rate, data=step.data_share)
        if self.lines_every is not None and (number % self.lines_every == 0 or number == self.total):
            self.bar.console.print(self._line(step), highlight=False, soft_wrap=True)
        self.bar.update(self.task, completed=number)

    def _line(self, step: Step) -> str:
        """What the bar would show: `step 120/2400  loss 1.234  rate 9.5e-04  52 images/s  data 3%  12 min left`."""
        began, first = self.began
        number, seconds = self.progress.step, time.perf_counter() - began
        per_step = seconds / max(1, number - first)
        return (
            f"step {number}/{self.total}  loss {step.loss:.3f}  rate {step.learning_rate:.1e}  "
            f"{self.training.samples_per_step / per_step:.0f} images/s  data {step.data_share:.0%}  "
            f"{per_step * (self.total - number) / 60:.0f} min left"
        )
