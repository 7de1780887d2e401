"""What a person sees of a long training: a bar on a terminal, plain lines in a pipe or in CI."""

import sys
import time


class Progress:
    """Feed `step` and `epoch` to ferlab.training.fit. costs: of a step in each epoch, in any unit."""

    def __init__(self, epochs, selection, costs):
        self.epochs, self.selection, self.costs, self.began = epochs, selection, costs, None
        self.bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(unit="step", dynamic_ncols=True, leave=False)

    def step(self, epoch, step, steps):
        if self.began is None:
            self.began, self.first = time.perf_counter(), epoch * steps + step
            if self.bar is not None:
                self.bar.total = self.epochs * steps
                self.bar.update(self.first)
        done = epoch * steps + step - self.first
        if done == 20:  # the first step compiles; from here on the pace is known
            ahead = sum(self.costs[epoch:]) * steps - self.costs[epoch] * step
            left = ahead / self.costs[epoch] * (time.perf_counter() - self.settled) / 19
            self.say(
                f"about {duration(left)} for what is left of {self.epochs} epochs, {steps} steps each"
            )
        elif done == 1:
            self.settled = time.perf_counter()
        if self.bar is not None:
            self.bar.set_description(f"training, epoch {epoch + 1}", refresh=False)
            self.bar.update(1)

    def epoch(self, row, seconds):
        running, selected = 100 * row["running_accuracy"], 100 * row["selection_accuracy"]
        self.say(
            f"epoch {row['epoch']:3d}/{self.epochs}  loss {row['running_loss']:.3f}  accuracy {running:4.1f} %  "
            f"{self.selection} {selected:4.1f} %  {seconds:.1f} s"
        )

    def say(self, line):
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
