"""A sweep finds what is better, prunes what is hopeless, goes on where it was killed, and refuses
ranges that cannot be.
"""

import contextlib
import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import optuna
import pandas as pd
import pytest

from ferlab import params
from ferlab.data.dataset import Dataset
from ferlab.files import UserError
from ferlab.scaling import local, search, sweep, sweep_file
from ferlab.training import checkpoint, fingerprint
from tests.repository import TOP, wait_for
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
def workspace(tmp_path, monkeypatch):
    """A workspace with 35 training images of two classes that brightness tells apart, and a sweep
    of four short trials.
    """
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return trainable(
        tmp_path, monkeypatch, {"angry": (9, 4, 4), "happy": (26, 10, 10)}, epochs=2, batch_size=16
    )


class Killed(BaseException):
    """As a SIGKILL: nothing of Optuna's catches it."""


def trained_epochs(monkeypatch):
    """The list to which every epoch that is trained from now on is added, as (trial, epoch)."""
    epochs, report = [], search.Trial.epoch

    def epoch(self, row):
        epochs.append((self.number, row["epoch"]))
        return report(self, row)

    monkeypatch.setattr(search.Trial, "epoch", epoch)
    return epochs


@pytest.mark.slow
@pytest.mark.parametrize("end", [Killed, KeyboardInterrupt])
def test_an_interrupted_sweep_trains_no_epoch_twice_and_ends_with_all_its_trials(
    workspace, monkeypatch, end
):
    epochs = trained_epochs(monkeypatch)
    with monkeypatch.context() as patch:
        report = search.Trial.epoch

        def interrupted_after_the_fifth_epoch(self, row):
            report(self, row)
            if len(epochs) == 5:
                raise end

        patch.setattr(search.Trial, "epoch", interrupted_after_the_fifth_epoch)
        with pytest.raises(end):
            sweep.sweep(report=lambda line: None)
    monkeypatch.setattr("ferlab.tracking.store.is_alive", lambda tags: False)
    lines = []
    study = sweep.sweep(report=lines.append)
    states = [trial.state.name for trial in study.trials]
    assert states.count("COMPLETE") + states.count("PRUNED") == 4 and states.count("FAIL") == 1
    # the third trial was interrupted after its first epoch; the fourth is the same, and goes on
    assert epochs == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (3, 2), (4, 1), (4, 2)]
    assert study.trials[2].params == study.trials[3].params
    assert lines[-1].startswith("best: ") and "dvc exp run -S train.learning_rate=" in lines[-1]
    rates = {trial.params["train.learning_rate"] for trial in study.trials}
    assert len(rates) == 4  # the second call does not ask for the first one's trials again
    page = (workspace / "reports/sweep.md").read_text()
    assert page.count("\n| ") == 5 and "Private was not looked at" in page
    assert not list((workspace / ".ferlab/sweeps/tiny").glob("*.npz"))

    runs = mlflow_runs()
    assert len([run for run in runs if run.info.run_name.startswith("sweep-tiny")]) >= 4
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}

    assert len(sweep.sweep(report=lines.append).trials) == 5
    assert len(epochs) == 8  # nothing was left to train


SHARED = """
from ferlab.scaling import search, sweep
def epoch(self, row, report=search.Trial.epoch):
    print("trial", self.number, "epoch", row["epoch"], flush=True)
    return report(self, row)
search.Trial.epoch = epoch
sweep.sweep()
"""


@pytest.mark.slow
def test_several_processes_share_a_sweep_and_take_over_what_a_killed_one_has_begun(workspace):
    text = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(text.replace("epochs: 2", "epochs: 40"))
    (workspace / "sweep.yaml").write_text(SWEEP.replace("trials: 4", "trials: 3"))
    folder = workspace / ".ferlab/sweeps/tiny"
    outputs = [workspace / f"output-{number}" for number in range(3)]

    def started(output):
        with output.open("w") as file:
            command = [sys.executable, "-c", SHARED]
            return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)

    def epochs():
        text = "".join(output.read_text() for output in outputs if output.exists())
        return [tuple(map(int, pair)) for pair in re.findall(r"trial (\d) epoch (\d+)", text)]

    killed = started(outputs[0])
    wait_for(lambda: len(epochs()) > 4 or killed.poll() is not None)
    killed.kill()
    killed.wait()
    [left] = folder.glob("*.npz")
    done = checkpoint.load(left).epoch
    both = started(outputs[1]), started(outputs[2])
    assert [process.wait(600) for process in both] == [0, 0], [out.read_text() for out in outputs]
    storage = f"sqlite:///{folder}/study.db"
    [name] = optuna.get_all_study_names(storage)
    trials = optuna.load_study(study_name=name, storage=storage).trials
    assert sorted(trial.state.name for trial in trials) == 3 * ["COMPLETE"] + ["FAIL"]
    assert len({trial.params["train.learning_rate"] for trial in trials}) == 3
    assert trials[0].state.name == "FAIL"
    [retried] = (trial for trial in trials if trial.user_attrs.get("again") == 0)
    assert retried.params == trials[0].params and 1 < done < 40
    again = [epoch for number, epoch in epochs() if number == retried.number]
    assert again == list(range(done + 1, 41))
    assert not list(folder.glob("*.npz"))


SLOW_TO_BEGIN = """
import time, optuna
def ask(study, ask=optuna.Study.ask):
    time.sleep(8)
    return ask(study)
optuna.Study.ask = ask
"""


@pytest.mark.slow
def test_of_two_processes_one_begins_the_last_trial(workspace):
    (workspace / "sweep.yaml").write_text(SWEEP.replace("trials: 4", "trials: 1"))
    command = [sys.executable, "-c", SLOW_TO_BEGIN + SHARED]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(output.count("trial 1/1") for output in outputs) == 1
    storage = f"sqlite:///{workspace}/.ferlab/sweeps/tiny/study.db"
    [name] = optuna.get_all_study_names(storage)
    assert len(optuna.load_study(study_name=name, storage=storage).trials) == 1


def mlflow_runs():
    from ferlab.tracking import store

    with store.store() as client:
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return client.search_runs(experiments)


@pytest.fixture
def instant(monkeypatch):
    """Trainings that are over at once: four epochs of accuracy 0.5, every third of only 0.1.

    Its attributes change that: failing, the numbers of trainings that fail; interrupt, raised in
    the third one's second epoch; accuracies and chosen, of all. keys: of those that were begun.
    """
    trainings = SimpleNamespace(keys=[], failing=(), interrupt=None, accuracies=None, chosen=4)

    def fit(dataset, settings, checkpoint, callbacks):
        checkpoint.write_bytes(b"")
        trainings.keys.append(checkpoint.stem)
        number, rows = len(trainings.keys), []
        if number in trainings.failing:
            raise UserError("no")
        for epoch in range(1, 5):
            if trainings.interrupt and (number, epoch) == (3, 2):
                raise trainings.interrupt
            usual = 4 * [0.5 if number % 3 else 0.1]
            row = {"epoch": epoch, "running_loss": 1.0, "selection_loss": 1.0}
            row["selection_accuracy"] = (trainings.accuracies or usual)[epoch - 1]
            callbacks.on_epoch(row, 1.0)
            rows.append(row | {"chosen": int(epoch == trainings.chosen)})
        return None, pd.DataFrame(rows), 4 * [1.0]

    monkeypatch.setattr("ferlab.training.loop.fit", fit)
    silent = SimpleNamespace(epoch=lambda row: None, close=lambda status, wait: None)
    monkeypatch.setattr(search.epoch_logger, "EpochLogger", lambda *arguments: silent)
    monkeypatch.setattr("ferlab.training.backend.start", lambda *arguments: None)
    return trainings


def test_hopeless_trials_are_stopped_and_their_checkpoints_go(workspace, instant):
    text = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(text.replace("epochs: 2", "epochs: 4"))
    (workspace / "sweep.yaml").write_text(SWEEP.replace("trials: 4", "trials: 9"))
    lines = []
    study = sweep.sweep(report=lines.append)
    states = [trial.state.name for trial in study.trials]
    # the first four are never pruned
    assert states[5] == states[8] == "PRUNED" and states.count("PRUNED") == 2 and len(states) == 9
    assert sum("pruned after 2 epochs" in line for line in lines) == 2
    assert lines[-1].startswith("best: 50.00 %")
    assert not list((workspace / ".ferlab/sweeps/tiny").glob("*.npz"))


def study_of(workspace, trials=1, **changes):
    """The study of a sweep of one trial. changes: of lines of params.yaml, by the key."""
    path = workspace / "params.yaml"
    before = text = path.read_text()
    for key, value in changes.items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"  {key}: "))
        text = text.replace(line, f"  {key}: {value}")
    path.write_text(text)
    (workspace / "sweep.yaml").write_text(SWEEP.replace("trials: 4", f"trials: {trials}"))
    try:
        return sweep.sweep(report=lambda line: None)
    finally:
        path.write_text(before)


def test_a_sweep_takes_no_trial_of_other_data_code_versions_or_fixed_parameters(
    workspace, instant, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody: this is of Optuna
    names = [study_of(workspace).study_name]
    names.append(study_of(workspace, label_smoothing=0.3).study_name)
    data = Dataset.load(workspace / "data/balanced")
    for training in ({"class_weights": [1.0, 2.0]}, {"sampler": True}):
        replace(data, training=training).save(workspace / "data/balanced")
        names.append(study_of(workspace).study_name)
    data.save(workspace / "data/balanced")
    with monkeypatch.context() as patch:
        real = importlib.metadata.version
        patch.setattr(
            importlib.metadata, "version", lambda name: "0" if name == "keras" else real(name)
        )
        names.append(study_of(workspace).study_name)
    library = workspace / "changed"
    for name in (*fingerprint.CODE, "models/small.py"):
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(fingerprint.__file__).parents[1] / name, library / name)
    with open(library / "models/small.py", "a") as file:
        file.write("# changed")
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "__file__", str(library / "training/fingerprint.py"))
        names.append(study_of(workspace).study_name)
    assert len(set(names)) == len(names)

    again = study_of(workspace, learning_rate=0.001)  # searched: what params.yaml says is no matter
    assert again.study_name == names[0] and len(again.trials) == 1


def test_the_code_of_every_network_that_a_sweep_tries_counts(workspace, settings):
    (workspace / "sweep.yaml").write_text(
        SWEEP + "  train.model: [small, resnet]\n  train.backend: [tensorflow, jax]\n"
    )
    tried = sweep_file.variants(sweep_file.load("sweep.yaml"), settings().train)
    assert [(each.model, each.backend) for each in tried] == [
        ("small", "tensorflow"),
        ("small", "jax"),
        ("resnet", "tensorflow"),
        ("resnet", "jax"),
    ]
    assert {each.learning_rate for each in tried} == {0.0001}


@pytest.mark.parametrize(("keep", "chosen", "value"), [("best", 2, 0.6), ("last", 4, 0.4)])
def test_a_trial_counts_with_the_epoch_whose_weights_it_keeps(
    workspace, instant, keep, chosen, value
):
    instant.accuracies, instant.chosen = (0.2, 0.6, 0.5, 0.4), chosen
    assert study_of(workspace, keep=keep).best_value == value
    page = (workspace / "reports/sweep.md").read_text()
    assert ("keeps its last epoch" in page) == (keep == "last")


def test_a_sweep_here_takes_as_many_devices_as_the_parameters_say(workspace):
    """TensorFlow spreads no batch: what `dvc repro` refuses, a sweep does not do on one device."""
    text = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(text.replace("  devices: 1", "  devices: 2"))
    with pytest.raises(UserError, match="train.devices = 2: only JAX spreads a batch"):
        sweep.sweep(report=lambda line: None)


def test_three_failures_end_a_sweep_and_one_does_not(workspace, instant):
    instant.failing = [2]
    study, folder = sweep.sweep(report=lambda line: None), workspace / ".ferlab/sweeps"
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL"] + 3 * ["COMPLETE"]
    assert not list(folder.rglob("*.npz"))  # that of the failed one neither
    (workspace / "sweep.yaml").write_text(SWEEP.replace("name: tiny", "name: other"))
    instant.keys.clear()
    instant.failing = [1, 2, 3]
    with pytest.raises(UserError, match="three trials failed, the last: no"):
        sweep.sweep(report=lambda line: None)
    assert not list(folder.rglob("*.npz"))


@pytest.mark.slow
def test_a_trial_that_cannot_be_trained_here_does_not_end_the_sweep_but_three_do(workspace):
    """silva_2025 takes no smaller faces, with which these trainings begin."""
    text = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(
        text.replace("low_resolution: 0.0", "low_resolution: 0.5")
    )
    ranges = SWEEP.replace("seed: 0", "seed: 28") + "  train.batch_size: {from: 8, to: 16}\n"
    (workspace / "sweep.yaml").write_text(ranges + "  train.model: [small, silva_2025]\n")
    lines = []
    study = sweep.sweep(report=lines.append)
    failed = [trial for trial in study.trials if trial.state.name == "FAIL"]
    assert 1 <= len(failed) <= 2 and len(study.trials) == 4 + len(failed)
    assert {trial.params["train.model"] for trial in failed} == {"silva_2025"}
    reasons = [line for line in lines if "failed: train.low_resolution = 0.5: the network" in line]
    assert len(reasons) == len(failed)
    assert all(8 <= trial.params["train.batch_size"] <= 16 for trial in study.trials)
    # all digits: the same training
    assert f"-S train.learning_rate={study.best_params['train.learning_rate']} " in lines[-1]
    (workspace / "sweep.yaml").write_text(ranges + "  train.model: [silva_2025]\n")
    with pytest.raises(UserError, match="three trials failed, the last: train.low_resolution"):
        sweep.sweep(report=lines.append)


def test_memory_mapped_faces_are_passed_on_without_a_copy(workspace):
    import pickle

    from ferlab.data.dataset import Dataset
    from ferlab.scaling import cluster

    buffers = []
    pickled = pickle.dumps(
        cluster.shareable(Dataset.load(workspace / "data/balanced")),
        protocol=5,
        buffer_callback=buffers.append,
    )
    assert len(pickled) < 20_000
    assert sum(buffer.raw().nbytes for buffer in buffers) > 63 * 48 * 48


@pytest.mark.parametrize(
    "arguments",
    [
        ["sweep", "--address", "auto"],
        ["sweep", "--threads", "2"],
        ["run-recipes", "vgg", "--storage", "s3://x"],
    ],
)
def test_what_means_something_on_a_cluster_only_is_not_ignored(arguments, monkeypatch, capsys):
    from ferlab.__main__ import main

    monkeypatch.chdir(TOP)
    monkeypatch.setattr("sys.argv", ["ferlab", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert "means something with --engine ray only" in str(caught.value)


@pytest.mark.parametrize("end", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_what_breaks_a_trial_off_leaves_it_to_be_tried_again(workspace, instant, end):
    instant.interrupt = end
    with pytest.raises(type(end) if isinstance(end, OSError) else end):
        sweep.sweep(report=lambda line: None)
    assert len(list((workspace / ".ferlab/sweeps/tiny").glob("*.npz"))) == 1
    study = sweep.sweep(report=lambda line: None)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[3].params == study.trials[2].params
    assert instant.keys[2] == instant.keys[3]


def test_of_two_sweeps_that_begin_together_one_makes_the_study(workspace):
    data, declared = Dataset.load(workspace / "data/balanced"), sweep_file.load("sweep.yaml")
    settings, together = params.load().train, threading.Barrier(2)

    def begin(_):
        together.wait()
        return search.Search(declared, settings, data, workspace, print).study.study_name

    with ThreadPoolExecutor(2) as pool:
        assert len(set(pool.map(begin, range(2)))) == 1


def test_what_ray_tune_says_of_trials_goes_into_the_study_once(workspace):
    """Ray Tune's side of a sweep, without a cluster."""
    from ferlab.scaling import tuning

    lines, declared = [], sweep_file.load("sweep.yaml")
    data = Dataset.load(workspace / "data/balanced")
    begun = search.Search(declared, params.load().train, data, workspace, lines.append)
    running = tuning.Running(begun)

    def ends(name, status="TERMINATED", **result):
        config = {"train.learning_rate": 0.01, "train.dropout": 0.2}
        result = {"epoch": 2, "kept": 0.3} | result
        running.end(
            SimpleNamespace(trial_id=name, config=config, last_result=result, status=status)
        )
        return begun.study.trials[-1]

    values = params.raw()
    Path("params.yaml").write_text("left: [half edited")  # while the sweep runs
    logged = search.Trial(begun, {"train.dropout": 0.2}, 0).logger.settings
    assert logged == values | {"train": values["train"] | {"dropout": 0.2}}
    assert ends("a", finished={"sha256": "0", "seconds": [60.0, 5.0]}).state.name == "COMPLETE"
    assert begun.study.best_value == 0.3 and begun.study.best_trial.user_attrs["model"] == "0"
    assert ends("b").state.name == "PRUNED"
    assert lines[0].startswith("trial 1/4: 30.00 % of public, 65 s  learning_rate 0.01")
    assert lines[1].startswith("trial 2/4: pruned after 2 epochs")
    ends("b")  # told again by what a killed command had not yet noted
    assert len(begun.study.trials) == 2 and begun.missing() == 2
    assert ends("c", failed="too high a rate").state.name == "FAIL"
    assert lines[-1] == "trial 2 failed: too high a rate"
    ends("d", status="ERROR")
    running.wait()
    ends("e", failed="no")
    with pytest.raises(UserError, match="three trials failed, the last: no"):
        running.wait()

    asked = tuning.optuna_search(begun)
    assert set(asked.suggest("f")) == {"train.learning_rate", "train.dropout"}
    known = [trial.state.name for trial in asked._ot_study.trials]
    assert known == ["COMPLETE", "PRUNED", "RUNNING"]


def test_trials_on_a_cluster_take_no_turns():
    """While few have run, Tune's own rule lets the others wait, each at the price of a start."""
    from ferlab.scaling import tuning

    runs, waits = (
        type("Trial", (), {"status": status, "trial_id": status})()
        for status in ("RUNNING", "PENDING")
    )
    rule = tuning.Median("epoch", "kept", "max", grace_period=1, min_samples_required=4)
    controller = SimpleNamespace(get_live_trials=lambda: [runs, waits])
    decided = rule.on_trial_result(controller, runs, {"epoch": 3, "kept": 0.5})
    assert decided == tuning.TrialScheduler.CONTINUE


@pytest.mark.parametrize(
    ("old", "new", "reason"),
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
        (
            "train.dropout: [0.0, 0.2]",
            "train.select_on: [public, validation]",
            "ranges.train.select_on: accuracies on other images cannot be compared",
        ),
        ("trials: 4", "trials: 0", "trials: input should be greater than or equal to 1"),
        ("seed: 0\n", "", "seed: field required"),
        ("name: tiny", "name: a/b", "name: string should match"),
    ],
)
def test_a_bad_sweep_is_refused_with_file_and_key(workspace, old, new, reason):
    (workspace / "sweep.yaml").write_text(SWEEP.replace(old, new))
    with pytest.raises(UserError) as caught:
        sweep_file.load("sweep.yaml")
    assert (
        "sweep.yaml" in str(caught.value)
        and reason in str(caught.value)
        and "\n" not in str(caught.value)
    )


def test_no_trial_is_stopped_before_half_of_the_longest_training(workspace):
    settings = params.load().train
    searched = SWEEP.replace("[0.0, 0.2]", "[0.0, 0.2]\n  train.epochs: {from: 5, to: 40}")
    (workspace / "sweep.yaml").write_text(searched)
    assert sweep_file.most_epochs(sweep_file.load("sweep.yaml"), settings) == 40
    (workspace / "sweep.yaml").write_text(SWEEP)
    assert sweep_file.most_epochs(sweep_file.load("sweep.yaml"), settings) == settings.epochs


def test_the_declared_sweep_is_valid(monkeypatch):
    monkeypatch.chdir(TOP)
    assert set(sweep_file.load("sweep.yaml").ranges) <= {
        f"train.{name}" for name in params.Train.model_fields
    }


def test_ctrl_c_after_the_last_epoch_loses_no_epoch(workspace, instant, monkeypatch):
    """While MLflow is waited for, the trial has ended already."""
    interrupts = [KeyboardInterrupt]

    def close(status, wait):
        if interrupts:
            raise interrupts.pop()

    slow = SimpleNamespace(epoch=lambda row: None, close=close)
    monkeypatch.setattr(search.epoch_logger, "EpochLogger", lambda *arguments: slow)
    with pytest.raises(KeyboardInterrupt):
        sweep.sweep(report=lambda line: None)
    study = sweep.sweep(report=lambda line: None)
    assert [trial.state.name for trial in study.trials] == 4 * ["COMPLETE"]
    assert len(instant.keys) == 4 and not left_over(workspace)


def left_over(workspace):
    folder = workspace / ".ferlab/sweeps/tiny"
    return {path.name for path in folder.iterdir()} - {"study.db", "setup.lock", "turn.lock"}


def a_search(workspace):
    settings, dataset = params.load().train, Dataset.load(workspace / "data/balanced")
    folder = workspace / ".ferlab/sweeps/tiny"
    folder.mkdir(parents=True, exist_ok=True)
    return search.Search(sweep_file.load("sweep.yaml"), settings, dataset, folder, print)


def test_who_dies_while_it_begins_a_trial_or_loads_for_it_holds_up_nobody(
    workspace, instant, monkeypatch
):
    a_search(workspace).study.ask()  # and then it dies, before anything else
    for place in ("ferlab.scaling.sweep_file.suggest", "ferlab.scaling.local.Trial"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(place, interrupted)
            sweep.sweep(report=lambda line: None)
    study = sweep.sweep(report=lambda line: None)
    states = [trial.state.name for trial in study.trials]
    assert states == 3 * ["FAIL"] + 4 * ["COMPLETE"]
    assert not left_over(workspace)


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_process_that_sleeps_keeps_its_trial(workspace, instant):
    mine, others = a_search(workspace), a_search(workspace)
    mine.declared.trials = others.declared.trials = 1
    with contextlib.ExitStack() as alive, contextlib.ExitStack() as more:
        trial = local._begin(mine, alive)
        assert local._begin(others, more) is None
        assert [each.state.name for each in others.study.trials] == ["RUNNING"]
        assert local._train(mine, trial).state.name == "COMPLETE"
        assert others.missing() == 0 and not left_over(workspace)


def test_what_kills_its_process_again_and_again_is_given_up(workspace, instant, monkeypatch):
    report = search.Trial.epoch

    def killed(self, row):
        if self.number <= 2:  # the first trial, and twice again
            raise Killed
        return report(self, row)

    monkeypatch.setattr(search.Trial, "epoch", killed)
    for _ in range(3):
        with pytest.raises(Killed):
            sweep.sweep(report=lambda line: None)
    lines = []
    study = sweep.sweep(report=lines.append)
    states = [trial.state.name for trial in study.trials]
    assert states == 3 * ["FAIL"] + 4 * ["COMPLETE"]
    drawn = [trial.params for trial in study.trials]
    assert drawn[0] == drawn[1] == drawn[2] != drawn[3]
    assert lines[0].startswith("trial 2 failed: its process died 3 times within one epoch")
    assert not left_over(workspace)


def test_a_full_disk_loses_neither_epochs_nor_the_trial(workspace, instant, monkeypatch):
    """Nothing can be written, by Optuna either."""

    def full(*_, **__):
        raise optuna.exceptions.StorageInternalError from OSError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "tell", full)
        with pytest.raises(UserError, match=r"study.db: database or disk is full"):
            sweep.sweep(report=lambda line: None)
    assert left_over(workspace) > {f"{instant.keys[0]}.npz"}  # and a lock
    study = sweep.sweep(report=lambda line: None)
    assert [trial.state.name for trial in study.trials] == ["FAIL"] + 4 * ["COMPLETE"]
    assert study.trials[1].params == study.trials[0].params and not left_over(workspace)


INTERRUPTED = """
import subprocess, sys
from ferlab.scaling import run_recipes
stage = (
    "import signal, time; signal.signal(signal.SIGINT, lambda *_: None);"
    "print('up', flush=True); time.sleep(2); print('stage over', flush=True)"
)
try:
    run_recipes._ended(subprocess.Popen([sys.executable, "-c", stage]))
except KeyboardInterrupt:
    print("prompt", flush=True)
"""


def test_ctrl_c_gives_the_prompt_back_once_dvc_has_ended():
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True, process_group=0
    )
    assert process.stdout.readline() == "up\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "stage over\nprompt\n"
