"""`python -m ferlab use <recipe>`: a recipe's sections onto the bench, into params.yaml, whose comments stay."""

import subprocess
from pathlib import Path

from ruamel.yaml import YAML

from ferlab import params
from ferlab.files import UserError, replacing

BENCH = Path("params.yaml")


def use(recipe):
    """Write the recipe's balance, train and evaluate into params.yaml; returns the keys that changed, {key: (old, new)}.

    Refused where params.yaml has changes that are not committed: they would be lost.
    """
    settings = params.load_recipe(recipe)
    if not hasattr(settings, "train"):
        stage = "judge_ensemble" if settings.anchor.kind == "ensemble" else "judge_anchor"
        raise UserError(f"{params.RECIPES}/{recipe}.yaml: trains no network, so it has no place on the bench; "
                        f"dvc --cd {params.RECIPES} repro {stage}@{recipe} runs it")
    if subprocess.run(["git", "diff", "--quiet", "HEAD", "--", BENCH], capture_output=True).returncode:
        raise UserError(f"{BENCH}: has changes that are not committed; commit them, or undo them: git checkout {BENCH}")
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 4096, True
    bench, wanted, changed = yaml.load(BENCH.read_text(encoding="utf-8")), settings.model_dump(), {}
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
    with replacing(BENCH) as part, open(part, "w", encoding="utf-8", newline="\n") as file:
        yaml.dump(bench, file)
    params.load(BENCH)
    return changed
