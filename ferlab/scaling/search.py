"""A sweep while it runs: its study in Optuna's database, and its trials in MLflow and on the
terminal.
"""

import fcntl
import hashlib
import json
from pathlib import Path

import optuna

from ferlab import params
from ferlab.progress import counted
from ferlab.scaling import sweep, sweep_file
from ferlab.tracking import epoch_logger
from ferlab.training import fingerprint

MAX_FAILURES = 3  # one trial may have too high a rate; three are no accident
MLFLOW_TIMEOUT = 8  # seconds that MLflow may take at a trial's end


class Trial:
    """A trial while it is trained, and its MLflow run.

    key: the fingerprint of its training, by which its checkpoint is found again.
    """

    def __init__(self, search, values, number):
        """values: {key of `ranges`: value}. number: Optuna's, or Tune's name."""
        self.number = number
        changes = {key.partition(".")[2]: value for key, value in values.items()}
        # validated, so that a 10 of the file becomes 10.0
        self.settings = params.Train.model_validate(search.settings.model_dump() | changes)
        self.key = fingerprint.fingerprint(self.settings, search.dataset)
        self.note = search.folder / f"{self.key}.json"
        self.logger = epoch_logger.EpochLogger(
            search.values | {"train": self.settings.model_dump()},
            search.dataset.name,
            self.key,
            self.note,
            f"sweep-{search.study.study_name}-{number}",
        )

    def epoch(self, row):
        """Log an epoch (a history row)."""
        self.logger.epoch(row)

    def close(self, status, wait=MLFLOW_TIMEOUT):
        """End its MLflow run with this status. wait: seconds for MLflow."""
        self.logger.close(status, wait)
        self.note.unlink(missing_ok=True)


class Search:
    """A sweep's study; the same whether its trials are trained here or on a cluster."""

    def __init__(self, declared, settings, dataset, folder: Path, report):
        """declared: of sweep.yaml. settings: the train section that is varied. folder: for the
        database, checkpoints and notes. report(line): for the terminal.
        """
        self.declared, self.settings, self.dataset = declared, settings, dataset
        self.folder, self.report, self.states = folder, report, optuna.trial.TrialState
        self.values = params.raw()  # once: who edits the file meanwhile does not change the sweep
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.half = sweep_file.most_epochs(declared, settings) // 2  # before it, none is pruned
        with open(folder / "setup.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of two that begin together one makes the tables
            self.study = self._study()

    def _study(self):
        """This sweep's study in the database, made where it is not there."""
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{self.folder / 'study.db'}",
            engine_kwargs={"connect_args": {"timeout": 60}},  # other processes write there, too
        )
        return optuna.create_study(
            storage=storage,
            study_name=f"{self.declared.name}-{self._key()}",
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=self.half),
            load_if_exists=True,
        )

    def _key(self):
        """What a trial can be compared within: equal data, class weights, code, versions, ranges
        and fixed parameters. What params.yaml says of a parameter that is searched decides nothing.
        """
        compared = [
            *(
                fingerprint.fingerprint(each, self.dataset)
                for each in sweep_file.variants(self.declared, self.settings)
            ),
            self.declared.model_dump(exclude={"trials"}),
        ]
        text = json.dumps(compared, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def sampler(self, number):
        """Optuna's sampler for the trial of this number, and those after it.

        With the sweep's seed alone, every process, and a sweep that goes on, would ask for the same
        first trials.
        """
        return optuna.samplers.TPESampler(seed=self.declared.seed + number, constant_liar=True)

    def ended(self):
        """Optuna's trials that are complete or pruned."""
        states = (self.states.COMPLETE, self.states.PRUNED)
        return self.study.get_trials(deepcopy=False, states=states)

    def missing(self):
        """How many trials are still to finish."""
        return self.declared.trials - len(self.ended())

    def line(self, trial, remark=""):
        """Report how a trial of Optuna's has ended."""
        if trial.state == self.states.FAIL:
            self.report(f"trial {trial.number} failed: {trial.user_attrs['error']}")
            return
        outcome = f"{100 * trial.value:.2f} % of {self.settings.select_on}{remark}"
        if trial.state == self.states.PRUNED:
            outcome = f"pruned after {counted(trial.last_step, 'epoch')}"
        words = sweep.words(trial.params)
        self.report(f"trial {len(self.ended())}/{self.declared.trials}: {outcome}  {words}")
