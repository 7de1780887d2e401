"""Trained models by name: the released one, a file, the workspace's, a recipe's, a DVC
experiment's, an MLflow run's.
"""

import contextlib
import tempfile
from pathlib import Path

from ferlab import dvc_files, files, params, recipes

RELEASED = Path(__file__).parents[2] / "pretrained"  # model.keras, model.json, README.md
WORKSPACE_MODEL = Path("models/model.keras")


@contextlib.contextmanager
def find_model(name):
    """Yield (path, backend) of a model, for as long as the block lasts; UserError where there is
    none.

    name: nothing (the released model), a `.keras` file, `workspace`, a recipe's key, a DVC
    experiment, an MLflow run (name or id).
    """
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.keras"
        if not name:
            yield _released(), "tensorflow"
        elif Path(name).suffix == ".keras":
            yield Path(name), "tensorflow"
        elif name == "workspace":
            yield WORKSPACE_MODEL, params.raw()["train"]["backend"]
        else:
            fetch(name, path)
            yield path, "tensorflow"


def _released():
    about, path = files.read_json(RELEASED / "model.json"), RELEASED / "model.keras"
    if not path.exists() or files.sha256(path) != about["sha256"]:
        raise files.UserError(
            f"{path}: not the released model (its sha256 differs); git checkout {path.parent.name}"
        )
    return path


def fetch(name, path):
    """Copy the model of a recipe, experiment or MLflow run to `path`; UserError without one."""
    from ferlab.tracking import artifacts, lookup

    commits = {experiment: commit for experiment, commit, _ in dvc_files.experiments()}
    if name in commits:
        dvc_files.fetch(name, {str(WORKSPACE_MODEL): path}, revision=commits[name])
    elif name in recipes.with_result():
        if "train" not in recipes.raw_recipe(recipes.recipe_of(name)[0]):
            raise files.UserError(f"{name}: this recipe trains no network; name another")
        folder, fix = recipes.RECIPES, f"dvc --cd {recipes.RECIPES} repro predict@{name}"
        source = f"runs/{name}/model.keras"
        dvc_files.fetch(name, {source: path}, files.root() / folder, fix=fix)
    elif not artifacts.fetch_model(name, path):
        raise files.UserError(
            f"{name}: no model file, recipe, DVC experiment or MLflow run; "
            f"known: {', '.join(lookup.names())}"
        )
