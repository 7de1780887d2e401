"""Trials of a sweep on a Ray cluster: Ray Tune with Optuna's search and the median rule.

A trial that has ended goes into the sweep's study. What was running when a command died, Tune
restores from the storage: the same command goes on.
"""

import functools
import time

import optuna
from ray.tune.schedulers import MedianStoppingRule, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from ferlab import files, progress
from ferlab.scaling import sweep_file
from ferlab.scaling.search import MAX_FAILURES, MLFLOW_TIMEOUT, Trial
from ferlab.training import checkpoint


class Median(MedianStoppingRule):
    """Tune's median rule, without the turns that trials take there while few of them have run: each
    turn costs a start.
    """

    def _on_insufficient_samples(self, *_):
        return TrialScheduler.CONTINUE


class Running:
    """A Search whose trials are trained on a cluster, in the process of its command."""

    def __init__(self, search):
        self.search, self.failed, self.closing = search, [], []
        self.trials = {}  # Trials that have reported, by Tune's ids

    def wait(self):
        if len(self.failed) >= MAX_FAILURES:
            raise files.UserError(f"three trials failed, the last: {self.failed[-1]}")

    def report(self, tune_trial, report):
        """Log an epoch of Tune's Trial."""
        for note in report.get("notes", ()):
            if note.endswith("could not be resumed"):
                self.search.report(f"{tune_trial}: {note}")
        if "row" in report:
            if tune_trial.trial_id not in self.trials:
                trial = Trial(self.search, tune_trial.config, tune_trial.trial_id)
                self.trials[tune_trial.trial_id] = trial
            self.trials[tune_trial.trial_id].epoch(report["row"])

    def end(self, tune_trial):
        """Keep what Tune's Trial came to, once, in the study."""
        name, result, study = tune_trial.trial_id, tune_trial.last_result, self.search.study
        drawn = optuna.trial.FixedTrial(tune_trial.config)
        sweep_file.suggest(self.search.declared, drawn)
        reason, finished, spent = result.get("failed"), result.get("finished"), ""
        if tune_trial.status == "ERROR":  # Ray's, after the last retry
            reason = "its process died again and again"
        outcome = {"value": None if reason else result["kept"], "user_attrs": {"tune": name}}
        if reason:
            self.failed.append(reason)
            state, status = "FAIL", "FAILED"
            outcome["user_attrs"]["error"] = reason
        elif finished:
            state, status = "COMPLETE", "FINISHED"
            outcome["user_attrs"]["model"] = finished["sha256"]
            spent = f", {progress.duration(sum(finished['seconds']))}"
        else:  # the median rule has stopped it
            state, status = "PRUNED", "KILLED"
            outcome["intermediate_values"] = {result["epoch"]: result["kept"]}
        self.close(name, status)
        if name not in [each.user_attrs.get("tune") for each in study.trials]:
            outcome |= {"params": drawn.params, "distributions": drawn.distributions}
            outcome["state"] = self.search.states[state]
            study.add_trial(optuna.trial.create_trial(**outcome))
            self.search.line(study.trials[-1], spent)

    def close(self, name, status):
        """End the MLflow run of a trial that has one, without waiting."""
        if trial := self.trials.pop(name, None):
            trial.close(status, wait=0)
            self.closing.append(trial.logger)


def train(search, connected):
    """Train what is missing of a Search on a connected Cluster; UserError where three trials fail.

    The Cluster is closed.
    """
    running, name = Running(search), search.study.study_name
    try:
        with checkpoint.lock(search.folder / "cluster.lock") as alone:
            if not alone:
                raise files.UserError("another command runs this sweep on a cluster; wait for it")
            while (missing := search.missing()) > 0:  # again, for those that failed
                connected.run(
                    name,
                    search.dataset,
                    search.settings,
                    running.wait,
                    running.report,
                    running.end,
                    num_samples=missing,
                    search_alg=optuna_search(search),
                    scheduler=Median("epoch", grace_period=search.half + 1, min_samples_required=4),
                )
                running.wait()
                connected.forget(name)
    finally:
        connected.close()
        for name in list(running.trials):  # those that still ran
            running.close(name, "KILLED")
        # for MLflow, all together: a server that is down must not hold up every trial's end
        deadline = time.monotonic() + MLFLOW_TIMEOUT
        for logger in running.closing:
            logger.wait(deadline - time.monotonic())


def optuna_search(search):
    """Optuna's search with the trials that have ended, in memory: Tune keeps it with its notes."""
    storage, known = optuna.storages.InMemoryStorage(), search.study.study_name
    study = optuna.create_study(storage=storage, study_name=known, direction="maximize")
    study.add_trials(search.ended())
    return OptunaSearch(
        functools.partial(sweep_file.suggest, search.declared),
        metric="kept",
        mode="max",
        study_name=known,
        storage=storage,
        sampler=search.sampler(len(search.study.trials)),
    )
