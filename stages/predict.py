"""predict: models/model.keras, data/balanced -> reports/predictions.csv and reports/about.json.

Reads the sections `evaluate` and `train` (name of the network, backend). Whatever evaluation needs
of a network is in these two files. FER2013 with the small network takes 25 seconds on two cores.
"""

from pathlib import Path

from ferlab.data.dataset import Dataset
from ferlab.evaluation import inference, tables
from ferlab.evaluation.network import loading
from ferlab.files import UserError, md5, write_json
from stages import run


def main(
    experiment,
    balanced=Path("data/balanced"),
    model=Path("models/model.keras"),
    predictions=Path("reports/predictions.csv"),
    about=Path("reports/about.json"),
):
    settings, dataset = experiment.settings, Dataset.load(balanced)
    if not len(dataset.split("test").faces):
        raise UserError(
            f"{balanced}: no public, private or test images; choose another download.dataset"
        )
    network = loading.load(model, settings.train.backend, dataset.classes)
    table, more = inference.measure(network, dataset, settings.evaluate)
    tables.write(predictions, table)
    write_json(about, {
        "name": settings.train.model,
        "parameters": network.count_params(),
        "dataset": dataset.name,
        "digest": dataset.source,
        "run": md5(model),
        "more": more,
    })  # fmt: skip


if __name__ == "__main__":
    run(main)
