"""Trials of a sweep trained in this process, one after the other, by Optuna's `optimize`.

Several processes, each started with the same command, work on one study: Optuna's database shares
out the trials. A process that dies leaves its trial without a heartbeat; another one, or the next
call, tries it again from its checkpoint.
"""

import contextlib
import time

import optuna

from ferlab import files, progress
from ferlab.scaling import sweep_file
from ferlab.scaling.search import MAX_FAILURES, Trial
from ferlab.secrets import masked


def train(search):
    """Train what is missing of a Search in this process; UserError where three trials fail."""
    failures, waiting = [], False

    def objective(trial):
        search.study.sampler = search.sampler(trial.number)
        return _value(search, trial)

    def ended(study, trial):
        search.line(trial)
        if trial.state.name == "FAIL":
            failures.append(trial)
        if len(failures) == MAX_FAILURES:
            raise files.UserError(f"three trials failed, the last: {trial.user_attrs['error']}")

    while (missing := search.missing()) > 0:
        optuna.storages.fail_stale_trials(search.study)
        running = search.study.get_trials(deepcopy=False, states=(search.states.RUNNING,))
        if len(running) < missing:
            search.study.optimize(objective, n_trials=1, catch=files.UserError, callbacks=[ended])
            continue
        if not waiting:
            waiting = True
            search.report("the last trials run in other processes; waiting for them")
        time.sleep(1)


def _value(search, optuna_trial):
    """Train a trial of Optuna's; returns the accuracy of the epoch whose weights it keeps.

    Raises what tells Optuna how else it ended.
    """
    from ferlab.training import backend

    values = sweep_file.suggest(search.declared, optuna_trial)
    trial = Trial(search, values, optuna_trial.number)
    checkpoint, wanted, status = search.folder / f"{trial.key}.npz", trial.settings, "KILLED"
    try:
        backend.start(wanted.backend, wanted.precision, wanted.seed, wanted.devices)
        history = _history(search, trial, optuna_trial, checkpoint)
        status = "FINISHED"
    except (KeyboardInterrupt, OSError):  # it can go on from its checkpoint, after a full disk too
        search.retry(search.study, search.study.trials[optuna_trial.number])
        checkpoint = None
        raise
    except optuna.TrialPruned:
        raise
    except Exception as error:  # it would fail again from its checkpoint
        optuna_trial.set_user_attr("error", masked(error))
        status = "FAILED"
        raise
    except BaseException:
        checkpoint = None
        raise
    finally:
        trial.close(status)
        if checkpoint:
            checkpoint.unlink(missing_ok=True)
    return float(history.loc[history["chosen"] == 1, "selection_accuracy"].iloc[0])


def _history(search, trial, optuna_trial, checkpoint):
    """The history (a frame) of one trial, trained in this process."""
    from ferlab.training import loop, schedule
    from ferlab.training.callbacks import Callbacks

    settings = trial.settings
    costs = schedule.step_costs(settings)

    def epoch(row, seconds):
        trial.epoch(row)
        optuna_trial.report(row["selection_accuracy"], row["epoch"])
        if optuna_trial.should_prune():
            raise optuna.TrialPruned

    with contextlib.closing(progress.Progress(settings.epochs, settings.select_on, costs)) as shown:
        callbacks = Callbacks(shown.step, epoch)
        _, history, _ = loop.fit(search.dataset, settings, checkpoint, callbacks)
    return history
