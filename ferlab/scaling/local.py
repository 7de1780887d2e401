"""Trials of a sweep trained in this process, one after the other, by Optuna's `optimize`.

Several processes, each started with the same command, work on one study: Optuna's database shares
out the trials. A process that dies leaves its trial without a heartbeat; another one, or the next
call, tries it again from its checkpoint.
"""

import contextlib
import fcntl
import time

import optuna

from ferlab import files, progress
from ferlab.scaling import sweep_file
from ferlab.scaling.search import MAX_FAILURES, Trial
from ferlab.secrets import masked


def train(search):
    """Train what is missing of a Search in this process; UserError where three trials fail."""
    failures, begun, waiting = [], [], False

    def objective(trial):
        begun.append(trial.number)
        fcntl.flock(turn, fcntl.LOCK_UN)  # the others see now that this trial runs
        search.study.sampler = search.sampler(trial.number)
        return _value(search, trial)

    def ended(study, trial):
        search.line(trial)
        if trial.state.name == "FAIL":
            failures.append(trial)
        if len(failures) == MAX_FAILURES:
            raise files.UserError(f"three trials failed, the last: {trial.user_attrs['error']}")

    def one_trial():
        try:
            search.study.optimize(objective, 1, catch=files.UserError, callbacks=[ended])
        except ValueError:  # Optuna's, too, where the trial has been given away
            if not begun or not _given_away(search, begun[-1]):
                raise
            search.report(f"trial {begun[-1]}: this process slept too long; another one goes on")

    with open(search.folder / "turn.lock", "a") as turn:
        while True:
            fcntl.flock(turn, fcntl.LOCK_EX)  # or two processes would both begin the last trial
            if (missing := search.missing()) <= 0:
                return
            optuna.storages.fail_stale_trials(search.study)
            running = search.study.get_trials(deepcopy=False, states=(search.states.RUNNING,))
            if len(running) < missing:
                one_trial()
                continue
            fcntl.flock(turn, fcntl.LOCK_UN)
            if not waiting:
                waiting = True
                search.report("the last trials run in other processes; waiting for them")
            time.sleep(1)


def _given_away(search, number):
    """Whether another process took the trial of this number for a dead one's."""
    trial = search.study.get_trials(deepcopy=False)[number]
    return trial.state == search.states.FAIL and "error" not in trial.user_attrs


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
    except optuna.exceptions.UpdateFinishedTrialError:  # who has it now needs the checkpoint
        checkpoint = None
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
