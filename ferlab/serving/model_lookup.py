"""Trained models by name: the released one, a file, the workspace's, a recipe's, a DVC
experiment's, an MLflow run's.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from ferlab import dvc_files, files, params, recipes, secrets
from ferlab.serving.light import onnx_file

# model.keras, model.onnx (the same network), model.json (their sha256), README.md
RELEASED = Path(__file__).parents[2] / "pretrained"
WORKSPACE_MODEL = Path("models/model.keras")
FILES = (".keras", ".onnx")
# The environment names a folder or address that holds recipes' models as <key>.keras
MODELS = "FERLAB_MODELS"
CHOICES = (
    "--model is a .keras or .onnx file, workspace, a recipe's key, a DVC experiment or an MLflow "
    "run, or nothing: the released model, at once"
)


@contextlib.contextmanager
def find_model(name):
    """Yield (path, backend) of a model, for as long as the block lasts; UserError where there is
    none.

    name: nothing (the released model: where Keras is not installed, its ONNX file), a `.keras` or
    `.onnx` file, `workspace`, a recipe's key, a DVC experiment, an MLflow run (name or id).
    """
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.keras"
        if not name:
            yield _released(), "tensorflow"
        elif Path(name).suffix in FILES:
            if not Path(name).exists():
                raise files.UserError(f"{name}: not found; {CHOICES}")
            yield Path(name), "tensorflow"
        elif name == "workspace":
            if not WORKSPACE_MODEL.exists():
                raise files.UserError(
                    f"{WORKSPACE_MODEL}: not found; `make repro` trains it, with params.yaml as it "
                    "comes in minutes; or leave out --model for the released one"
                )
            yield WORKSPACE_MODEL, params.load().train.backend
        elif Path(name).is_file():
            raise files.UserError(
                f"{name}: not a .keras file, as Keras 3 saves them, and no .onnx; {CHOICES}"
            )
        else:
            fetch(name, path)
            yield path, "tensorflow"


def _released():
    """The released model's file, checked: for Keras, or where that is not installed, ONNX."""
    return released("model.keras" if onnx_file.has_keras() else "model.onnx")


def released(name):
    """The path of a file of pretrained/; UserError where it is not the one that was released."""
    about, path = files.read_json(RELEASED / "model.json"), RELEASED / name
    wanted = about["sha256"] if name == "model.keras" else about["onnx"]["sha256"]
    if not path.exists() or files.sha256(path) != wanted:
        raise files.UserError(
            f"{path}: not the released model (its sha256 differs); git checkout {path.parent.name}"
        )
    return path


def fetch(name, path):
    """Copy the model of a recipe, experiment or MLflow run to `path`; UserError without one."""
    from ferlab.tracking import artifacts, lookup, store

    commits = {experiment: commit for experiment, commit, _ in dvc_files.experiments()}
    if name in recipes.with_result():  # the order of lookup.find: a name means one result
        if "train" not in recipes.raw_recipe(recipes.recipe_of(name)[0]):
            raise files.UserError(f"{name}: this recipe trains no network; name another")
        _fetch_recipe(name, path)
    elif name in commits:
        dvc_files.fetch(name, {str(WORKSPACE_MODEL): path}, revision=commits[name])
    elif not store.exists() or not artifacts.fetch_model(name, path):
        raise files.UserError(
            f"{name}: no model file, recipe, DVC experiment or MLflow run"
            f"{recipes.known(name, lookup.names())}"
        )


def _fetch_recipe(key, path):
    """Copy the model of a recipe to `path`: from the release folder or address that $FERLAB_MODELS
    names, without it from DVC's cache or remote. UserError where it is not there, or not the one
    that recipes/dvc.lock pins.
    """
    folder, source, place = recipes.RECIPES, f"runs/{key}/model.keras", os.environ.get(MODELS)
    fix = f"dvc --cd {folder} repro predict@{key} trains it ({_cost(key)})"
    if not place:
        fix += f"; or {MODELS}=<a folder or address that has it> (docs/use.md)"
        dvc_files.fetch(key, {source: path}, files.root() / folder, fix=fix)
        return
    pinned = dvc_files.locked(files.root() / folder).get(source)
    shown, found = _released_file(key, place, fix)
    shutil.copyfile(found, path)
    if (actual := files.md5(path)) != pinned:
        path.unlink()
        if "://" in place:
            found.unlink()  # what was downloaded is kept: it would be the answer next time, too
        raise files.UserError(
            f"{shown}: has the md5 {actual}, {folder}/dvc.lock says {pinned}: not the model of "
            f"{key}'s result, so it is not opened; {fix}"
        )


def _released_file(key, place, fix):
    """(what errors call it, local path) of <key>.keras in a release folder or below an address."""
    name = f"{key}.keras"
    if "://" not in place:
        path = Path(place, name)
        if not path.is_file():
            raise files.UserError(f"{path}: not found ({MODELS} names that folder); {fix}")
        return path, path
    from ferlab.data.readers import fetch as reader

    url = f"{place.rstrip('/')}/{name}"
    try:
        return secrets.masked(url), reader.download(url)
    except files.UserError as error:
        raise files.UserError(f"{key}: {error} ({MODELS}); {fix}") from None


def _cost(key):
    """How long the training of a recipe's committed result took, as text."""
    run = recipes.read_result(key)[3]
    minutes, machine = sum(run.get("epochs", [])) / 60, run.get("machine", {})
    where = machine.get("gpu", machine.get("cpu", "its machine"))
    return f"{minutes:.0f} minutes on {where}" if minutes else "its recipe says how long"
