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

    def __init__(self, optuna_trial, sweep, settings, dataset, folder):
        """sweep: of sweep.yaml. settings: the train section that is varied."""
        self.study, self.optuna = optuna_trial.study, optuna_trial
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
        name = f"sweep-{self.study.study_name}-{self.optuna.number}"
        self.logger = epoch_logger.EpochLogger(values, dataset.name, self.key, self.note, name)

    def epoch(self, row):
        """Report an epoch (a history row); returns whether Optuna gives this trial up."""
        self.logger.epoch(row)
        self.epochs = row["epoch"]
        self.optuna.report(row["selection_accuracy"], row["epoch"])
        return self.optuna.should_prune()

    def close(self, status, wait=MLFLOW_TIMEOUT):
        """End its MLflow run with this status. wait: seconds for MLflow."""
        self.logger.close(status, wait)
        self.note.unlink(missing_ok=True)

    def end(self, status, state, value=None, wait=MLFLOW_TIMEOUT):
        """End it. status: MLflow's. state: Optuna's. wait: seconds for MLflow."""
        self.close(status, wait)
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

    def running(self):
        """How many trials are being trained, in whatever process."""
        return len(self.study.get_trials(deepcopy=False, states=(self.states.RUNNING,)))

    def trial(self, optuna_trial):
        """A Trial of Optuna's, with its parameters."""
        # a sampler starts anew in each process: with the same seed all of them, and a sweep that
        # goes on, would ask for the same first trials
        seed = self.sweep.seed + optuna_trial.number
        self.study.sampler = type(self.study.sampler)(seed=seed, constant_liar=True)
        return Trial(optuna_trial, self.sweep, self.settings, self.dataset, self.folder)

    def ask(self):
        """The next Trial, for a cluster."""
        trial = self.trial(self.study.ask())
        for name, value in store.process().items():
            trial.optuna.set_user_attr(name, value)
        return trial

    def value(self, history):
        """The accuracy by which a finished training counts: of the epoch whose weights it keeps.

        history: a frame.
        """
        return float(history.loc[history["chosen"] == 1, "selection_accuracy"].iloc[0])

    def complete(self, trial, history, remark="", wait=MLFLOW_TIMEOUT):
        """A trial was trained to its end. history: a frame. remark: added to its line."""
        trial.end("FINISHED", self.states.COMPLETE, self.value(history), wait)
        self.line(self._frozen(trial), remark)

    def prune(self, trial, wait=MLFLOW_TIMEOUT):
        """A trial was stopped because Optuna gave it up."""
        trial.end("KILLED", self.states.PRUNED, wait=wait)
        self.line(self._frozen(trial))

    def fail(self, trial, error, wait=MLFLOW_TIMEOUT):
        """A trial failed; UserError at the third."""
        error = masked(error)  # of a node, perhaps with the address of the storage
        trial.optuna.set_user_attr("error", error)
        trial.end("FAILED", self.states.FAIL, wait=wait)
        self.line(self._frozen(trial))
        self.failures += 1
        if self.failures == MAX_FAILURES:
            raise UserError(f"three trials failed, the last: {error}") from None

    def interrupt(self, trial, wait=MLFLOW_TIMEOUT):
        """A trial was broken off on the cluster."""
        trial.end("KILLED", self.states.FAIL, wait=wait)
        # without its attributes, which name this process
        self.study.enqueue_trial(trial.optuna.params)

    def retry(self, trial):
        """Let a trial that was broken off be the first to be tried again."""
        retry_trial()(self.study, self._frozen(trial))

    def line(self, trial, remark=""):
        """Report how a trial of Optuna's has ended."""
        if trial.state == self.states.FAIL:
            self.report(f"trial {trial.number} failed: {trial.user_attrs['error']}")
            return
        outcome = f"{100 * trial.value:.2f} % of {self.settings.select_on}{remark}"
        if trial.state == self.states.PRUNED:
            outcome = f"pruned after {counted(trial.last_step, 'epoch')}"
        words = sweep_page.words(trial.params)
        self.report(f"trial {self.finished()}/{self.sweep.trials}: {outcome}  {words}")

    def _frozen(self, trial):
        return self.study.trials[trial.optuna.number]


def retry_trial():
    """Optuna's function (study, trial) that adds the same trial again, with its epochs so far."""
    import optuna

    return optuna.storages.RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)


def enqueue_dead_trials(study):
    """Trials on a cluster whose command died count as failed, and are the first to be tried again.

    Those that are trained here have heartbeats instead.
    """
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.user_attrs and not store.is_alive(trial.user_attrs):
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)
