"""`python -m ferlab sweep`: a search over declared ranges of the train section, by Optuna, on the bench's data.

Each trial is a training with its own MLflow run; hopeless ones are pruned after half of their epochs. A broken-off sweep goes
on with the same command: finished trials stand in .ferlab/sweeps, and those that were running resume from their checkpoints.
Optuna chooses, always here; the trials are trained here in turn, or where Ray places them (ferlab/scaling/cluster.py).
"""

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ferlab import files, params, progress
from ferlab.data.dataset import Dataset
from ferlab.tracking import epoch_logger, store

PAGE = Path("reports/sweep.md")
MAX_FAILURES = 3  # one trial may have a rate too high; three are no accident


class Range(BaseModel):
    model_config = ConfigDict(extra="forbid")

    low: float = Field(alias="from")
    high: float = Field(alias="to")
    log: bool = False


class Sweep(BaseModel):
    """What sweep.yaml holds."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[\w-]+$")]
    trials: Annotated[int, Field(ge=1)]
    seed: params.Seed
    ranges: Annotated[
        dict[str, Range | Annotated[list[Any], Field(min_length=1)]], Field(min_length=1)
    ]


def load(path):
    """The Sweep of a file, every end of every range tried on the train section. Raises UserError naming file and key."""
    values = params.raw(path)
    try:
        found = Sweep.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(
            str(part)
            for part in first["loc"]
            if part not in ("Range",) and not str(part).startswith("list[")
        )
        raise files.UserError(
            f"{path}: {where or 'the file'}: {first['msg'][0].lower() + first['msg'][1:]}"
        ) from None
    params.load()  # the bench itself must be in order
    bench = params.raw()
    for key, ends in found.ranges.items():
        section, _, name = key.partition(".")
        if section != "train" or name not in params.Train.model_fields:
            raise files.UserError(
                f"{path}: ranges.{key}: only parameters of the train section can be swept"
            )
        if name == "labels":
            raise files.UserError(
                f"{path}: ranges.{key}: accuracies against other labels cannot be compared; sweep each alone"
            )
        if isinstance(ends, Range) and not (
            0 < ends.low < ends.high if ends.log else ends.low < ends.high
        ):
            raise files.UserError(
                f"{path}: ranges.{key}: `from` must be below `to`"
                + (", and above 0" if ends.log else "")
            )
        if (
            isinstance(ends, Range)
            and _whole(key)
            and not (ends.low.is_integer() and ends.high.is_integer())
        ):
            raise files.UserError(f"{path}: ranges.{key}: takes whole numbers only")
        for value in ends if isinstance(ends, list) else _bounds(key, ends):
            params.parse(bench | {"train": bench["train"] | {name: value}}, f"{path}: ranges")
    return found


def sweep(path=Path("sweep.yaml"), report=print, cluster=None):
    """Run what is missing of the sweep and write reports/sweep.md; returns the Optuna study.

    cluster: a function that connects to a ferlab.cluster.Cluster, given the folder for checkpoints; without it all trials are
    trained here, one after the other.
    """
    try:
        import optuna
    except ImportError:
        raise files.UserError(
            "sweep: optuna is not installed; pip install --require-hashes -r requirements-sweep.txt"
        ) from None
    from ferlab.training import fingerprint

    wanted, settings, dataset = load(path), params.load().train, Dataset.load(Path("data/balanced"))
    folder = files.root() / ".ferlab/sweeps" / wanted.name
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # what a study compares must be one thing: other data, ranges or fixed parameters are another study
    fixed = hashlib.sha256(
        json.dumps(
            [
                settings.model_dump(),
                fingerprint.data_key(dataset),
                wanted.model_dump(exclude={"trials"}),
            ],
            sort_keys=True,
        ).encode()
    ).hexdigest()[:12]
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'study.db'}",
        study_name=f"{wanted.name}-{fixed}",
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=settings.epochs // 2),
        load_if_exists=True,
    )
    # a sampler begins anew in each process: with its seed alone a broken-off sweep would ask for its first trials again
    study.sampler = optuna.samplers.TPESampler(
        seed=wanted.seed + len(study.trials), constant_liar=bool(cluster)
    )
    _mark_dead_trials(optuna, study)
    (_on_cluster if cluster else _here)(
        optuna, study, wanted, settings, dataset, folder, report, cluster
    )
    files.write_text(PAGE, text(study, dataset.name, settings))
    best = " ".join(f"-S {key}={value}" for key, value in study.best_params.items())
    report(
        f"best: {100 * study.best_value:.2f} % of {settings.select_on}; dvc exp run {best}\nwrote {PAGE}"
    )
    return study


class _Trial:
    """A trial while it is trained: asked from Optuna, its epochs told to Optuna and MLflow."""

    def __init__(self, study, wanted, settings, dataset, folder):
        from ferlab.training import fingerprint

        self.study, self.asked = study, study.ask()
        for name, value in store.process().items():
            self.asked.set_user_attr(name, value)
        changes = {
            key.partition(".")[2]: _suggest(self.asked, key, ends)
            for key, ends in wanted.ranges.items()
        }
        self.chosen = params.Train.model_validate(
            settings.model_dump() | changes
        )  # a 10 of the file becomes 10.0
        # the checkpoint is found again by what is trained
        self.key = hashlib.sha256(
            (self.chosen.model_dump_json() + fingerprint.data_key(dataset)).encode()
        ).hexdigest()[:16]
        self.note = folder / f"{self.key}.json"
        values = params.raw() | {"train": self.chosen.model_dump()}
        self.live = epoch_logger.EpochLogger(
            values,
            dataset.name,
            self.key,
            self.note,
            f"sweep-{study.study_name}-{self.asked.number}",
        )
        self.epochs = 0

    def epoch(self, row):
        """Whether Optuna gives up this trial."""
        self.live.epoch(row)
        self.epochs = row["epoch"]
        self.asked.report(row["selection_accuracy"], row["epoch"])
        return self.asked.should_prune()

    def end(self, status, state, value=None, wait=8):
        self.live.close(status, wait)
        self.note.unlink(missing_ok=True)
        self.study.tell(self.asked, value, state)

    def again(self, state, wait=8):
        """Broken off: to be tried again first."""
        self.end("KILLED", state, wait=wait)
        self.study.enqueue_trial(self.asked.params)

    def line(self, wanted, done, told):
        return f"trial {done}/{wanted.trials}: {told}  {_words(self.asked.params)}"


def _done(optuna, study):
    return len(
        study.get_trials(
            deepcopy=False,
            states=(optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED),
        )
    )


def _here(optuna, study, wanted, settings, dataset, folder, report, _):
    from ferlab.training import backend, loop, schedule
    from ferlab.training.callbacks import Callbacks

    states, failures = optuna.trial.TrialState, 0
    while _done(optuna, study) < wanted.trials:
        trial = _Trial(study, wanted, settings, dataset, folder)
        backend.start(trial.chosen.backend, trial.chosen.precision, trial.chosen.seed)
        checkpoint = folder / f"{trial.key}.npz"
        shown = progress.Progress(
            trial.chosen.epochs,
            trial.chosen.select_on,
            schedule.step_costs(trial.chosen),
        )

        def epoch(row, seconds, trial=trial):
            if trial.epoch(row):
                raise optuna.TrialPruned

        try:
            _, history, _ = loop.fit(
                dataset, trial.chosen, checkpoint, Callbacks(shown.step, epoch)
            )
        except optuna.TrialPruned:
            trial.end("KILLED", states.PRUNED)
            told = f"pruned after {trial.epochs} epochs"
        except KeyboardInterrupt:
            trial.again(states.FAIL)
            raise
        except Exception as error:
            trial.end("FAILED", states.FAIL)
            if not isinstance(error, files.UserError):
                raise
            failures += 1
            checkpoint.unlink(missing_ok=True)
            report(f"trial {trial.asked.number} failed: {error}")
            if failures == MAX_FAILURES:
                raise files.UserError(f"three trials failed, the last: {error}") from None
            continue
        else:
            trial.end("FINISHED", states.COMPLETE, float(history["selection_accuracy"].max()))
            told = f"{100 * history['selection_accuracy'].max():.2f} % of {settings.select_on}"
        finally:
            shown.close()
        checkpoint.unlink(missing_ok=True)
        report(trial.line(wanted, _done(optuna, study), told))


def _on_cluster(optuna, study, wanted, settings, dataset, folder, report, connect):
    from tqdm import tqdm

    states, running, ended, failures = optuna.trial.TrialState, {}, [], 0
    cluster = connect(folder)
    shared = cluster.share(dataset)
    bar = tqdm(
        total=wanted.trials,
        unit="trial",
        initial=_done(optuna, study),
        disable=not sys.stderr.isatty(),
        leave=False,
    )
    try:
        while running or _done(optuna, study) < wanted.trials:
            while (
                len(running) < cluster.slots()
                and _done(optuna, study) + len(running) < wanted.trials
            ):
                trial = _Trial(study, wanted, settings, dataset, folder)
                name = (
                    trial.key if trial.key not in running else f"{trial.key}-{trial.asked.number}"
                )
                running[name] = trial
                cluster.start(name, shared, trial.chosen)
            if not running:
                raise files.UserError(
                    "the cluster has no node left that is large enough; the same command goes on once it has"
                )
            for name, kind, what in cluster.news():
                trial = running[name]
                if kind == "epoch":
                    if trial.epoch(what[0]):
                        cluster.stop(name)
                    continue
                if kind in ("resumed", "uneven", "unsaved"):
                    if what:
                        bar.write(what)
                    continue
                ended.append(running.pop(name))
                if kind == "failed":
                    trial.end("FAILED", states.FAIL, wait=0)
                    failures += 1
                    bar.write(f"trial {trial.asked.number} failed: {what}")
                    if failures == MAX_FAILURES:
                        raise files.UserError(f"three trials failed, the last: {what}")
                    continue
                if kind == "done":
                    value = float(what["history"]["selection_accuracy"].max())
                    trial.asked.set_user_attr("model", hashlib.sha256(what["model"]).hexdigest())
                    trial.end("FINISHED", states.COMPLETE, value, wait=0)
                    told = f"{100 * value:.2f} % of {settings.select_on}, {progress.duration(sum(what['seconds']))}"
                else:
                    trial.end("KILLED", states.PRUNED, wait=0)
                    told = f"pruned after {trial.epochs} epochs"
                cluster.forget(name)
                bar.update()
                bar.clear()
                report(trial.line(wanted, _done(optuna, study), told))
    finally:
        bar.close()
        for trial in running.values():
            trial.again(states.FAIL, wait=0)
        cluster.close()
        until = (
            time.monotonic() + 8
        )  # for MLflow, all together: a server that is down must not hold up every trial's end
        for trial in [*ended, *running.values()]:
            trial.live.wait(until - time.monotonic())


def _suggest(trial, key, ends):
    if isinstance(ends, list):
        return trial.suggest_categorical(key, ends)
    return (trial.suggest_int if _whole(key) else trial.suggest_float)(
        key, *_bounds(key, ends), log=ends.log
    )


def _whole(key):
    """Whether a key, as sweep.yaml names it, takes whole numbers."""
    return params.Train.model_fields[key.partition(".")[2]].annotation is int


def _bounds(key, ends):
    return (int(ends.low), int(ends.high)) if _whole(key) else (ends.low, ends.high)


def _mark_dead_trials(optuna, study):
    """Trials whose process died count as failed, and are tried again first, from their checkpoint."""
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if not store.is_alive(trial.user_attrs):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params)


def text(study, dataset, settings):
    """All finished trials, the best first, as Markdown."""
    rows = sorted(
        (trial for trial in study.trials if trial.value is not None), key=lambda trial: -trial.value
    )
    keys = list(rows[0].params)
    lines = [
        "# What the sweep found",
        "",
        f"Generated by `python -m ferlab sweep` on {dataset}: network {settings.model}, {settings.epochs} epochs.",
        f"Accuracies are those of {settings.select_on} (one view), which chose both the epoch and the order of this table:",
        "the first lines are lucky, too. Private was not looked at.",
        "",
        f"| trial | {settings.select_on} | {' | '.join(keys)} |",
        "|---|---|" + "---|" * len(keys),
    ]
    for trial in rows:
        pruned = (
            f" (pruned after {max(trial.intermediate_values)} epochs)"
            if trial.state.name == "PRUNED"
            else ""
        )
        cells = [
            f"{value:.3g}" if isinstance(value, float) else str(value)
            for value in trial.params.values()
        ]
        lines.append(
            f"| {trial.number} | {100 * trial.value:.2f} %{pruned} | {' | '.join(cells)} |"
        )
    return "\n".join([*lines, ""])


def _words(values):
    return ", ".join(
        f"{key.partition('.')[2]} {value:.3g}"
        if isinstance(value, float)
        else f"{key.partition('.')[2]} {value}"
        for key, value in values.items()
    )
