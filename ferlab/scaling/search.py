"""A sweep while it runs: which trial comes next, and what Optuna, MLflow and the terminal learn of
each.
"""

from pathlib import Path

from ferlab import params
from ferlab.files import UserError
from ferlab.progress import counted
from ferlab.scaling import sweep_file, sweep_page
from ferlab.secrets import masked
from ferlab.tracking import epoch_logger, store
from ferlab.training import fingerprint

MAX_FAILURES = 3  # one trial may have too high a rate; three are no accident
MLFLOW_TIMEOUT = 8  # seconds that MLflow may take at a trial's end


class Trial:
    """A trial while it is trained: suggested by Optuna, reported to Optuna and MLflow."""

    def __init__(self, study, sweep, settings, dataset, folder):
        """study: Optuna's. sweep: of sweep.yaml. settings: the train section that is varied."""
        self.study, self.optuna = study, study.ask()
        for name, value in store.process().items():
            self.optuna.set_user_attr(name, value)
        changes = {
            key.partition(".")[2]: sweep_file.suggest(self.optuna, key, choices)
            for key, choices in sweep.ranges.items()
        }
        # validated, so that a 10 of the file becomes 10.0
        self.settings = params.Train.model_validate(settings.model_dump() | changes)
        # the checkpoint is found again by what is trained
        self.key = fingerprint.fingerprint(self.settings, dataset)
        self.note, self.epochs = folder / f"{self.key}.json", 0
        values = params.raw() | {"train": self.settings.model_dump()}
        name = f"sweep-{study.study_name}-{self.optuna.number}"
        self.logger = epoch_logger.EpochLogger(values, dataset.name, self.key, self.note, name)

    def epoch(self, row):
        """Report an epoch (a history row); returns whether Optuna gives this trial up."""
        self.logger.epoch(row)
        self.epochs = row["epoch"]
        self.optuna.report(row["selection_accuracy"], row["epoch"])
        return self.optuna.should_prune()

    def end(self, status, state, value=None, wait=MLFLOW_TIMEOUT):
        """End it. status: MLflow's. state: Optuna's. wait: seconds for MLflow."""
        self.logger.close(status, wait)
        self.note.unlink(missing_ok=True)
        self.study.tell(self.optuna, value, state)


class Search:
    """The trials of a sweep; the same whether they are trained here or on a cluster."""

    def __init__(self, study, sweep, settings, dataset, folder: Path, report):
        """folder: for checkpoints and notes. report(line): for the terminal. The others as in
        Trial.
        """
        from optuna.trial import TrialState

        self.study, self.sweep, self.settings, self.dataset = study, sweep, settings, dataset
        self.folder, self.report, self.states, self.failures = folder, report, TrialState, 0

    def finished(self):
        """How many trials are complete or pruned."""
        states = (self.states.COMPLETE, self.states.PRUNED)
        return len(self.study.get_trials(deepcopy=False, states=states))

    def missing(self):
        """How many trials are still to finish."""
        return self.sweep.trials - self.finished()

    def ask(self):
        """The next Trial."""
        return Trial(self.study, self.sweep, self.settings, self.dataset, self.folder)

    def complete(self, trial, history, remark="", wait=MLFLOW_TIMEOUT):
        """A trial was trained to its end, and is judged by the epoch whose weights it keeps.

        history: a frame. remark: added to its line.
        """
        value = float(history.loc[history["chosen"] == 1, "selection_accuracy"].iloc[0])
        trial.end("FINISHED", self.states.COMPLETE, value, wait)
        self._line(trial, f"{100 * value:.2f} % of {self.settings.select_on}{remark}")

    def prune(self, trial, wait=MLFLOW_TIMEOUT):
        """A trial was stopped because Optuna gave it up."""
        trial.end("KILLED", self.states.PRUNED, wait=wait)
        self._line(trial, f"pruned after {counted(trial.epochs, 'epoch')}")

    def fail(self, trial, error, report, wait=MLFLOW_TIMEOUT):
        """A trial failed; UserError at the third."""
        trial.end("FAILED", self.states.FAIL, wait=wait)
        self.failures += 1
        error = masked(error)  # of a node, perhaps with the address of the storage
        report(f"trial {trial.optuna.number} failed: {error}")
        if self.failures == MAX_FAILURES:
            raise UserError(f"three trials failed, the last: {error}") from None

    def interrupt(self, trial, wait=MLFLOW_TIMEOUT):
        """A trial was broken off; it is the first to be tried again."""
        trial.end("KILLED", self.states.FAIL, wait=wait)
        self.study.enqueue_trial(trial.optuna.params)

    def _line(self, trial, outcome):
        values = sweep_page.words(trial.optuna.params)
        self.report(f"trial {self.finished()}/{self.sweep.trials}: {outcome}  {values}")


def enqueue_dead_trials(study):
    """Trials whose process died count as failed, and are the first to be tried again, from their
    checkpoint.
    """
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not store.is_alive(trial.user_attrs):
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)
