"""anchor (recipes only): data/balanced -> predictions.csv and about.json of what trains no network. Section
`anchor`."""

import time

import numpy as np

from ferlab.data.dataset import Dataset
from ferlab.evaluation import baselines, tables
from ferlab.files import write_csv, write_json
from ferlab.tracking import provenance
from stages import run


def main(here):
    settings, dataset, began = (
        here.settings.anchor,
        Dataset.load(here.balanced),
        time.perf_counter(),
    )
    probabilities, weights = baselines.KINDS[settings.kind](dataset, settings)
    told = ~np.isnan(probabilities).any(axis=1)
    write_csv(
        here.out / "predictions.csv", tables.of_dataset(dataset.where(told), probabilities[told])
    )
    write_json(
        here.out / "about.json",
        {
            "name": settings.kind,
            "parameters": weights,
            "dataset": dataset.name,
            "digest": dataset.source,
            "more": {},
        },
    )
    seconds = round(time.perf_counter() - began, 2)
    provenance.write_run(
        here.out / "predictions.csv",
        {
            "dataset": dataset.name,
            "parameters": weights,
            "train_seconds": seconds,
            "epochs": [],
            "training": None,
            "machine": provenance.machine(),
            "commit": provenance.commit(),
        },
    )


if __name__ == "__main__":
    run(main)
