"""anchor (recipes only): data/balanced -> predictions.csv and about.json of what trains no network. Section
`anchor`."""

import time

import numpy as np

from ferlab import anchors, evaluation, tracking
from ferlab.dataset import Dataset
from ferlab.files import write_csv, write_json
from stages import run


def main(here):
    settings, dataset, began = here.settings.anchor, Dataset.load(here.balanced), time.perf_counter()
    probabilities, weights = anchors.KINDS[settings.kind](dataset, settings)
    told = ~np.isnan(probabilities).any(axis=1)
    write_csv(here.out / "predictions.csv", evaluation.predictions(dataset.where(told), probabilities[told]))
    write_json(here.out / "about.json", {"name": settings.kind, "parameters": weights, "dataset": dataset.name,
                                         "digest": dataset.source, "more": {}})
    seconds = round(time.perf_counter() - began, 2)
    tracking.write_run(here.out / "predictions.csv", {
        "dataset": dataset.name, "parameters": weights, "train_seconds": seconds, "epochs": [], "training": None,
        "machine": tracking.machine(), "commit": tracking.commit()})


if __name__ == "__main__":
    run(main)
