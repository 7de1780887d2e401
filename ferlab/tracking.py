"""MLflow as a projection of files: every call that records a run is here, and none of them can stop or slow a training.

A run's truth is what the stages wrote. `Live` shows epochs while they happen, as best effort; `project` makes or completes
the run of one finished result; `sync` does so for the workspace and every DVC experiment that lacks one.
The store is mlflow.db in the main repository, or MLFLOW_TRACKING_URI.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import platform
import queue
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import warnings
from pathlib import Path

import pandas as pd

from ferlab import files, params

RUNS = Path(".ferlab/runs")  # run.json of each model, by the model file's md5
RESULT = ("models/model.keras", "reports/details.json", "reports/metrics.json")  # what tells one result from another


class Live:
    """Reports a training's epochs to MLflow from a thread of its own.

    training: the hash of all that decides the weights. The run bears it as a tag from its first moment, so whoever trains the
    same again, resumed or from the start, goes on with the run of the one that was killed.
    note: a file that holds the last epoch while the training is unfinished.
    The thread starts with the first epoch: what MLflow does cannot touch the making of the network.
    """

    def __init__(self, settings, dataset, training, note, name=""):
        self.settings, self.dataset, self.training, self.note = settings, dataset, training, note
        self.name = name or os.environ.get("DVC_EXP_NAME") or "training"
        self.queue, self.thread = queue.Queue(), None

    def epoch(self, row):
        files.write_json(self.note, {"epoch": row["epoch"]})
        self.queue.put(row)
        if not self.thread:
            self.thread = threading.Thread(target=self._work, daemon=True)
            self.thread.start()

    def close(self, status=None, wait=8):
        """Wait some seconds for what is not yet reported; a killed or failed training also ends its run."""
        self.queue.put(status)
        self.wait(wait)

    def wait(self, seconds):
        if self.thread:
            self.thread.join(timeout=max(seconds, 0))

    def record(self, dataset, parameters, seconds):
        """The content of run.json: what cannot be equal between two runs. seconds: of each epoch."""
        return {"dataset": dataset, "parameters": parameters, "train_seconds": round(sum(seconds), 2), "epochs": seconds,
                "training": self.training, "machine": machine(), "commit": commit()}

    def _work(self):
        with contextlib.suppress(Exception):  # best effort: evaluate and sync complete the run from files
            with store() as client:
                bury(client)
                if _complete(client, self.training, self.settings, self.name):
                    return  # forced to run again: the result, equal to the last bit, has its run
                run_id = _unfinished(client, self.training, self.settings, self.name)
                if not run_id:
                    tags = {"ferlab.training": self.training, **process()}
                    run_id = _create(client, self.dataset, self.settings, self.name, tags)
                client.update_run(run_id, status="RUNNING")
                for key, value in process().items():
                    client.set_tag(run_id, key, value)
                there = _steps(client, run_id)  # the same training from the same start: equal to what comes now
            while isinstance(row := self.queue.get(), dict):
                if row["epoch"] not in there:
                    with store() as client:
                        _log_epoch(client, run_id, row)
            if row:
                with store() as client:
                    client.set_terminated(run_id, row)


def write_run(model, record):
    files.write_json(files.root() / RUNS / f"{md5(model)}.json", record)


def read_run(model):
    """run.json of a model file, or {} where it was trained elsewhere."""
    path = files.root() / RUNS / f"{md5(model)}.json"
    return files.read_json(path) if path.exists() else {}


def project(folder, name=None, baseline=None):
    """Make or complete the MLflow run of the finished result in `folder`; returns its id. Nothing is logged twice.

    name: the DVC experiment's, else DVC_EXP_NAME, else `repro-<key>`; the key is that of `result_key`. baseline: the commit that
    the experiment started from.
    """
    from ferlab import results

    settings, model = params.raw(folder / "params.yaml"), folder / "models/model.keras"
    reports = folder / "reports"
    key, name = _key_and_name(folder, name)
    tags = {"ferlab.model_md5": md5(model)} | ({} if name.startswith("repro-") else {"dvc.experiment": name})
    listed = [reports / "report.html", reports / "details.json", reports / "metrics.json", folder / "models/history.csv",
              folder / "params.yaml", reports / "figures"]
    predictions = pd.read_csv(reports / "predictions.csv", dtype={"id": str}, keep_default_na=False)
    with tempfile.TemporaryDirectory() as temporary:
        results.write_predictions(Path(temporary), predictions)  # what comparing needs, small
        listed.append(Path(temporary) / "predictions.csv.gz")
        return _project(key, name, settings, reports, folder / "models/history.csv", read_run(model), tags, listed, model,
                        baseline)


def _key_and_name(folder, name=None):
    reports = folder / "reports"
    key = result_key(params.raw(folder / "params.yaml"), *map(md5, (
        folder / "models/model.keras", reports / "details.json", reports / "metrics.json")))
    return key, name or os.environ.get("DVC_EXP_NAME") or f"repro-{key[:8]}"


def project_explained(folder):
    """Add reports/explain to the run of the finished result in `folder`, once, where it explains this very model."""
    explained = folder / "reports/explain"
    about = explained / "calibration.json"
    if not about.exists() or files.read_json(about)["model_md5"] != md5(folder / "models/model.keras"):
        return
    with store() as client:
        for run in _runs(client, *_key_and_name(folder)):
            if not client.list_artifacts(run.info.run_id, "explain"):
                client.log_artifacts(run.info.run_id, str(explained), "explain")


def project_recipe(key):
    """Make or complete the MLflow run of a recipe's committed result, named like its key; returns its id."""
    from ferlab import results

    place = results.folder(key)
    recipe, seed = params.recipe_of(key)
    settings = params.raw_recipe(recipe, seed)
    run = files.read_json(place / "run.json") if (place / "run.json").exists() else {}
    listed = [file for file in sorted(place.iterdir()) if file.name != "run.json"]
    result = result_key(settings, *map(md5, (place / "predictions.csv.gz", place / "details.json", place / "metrics.json")))
    return _project(result, key, settings, place, place / "history.csv", run, {"ferlab.recipe": recipe}, listed)


def _project(key, name, settings, reports, history, about, tags, listed, model=None, baseline=None):
    """One run from the files of one result: `reports` holds details.json and metrics.json, `about` is the run.json."""
    details, metrics = files.read_json(reports / "details.json"), files.read_json(reports / "metrics.json")
    with store() as client:
        found = _runs(client, key, name)
        if any(run.data.tags.get("ferlab.complete") == "true" for run in found):
            return found[0].info.run_id
        run_id = found[0].info.run_id if found else _unfinished(client, about.get("training"), settings, name, "training")
        run_id = run_id or _create(client, details["dataset"], settings, name)
        _log_params(client, run_id, settings)
        client.update_run(run_id, name=name)
        tags = {"ferlab.key": key, "ferlab.dataset": details["dataset"], "ferlab.data_digest": details["digest"],
                "ferlab.parameters": details["model"]["parameters"],
                "mlflow.source.git.commit": baseline or about.get("commit") or commit(),
                **({"ferlab.training": about["training"]} if "training" in about else {}),
                **{f"machine.{k}": v for k, v in about.get("machine", {}).items()}, **tags}
        for tag, value in tags.items():
            client.set_tag(run_id, tag, str(value))
        if history.exists():
            _log_history(client, run_id, pd.read_csv(history))
        _log_final(client, run_id, metrics, details, about)
        _log_files(run_id, listed, details, model)
        client.set_tag(run_id, "ferlab.complete", "true")
        client.set_terminated(run_id, "FINISHED")
        return run_id


def log_page(names, page):
    """Add a page that compares several results to the MLflow runs that bear their names."""
    with store() as client:
        ids = [experiment.experiment_id for experiment in client.search_experiments()]
        for name in names:
            for run in client.search_runs(ids, f"attributes.run_name = '{name}' and tags.`ferlab.complete` = 'true'"):
                client.log_artifact(run.info.run_id, str(page), "compare")


def bring_model(name, path):
    """Copy the model of an MLflow run, named by its name or id, to `path`; False where there is no such run with a model."""
    import mlflow

    with store() as client, tempfile.TemporaryDirectory() as temporary:
        for run in named(client, name):
            outputs = run.outputs.model_outputs if run.outputs else []
            if outputs:
                folder = Path(mlflow.artifacts.download_artifacts(f"models:/{outputs[0].model_id}", dst_path=temporary))
                for found in folder.rglob("*.keras"):
                    shutil.copy(found, path)
                    return True
    return False


def named(client, name):
    """Complete runs of this name, or the run of this id. Raises UserError where the store does not answer."""
    from mlflow.exceptions import MlflowException

    try:
        ids, quoted = [experiment.experiment_id for experiment in client.search_experiments()], name.replace("'", "")
        runs = client.search_runs(ids, f"attributes.run_name = '{quoted}' and tags.`ferlab.complete` = 'true'")
        return runs or client.search_runs(ids, f"attributes.run_id = '{quoted}'")
    except MlflowException as error:
        reason = " ".join(str(error).split())[:100]
        raise files.UserError(f"{name}: MLflow could not be asked ({reason}); python -m ferlab doctor") from None


def result_key(settings, model, details, metrics):
    """Hash of the parameters and of what came out (md5s of model, details.json, metrics.json): equal results, equal key."""
    text = json.dumps([settings, model, details, metrics], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sync(report=print):
    """Every finished result gets its run: the workspace's, each DVC experiment's and each recipe's. Returns how many have one.

    One that cannot be shown (files gone from the cache, another version of the project) is reported in a line and left out.
    """
    from mlflow.exceptions import MlflowException

    from ferlab import results

    root, done, listed = files.root(), 0, experiments()
    try:
        with store() as client:
            bury(client)
    except MlflowException as error:
        reason = " ".join(str(error).split())[:100]
        raise files.UserError(f"MLflow does not answer ({reason}); python -m ferlab doctor") from None

    @contextlib.contextmanager
    def reported(name, remedy=""):
        """DVC, Git and MLflow raise many kinds; one bad result must not hide the others."""
        nonlocal done
        try:
            yield
            done += 1
        except Exception as error:  # noqa: BLE001
            report(f"{name}: not shown in MLflow ({' '.join(str(error).split())[:120]}){remedy}")

    if _finished(root) and not any(_same_result(root, revision) for _, revision, _ in listed):
        with reported("the workspace's result"):
            project(root)
            project_explained(root)
    for key in results.listed():
        with reported(key):
            project_recipe(key)
    for name, revision, baseline in listed:
        with reported(name, f"; `dvc exp apply {name}` and `dvc repro` make it again"):
            with store() as client:
                there = any(run.data.tags.get("ferlab.complete") for run in _runs(client, _key_of(root, revision), name))
            if not there:
                with tempfile.TemporaryDirectory() as temporary:
                    _materialise(root, revision, Path(temporary))
                    project(Path(temporary), name, baseline)
    return done


def experiments():
    """(name, commit, baseline commit) of every DVC experiment: refs/exps/<2 digits>/<38 digits of the baseline>/<name>."""
    listed = subprocess.run(["git", "for-each-ref", "refs/exps", "--format=%(refname) %(objectname)"],
                            cwd=files.root(), capture_output=True, text=True)
    rows = [(*line.split()[0].split("/"), line.split()[1]) for line in listed.stdout.splitlines()]
    return [(row[4], row[5], row[2] + row[3]) for row in rows if len(row) == 6 and len(row[3]) == 38]


def machine():
    """Processor, cores, memory and versions, as text: what decides speed and what bits depend on."""
    import importlib.metadata

    import psutil

    def versions(name):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)

    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": cpu, "cores": cores, "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
            **{name: versions(name) for name in ("keras", "tensorflow", "jax", "torch", "numpy") if versions(name)}}


def commit():
    """The commit that a result belongs to; of an experiment the one it started from."""
    if os.environ.get("DVC_EXP_BASELINE_REV"):
        return os.environ["DVC_EXP_BASELINE_REV"]
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=files.root(), capture_output=True, text=True)
    return found.stdout.strip()


def md5(path):
    """As DVC writes it into dvc.lock."""
    return hashlib.md5(Path(path).read_bytes(), usedforsecurity=False).hexdigest()


@contextlib.contextmanager
def store():
    """A client of the tracking store. With a local store, one process at a time: SQLite and its first set-up need that."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the default retries for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    warnings.filterwarnings("ignore", module="mlflow")
    import mlflow

    address = os.environ.get("MLFLOW_TRACKING_URI")
    if address and address.startswith("sqlite:///") and not address.startswith("sqlite:////"):
        address = f"sqlite:///{files.root() / address.removeprefix('sqlite:///')}"  # not in a temporary workspace
    if address and not address.startswith("sqlite"):
        mlflow.set_tracking_uri(address)
        yield mlflow.MlflowClient()
        return
    guard = files.root() / ".ferlab/mlflow.lock"
    guard.parent.mkdir(parents=True, exist_ok=True)
    with open(guard, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        address = address or f"sqlite:///{files.root() / 'mlflow.db'}"
        database = Path(address.removeprefix("sqlite:///"))
        if not database.exists():
            # MLflow sets a new file up in many steps; killed between two of them, it would refuse that file for ever
            with files.replacing(database) as part:
                mlflow.MlflowClient(tracking_uri=f"sqlite:///{part}").search_experiments()
        _check(database)
        mlflow.set_tracking_uri(address)
        yield mlflow.MlflowClient()


def _check(database):
    """Raises UserError where the SQLite file is held by another program or damaged: MLflow itself would try for many minutes."""
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=5)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.OperationalError as error:
        raise files.UserError(f"{database}: {error}; end the program that holds it, then `python -m ferlab sync`") from None
    except sqlite3.DatabaseError as error:
        raise files.UserError(f"{database}: {error}; move it away, then `python -m ferlab sync` makes another") from None


def bury(client):
    """Mark runs of this host as killed whose process no longer lives."""
    for run in dead(client):
        client.set_terminated(run.info.run_id, "KILLED")


def dead(client):
    """Yield the runs of this host that MLflow shows as running and whose process no longer lives."""
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    for run in client.search_runs(ids, f"tags.`ferlab.host` = '{socket.gethostname()}' and attributes.status = 'RUNNING'"):
        if not lives(run.data.tags):
            yield run


def lives(tags):
    """Whether the process of this host that `process` described still lives."""
    import psutil

    try:
        found = psutil.Process(int(tags["ferlab.pid"]))
        # the clock may be set meanwhile; an orphan that ended may stay listed, where the first process of a container reaps none
        return abs(found.create_time() - float(tags["ferlab.started"])) < 5 and found.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, KeyError):
        return False


def process():
    """What tells this process from any other, as text."""
    import psutil

    return {"ferlab.host": socket.gethostname(), "ferlab.pid": str(os.getpid()),
            "ferlab.started": str(psutil.Process().create_time())}


def _experiment(client, dataset):
    """The MLflow experiment of a dataset; local artifacts lie in the main repository, never in a temporary workspace."""
    name = f"ferlab-{dataset.split()[0]}"
    found = client.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    local = not os.environ.get("MLFLOW_TRACKING_URI", "sqlite").startswith("http")
    place = (files.root() / "mlartifacts" / name).as_uri() if local else None
    try:
        # the kind makes MLflow's page open on training runs instead of its language-model views
        return client.create_experiment(name, artifact_location=place, tags={"mlflow.experimentKind": "custom_model_development"})
    except Exception:  # another writer made it in between
        return client.get_experiment_by_name(name).experiment_id


def _create(client, dataset, settings, name, tags=None):
    run = client.create_run(_experiment(client, dataset), run_name=name, tags={"mlflow.source.name": "dvc repro", **(tags or {})})
    _log_params(client, run.info.run_id, settings)
    return run.info.run_id


def _log_params(client, run_id, settings):
    """Again and again without harm: a run whose maker was killed in between gets the missing ones."""
    from mlflow.entities import Param

    client.log_batch(run_id, params=[Param(key, value) for key, value in _flat(settings).items()])


def _flat(settings):
    return {f"{section}.{key}": str(value) for section, values in settings.items() for key, value in values.items()}


def _runs(client, key, name):
    """Runs with this key and name, the complete one first."""
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(ids, f"tags.`ferlab.key` = '{key}' and attributes.run_name = '{name}'")
    return sorted(found, key=lambda run: run.data.tags.get("ferlab.complete") != "true")


def _unfinished(client, training, settings, *names):
    """The run that a process of this host, now dead, began for this training under one of these names, or None.

    It may lack parameters, but has none other than these.
    """
    wanted, here = _flat(settings).items(), f"tags.`ferlab.host` = '{socket.gethostname()}'"
    for run in _of_training(client, training, f"{here} and attributes.status != 'FINISHED'"):
        if (run.info.run_name in names and "ferlab.key" not in run.data.tags and run.data.params.items() <= wanted
                and not lives(run.data.tags)):
            return run.info.run_id
    return None


def _complete(client, training, settings, name):
    """Whether the result of this training with these parameters has its run; outside an experiment that bears its key as name."""
    return any(run.data.params.items() == _flat(settings).items()
               and (run.info.run_name == name or name == "training" and run.info.run_name.startswith("repro-"))
               for run in _of_training(client, training, "tags.`ferlab.complete` = 'true'"))


def _of_training(client, training, condition):
    if not training:
        return []
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(ids, f"tags.`ferlab.training` = '{training}' and {condition}")


def _log_epoch(client, run_id, row):
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    values = {k: float(v) for k, v in row.items() if k not in ("epoch", "chosen")}
    client.log_batch(run_id, metrics=[Metric(k, v, now, int(row["epoch"])) for k, v in values.items()])


def _steps(client, run_id):
    """The epochs that the run already has."""
    return {metric.step for metric in client.get_metric_history(run_id, "selection_accuracy")}


def _log_history(client, run_id, history):
    there = _steps(client, run_id)
    for row in history.to_dict("records"):
        if row["epoch"] not in there:
            _log_epoch(client, run_id, row)


def _log_final(client, run_id, metrics, details, about):
    from mlflow.entities import Metric

    values = dict(metrics)
    for split in ("public", "private", "test"):
        for name, scores in details["splits"].get(split, {}).get("per_class", {}).items():
            values |= {f"{split}_{name}_{score}": scores[score] for score in ("precision", "recall", "f1")}
    if "train_seconds" in about:
        values["train_seconds"] = about["train_seconds"]
    now = int(time.time() * 1000)
    client.log_batch(run_id, metrics=[Metric(k, float(v), now, 0) for k, v in values.items()])


def _log_files(run_id, listed, details, model):
    """The files and folders listed, the dataset with its digest, and the model with its signature where there is one."""
    import mlflow
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    client = mlflow.MlflowClient()
    for path in listed:
        if path.is_dir():
            client.log_artifacts(run_id, str(path), path.name)
        else:
            client.log_artifact(run_id, str(path))
    source = CodeDatasetSource({"ferlab.dataset": details["dataset"]})
    data = MetaDataset(source, name=details["dataset"], digest=details["digest"][:32])
    with mlflow.start_run(run_id=run_id):
        try:
            mlflow.log_input(data, context="training")
        except mlflow.MlflowException:  # another writer entered the same dataset in between: now it is there
            mlflow.log_input(data, context="training")
        outputs = client.get_run(run_id).outputs
        if model and not (outputs and outputs.model_outputs):
            try:
                _log_model(model)
            except files.UserError:  # made on another backend than the one that runs here: the file itself, then
                client.log_artifact(run_id, str(model), "model")


def _log_model(path):
    import importlib.metadata

    import mlflow
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from ferlab import backend, evaluation

    settings = params.raw(path.parent.parent / "params.yaml")["train"]
    keras = backend.start(settings["backend"], settings["precision"])
    model = keras.models.load_model(path, compile=False, safe_mode=True)
    inputs = Schema([TensorSpec(np.dtype("uint8"), (-1, 48, 48, 1))])
    outputs = Schema([TensorSpec(np.dtype("float32"), (-1, model.output_shape[-1]))])
    model.save = lambda place, **_: shutil.copyfile(path, place)  # the very file, with what it says of its use
    needs = [f"{name}=={importlib.metadata.version(name)}" for name in ("keras", settings["backend"], "numpy")]
    about = dataclasses.asdict(evaluation.read_about(path))  # a bare Keras network cannot equalise: who loads it reads this
    mlflow.keras.log_model(model, name="model", signature=ModelSignature(inputs, outputs), pip_requirements=needs,
                           metadata={"ferlab": about})


def _finished(root):
    """True where the workspace's parameters, model and metrics are those of its dvc.lock: one result, not a mixture."""
    try:
        outs, used = _outs((root / "dvc.lock").read_text())
        files_agree = all(md5(root / name) == outs[name] for name in RESULT)
        return files_agree and params.parse(used) == params.load(root / "params.yaml")
    except (OSError, KeyError, files.UserError):
        return False


def _same_result(root, revision):
    """True where the workspace's dvc.lock is the experiment's: its run is then the experiment's."""
    return (root / "dvc.lock").exists() and _show(root, revision, "dvc.lock") == (root / "dvc.lock").read_text()


def _key_of(root, revision):
    """The `result_key` of a commit, from Git alone."""
    outs, _ = _outs(_show(root, revision, "dvc.lock"))
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "params.yaml"
        path.write_text(_show(root, revision, "params.yaml"))
        return result_key(params.raw(path), *(outs[name] for name in RESULT))


def _outs(lock):
    """({path: md5} of every output, the parameters that evaluate declares) of a dvc.lock's text."""
    from ruamel.yaml import YAML

    stages = YAML(typ="safe").load(lock)["stages"]
    outs = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
    return outs, stages["evaluate"]["params"]["params.yaml"]


def _show(root, revision, file):
    return subprocess.run(["git", "show", f"{revision}:{file}"], cwd=root, capture_output=True, text=True, check=True).stdout


def _materialise(root, revision, folder):
    """Bring an experiment's files from Git and DVC's cache into `folder`."""
    from dvc.api import DVCFileSystem

    system = DVCFileSystem(str(root), rev=revision)
    for file in ("params.yaml", *RESULT, "reports/predictions.csv", "models/history.csv", "reports/report.html",
                 "reports/figures"):
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        system.get(file, str(target), recursive=file == "reports/figures")
