"""`python -m ferlab sweep`: Optuna searches declared ranges of the train section, on the
workspace's data.

Each trial is a training with its own MLflow run; hopeless ones are pruned after half of their
epochs. Finished trials are kept in .ferlab/sweeps, in Optuna's database: an interrupted sweep goes
on with the same command, and the same command in another terminal helps with it. The trials are
trained here (ferlab/scaling/local.py), or on a cluster by Ray Tune (ferlab/scaling/tuning.py).
"""

import importlib.util
from pathlib import Path

from ferlab import files, params
from ferlab.data.dataset import Dataset
from ferlab.scaling import sweep_file, sweep_page

PAGE = Path("reports/sweep.md")


def sweep(path=Path("sweep.yaml"), report=print, cluster=None):
    """Run what is missing of the sweep and write reports/sweep.md; returns the Optuna study.

    cluster: a function that, given the folder for checkpoints, connects to a
    ferlab.scaling.cluster.Cluster; without it the trials are trained here, one after the other.
    Raises UserError.
    """
    if not importlib.util.find_spec("optuna"):
        raise files.UserError(
            "sweep: optuna is not installed; pip install --require-hashes -r requirements-sweep.txt"
        )
    declared, settings = sweep_file.load(path), params.load().train
    dataset = Dataset.load(Path("data/balanced"))
    folder = files.root() / ".ferlab/sweeps" / declared.name
    folder.mkdir(parents=True, exist_ok=True)
    connected = cluster and cluster(folder)  # what is wrong with it shows at once
    from ferlab.scaling.search import Search

    search = Search(declared, settings, dataset, folder, report)
    if connected:
        from ferlab.scaling import tuning

        tuning.train(search, connected)
    else:
        from ferlab.scaling import local

        local.train(search)
    study = search.study
    files.write_text(PAGE, sweep_page.text(study, dataset.name, settings))
    best = " ".join(f"-S {key}={value}" for key, value in study.best_params.items())
    report(
        f"best: {100 * study.best_value:.2f} % of {settings.select_on}; dvc exp run {best}\n"
        f"wrote {PAGE}"
    )
    return study
