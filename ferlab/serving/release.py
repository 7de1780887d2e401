"""`python -m ferlab ship <key>`: a recipe's model into pretrained/, with its card, so that a fresh clone can predict at once."""

import shutil
import tempfile
from pathlib import Path

from ferlab import dvc_files, files, recipes
from ferlab.data.classes import CLASSES
from ferlab.evaluation import calibration, tables
from ferlab.reporting import explain_page
from ferlab.serving import predict

MAX_BYTES = 3_000_000


def release(key):
    """Replace pretrained/ by the pinned model of this key; UserError where the model at hand is another one, or too large."""
    metrics, details, _, _ = recipes.read_result(key)
    if tuple(details["classes"]) != CLASSES:
        raise files.UserError(
            f"{key}: knows {len(details['classes'])} classes; what ships must know FER2013's {len(CLASSES)}"
        )
    settings = recipes.load_recipe(*recipes.recipe_of(key))
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.keras"
        predict.bring(key, path)
        size, found, wanted = path.stat().st_size, files.md5(path), pinned(key)
        if found != wanted:
            raise files.UserError(
                f"{key}: its model has the md5 {found}, {recipes.RECIPES}/dvc.lock says {wanted}; "
                f"dvc --cd {recipes.RECIPES} checkout train@{key}"
            )
        if size > MAX_BYTES:
            raise files.UserError(
                f"{key}: its model has {size:,} bytes, at most {MAX_BYTES:,} ship with the repository"
            )
        with files.replacing(predict.SHIPPED) as folder:
            folder.mkdir()
            shutil.copy(path, folder / "model.keras")
            scores = {
                name: value
                for name, value in metrics.items()
                if name.startswith("private_accuracy")
            }
            files.write_json(
                folder / "model.json",
                {
                    "recipe": key,
                    "sha256": files.sha256(path),
                    "md5": found,
                    "bytes": size,
                    "dataset": details["dataset"],
                    **scores,
                },
            )
            files.write_text(folder / "README.md", card(key, details, settings))


def pinned(key):
    """The md5 that recipes/dvc.lock gives the model of a key."""
    return dvc_files.locked(recipes.RECIPES)[f"runs/{key}/model.keras"]


def card(key, details, settings):
    """The model card, from committed results alone."""
    parts = tables.parts(tables.of_recipe(key))
    split = tables.final(parts)
    trusted = {"split": split, "error": calibration.calibration_error(parts[split])}
    if settings.train.select_on in parts:
        chosen = calibration.temperature(parts[settings.train.select_on])
        trusted |= {
            "temperature": chosen,
            "chosen_on": settings.train.select_on,
            "error_temperature_scaled": calibration.calibration_error(
                calibration.temperature_scaled(parts[split], chosen)
            ),
        }
    head = (
        f"The model that `python -m ferlab predict` takes where no other is named: recipe "
        f"[{key}](../{recipes.RECIPES}/{recipes.recipe_of(key)[0]}.yaml), put here by `python -m ferlab ship {key}`. "
        "Its sha256 stands in model.json and is checked before the file is opened.\n\n"
    )
    return head + explain_page.card(details, settings, trusted)
