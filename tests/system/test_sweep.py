"""A sweep finds what is better, prunes what is hopeless, goes on where it was killed, and refuses ranges that cannot be."""

from dataclasses import replace

import pandas as pd
import pytest

from ferlab import params
from ferlab.files import UserError
from ferlab.scaling import sweep
from ferlab.training import loop
from tests.repository import TOP
from tests.synthetic import trainable

SWEEP = """
name: tiny
trials: 4
seed: 0
ranges:
  train.learning_rate: {from: 0.0001, to: 0.02, log: true}
  train.dropout: [0.0, 0.2]
"""


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A bench with 35 training images of two classes that brightness tells apart, and a sweep of four short trials."""
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return trainable(
        tmp_path, monkeypatch, {"angry": (9, 4, 4), "happy": (26, 10, 10)}, epochs=2, batch_size=16
    )


class Killed(BaseException):
    """As a SIGKILL: nothing of Optuna's catches it."""


@pytest.mark.parametrize("end", [Killed, pytest.param(KeyboardInterrupt, marks=pytest.mark.slow)])
def test_a_broken_off_sweep_goes_on_and_ends_with_all_its_trials(bench, monkeypatch, end):
    fit, calls = loop.fit, []

    def broken_off_in_the_third(dataset, chosen, checkpoint, callbacks):
        calls.append(checkpoint.exists())
        if len(calls) != 3:
            return fit(dataset, chosen, checkpoint, callbacks)

        def epoch(row, seconds):
            callbacks.on_epoch(row, seconds)
            raise end

        return fit(dataset, chosen, checkpoint, replace(callbacks, on_epoch=epoch))

    monkeypatch.setattr(loop, "fit", broken_off_in_the_third)
    with pytest.raises(end):
        sweep.sweep(report=lambda line: None)
    said = []
    monkeypatch.setattr(
        "ferlab.tracking.store.is_alive", lambda tags: False
    )  # the process of the first call would be dead
    study = sweep.sweep(report=said.append)
    states = [trial.state.name for trial in study.trials]
    assert states.count("COMPLETE") + states.count("PRUNED") == 4 and states.count("FAIL") == 1
    assert calls == [
        False,
        False,
        False,
        True,
        False,
    ]  # what was killed was tried again first, from its checkpoint
    assert said[-1].startswith("best: ") and "dvc exp run -S train.learning_rate=" in said[-1]
    rates = {trial.params["train.learning_rate"] for trial in study.trials}
    assert len(rates) == 4  # the second call does not ask for the first one's trials again
    page = (bench / "reports/sweep.md").read_text()
    assert page.count("\n| ") == 5 and "Private was not looked at" in page
    assert not list((bench / ".ferlab/sweeps/tiny").glob("*.npz"))

    from ferlab.tracking import store

    with store.store() as client:
        runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert len([run for run in runs if run.info.run_name.startswith("sweep-tiny")]) >= 4
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}

    monkeypatch.setattr(loop, "fit", None)  # nothing is left to train
    assert len(sweep.sweep(report=said.append).trials) == 5


class Fake:
    """A cluster with room for two whose trainings are over at once: four epochs, the accuracy 0.5, of every third only 0.1."""

    def __init__(self, breaks=None):
        self.breaks, self.running, self.stopped, self.forgotten, self.most, self.count = (
            breaks,
            {},
            set(),
            [],
            0,
            0,
        )

    def __call__(self, folder):
        return self

    def share(self, dataset):
        return dataset

    def slots(self):
        return 2

    def start(self, name, shared, settings):
        self.count += 1
        self.stopped.discard(name)
        self.running[name] = [self.count, 0]
        self.most = max(self.most, len(self.running))

    def stop(self, name):
        self.stopped.add(name)

    def forget(self, name):
        self.forgotten.append(name)

    def close(self):
        self.running = {}

    def news(self):
        told = []
        for name, state in list(self.running.items()):
            if self.breaks and state == [3, 1]:
                raise self.breaks
            state[1] += 1
            accuracy = 0.5 if state[0] % 3 else 0.1
            rows = [
                {
                    "epoch": epoch + 1,
                    "running_loss": 1.0,
                    "selection_loss": 1.0,
                    "selection_accuracy": accuracy,
                }
                for epoch in range(state[1])
            ]
            told.append((name, "epoch", (rows[-1], 1.0)))
            if name in self.stopped or state[1] == 4:
                del self.running[name]
                done = {"history": pd.DataFrame(rows), "seconds": [1.0] * 4, "model": name.encode()}
                told.append(
                    (name, "stopped", None) if name in self.stopped else (name, "done", done)
                )
        return told


def test_a_cluster_is_kept_full_and_hopeless_trials_are_stopped(bench):
    text = (bench / "params.yaml").read_text()
    (bench / "params.yaml").write_text(text.replace("epochs: 2", "epochs: 4"))
    (bench / "sweep.yaml").write_text(SWEEP.replace("trials: 4", "trials: 9"))
    said, fake = [], Fake()
    study = sweep.sweep(report=said.append, cluster=fake)
    states = [trial.state.name for trial in study.trials]
    assert len(states) == 9 and fake.most == 2 and fake.count == 9
    assert (
        states[5] == states[8] == "PRUNED" and states.count("PRUNED") == 2
    )  # the first four are never pruned
    assert len(fake.forgotten) == 9 and sum("pruned after" in line for line in said) == 2
    assert said[-1].startswith("best: 50.00 %")


def test_three_failures_end_a_sweep_and_one_does_not(bench):
    class Failing(Fake):
        def news(self):
            told = super().news()
            return [
                (name, "failed", UserError("no"))
                if kind == "done" and self.count in self.bad
                else (name, kind, what)
                for name, kind, what in told
            ]

    (bench / "sweep.yaml").write_text(SWEEP)
    fake = Failing()
    fake.bad, fake.slots = [2], lambda: 1
    study = sweep.sweep(report=lambda line: None, cluster=fake)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL"] + 3 * ["COMPLETE"]
    (bench / "sweep.yaml").write_text(SWEEP.replace("name: tiny", "name: other"))
    fake = Failing()
    fake.bad, fake.slots = [1, 2, 3], lambda: 1
    with pytest.raises(UserError, match="three trials failed, the last: no"):
        sweep.sweep(report=lambda line: None, cluster=fake)
    fake.slots = lambda: 0
    with pytest.raises(UserError, match="no node left that is large enough"):
        sweep.sweep(report=lambda line: None, cluster=fake)


def test_a_diverged_trial_here_does_not_end_the_sweep_but_three_do(bench, monkeypatch):
    fit, calls, bad = loop.fit, [], [2]

    def sometimes(*arguments):
        calls.append(arguments)
        if len(calls) in bad:
            raise UserError("the loss is no number")
        return fit(*arguments)

    monkeypatch.setattr(loop, "fit", sometimes)
    (bench / "sweep.yaml").write_text(SWEEP + "  train.batch_size: {from: 8, to: 16}\n")
    said = []
    study = sweep.sweep(report=said.append)
    states = [trial.state.name for trial in study.trials]
    assert (
        states.count("FAIL") == 1
        and len(states) == 5
        and any("failed: the loss is no number" in line for line in said)
    )
    assert all(8 <= trial.params["train.batch_size"] <= 16 for trial in study.trials)
    assert (
        f"-S train.learning_rate={study.best_params['train.learning_rate']} " in said[-1]
    )  # all digits: the same training
    (bench / "sweep.yaml").write_text(SWEEP.replace("name: tiny", "name: other"))
    calls, bad = [], [1, 2, 3]
    with pytest.raises(UserError, match="three trials failed, the last: the loss is no number"):
        sweep.sweep(report=said.append)


def test_memory_mapped_faces_are_passed_on_without_a_copy(bench):
    import pickle

    from ferlab.data.dataset import Dataset
    from ferlab.scaling import cluster

    apart = []
    left = pickle.dumps(
        cluster.shareable(Dataset.load(bench / "data/balanced")),
        protocol=5,
        buffer_callback=apart.append,
    )
    assert len(left) < 20_000 and sum(buffer.raw().nbytes for buffer in apart) > 63 * 48 * 48


@pytest.mark.parametrize(
    "arguments", [["sweep", "--address", "auto"], ["run-recipes", "vgg", "--storage", "s3://x"]]
)
def test_what_means_something_on_a_cluster_only_is_not_ignored(arguments, monkeypatch, capsys):
    from ferlab.__main__ import main

    monkeypatch.chdir(TOP)
    monkeypatch.setattr("sys.argv", ["ferlab", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert "means something with --engine ray only" in str(caught.value)


def test_ctrl_c_leaves_a_cluster_s_trials_to_be_tried_again(bench):
    (bench / "sweep.yaml").write_text(SWEEP)
    with pytest.raises(KeyboardInterrupt):
        sweep.sweep(report=lambda line: None, cluster=Fake(KeyboardInterrupt()))
    fake = Fake()
    study = sweep.sweep(report=lambda line: None, cluster=fake)
    states = [trial.state.name for trial in study.trials]
    assert states.count("COMPLETE") == 4 and states.count("FAIL") == 2 and fake.count == 2
    broken, tried = (
        [trial.params for trial in study.trials if trial.state.name == state]
        for state in ("FAIL", "COMPLETE")
    )
    assert tried[2:] == broken


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "train.dropout",
            "train.drop",
            "sweep.yaml: ranges.train.drop: only parameters of the train section can be swept",
        ),
        (
            "train.dropout",
            "balance.shift",
            "ranges.balance.shift: only parameters of the train section",
        ),
        ("[0.0, 0.2]", "[0.0, 1.2]", "train.dropout = 1.2"),
        (
            "from: 0.0001",
            "from: 0.1",
            "ranges.train.learning_rate: `from` must be below `to`, and above 0",
        ),
        (
            "from: 0.0001",
            "from: -1",
            "ranges.train.learning_rate: `from` must be below `to`, and above 0",
        ),
        (
            "train.dropout: [0.0, 0.2]",
            "train.epochs: {from: 1.5, to: 4}",
            "ranges.train.epochs: takes whole numbers only",
        ),
        ("trials: 4", "trials: 0", "trials: input should be greater than or equal to 1"),
        ("seed: 0\n", "", "seed: field required"),
        ("name: tiny", "name: a/b", "name: string should match"),
    ],
)
def test_a_bad_sweep_is_refused_with_file_and_key(bench, old, new, told):
    (bench / "sweep.yaml").write_text(SWEEP.replace(old, new))
    with pytest.raises(UserError) as caught:
        sweep.load("sweep.yaml")
    assert (
        "sweep.yaml" in str(caught.value)
        and told in str(caught.value)
        and "\n" not in str(caught.value)
    )


def test_the_declared_sweep_is_valid(monkeypatch):
    monkeypatch.chdir(TOP)
    assert set(sweep.load("sweep.yaml").ranges) <= {
        f"train.{name}" for name in params.Train.model_fields
    }
