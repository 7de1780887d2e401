"""The progress of a training: a bar on a terminal, plain lines in a pipe or in CI."""

import sys
import time


class Progress:
    """Shows steps and epochs; `step` and `epoch` serve as callbacks of ferlab.training.loop.fit.

    epochs: how many at most. selection: the split that selects. costs: of a step in each epoch, in
    any unit, by which the time that is left is estimated.
    """

    def __init__(self, epochs, selection, costs):
        self.epochs, self.selection, self.costs, self.began = epochs, selection, costs, None
        self.bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(unit="step", dynamic_ncols=True, leave=False)

    def step(self, epoch, step, steps):
        """A step is done, the `step`-th of `steps` in this epoch; all count from 0."""
        if self.began is None:
            self.began, self.first = time.perf_counter(), epoch * steps + step
            if self.bar is not None:
                self.bar.total = self.epochs * steps
                self.bar.update(self.first)
        done = epoch * steps + step - self.first
        if done == 1:  # the first step compiled
            self.compiled = time.perf_counter()
        elif done == 20:  # now the pace is known
            ahead = sum(self.costs[epoch:]) * steps - self.costs[epoch] * step
            left = ahead / self.costs[epoch] * (time.perf_counter() - self.compiled) / 19
            self.say(
                f"about {duration(left)} for what is left of {self.epochs} epochs, "
                f"{steps} steps each"
            )
        if self.bar is not None:
            self.bar.set_description(f"training, epoch {epoch + 1}", refresh=False)
            self.bar.update(1)

    def epoch(self, row, seconds):
        """An epoch is done; row: as in the training's history."""
        running, selection = 100 * row["running_accuracy"], 100 * row["selection_accuracy"]
        self.say(
            f"epoch {row['epoch']:3d}/{self.epochs}  loss {row['running_loss']:.3f}  "
            f"accuracy {running:4.1f} %  {self.selection} {selection:4.1f} %  {seconds:.1f} s"
        )

    def say(self, line):
        """Print a line, above the bar where there is one."""
        if self.bar is not None:
            self.bar.write(line)
        else:
            print(line, flush=True)

    def close(self):
        if self.bar is not None:
            self.bar.close()


def duration(seconds):
    """12 s, 3 min, 2 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
