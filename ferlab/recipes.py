"""The recipes: their names, keys, parameters and committed results, and `python -m ferlab use <recipe>`.

recipes/results/<key>/ holds metrics.json, details.json, history.csv, run.json (seconds, machine, commit) and
predictions.csv.gz.
"""

import difflib
import re
import subprocess
from pathlib import Path

import pandas as pd
from ruamel.yaml import YAML

from ferlab import files, params
from ferlab.files import UserError, replacing

SHARED = ("download", "eda", "explain")  # of all recipes: recipes/params.yaml
KINDS = (("balance", "train", "evaluate"), ("balance", "baseline"), ("ensemble",))  # of recipes
RECIPES = Path("recipes")


def names():
    """Names of the recipes: one file each in recipes/, beside what they share."""
    return sorted(
        file.stem for file in RECIPES.glob("*.yaml") if file.name not in ("params.yaml", "dvc.yaml")
    )


def key(recipe, seed=0):
    """What a recipe's result is called: `silva_2025`, with another seed `silva_2025-s1`."""
    return f"{recipe}-s{seed}" if seed else recipe


def recipe_of(key):
    """(recipe, seed) of such a key."""
    recipe, seed = re.fullmatch(r"(.+?)(?:-s(\d+))?", key).groups()
    return recipe, int(seed or 0)


def raw_recipe(name=None, seed=0):
    """The sections that all recipes share, with those of one recipe where it is named, as a nested dict."""
    values = params.raw(RECIPES / "params.yaml")
    if name:
        if name not in names():
            close = difflib.get_close_matches(name, names(), 1)
            raise UserError(
                f"{RECIPES}/{name}.yaml: no such recipe"
                + (f", did you mean {close[0]}?" if close else "")
            )
        own = params.raw(RECIPES / f"{name}.yaml")
        if not isinstance(own, dict):
            raise UserError(f"{RECIPES}/{name}.yaml: holds no sections")
        values = values | own
        if seed:
            if "train" not in values:
                raise UserError(f"{RECIPES}/{name}.yaml: trains nothing, so it has no seed {seed}")
            values["train"]["seed"] = seed
    return values


def load_recipe(name=None, seed=0):
    """The same as frozen sections, each file checked under its own name."""
    values = raw_recipe(name, seed)
    if not name:
        return params.parse(values, RECIPES / "params.yaml", SHARED)
    own = {section: value for section, value in values.items() if section not in SHARED}
    sections = next((kind for kind in KINDS if set(kind) & set(own) - {"balance"}), KINDS[0])
    params.parse(own, RECIPES / f"{name}.yaml", sections)
    return params.parse(values, RECIPES / f"{name}.yaml", (*SHARED, *sections))


def result_folder(key):
    return RECIPES / "results" / key


def with_result():
    """Keys that have a result, sorted."""
    return sorted(file.parent.name for file in (RECIPES / "results").glob("*/metrics.json"))


def read_result(key):
    """(metrics, details, history or None, run or {}) of a key."""
    place = result_folder(key)
    if not (place / "details.json").exists():
        raise files.UserError(f"{place}: no result; known: {', '.join(with_result()) or 'none'}")
    history = pd.read_csv(place / "history.csv") if (place / "history.csv").exists() else None
    run = files.read_json(place / "run.json") if (place / "run.json").exists() else {}
    return (
        files.read_json(place / "metrics.json"),
        files.read_json(place / "details.json"),
        history,
        run,
    )


WORKSPACE = Path("params.yaml")


def use(recipe):
    """Write the recipe's balance, train and evaluate into params.yaml; returns the keys that changed, {key: (old, new)}.

    Refused where params.yaml has changes that are not committed: they would be lost.
    """
    settings = load_recipe(recipe)
    if not hasattr(settings, "train"):
        raise UserError(
            f"{RECIPES}/{recipe}.yaml: trains no network, so it has no place in the workspace; "
            f"dvc --cd {RECIPES} repro evaluate@{recipe} runs it"
        )
    if subprocess.run(
        ["git", "diff", "--quiet", "HEAD", "--", WORKSPACE], capture_output=True
    ).returncode:
        raise UserError(
            f"{WORKSPACE}: has changes that are not committed; commit them, or undo them: git checkout {WORKSPACE}"
        )
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 4096, True
    bench, wanted, changed = (
        yaml.load(WORKSPACE.read_text(encoding="utf-8")),
        settings.model_dump(),
        {},
    )
    for section in ("balance", "train", "evaluate"):
        for key, value in wanted[section].items():
            old = bench[section][key]
            if old == value:
                continue
            changed[f"{section}.{key}"] = (list(old) if isinstance(old, list) else old, value)
            if isinstance(old, list):  # in place: a new list would take the comment after it away
                old[:] = value
            else:
                bench[section][key] = value
    with replacing(WORKSPACE) as part, open(part, "w", encoding="utf-8", newline="\n") as file:
        yaml.dump(bench, file)
    params.load(WORKSPACE)
    return changed
