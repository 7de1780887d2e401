"""ensemble (recipes only): committed predictions of other keys -> their mean, and about.json.

Reads the section `ensemble`. Seconds, as no network is needed.
"""

import time
from pathlib import Path

from ferlab import recipes
from ferlab.evaluation import ensembles, tables
from ferlab.files import md5, write_json
from ferlab.tracking import provenance
from stages import run


def main(experiment, predictions=Path("reports/predictions.csv"), about=Path("reports/about.json")):
    settings, start = experiment.settings.ensemble, time.perf_counter()
    chosen = ensembles.ensemble(settings.candidates, settings.selection)
    details = [recipes.read_result(key)[1] for key in chosen.members]
    weights = sum(member["model"]["parameters"] for member in details)
    tables.write(predictions, chosen.predictions)
    provenance.record(predictions, details[0]["dataset"], weights, time.perf_counter() - start)
    write_json(about, {
        "name": "ensemble",
        "parameters": weights,
        "dataset": details[0]["dataset"],
        "digest": details[0]["digest"],
        "run": md5(predictions),
        "more": {"ensemble": chosen.steps},
    })  # fmt: skip
    for step in chosen.steps:
        print(f"{step['added']:<24} public {100 * step['public_accuracy']:.2f} %")


if __name__ == "__main__":
    run(main)
