"""`python -m ferlab sweep`: Optuna searches declared ranges of the train section, on the
workspace's data.

Each trial is a training with its own MLflow run; hopeless ones are pruned after half of their
epochs. An interrupted sweep goes on with the same command: finished trials are kept in
.ferlab/sweeps, and those that were running resume from their checkpoints. Optuna always suggests
here; the trials are trained here one after the other, or where Ray places them
(ferlab/scaling/cluster.py).
"""

import contextlib
import hashlib
import json
import sys
import time
from pathlib import Path

from ferlab import files, params, progress
from ferlab.data.dataset import Dataset
from ferlab.scaling import sweep_file, sweep_page
from ferlab.scaling.search import MLFLOW_TIMEOUT, Search, enqueue_dead_trials

PAGE = Path("reports/sweep.md")


def sweep(path=Path("sweep.yaml"), report=print, cluster=None):
    """Run what is missing of the sweep and write reports/sweep.md; returns the Optuna study.

    cluster: a function that, given the folder for checkpoints, connects to a
    ferlab.scaling.cluster.Cluster; without it the trials are trained here, one after the other.
    Raises UserError.
    """
    try:
        import optuna
    except ImportError:
        raise files.UserError(
            "sweep: optuna is not installed; pip install --require-hashes -r requirements-sweep.txt"
        ) from None
    declared, settings = sweep_file.load(path), params.load().train
    dataset = Dataset.load(Path("data/balanced"))
    folder = files.root() / ".ferlab/sweeps" / declared.name
    folder.mkdir(parents=True, exist_ok=True)
    study = _study(optuna, declared, settings, dataset, folder, in_parallel=bool(cluster))
    enqueue_dead_trials(study)
    search = Search(study, declared, settings, dataset, folder, report)
    if cluster:
        _train_on_cluster(search, cluster)
    else:
        _train_here(search)
    files.write_text(PAGE, sweep_page.text(study, dataset.name, settings))
    best = " ".join(f"-S {key}={value}" for key, value in study.best_params.items())
    report(
        f"best: {100 * study.best_value:.2f} % of {settings.select_on}; dvc exp run {best}\n"
        f"wrote {PAGE}"
    )
    return study


def _study(optuna, declared, settings, dataset, folder, in_parallel):
    """The Optuna study in folder/study.db: it compares like with like.

    So it is a new one for other data, class weights, code, versions, ranges or fixed parameters.
    What params.yaml says of a parameter that is searched decides nothing.
    """
    from ferlab.training import fingerprint

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    compared = [
        *(
            fingerprint.fingerprint(each, dataset)
            for each in sweep_file.variants(declared, settings)
        ),
        declared.model_dump(exclude={"trials"}),
    ]
    key = hashlib.sha256(json.dumps(compared, sort_keys=True).encode()).hexdigest()[:12]
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'study.db'}",
        study_name=f"{declared.name}-{key}",
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=settings.epochs // 2),
        load_if_exists=True,
    )
    # a sampler starts anew in each process: with its seed alone, a sweep that goes on would ask for
    # its first trials again
    study.sampler = optuna.samplers.TPESampler(
        seed=declared.seed + len(study.trials), constant_liar=in_parallel
    )
    return study


class _Pruned(Exception):
    """Ends the training of a trial that Optuna gives up."""


def _train_here(search):
    from ferlab.training import backend

    while search.missing() > 0:
        trial = search.ask()
        checkpoint, wanted = search.folder / f"{trial.key}.npz", trial.settings
        try:
            backend.start(wanted.backend, wanted.precision, wanted.seed, wanted.devices)
            history = _train(search, trial, checkpoint)
        except _Pruned:
            search.prune(trial)
        except KeyboardInterrupt:
            search.interrupt(trial)
            raise
        except files.UserError as error:
            checkpoint.unlink(missing_ok=True)
            search.fail(trial, error, search.report)
        except Exception:
            trial.end("FAILED", search.states.FAIL)
            raise
        else:
            search.complete(trial, history)
        checkpoint.unlink(missing_ok=True)


def _train(search, trial, checkpoint):
    """The history (a frame) of one trial, trained in this process; raises _Pruned."""
    from ferlab.training import loop, schedule
    from ferlab.training.callbacks import Callbacks

    settings = trial.settings
    costs = schedule.step_costs(settings)

    def epoch(row, seconds):
        if trial.epoch(row):
            raise _Pruned

    with contextlib.closing(progress.Progress(settings.epochs, settings.select_on, costs)) as shown:
        callbacks = Callbacks(shown.step, epoch)
        _, history, _ = loop.fit(search.dataset, settings, checkpoint, callbacks)
    return history


def _train_on_cluster(search, connect):
    from tqdm import tqdm

    running, ended = {}, []  # Trials by their name on the cluster; Trials
    cluster = connect(search.folder)
    bar = tqdm(
        total=search.sweep.trials,
        unit="trial",
        initial=search.finished(),
        disable=not sys.stderr.isatty(),
        leave=False,
    )
    try:
        shared = cluster.share(search.dataset)
        while running or search.missing() > 0:
            _fill(cluster, search, shared, running)
            for name, kind, content in cluster.events():
                if kind == "epoch":
                    if running[name].epoch(content[0]):
                        cluster.stop(name)
                elif kind in ("resumed", "nondeterministic", "unsaved"):
                    if content:
                        bar.write(content)
                else:
                    ended.append(running.pop(name))
                    _end(cluster, search, ended[-1], (name, kind, content), bar)
    finally:
        bar.close()
        for trial in running.values():
            search.interrupt(trial, wait=0)
        cluster.close()
        # for MLflow, all together: a server that is down must not hold up every trial's end
        deadline = time.monotonic() + MLFLOW_TIMEOUT
        for trial in [*ended, *running.values()]:
            trial.logger.wait(deadline - time.monotonic())


def _fill(cluster, search, shared, running):
    """Start as many trials as the cluster has room for; UserError where it has none for any."""
    while len(running) < min(cluster.capacity(), search.missing()):
        trial = search.ask()
        name = trial.key if trial.key not in running else f"{trial.key}-{trial.optuna.number}"
        running[name] = trial
        cluster.start(name, shared, trial.settings)
    if not running:
        raise files.UserError(
            "the cluster has no node left that is large enough; "
            "the same command goes on once it has one"
        )


def _end(cluster, search, trial, event, bar):
    """Record how a trial ended on the cluster."""
    name, kind, content = event
    if kind == "failed":
        cluster.forget(name)  # it would fail again from there
        search.fail(trial, content, bar.write, wait=0)
        return
    bar.clear()
    if kind == "stopped":
        search.prune(trial, wait=0)
    else:
        trial.optuna.set_user_attr("model", hashlib.sha256(content["model"]).hexdigest())
        seconds = progress.duration(sum(content["seconds"]))
        search.complete(trial, content["history"], f", {seconds}", wait=0)
    cluster.forget(name)
    bar.update()
