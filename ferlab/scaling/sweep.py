"""`python -m ferlab sweep`: Optuna searches declared ranges of the train section, on the
workspace's data.

Each trial is a training with its own MLflow run; hopeless ones are pruned after half of their
epochs. Finished trials are kept in .ferlab/sweeps, in Optuna's database: an interrupted sweep goes
on with the same command, and the same command in another terminal helps with it. The trials are
trained here (ferlab/scaling/local.py), or where Ray places them (ferlab/scaling/cluster.py).
"""

import hashlib
import json
import sys
import time
import warnings
from pathlib import Path

from ferlab import files, params, progress
from ferlab.data.dataset import Dataset
from ferlab.scaling import sweep_file, sweep_page
from ferlab.scaling.search import MLFLOW_TIMEOUT, Search, enqueue_dead_trials, retry_trial

PAGE = Path("reports/sweep.md")
HEARTBEAT = 10  # seconds between the signs of life of a running trial
GRACE = 60  # seconds without one after which a trial's process counts as dead


def sweep(path=Path("sweep.yaml"), report=print, cluster=None):
    """Run what is missing of the sweep and write reports/sweep.md; returns the Optuna study.

    cluster: a function that, given the folder for checkpoints, connects to a
    ferlab.scaling.cluster.Cluster; without it the trials are trained here, one after the other.
    Raises UserError.
    """
    try:
        import optuna

        from ferlab.scaling import local
    except ImportError:
        raise files.UserError(
            "sweep: optuna is not installed; pip install --require-hashes -r requirements-sweep.txt"
        ) from None
    declared, settings = sweep_file.load(path), params.load().train
    dataset = Dataset.load(Path("data/balanced"))
    folder = files.root() / ".ferlab/sweeps" / declared.name
    folder.mkdir(parents=True, exist_ok=True)
    study = _study(optuna, declared, settings, dataset, folder)
    enqueue_dead_trials(study)
    search = Search(study, declared, settings, dataset, folder, report)
    if cluster:
        _train_on_cluster(search, cluster)
    else:
        local.train(search)
    files.write_text(PAGE, sweep_page.text(study, dataset.name, settings))
    best = " ".join(f"-S {key}={value}" for key, value in study.best_params.items())
    report(
        f"best: {100 * study.best_value:.2f} % of {settings.select_on}; dvc exp run {best}\n"
        f"wrote {PAGE}"
    )
    return study


def _study(optuna, declared, settings, dataset, folder):
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
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of the heartbeats
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{folder / 'study.db'}",
        engine_kwargs={"connect_args": {"timeout": 60}},  # other processes write there, too
        heartbeat_interval=HEARTBEAT,
        grace_period=GRACE,
        heartbeat_stale_trial_callback=retry_trial(),
    )
    return optuna.create_study(
        storage=storage,
        study_name=f"{declared.name}-{key}",
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=settings.epochs // 2),
        sampler=optuna.samplers.TPESampler(),  # with a seed for each trial, in search.py
        load_if_exists=True,
    )


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
        search.fail(trial, content, wait=0)
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
