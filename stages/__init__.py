"""The pipeline, one file per DVC stage: params -> inputs -> ferlab -> outputs.

A stage's `main` names its inputs and outputs in its signature, with their places in the workspace.
`dvc repro` in the top folder runs the stages as they are; recipes/dvc.yaml runs the same files with
`--key <recipe>[-s<seed>]`, which takes the parameters from the recipe, and with other places:
`python -m stages.train --key speedrun-s1 --balanced recipes/runs/balanced/speedrun ...`.
"""

import argparse
import inspect
from dataclasses import dataclass
from pathlib import Path

from ferlab import cli, params, recipes

SHARED = "shared"  # as --key: the parameters that all recipes have in common


@dataclass(frozen=True)
class Experiment:
    """What a stage is run for.

    key: of a recipe's result, SHARED for what recipes have in common, empty in the workspace.
    """

    key: str
    settings: params.Section

    def values(self):
        """The parameters that decide the result, as written: nested dicts, no `explain`."""
        if self.key == SHARED:
            values = recipes.raw_recipe()
        else:
            values = recipes.raw_recipe(*recipes.recipe_of(self.key)) if self.key else params.raw()
        return {name: section for name, section in values.items() if name != "explain"}


def experiment(key=""):
    """The Experiment of a key. Raises UserError where a parameter is not allowed."""
    if not key:
        return Experiment("", params.load())
    if key == SHARED:
        return Experiment(SHARED, recipes.load_recipe())
    return Experiment(key, recipes.load_recipe(*recipes.recipe_of(key)))


def arguments(main, given=None):
    """The keyword arguments of a stage's `main` and the key, from a command line.

    Each parameter of `main` that has a default is a path: `--balanced PATH`.
    """
    parser = argparse.ArgumentParser(description=inspect.getmodule(main).__doc__)
    parser.add_argument("--key", default="", help="of a recipe's result: speedrun, speedrun-s1")
    for name, path in inspect.signature(main).parameters.items():
        if path.default is not inspect.Parameter.empty:
            parser.add_argument(f"--{name}", type=Path, default=path.default, metavar="PATH")
    values = vars(parser.parse_args(given))
    return values.pop("key"), values


def run(main):
    """Call a stage's `main` with what the command line names; errors are shown as a verb's are."""
    with cli.errors_in_one_line():
        key, paths = arguments(main)
        main(experiment(key), **paths)
