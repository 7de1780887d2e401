"""baseline (recipes only): balanced faces -> predictions and about.json of what trains no network.

Reads the section `baseline`. Seconds to minutes; its evaluation is that of every other result.
"""

import time
from pathlib import Path

from ferlab.data.dataset import Dataset
from ferlab.evaluation import baselines, tables
from ferlab.files import md5, write_json
from ferlab.tracking import provenance
from stages import run


def main(
    experiment,
    balanced=Path("data/balanced"),
    predictions=Path("reports/predictions.csv"),
    about=Path("reports/about.json"),
):
    settings, dataset, start = (
        experiment.settings.baseline,
        Dataset.load(balanced),
        time.perf_counter(),
    )
    probabilities, weights = baselines.KINDS[settings.kind](dataset, settings)
    tables.write(predictions, tables.of_dataset(dataset, probabilities))
    provenance.record(predictions, dataset.name, weights, time.perf_counter() - start)
    write_json(about, {
        "name": settings.kind,
        "parameters": weights,
        "dataset": dataset.name,
        "digest": dataset.source,
        "run": md5(predictions),
        "more": {},
    })  # fmt: skip


if __name__ == "__main__":
    run(main)
