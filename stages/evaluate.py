"""evaluate: models, data/balanced, data/audit.csv -> reports: metrics.json, details.json, tables, figures, report.html.

Sections `evaluate` and `train.backend`; the report shows all of params.yaml, and two pictures of earlier stages.
Full FER2013 with the small network takes about 30 seconds on two cores. Probabilities of the evaluation splits may be
averaged with the mirror image (`evaluate.flip`); those of the training images are not, as they are only a reference.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from ferlab import audit, backend, evaluation, params, report
from ferlab.dataset import Dataset
from ferlab.files import UserError, replacing, write_csv, write_json, write_text
from stages import run

MODEL, HISTORY, AUDIT = Path("models/model.keras"), Path("models/history.csv"), Path("data/audit.csv")
EARLIER = {"samples": Path("reports/eda/sample_grid.png"), "balance": Path("reports/balance/counts.png")}
OUT = Path("reports")


def main():
    settings = params.load()
    dataset = Dataset.load("data/balanced")
    for file in (MODEL, HISTORY, AUDIT):
        if not file.exists():
            raise UserError(f"{file}: not found; `dvc repro` makes it")
    if not len(dataset.split("test").faces):
        raise UserError("data/balanced: no public, private or test images; choose another download.dataset")
    network = load(MODEL, settings.train.backend, len(dataset.classes))
    history, checked = pd.read_csv(HISTORY), audit.read(AUDIT)
    seen = set(checked.loc[checked["seen"] & (checked["split"] == "private"), "id"])

    table = evaluation.predictions(dataset, probabilities(network, dataset, settings.evaluate.flip))
    details = evaluation.details(table, dataset.name, dataset.source, settings.train.model, network.count_params(), seen)
    metrics = evaluation.metrics(details, evaluation.loss(table))
    write_json(OUT / "metrics.json", metrics)
    write_json(OUT / "details.json", details)
    write_csv(OUT / "predictions.csv", table)
    parts = evaluation.parts(table)
    final = evaluation.final(parts)
    write_csv(OUT / "confusion.csv", parts[final][["label", "predicted"]].rename(columns={"label": "actual"}))

    wrong = report.worst(table, settings.evaluate.mistakes)
    faces = dataset.faces[pd.Index(dataset.table["id"]).get_indexer(wrong["id"])]
    with replacing(OUT / "figures") as folder:
        folder.mkdir()
        report.draw(folder, details, history, wrong, faces, settings.train.select_on)
        pictures = {file.stem: file.read_bytes() for file in sorted(folder.glob("*.png"))}
    pictures |= {name: file.read_bytes() for name, file in EARLIER.items() if file.exists()}
    write_text(OUT / "report.html", report.render(details, history, settings.model_dump(), wrong, faces, pictures))

    for name in [name for name in ("public", final, "private_unseen") if name in details["splits"]]:
        row = details["splits"][name]
        share, low, high = (100 * row[key] for key in ("accuracy", "accuracy_low", "accuracy_high"))
        print(f"{name.replace('_', ' ')}: {share:.1f} % right ({low:.1f} to {high:.1f}) of {row['n']:,} images "
              f"of {dataset.name}")
    print(f"look at {OUT}/report.html")
    project()


def load(path, name, classes):
    """The Keras model at `path` on backend `name`; code hidden in the file is refused, as is a wrong class count."""
    keras = backend.start(name)
    try:
        network = keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a usable Keras model ({reason}); `dvc repro` trains one") from None
    if network.output_shape[-1] != classes:
        raise UserError(f"{path}: has {network.output_shape[-1]} classes, data/balanced has {classes}; run `dvc repro`")
    return network


def probabilities(network, dataset, flip):
    """float32 (N, C): training images as they are, augmented ones not at all (zero), all others with `flip`."""
    found = np.zeros((len(dataset.faces), len(dataset.classes)), np.float32)
    train = (dataset.table["split"] == "train").to_numpy()
    original = (dataset.table["origin"] == "original").to_numpy()
    for rows, mirrored in ((train & original, False), (~train, flip)):
        found[rows] = evaluation.predict(network, dataset.faces[rows], mirrored)
    return found


def project():
    """Show the result in MLflow; whatever goes wrong there must not spoil an evaluation that is already written."""
    try:
        from ferlab import tracking

        tracking.project(Path.cwd())
    except Exception as error:  # noqa: BLE001 - best effort by design
        print(f"warning: not shown in MLflow ({type(error).__name__}: {error}); `python -m ferlab sync` tries again"
              .replace("\n", " "))


if __name__ == "__main__":
    run(main)
