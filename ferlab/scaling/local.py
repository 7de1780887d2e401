"""Trials of a sweep trained in this process, one after the other, by Optuna's `optimize`.

Several processes, each started with the same command, work on one study: Optuna's database shares
out the trials. A process that dies leaves its trial without a heartbeat; another one, or the next
call, tries it again from its checkpoint.
"""

import contextlib
import time

import optuna

from ferlab import files, progress
from ferlab.scaling.search import MAX_FAILURES
from ferlab.secrets import masked


def train(search):
    """Train what is missing of a Search in this process; UserError where three trials fail."""
    failures, waiting = [], False

    def ended(study, trial):
        search.line(trial)
        if trial.state.name == "FAIL":
            failures.append(trial)
        if len(failures) == MAX_FAILURES:
            raise files.UserError(f"three trials failed, the last: {trial.user_attrs['error']}")

    while (missing := search.missing()) > 0:
        optuna.storages.fail_stale_trials(search.study)
        if search.running() < missing:
            search.study.optimize(
                lambda trial: _value(search, search.trial(trial)),
                n_trials=1,
                catch=files.UserError,
                callbacks=[ended],
            )
            continue
        if not waiting:
            waiting = True
            search.report("the last trials run in other processes; waiting for them")
        time.sleep(1)


def _value(search, trial):
    """Train a Trial; returns its value. Raises what tells Optuna how else it ended."""
    from ferlab.training import backend

    checkpoint, wanted = search.folder / f"{trial.key}.npz", trial.settings
    try:
        backend.start(wanted.backend, wanted.precision, wanted.seed, wanted.devices)
        history = _history(search, trial, checkpoint)
    except (KeyboardInterrupt, OSError):  # it can go on from its checkpoint, after a full disk too
        search.retry(trial)
        trial.close("KILLED")
        raise
    except optuna.TrialPruned:
        trial.close("KILLED")
        checkpoint.unlink(missing_ok=True)
        raise
    except Exception as error:
        trial.optuna.set_user_attr("error", masked(error))
        trial.close("FAILED")
        checkpoint.unlink(missing_ok=True)  # it would fail again from there
        raise
    trial.close("FINISHED")
    checkpoint.unlink(missing_ok=True)
    return search.value(history)


def _history(search, trial, checkpoint):
    """The history (a frame) of one trial, trained in this process."""
    from ferlab.training import loop, schedule
    from ferlab.training.callbacks import Callbacks

    settings = trial.settings
    costs = schedule.step_costs(settings)

    def epoch(row, seconds):
        if trial.epoch(row):
            raise optuna.TrialPruned

    with contextlib.closing(progress.Progress(settings.epochs, settings.select_on, costs)) as shown:
        callbacks = Callbacks(shown.step, epoch)
        _, history, _ = loop.fit(search.dataset, settings, checkpoint, callbacks)
    return history
