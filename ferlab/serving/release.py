"""`python -m ferlab release <key>`: a recipe's model into pretrained/, for Keras and as ONNX, with
its card, so that a fresh clone can predict at once.

Without a key the ONNX file alone is made anew, from the model that lies there.
"""

import shutil
import tempfile
from pathlib import Path

from ferlab import dvc_files, files, recipes
from ferlab.data.classes import CLASSES
from ferlab.evaluation import calibration, tables
from ferlab.reporting import explain_page
from ferlab.serving import export, model_lookup

MAX_BYTES = 3_000_000  # of each of the two files, which every clone downloads


def release(key=""):
    """Replace pretrained/ by the pinned model of this key; without one, its ONNX file alone.

    Raises UserError where the model at hand is another one or too large, or knows other classes,
    or where the ONNX file does not give what Keras gives.
    """
    if not key:
        path = model_lookup.released("model.keras")
        about = files.read_json(path.with_name("model.json"))
        with files.replacing(path.parent) as folder:
            shutil.copytree(path.parent, folder)
            about["onnx"] = _write_onnx(folder / "model.keras")
            files.write_json(folder / "model.json", about)
        return
    metrics, details, _, _ = recipes.read_result(key)
    if tuple(details["classes"]) != CLASSES:
        raise files.UserError(
            f"{key}: knows {len(details['classes'])} classes; "
            f"a released model must know FER2013's {len(CLASSES)}"
        )
    settings = recipes.frozen(recipes.pinned(key), recipes.recipe_of(key)[0])
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.keras"
        model_lookup.fetch(key, path)
        _check(key, path)
        with files.replacing(model_lookup.RELEASED) as folder:
            folder.mkdir()
            shutil.copy(path, folder / "model.keras")
            about = _about(key, path, metrics, details)
            about["onnx"] = _write_onnx(folder / "model.keras")
            files.write_json(folder / "model.json", about)
            files.write_text(folder / "README.md", card(key, details, settings))


def _write_onnx(path):
    """Write model.onnx beside the `.keras` file; returns what model.json says of it."""
    out = path.with_name("model.onnx")
    export.export(str(path), "onnx", out)
    if out.stat().st_size > MAX_BYTES:
        raise files.UserError(
            f"{out.name}: has {out.stat().st_size:,} bytes; a released one has at most "
            f"{MAX_BYTES:,}"
        )
    return {"sha256": files.sha256(out), "bytes": out.stat().st_size}


def pinned(key):
    """The md5 that recipes/dvc.lock gives the model of a key."""
    return dvc_files.locked(recipes.RECIPES)[f"runs/{key}/model.keras"]


def card(key, details, settings):
    """The model card as Markdown, from committed results alone."""
    parts = tables.parts(tables.of_recipe(key))
    trust = calibration.trust(parts, tables.final(parts), settings.train.select_on)
    recipe = f"../{recipes.RECIPES}/{recipes.recipe_of(key)[0]}.yaml"
    head = (
        "The model that `python -m ferlab predict` takes where no other is named: recipe "
        f"[{key}]({recipe}), put here by `python -m ferlab release {key}`. "
        "Its sha256 stands in model.json and is checked before the file is opened. `model.onnx` is "
        "the same network for use without TensorFlow, made from `model.keras` by the same command "
        "(alone: `python -m ferlab release`).\n\n"
    )
    return head + explain_page.card(details, settings, trust)


def _check(key, path):
    """Raise UserError where the model file is not the pinned one, or too large."""
    md5, expected, size = files.md5(path), pinned(key), path.stat().st_size
    if md5 != expected:
        raise files.UserError(
            f"{key}: its model has the md5 {md5}, {recipes.RECIPES}/dvc.lock says {expected}; "
            f"dvc --cd {recipes.RECIPES} checkout train@{key}"
        )
    if size > MAX_BYTES:
        raise files.UserError(
            f"{key}: its model has {size:,} bytes; a released one has at most {MAX_BYTES:,}"
        )


def _about(key, path, metrics, details):
    """The content of model.json."""
    accuracies = {
        name: value for name, value in metrics.items() if name.startswith("private_accuracy")
    }
    return {
        "recipe": key,
        "sha256": files.sha256(path),
        "md5": files.md5(path),
        "bytes": path.stat().st_size,
        "dataset": details["dataset"],
        **accuracies,
    }
