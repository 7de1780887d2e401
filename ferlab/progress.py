"""The progress of a training: a bar on a terminal, plain lines in a pipe or in CI."""

import sys
import time
from collections import deque

RECENT = 200  # steps by which the pace is told: a machine gets busy, and idle again
EARLY = 20  # steps after which a first estimate is given
PAUSE = 60  # seconds after which a pipe gets a line within an epoch
# of a step's time by the pixels of its faces: from 32x32 to 48x48, 2.25 times as many, it grew 2.3
# times (float32) to 3.0 times (bfloat16) on FER2013
POWER = 1.2


class Progress:
    """Shows steps and epochs; `step` and `epoch` serve as callbacks of ferlab.training.loop.fit.

    epochs: how many at most. selection: the split that selects. costs: of a step in each epoch, in
    proportion to the pixels of a face. clock: seconds, as time.perf_counter gives them.

    The time that is left is that of the steps, by their costs, of scoring the split that selects
    after each epoch, and of compiling anew for faces of another size: each is measured once it has
    happened.
    """

    def __init__(self, epochs, selection, costs, clock=time.perf_counter):
        self.epochs, self.selection, self.clock = epochs, selection, clock
        self.costs = [cost**POWER for cost in costs]
        self.last = self.said = clock()  # when something was done, and said
        # by its cost, seconds of the last steps, but not of the first one: that one compiles
        self.paces = {}
        self.taken, self.compiling, self.selecting = 0, 0.0, None
        self.steps = self.bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            shown = "{desc} {percentage:3.0f} %|{bar}| {elapsed}{postfix}"
            self.bar = tqdm(bar_format=shown, dynamic_ncols=True, leave=False)

    def step(self, epoch, step, steps):
        """A step is done, the `step`-th of `steps` in this epoch; all count from 0."""
        seconds, cost = self._since_last(), self.costs[epoch]
        if self.bar is not None and self.steps is None:
            self.bar.total = sum(self.costs) * steps
            self.bar.update(sum(self.costs[:epoch]) * steps + cost * step)
        self.steps, self.taken = steps, self.taken + 1
        if cost in self.paces:
            self.paces[cost].append(seconds)
        else:
            self.paces[cost], self.compiling = deque(maxlen=RECENT), seconds
        left, known = self._left(epoch, step + 1), self.selecting is not None
        if self.taken == EARLY and not known and left:
            self.say(
                f"at least {duration(left)} for {counted(self.epochs - epoch, 'epoch')} of "
                f"{counted(steps, 'step')}"
            )
        words = f"about {duration(left)} left" if known and left else ""
        if self.bar is not None:
            self.bar.set_description(f"epoch {epoch + 1}/{self.epochs}", refresh=False)
            self.bar.set_postfix_str(words, refresh=False)
            self.bar.update(min(cost, self.bar.total - self.bar.n))  # as sums of floats go
        elif self.last - self.said >= PAUSE:
            share = f"epoch {epoch + 1:3d}/{self.epochs}  {100 * (step + 1) / steps:.0f} %"
            self.say(f"{share}  {words}".rstrip())

    def epoch(self, row, seconds):
        """An epoch is done; row: as in the training's history."""
        self.selecting = self._since_last()
        running, selection = 100 * row["running_accuracy"], 100 * row["selection_accuracy"]
        left = self._left(row["epoch"], 0) if self.steps and row["epoch"] < self.epochs else None
        self.say(
            f"epoch {row['epoch']:3d}/{self.epochs}  loss {row['running_loss']:.3f}  "
            f"accuracy {running:4.1f} %  {self.selection} {selection:4.1f} %  {seconds:.1f} s"
            + (f"  about {duration(left)} left" if left else "")
        )

    def _since_last(self):
        """Seconds since something was done before; from now on it is this."""
        last, self.last = self.last, self.clock()
        return self.last - last

    def _left(self, epoch, step):
        """Seconds that are left before the `step`-th step of an epoch; None while not known."""
        known = {cost: sum(paces) / len(paces) for cost, paces in self.paces.items() if paces}
        if not known:
            return None
        cost, pace = list(known.items())[-1]
        ahead = self.costs[epoch:]
        seconds = sum(self.steps * known.get(each, pace * each / cost) for each in ahead)
        seconds -= step * known.get(ahead[0], pace * ahead[0] / cost) if ahead else 0
        compiling = len({*ahead} - {*self.paces}) * self.compiling
        return seconds + compiling + len(ahead) * (self.selecting or 0)

    def say(self, line):
        """Print a line, above the bar where there is one."""
        self.said = self.last
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


def counted(number, what):
    """`1 epoch`, `12 epochs`, `28,709 faces`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def hardware(machine):
    """What a run.json's `machine` is: `2 cores AMD EPYC`, before them NVIDIA's GPUs, if any."""
    processor = f"{counted(machine['cores'], 'core')} {machine['cpu']}"
    return f"{machine['gpu']}, {processor}" if "gpu" in machine else processor
