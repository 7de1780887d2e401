"""The recipes: names, keys, parameters, committed results, and `python -m ferlab use <recipe>`.

recipes/results/<key>/ holds metrics.json, details.json, history.csv, run.json (seconds, machine,
commit) and predictions.csv.gz.
"""

import contextlib
import difflib
import re
from pathlib import Path

import pandas as pd
from ruamel.yaml import YAML

from ferlab import dvc_files, files, params
from ferlab.files import UserError, replacing

SHARED = ("download", "eda", "explain")  # of all recipes: recipes/params.yaml
KINDS = (("balance", "train", "evaluate"), ("balance", "baseline"), ("ensemble",))  # of recipes
NO_RECIPES = ("params.yaml", "dvc.yaml", "keys.yaml")  # in recipes/, beside the recipes
RECIPES, WORKSPACE = Path("recipes"), Path("params.yaml")


def names():
    """Names of the recipes: one file each in recipes/, beside what they share."""
    return sorted(file.stem for file in RECIPES.glob("*.yaml") if file.name not in NO_RECIPES)


def known(name, choices):
    """The end of an error about an unknown name: the nearest choice, and all of them."""
    close = difflib.get_close_matches(name, choices, 1)
    hint = f", did you mean {close[0]}?" if close else ";"
    return f"{hint} known: {', '.join(choices) or 'none'}"


def key(recipe, seed=0):
    """The name of a recipe's result: `silva_2025`, with another seed `silva_2025-s1`."""
    return f"{recipe}-s{seed}" if seed else recipe


def recipe_of(key):
    """(recipe, seed) of a key."""
    recipe, seed = re.fullmatch(r"(.+?)(?:-s(\d+))?", key).groups()
    return recipe, int(seed or 0)


def raw_recipe(name=None, seed=0):
    """All parameters of a recipe, or what all recipes share where none is named, as nested dicts.

    Raises UserError where there is no such recipe, or it has no seed to change.
    """
    values = params.raw(RECIPES / "params.yaml")
    if not name:
        return values
    path = RECIPES / f"{name}.yaml"
    if name not in names():
        raise UserError(f"{path}: no such recipe{known(name, names())}")
    own = params.raw(path)
    if not isinstance(own, dict):
        raise UserError(f"{path}: holds no sections")
    values |= own
    if seed:
        if "train" not in values:
            raise UserError(f"{path}: trains nothing, so it has no seed {seed}")
        values["train"]["seed"] = seed
    return values


def pinned(key):
    """All parameters with which the committed result of a key was made, as nested dicts.

    recipes/dvc.lock holds them, whatever the recipe's file says by now. What it does not name (a
    result that was made without DVC) is as in the file, and so are the sections that there are.
    """
    recipe, seed = recipe_of(key)
    values, own = raw_recipe(recipe), {f"balance@{recipe}", f"baseline@{recipe}", recipe}
    shared = (
        {"eda"} if "download" in params.raw(RECIPES / f"{recipe}.yaml") else {"download", "eda"}
    )
    with contextlib.suppress(FileNotFoundError):
        for stage, about in dvc_files.locked_stages(RECIPES).items():
            if stage in {*shared, f"train@{key}", f"predict@{key}", *own}:
                for params_of_file in about.get("params", {}).values():
                    _overlay(values, params_of_file)
    if seed and "train" in values:
        values["train"]["seed"] = seed  # the lock has that of the file: the key says which
    return values


def _overlay(values, changes):
    """Set sections, or `section.key` alone, as a dvc.lock names them."""
    for name, value in changes.items():
        section, _, inner = name.partition(".")
        if section in values:
            values[section] = values[section] | {inner: value} if inner else dict(value)


def load_recipe(name=None, seed=0):
    """The same as frozen sections (ferlab.params), each file checked under its own name."""
    values = raw_recipe(name, seed)
    if not name:
        return params.parse(values, RECIPES / "params.yaml", SHARED)
    return frozen(values, name)


def frozen(values, name):
    """All parameters of the recipe `name`, given as nested dicts, as frozen sections."""
    own = {section: value for section, value in values.items() if section not in SHARED}
    sections = next((kind for kind in KINDS if set(kind) & set(own) - {"balance"}), KINDS[0])
    params.parse(own, RECIPES / f"{name}.yaml", sections)
    return params.parse(values, RECIPES / f"{name}.yaml", (*SHARED, *sections))


def result_folder(key):
    """Where the committed result of a key is."""
    return RECIPES / "results" / key


def with_result():
    """Keys that have a committed result, sorted."""
    return sorted(file.parent.name for file in (RECIPES / "results").glob("*/metrics.json"))


def read_result(key):
    """(metrics, details, history or None, run or {}) of a key. Raises UserError without a result.

    metrics, details, run: the contents of the JSON files of these names. history: a pandas frame.
    """
    folder = result_folder(key)
    if not (folder / "details.json").exists():
        raise UserError(f"{folder}: no result{known(key, with_result())}")
    history, run = folder / "history.csv", folder / "run.json"
    return (
        files.read_json(folder / "metrics.json"),
        files.read_json(folder / "details.json"),
        pd.read_csv(history) if history.exists() else None,
        files.read_json(run) if run.exists() else {},
    )


def use(recipe):
    """Write the recipe's balance, train and evaluate into params.yaml; its comments stay.

    Returns what changed, {section.key: (old, new)}. Raises UserError where the recipe trains no
    network, or params.yaml has changes that are not committed: they would be lost.
    """
    settings = load_recipe(recipe)
    if not hasattr(settings, "train"):
        raise UserError(
            f"{RECIPES}/{recipe}.yaml: trains no network, so the workspace cannot use it; "
            f"dvc --cd {RECIPES} repro evaluate@{recipe} runs it"
        )
    changed = dvc_files.git("status", "--porcelain", "--", f"{WORKSPACE}")
    if changed.returncode:  # no repository, or that of another user
        raise UserError(
            f"{WORKSPACE}: Git does not say whether it is committed "
            f"({dvc_files.complaint(changed)})"
        )
    if changed.stdout:
        raise UserError(
            f"{WORKSPACE}: has changes that are not committed; commit them, or undo them: "
            f"git checkout {WORKSPACE}"
        )
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 4096, True
    values = yaml.load(WORKSPACE.read_text(encoding="utf-8"))
    changed = _overwrite(values, settings.model_dump())
    with replacing(WORKSPACE) as part, open(part, "w", encoding="utf-8", newline="\n") as file:
        yaml.dump(values, file)
    params.load(WORKSPACE)
    return changed


def _overwrite(values, wanted):
    """Set what differs in a YAML document to what is wanted; returns {section.key: (old, new)}."""
    changed = {}
    for section in KINDS[0]:
        for key, value in wanted[section].items():
            old = values[section][key]
            if old == value:
                continue
            changed[f"{section}.{key}"] = (list(old) if isinstance(old, list) else old, value)
            if isinstance(old, list):  # in place: a new list would take the comment after it away
                old[:] = value
            else:
                values[section][key] = value
    return changed
