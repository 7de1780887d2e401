"""judge (recipes only): predictions.csv, about.json, the audit -> recipes/results/<key>, small enough to be committed.

Comparison, leaderboard and papers read these and never need a model. run.json (seconds, machine, commit) is a copy of what
training noted; where the training was done elsewhere the committed copy stays.
"""

import shutil

import pandas as pd

from ferlab import recipes
from ferlab.data import audit
from ferlab.evaluation import agreement, scoring, tables
from ferlab.files import read_json, write_json
from ferlab.tracking import provenance, runs, sync
from stages import run


def main(here):
    table = pd.read_csv(here.out / "predictions.csv", dtype={"id": str}, keep_default_na=False)
    about = read_json(here.out / "about.json")
    more = about["more"] | agreement.judged(table, audit.read(here.audit))
    details = scoring.details(
        table,
        about["dataset"],
        about["digest"],
        about["name"],
        about["parameters"],
        audit.leaked(here.audit),
        more,
    )
    folder = recipes.result_folder(here.name)
    write_json(folder / "metrics.json", scoring.metrics(details, scoring.cross_entropy(table)))
    write_json(folder / "details.json", details)
    tables.write_packed(folder, table)
    if here.history.exists():
        shutil.copyfile(here.history, folder / "history.csv")
    noted = provenance.read_run(here.model if here.model.exists() else here.out / "predictions.csv")
    if noted:
        write_json(folder / "run.json", noted)
    for split in ("public", "private"):
        if split in details["splits"]:
            row = details["splits"][split]
            share, low, high = (
                100 * row[name] for name in ("accuracy", "accuracy_low", "accuracy_high")
            )
            print(
                f"{here.name}: {split} {share:.2f} % ({low:.2f} to {high:.2f}) of {row['n']:,} images of {details['dataset']}"
            )
    with sync.best_effort():
        runs.project_recipe(here.name)


if __name__ == "__main__":
    run(main)
