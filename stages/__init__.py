"""The pipeline, one file per DVC stage: params -> inputs -> ferlab -> outputs. Run by `dvc repro` from the top folder.

Each stage works on the bench (params.yaml, data/, models/, reports/), or for the recipes on their own folders:
`--recipes` means what they share, `--recipe NAME [--seed N]` one of them.
"""

import argparse
import errno
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ferlab import params, recipes
from ferlab.files import UserError


@dataclass(frozen=True)
class Place:
    """Where a stage finds and leaves things, and its parameters. name: of a recipe's key, empty on the bench."""

    name: str
    values: Callable  # gives the parameters as they are written
    settings: params.Section
    raw: Path
    audit: Path
    eda: Path
    balanced: Path
    balance: Path
    model: Path
    history: Path
    out: Path


def place(arguments=None):
    """The Place that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipes", action="store_true", help="what all recipes share")
    parser.add_argument("--recipe", help="one of them: a file of recipes/, without its ending")
    parser.add_argument("--seed", type=int, default=0, help="of the recipe's training")
    given = parser.parse_args(arguments)
    if not given.recipes and not given.recipe:
        data, models, reports = Path("data"), Path("models"), Path("reports")
        return Place(
            "",
            params.raw,
            params.load(),
            data / "raw",
            data / "audit.csv",
            reports / "eda",
            data / "balanced",
            reports / "balance",
            models / "model.keras",
            models / "history.csv",
            reports,
        )
    recipe, seed, runs = given.recipe or "", given.seed, recipes.RECIPES / "runs"
    key = recipes.key(recipe, seed)
    return Place(
        key,
        lambda: recipes.raw_recipe(recipe, seed),
        recipes.load_recipe(recipe, seed),
        runs / "raw",
        runs / "audit.csv",
        runs / "eda",
        runs / "balanced" / recipe,
        runs / "balance" / recipe,
        runs / key / "model.keras",
        runs / key / "history.csv",
        runs / key,
    )


def run(main):
    """Call a stage's main with the Place of the command line.

    What the user can mend becomes one line on stderr and exit code 1, never a traceback.
    """
    try:
        main(place())
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if error.errno not in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EFBIG,
            errno.EACCES,
            errno.EROFS,
            errno.EPERM,
        ):
            raise
        sys.exit(
            f"error: {error.filename or 'a file'}: {error.strerror.lower()}; make room or allow writing, then run again"
        )
