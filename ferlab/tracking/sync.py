"""`python -m ferlab sync`: every finished result gets its MLflow run.

MLflow is best effort throughout: what goes wrong there is reported in a line and stops nothing.
"""

import contextlib
import tempfile
from pathlib import Path

from ferlab import dvc_files, files, recipes, secrets
from ferlab.tracking import results, runs, search, store

AGAIN = "; `python -m ferlab sync` tries again"


@contextlib.contextmanager
def best_effort(what="warning", remedy=AGAIN, report=print):
    """Turn whatever goes wrong inside, when a result is shown in MLflow, into one reported line.

    what: begins the line. remedy: ends it. DVC, Git and MLflow raise many kinds of errors, and none
    may spoil results that are already on the disk.
    """
    try:
        yield
    except Exception as error:
        reason = secrets.one_line(error)
        if not isinstance(error, files.UserError):
            reason = f"{type(error).__name__}: {reason}"
        report(f"{what}: not shown in MLflow ({reason}){remedy}")


def sync(report=print):
    """Give every finished result its run: the workspace's, each recipe's, each DVC experiment's.

    Returns how many have one. One that cannot be shown (files gone from the cache, another version
    of the project) is reported in a line and left out. Raises UserError where MLflow is down.
    """
    with store.store() as client:
        store.mark_dead_runs(client)
        shown = search.revisions(client)
    root, experiments, done = files.root(), dvc_files.experiments(), 0
    commits = [commit for _, commit, _ in experiments]
    is_an_experiment = results.is_one_of(root, commits)
    if results.is_finished(root) and not is_an_experiment:
        with best_effort("the workspace's result", "", report):
            runs.project(root)
            runs.project_explained(root)
            done += 1
    for key in recipes.with_result():
        with best_effort(key, "", report):
            runs.project_recipe(key)
            done += 1
    for name, commit, baseline in experiments:
        if (name, commit) in shown:  # a commit does not change: nothing of it need be read
            done += 1
            continue
        remedy = f"; `dvc exp apply {name}` and `dvc repro` make it again"
        with best_effort(name, remedy, report):
            _project_experiment(root, name, commit, baseline)
            done += 1
    return done


def _project_experiment(root, name, commit, baseline):
    """Make the run of a DVC experiment from Git and DVC's cache, where it has none yet."""
    key = results.key_of(root, commit)
    with store.store() as client:
        for run in search.with_key(client, key, name):
            if run.data.tags.get("ferlab.complete") == "true":
                client.set_tag(run.info.run_id, search.REVISION, commit)
                return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wanted = {file: folder / file for file in (*results.RESULT, *results.SHOWN)}
        dvc_files.fetch(name, wanted, revision=commit)
        run_id = runs.project(folder, name, baseline)
    with store.store() as client:
        client.set_tag(run_id, search.REVISION, commit)
