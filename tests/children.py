"""Stages in processes of their own, each forked from a server that has TensorFlow loaded.

A child runs `python -m stages.<name>` in a given folder: the same locks, files and signals, at a
fraction of the time.
"""

import contextlib
import fcntl
import functools
import multiprocessing
import os
import re
import runpy
import signal
import sys
import time
from pathlib import Path

from ferlab import files, params
from ferlab.tracking import results
from tests.builders import images, tiny, zipped
from tests.repository import SMALL, TOP

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    ["tensorflow", "keras", "mlflow", "sqlalchemy", "pandas", "matplotlib.pyplot", "seaborn"]
)


def workspace(folder, **changes):
    """`folder` with the outputs of the three data stages, and params.yaml.

    changes: of the section train, beside those of SMALL.
    """
    folder.mkdir(parents=True)
    text = (TOP / "params.yaml").read_text()
    for old, new in SMALL.items():
        text = text.replace(old, new)
    (folder / "params.yaml").write_text(text)
    configure(folder, **changes)
    zipped(folder / "data.zip", images(tiny(train=6)))
    for name in ("download", "eda", "balance"):
        run(folder, name)
    return folder


def configure(folder, **changes):
    """Change values of the section train."""
    path = folder / "params.yaml"
    before, section, after = re.split(r"(?ms)^(train:\n.*?)(?=^\w)", path.read_text())
    for name, value in changes.items():
        section, count = re.subn(rf"(?m)^  {name}: .*", f"  {name}: {value}", section)
        assert count == 1, name
    path.write_text(before + section + after)


class Child:
    """A running stage, or `ferlab <verb>`.

    prepare: a function (picklable) that the child calls first, to provoke a fault.
    """

    def __init__(self, folder, command, prepare=None, **environment):
        self.output = folder.parent / f"{folder.name}.{time.monotonic_ns()}.output"
        self.began = time.monotonic()
        self.process = context.Process(
            target=_run, args=(folder, command, prepare, environment, self.output), daemon=True
        )
        self.process.start()

    def kill(self):
        """SIGKILL, which must hit a living process."""
        self.process.kill()
        self.died()

    def died(self):
        self.process.join(600)
        assert self.process.exitcode == -signal.SIGKILL, self.output.read_text()
        self.output.unlink()

    def end(self, seconds=600):
        """(exit code, output, seconds it took)."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, (
            f"still running after {seconds} s: {self.output.read_text()}"
        )
        output = self.output.read_text()
        self.output.unlink()
        return self.process.exitcode, output, time.monotonic() - self.began


def run(folder, command, prepare=None, **environment):
    """The output of a stage or verb that must succeed."""
    code, output, _ = Child(folder, command, prepare, **environment).end()
    assert code == 0, output
    return output


def pin(folder):
    """Write the part of dvc.lock that says that the result in `folder` is finished."""
    outs = [{"path": name, "md5": files.md5(folder / name)} for name in results.RESULT]
    used = params.raw(folder / "params.yaml")
    files.write_json(
        folder / "dvc.lock",
        {"stages": {"evaluate": {"params": {"params.yaml": used}, "outs": outs}}},
    )


def runs(store):
    """Every MLflow run of the store at this address.

    Each has `steps`: the epochs whose metrics arrived, in order.
    """
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=store)
    with contextlib.ExitStack() as stack:
        if store.startswith("sqlite"):
            # as the project itself does: SQLite's first set-up bears one process alone
            folder = Path(store.removeprefix("sqlite:///")).parent
            guard = stack.enter_context(open(folder / ".ferlab/mlflow.lock", "a"))
            fcntl.flock(guard, fcntl.LOCK_EX)
        listed = client.search_runs(
            [experiment.experiment_id for experiment in client.search_experiments()]
        )
        for run in listed:
            points = client.get_metric_history(run.info.run_id, "epoch/selection_accuracy")
            run.steps = sorted(point.step for point in points)
    return listed


def _run(folder, command, prepare, environment, output):
    os.chdir(folder)
    # MLflow sets it for its children, here those of an earlier test
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ.update(environment)
    sys.argv = command.split()  # not those of the tests
    sys.stdout = sys.stderr = open(output, "w", buffering=1)  # noqa: SIM115
    for descriptor in (1, 2):
        os.dup2(sys.stdout.fileno(), descriptor)
    if prepare:
        prepare()
    module = sys.argv[0]
    runpy.run_module(module if module == "ferlab" else f"stages.{module}", run_name="__main__")


def die_writing(name, times=1):
    """SIGKILL within the `times`-th writing of the file `name`: half of it is on the disk."""
    from ferlab.training import model_file

    real, counted = files.replacing, []

    @contextlib.contextmanager
    def dying(path):
        with real(path) as part:
            yield part
            counted.append(path)
            if sum(str(written).endswith(name) for written in counted) == times:
                os.truncate(part, part.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

    files.replacing = model_file.replacing = dying


def wait_after_epoch(epoch, until):
    """Hold the training after this epoch until the file `until` is there."""
    from ferlab import progress

    real = progress.Progress.epoch

    @functools.wraps(real)
    def held(self, row, *rest):
        while row["epoch"] > epoch and not until.exists():
            time.sleep(0.02)
        return real(self, row, *rest)

    progress.Progress.epoch = held
