"""predict (recipes only): model, data/balanced -> predictions.csv and about.json, all that judging needs of a network.

Sections `evaluate` and `train.backend`; the train section only names the network.
"""

from ferlab.data.dataset import Dataset
from ferlab.evaluation import inference
from ferlab.files import write_csv, write_json
from stages import run


def main(here):
    settings, dataset = here.settings, Dataset.load(here.balanced)
    network = inference.load(here.model, settings.train.backend, len(dataset.classes))
    table, more = inference.measure(network, dataset, settings.evaluate)
    write_csv(here.out / "predictions.csv", table)
    write_json(
        here.out / "about.json",
        {
            "name": settings.train.model,
            "parameters": network.count_params(),
            "dataset": dataset.name,
            "digest": dataset.source,
            "more": more,
        },
    )


if __name__ == "__main__":
    run(main)
