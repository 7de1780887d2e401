"""Trained models by name: the released one, a file, the workspace's, a recipe's, a DVC
experiment's, an MLflow run's.
"""

import contextlib
import tempfile
from pathlib import Path

from ferlab import dvc_files, files, params, recipes
from ferlab.data.classes import CLASSES
from ferlab.evaluation import tables

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


def class_names(path, count):
    """The names for a model's `count` outputs: FER2013's seven, or six where disgust was merged
    into anger.

    For a model file that does not hold them; UserError, naming the file, for any other count.
    """
    without_disgust = tuple(name for name in CLASSES if name != tables.MERGE[0])
    for names in (CLASSES, without_disgust):
        if len(names) == count:
            return names
    raise files.UserError(
        f"{path}: has {count} classes; expected the {len(CLASSES)} of FER2013, "
        f"or {len(without_disgust)} without disgust"
    )


def fetch(name, path):
    """Copy the model of a recipe, experiment or MLflow run to `path`; UserError without one."""
    from ferlab.tracking import artifacts, lookup

    commits = {experiment: commit for experiment, commit, _ in dvc_files.experiments()}
    if name in recipes.with_result():  # the order of lookup.find: a name means one result
        if "train" not in recipes.raw_recipe(recipes.recipe_of(name)[0]):
            raise files.UserError(f"{name}: this recipe trains no network; name another")
        folder, fix = recipes.RECIPES, f"dvc --cd {recipes.RECIPES} repro predict@{name}"
        source = f"runs/{name}/model.keras"
        dvc_files.fetch(name, {source: path}, files.root() / folder, fix=fix)
    elif name in commits:
        dvc_files.fetch(name, {str(WORKSPACE_MODEL): path}, revision=commits[name])
    elif not artifacts.fetch_model(name, path):
        raise files.UserError(
            f"{name}: no model file, recipe, DVC experiment or MLflow run; "
            f"known: {', '.join(lookup.names())}"
        )
