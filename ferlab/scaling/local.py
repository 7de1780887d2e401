"""Trials of a sweep trained in this process, one after the other.

Several processes, each started with the same command, work on one study in Optuna's database. A
process that trains a trial holds a file's lock; however it ends, the system releases it. Then
another process, or the next call, tries the trial again from its checkpoint.
"""

import contextlib
import fcntl
import time

import optuna

from ferlab import files, progress
from ferlab.scaling import sweep_file
from ferlab.scaling.search import MAX_FAILURES, Trial
from ferlab.secrets import masked
from ferlab.training import checkpoint

MAX_DEATHS = 3  # in a row and without an epoch between; more would be in vain (too little memory?)


def train(search):
    """Train what is missing of a Search in this process.

    Raises UserError where three trials fail, or where the database cannot be written.
    """
    failures, waiting = 0, False
    try:
        while search.missing() > 0:
            with contextlib.ExitStack() as alive:
                begun = _begin(search, alive)
                ended = begun and _train(search, begun)
            if ended:
                search.line(ended)
                failures += ended.state == search.states.FAIL
                if failures == MAX_FAILURES:
                    raise files.UserError(
                        f"three trials failed, the last: {ended.user_attrs['error']}"
                    )
                continue
            if not waiting:
                waiting = True
                search.report("the last trials run in other processes; waiting for them")
            time.sleep(1)
    except optuna.exceptions.StorageInternalError as error:  # a full disk
        reason = files.one_line(error.__cause__ or error)
        raise files.UserError(f"{search.folder / 'study.db'}: {reason}") from error


@contextlib.contextmanager
def _turn(search):
    """All that decides about trials happens within: one process at a time."""
    with open(search.folder / "turn.lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _life(search, number):
    """The file that is locked as long as the process lives that trains the trial of this number."""
    return search.folder / f"{search.study.study_name}-{number}.lock"


def _begin(search, alive):
    """A trial of Optuna's that is this process's while `alive` is open; None where there is none
    to begin.
    """
    with _turn(search):
        running = search.study.get_trials(deepcopy=False, states=(search.states.RUNNING,))
        living = [trial for trial in running if not _retry_if_dead(search, trial)]
        if len(living) >= search.missing():
            return None
        trial = search.study.ask()
        alive.enter_context(checkpoint.lock(_life(search, trial.number)))
    search.study.sampler = search.sampler(trial.number)
    return trial


def _retry_if_dead(search, trial):
    """Whether the process of a running trial is dead; if so, the trial waits to be tried again."""
    with checkpoint.lock(_life(search, trial.number)) as dead:
        if not dead:
            return False
        epochs, known = len(trial.intermediate_values), trial.user_attrs
        deaths = known.get("deaths", 0) + 1 if epochs == known.get("epochs", 0) else 0
        if deaths == MAX_DEATHS:
            error = f"its process died {deaths} times within one epoch (out of memory?)"
            optuna.trial.Trial(search.study, trial._trial_id).set_user_attr("error", error)
        failed = search.study.tell(trial.number, state=search.states.FAIL)
        if deaths == MAX_DEATHS:
            search.line(failed)
            if "checkpoint" in known:
                (search.folder / known["checkpoint"]).unlink(missing_ok=True)
        else:
            again = optuna.trial.create_trial(
                state=search.states.WAITING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={"again": trial.number, "epochs": epochs, "deaths": deaths},
                intermediate_values=trial.intermediate_values,
            )
            search.study.add_trial(again)
        _life(search, trial.number).unlink()
    return True


def _train(search, begun):
    """Train a trial that was begun and tell the study how it ended; returns Optuna's FrozenTrial.

    What breaks it off, such as Ctrl-C or a full disk, leaves it as a killed process would.
    """
    from ferlab.training import backend

    values = sweep_file.suggest(search.declared, begun)
    trial = Trial(search, values, begun.number)
    kept, wanted, status = search.folder / f"{trial.key}.npz", trial.settings, "KILLED"
    failure = None
    try:
        begun.set_user_attr("checkpoint", kept.name)
        try:
            backend.start(wanted.backend, wanted.precision, wanted.seed, wanted.devices)
            outcome = {"values": _accuracy(search, trial, begun, kept)}
        except optuna.TrialPruned:
            outcome = {"state": search.states.PRUNED}
        except (OSError, optuna.exceptions.StorageInternalError):
            raise
        except Exception as error:  # it would fail again from its checkpoint
            failure, outcome = error, {"state": search.states.FAIL}
            begun.set_user_attr("error", masked(error))
        with _turn(search):
            ended = search.study.tell(begun, **outcome)
            _life(search, begun.number).unlink()
        kept.unlink(missing_ok=True)
        status = {"COMPLETE": "FINISHED", "FAIL": "FAILED"}.get(ended.state.name, status)
    finally:
        trial.close(status)
    if failure and not isinstance(failure, files.UserError):
        raise failure
    return ended


def _accuracy(search, trial, begun, kept):
    """Train a trial; returns the accuracy of the epoch whose weights it keeps."""
    from ferlab.training import loop, schedule
    from ferlab.training.callbacks import Callbacks

    settings = trial.settings
    costs = schedule.step_costs(settings)

    def epoch(row, seconds):
        trial.epoch(row)
        begun.report(row["selection_accuracy"], row["epoch"])
        if begun.should_prune():
            raise optuna.TrialPruned

    with contextlib.closing(progress.Progress(settings.epochs, settings.select_on, costs)) as shown:
        callbacks = Callbacks(shown.step, epoch)
        _, history, _ = loop.fit(search.dataset, settings, kept, callbacks)
    return float(history.loc[history["chosen"] == 1, "selection_accuracy"].iloc[0])
