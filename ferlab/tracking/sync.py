"""Every finished result gets its MLflow run."""

import contextlib
import tempfile
from pathlib import Path

from ferlab import files
from ferlab.tracking import dvc_files, runs, store


def sync(report=print):
    """Every finished result gets its run: the workspace's, each DVC experiment's and each recipe's. Returns how many have one.

    One that cannot be shown (files gone from the cache, another version of the project) is reported in a line and left out.
    """
    from mlflow.exceptions import MlflowException

    from ferlab import recipes

    root, done, listed = files.root(), 0, dvc_files.experiments()
    try:
        with store.store() as client:
            store.mark_dead_runs(client)
    except MlflowException as error:
        reason = " ".join(str(error).split())[:100]
        raise files.UserError(
            f"MLflow does not answer ({reason}); python -m ferlab doctor"
        ) from None

    @contextlib.contextmanager
    def reported(name, remedy=""):
        """DVC, Git and MLflow raise many kinds; one bad result must not hide the others."""
        nonlocal done
        try:
            yield
            done += 1
        except Exception as error:  # noqa: BLE001
            report(f"{name}: not shown in MLflow ({' '.join(str(error).split())[:120]}){remedy}")

    if dvc_files.is_finished(root) and not any(
        dvc_files.is_same_result(root, revision) for _, revision, _ in listed
    ):
        with reported("the workspace's result"):
            runs.project(root)
            runs.project_explained(root)
    for key in recipes.with_result():
        with reported(key):
            runs.project_recipe(key)
    for name, revision, baseline in listed:
        with reported(name, f"; `dvc exp apply {name}` and `dvc repro` make it again"):
            with store.store() as client:
                there = any(
                    run.data.tags.get("ferlab.complete")
                    for run in runs.with_key(client, dvc_files.key_of(root, revision), name)
                )
            if not there:
                with tempfile.TemporaryDirectory() as temporary:
                    dvc_files.materialise(root, revision, Path(temporary))
                    runs.project(Path(temporary), name, baseline)
    return done
