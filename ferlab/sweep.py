"""`python -m ferlab sweep`: a search over declared ranges of the train section, by Optuna, on the bench's data.

Each trial is a training with its own MLflow run; hopeless ones are pruned after half of their epochs. A broken-off sweep goes
on with the same command: finished trials stand in .ferlab/sweeps, and the one that was running resumes from its checkpoint.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ferlab import files, params, progress, tracking
from ferlab.dataset import Dataset

PAGE = Path("reports/sweep.md")


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
    ranges: Annotated[dict[str, Range | Annotated[list[Any], Field(min_length=1)]], Field(min_length=1)]


def load(path):
    """The Sweep of a file, every end of every range tried on the train section. Raises UserError naming file and key."""
    values = params.raw(path)
    try:
        found = Sweep.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("Range",) and not str(part).startswith("list["))
        raise files.UserError(f"{path}: {where or 'the file'}: {first['msg'][0].lower() + first['msg'][1:]}") from None
    bench = params.raw()
    for key, ends in found.ranges.items():
        section, _, name = key.partition(".")
        if section != "train" or name not in params.Train.model_fields:
            raise files.UserError(f"{path}: ranges.{key}: only parameters of the train section can be swept")
        if isinstance(ends, Range) and not (0 < ends.low < ends.high if ends.log else ends.low < ends.high):
            raise files.UserError(f"{path}: ranges.{key}: `from` must be below `to`" + (", and above 0" if ends.log else ""))
        for value in ends if isinstance(ends, list) else (ends.low, ends.high):
            params.parse(bench | {"train": bench["train"] | {name: value}}, f"{path}: ranges")
    return found


def sweep(path=Path("sweep.yaml"), report=print):
    """Run what is missing of the sweep and write reports/sweep.md; returns the Optuna study."""
    try:
        import optuna
    except ImportError:
        raise files.UserError("sweep: optuna is not installed; pip install --require-hashes -r requirements-sweep.txt") from None
    wanted, settings, dataset = load(path), params.load().train, Dataset.load(Path("data/balanced"))
    folder = files.root() / ".ferlab/sweeps" / wanted.name
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # what a study compares must be one thing: other data, ranges or fixed parameters are another study
    fixed = hashlib.sha256(json.dumps([settings.model_dump(), dataset.digest, wanted.model_dump(exclude={"trials"})],
                                      sort_keys=True).encode()).hexdigest()[:12]
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'study.db'}", study_name=f"{wanted.name}-{fixed}", direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=wanted.seed), load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=settings.epochs // 2))
    _bury(optuna, study)

    def objective(trial):
        for name, value in tracking.process().items():
            trial.set_user_attr(name, value)
        chosen = settings.model_copy(update={key.partition(".")[2]: _suggest(trial, key, ends)
                                             for key, ends in wanted.ranges.items()})
        return _train(optuna, trial, chosen, dataset, folder, f"sweep-{study.study_name}-{trial.number}")

    done = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    while (count := len(study.get_trials(deepcopy=False, states=done))) < wanted.trials:
        try:
            study.optimize(objective, n_trials=1)
        except KeyboardInterrupt:
            study.enqueue_trial(study.trials[-1].params)
            raise
        last = study.trials[-1]
        told = f"{100 * last.value:.2f} %" if last.state == done[0] else f"pruned after {len(last.intermediate_values)} epochs"
        report(f"trial {count + 1}/{wanted.trials}: {told} of {settings.select_on}  {_words(last.params)}")
    files.write_text(PAGE, text(study, dataset.name, settings))
    best = " ".join(f"-S {key}={value:g}" if isinstance(value, float) else f"-S {key}={value}"
                    for key, value in study.best_params.items())
    report(f"best: {100 * study.best_value:.2f} % of {settings.select_on}; dvc exp run {best}\nwrote {PAGE}")
    return study


def _suggest(trial, key, ends):
    if isinstance(ends, list):
        return trial.suggest_categorical(key, ends)
    whole = params.Train.model_fields[key.partition(".")[2]].annotation is int
    return (trial.suggest_int if whole else trial.suggest_float)(key, ends.low, ends.high, log=ends.log)


def _train(optuna, trial, chosen, dataset, folder, name):
    """The best accuracy on the selection split; raises TrialPruned. The checkpoint is found again by what is trained."""
    from ferlab import backend, training

    backend.start(chosen.backend, chosen.precision, chosen.seed)
    key = hashlib.sha256((chosen.model_dump_json() + dataset.digest).encode()).hexdigest()[:16]
    checkpoint, note = folder / f"{key}.npz", folder / f"{key}.json"
    values = params.raw() | {"train": chosen.model_dump()}
    live = tracking.Live(values, dataset.name, key, note, name)
    costs = [training.side_of(chosen, epoch) ** 2 for epoch in range(chosen.epochs)]
    shown = progress.Progress(chosen.epochs, chosen.select_on, costs)
    best = 0.0

    def epoch(row, seconds):
        nonlocal best
        live.epoch(row)
        best = max(best, row["selection_accuracy"])
        trial.report(row["selection_accuracy"], row["epoch"])
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        _, history, _ = training.fit(dataset, chosen, checkpoint, shown.step, epoch)
        live.close("FINISHED")
    except optuna.TrialPruned:
        live.close("KILLED")
        _forget(checkpoint, note)
        raise
    finally:
        shown.close()
    _forget(checkpoint, note)
    return float(history["selection_accuracy"].max())


def _forget(*paths):
    for path in paths:
        path.unlink(missing_ok=True)


def _bury(optuna, study):
    """Trials whose process died count as failed, and are tried again first, from their checkpoint."""
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if not tracking.lives(trial.user_attrs):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params)


def text(study, dataset, settings):
    """All finished trials, the best first, as Markdown."""
    rows = sorted((trial for trial in study.trials if trial.value is not None), key=lambda trial: -trial.value)
    keys = list(rows[0].params)
    lines = ["# What the sweep found", "",
             f"Generated by `python -m ferlab sweep` on {dataset}: network {settings.model}, {settings.epochs} epochs.",
             f"Accuracies are those of {settings.select_on} (one view), which chose both the epoch and the order of this table:",
             "the first lines are lucky, too. Private was not looked at.", "",
             f"| trial | {settings.select_on} | {' | '.join(keys)} |", "|---|---|" + "---|" * len(keys)]
    for trial in rows:
        pruned = f" (pruned after {max(trial.intermediate_values)} epochs)" if trial.state.name == "PRUNED" else ""
        cells = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in trial.params.values()]
        lines.append(f"| {trial.number} | {100 * trial.value:.2f} %{pruned} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _words(values):
    return ", ".join(f"{key.partition('.')[2]} {value:.3g}" if isinstance(value, float) else f"{key.partition('.')[2]} {value}"
                     for key, value in values.items())
