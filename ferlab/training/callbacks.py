"""What is reported of a training while it runs. Nothing here changes a number of it."""

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from ferlab import files
from ferlab.files import UserError
from ferlab.progress import Progress
from ferlab.training import schedule

SHELLS = ("sh", "dash", "ash", "bash", "zsh", "ksh", "fish")


def _ignore(*_):
    pass


@dataclass(frozen=True)
class Callbacks:
    """Functions that `loop.fit` calls.

    on_step(epoch, step, steps): after each step, all from 0, `steps` in an epoch. on_epoch(row,
    seconds): after each epoch, once its checkpoint is written; row: as in the history, without
    `chosen`. on_nondeterministic(): where this machine does not repeat a step to the last bit, so
    that the training cannot be repeated exactly; None: this is not tried, which saves a few steps.
    known_repeats: {network, side, batch size, optimizer: whether it repeats}, added to.
    """

    on_step: Callable = _ignore
    on_epoch: Callable = _ignore
    on_nondeterministic: Callable | None = None
    known_repeats: dict = field(default_factory=dict)


class Reporter:
    """Callbacks that show a training on the terminal and pass its epochs to a logger.

    params: the train section. logger: with `epoch(row)` and `close(status=None)`, such as
    ferlab.tracking's EpochLogger. memory: a JSON file of this machine's, which keeps known_repeats
    from one training to the next. Under DVC, the training stops with it: both functions that are
    called regularly raise UserError once the process that started this one has ended.
    """

    def __init__(self, params, logger, memory):
        self.params, self.logger, self.parent = params, logger, os.getppid()
        self.dvc = _starter()
        self.memory, self.known_repeats = memory, {}
        with contextlib.suppress(OSError, ValueError, TypeError):  # unknown or damaged: tried again
            self.known_repeats |= files.read_json(memory)
        self.progress = Progress(params.epochs, params.select_on, schedule.step_costs(params))

    def on_step(self, epoch, step, steps):
        self.stop_without_dvc()
        self.progress.step(epoch, step, steps)

    def on_epoch(self, row, seconds):
        self.progress.epoch(row, seconds)
        self.logger.epoch(row)

    def on_nondeterministic(self):
        print(
            f"train.batch_size={self.params.batch_size} in {self.params.precision}: this machine "
            "does not repeat such a step to the last bit, so the same training again will only "
            "come close; smaller batches may repeat exactly"
        )

    def stop_without_dvc(self):
        if "DVC_STAGE" in os.environ and (os.getppid() != self.parent or _has_ended(self.dvc)):
            raise UserError(
                "dvc has ended, so this training stops; the finished epochs are kept: run dvc again"
            )

    @contextlib.contextmanager
    def closing(self):
        """Close the progress bar after the block, and the logger where the block fails."""
        status = "FAILED"
        try:
            yield
            status = None
        except KeyboardInterrupt:
            status = "KILLED"
            sys.exit("stopped; the finished epochs are kept: the same command goes on from there")
        finally:
            self.progress.close()
            files.write_json(self.memory, self.known_repeats)
            if status:
                self.logger.close(status)


def _starter():
    """The process that started this one, by way of a shell or not; None where it can't be told.

    DVC starts a stage by a shell. bash becomes the stage; dash, a container's `sh`, waits for it
    and outlives DVC.
    """
    try:
        process = psutil.Process().parent()
        while process and process.name() in SHELLS:
            process = process.parent()
        return process
    except psutil.Error:
        return None


def _has_ended(process):
    try:
        return process and (not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
