"""What a training says of the time that is left, by a clock that the test turns."""

import pytest

from ferlab import progress
from ferlab.progress import Progress, counted


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ({"cores": 2, "cpu": "AMD EPYC"}, "2 cores AMD EPYC"),
        ({"cores": 1, "cpu": "Xeon", "gpu": "NVIDIA H200"}, "NVIDIA H200, 1 core Xeon"),
    ],
)
def test_a_gpu_is_named_before_the_processor(machine, said):
    assert progress.hardware(machine) == said


SMALL, LARGE = 32**2, 48**2


class Training:
    """Twelve epochs of 100 steps, the second half on faces that cost 2.6 times as much."""

    def __init__(self, step=0.1, selecting=4.0, compiling=8.0, costs=(SMALL,) * 6 + (LARGE,) * 6):
        self.now, self.costs = 0.0, costs
        self.step, self.selecting, self.compiling = step, selecting, compiling
        self.shown = Progress(len(costs), "public", costs, lambda: self.now)
        self.ends, self.began = [], {}

    def run(self, steps=100):
        for epoch, cost in enumerate(self.costs):
            if epoch == 0 or cost != self.costs[epoch - 1]:
                self.now += self.compiling
            for step in range(steps):
                self.now += self.step * (2.6 if cost == LARGE else 1)
                self.shown.step(epoch, step, steps)
            self.now += self.selecting
            row = {"epoch": epoch + 1, "running_loss": 1.0, "running_accuracy": 0.5}
            self.shown.epoch(row | {"selection_accuracy": 0.5}, 1.0)
            self.ends.append(self.now)


def seconds(text):
    number, unit = text.split()[:2]
    return float(number) * (60 if unit == "min" else 1)


@pytest.mark.parametrize("selecting", [0.5, 4, 30])
def test_after_the_first_epoch_the_time_left_is_true_whatever_the_later_ones_cost(
    selecting, capsys
):
    training = Training(selecting=selecting)
    training.run()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    for line, end in zip(lines[:-1], training.ends[:-1], strict=True):
        left = seconds(line.split("about ")[1])
        assert left == pytest.approx(training.now - end, rel=0.1, abs=36), line
    assert "left" not in lines[-1]


def test_a_pipe_hears_something_each_minute_of_a_long_epoch(capsys):
    Training(step=8.5, costs=(LARGE,) * 2).run()
    lines = capsys.readouterr().out.splitlines()
    within = [line for line in lines if line.startswith("epoch   1/2") and "loss" not in line]
    assert 30 <= len(within) <= 38 and within[0] == "epoch   1/2  3 %"
    assert lines[-2].startswith("epoch   2/2  9") and lines[-2].endswith("left")


def test_on_a_terminal_a_bar_moves_with_each_step(monkeypatch):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    training = Training()
    places = []
    step = training.shown.step
    training.shown.step = lambda *at: (step(*at), places.append(training.shown.bar.n))
    training.run()
    assert len(set(places)) == 1200 and places == sorted(places)
    assert places[599] / training.shown.bar.total == pytest.approx(1 / 3.6, abs=0.01)
    training.shown.close()


def test_one_is_written_without_an_s(capsys):
    assert [counted(n, "face") for n in (1, 2, 28709)] == ["1 face", "2 faces", "28,709 faces"]
    Training(costs=(LARGE,), step=1).run(steps=30)
    assert "at least 26 s for 1 epoch of 30 steps" in capsys.readouterr().out
