"""evaluate: models, data/balanced, data/audit.csv -> reports: metrics.json, details.json, tables, figures, report.html.

Sections `evaluate` and `train.backend`; the report shows all of params.yaml, and two pictures of earlier stages.
Full FER2013 with the small network takes about 30 seconds on two cores. Probabilities of the evaluation splits may be
averaged with the mirror image (`evaluate.flip`); those of the training images are not, as they are only a reference.
"""

from pathlib import Path

import pandas as pd

from ferlab.data import audit
from ferlab.data.dataset import Dataset
from ferlab.evaluation import agreement, inference, mistakes, scoring, tables
from ferlab.files import UserError, read_json, replacing, write_csv, write_json, write_text
from ferlab.reporting import report
from ferlab.reporting.figures import model_figures
from ferlab.tracking import runs, sync
from stages import run


def main(here):
    settings, dataset = here.settings, Dataset.load(here.balanced)
    for file in (here.history, here.audit):
        if not file.exists():
            raise UserError(f"{file}: not found; `dvc repro` makes it")
    if not len(dataset.split("test").faces):
        raise UserError(
            f"{here.balanced}: no public, private or test images; choose another download.dataset"
        )
    network = inference.load(here.model, settings.train.backend, len(dataset.classes))
    history, out = pd.read_csv(here.history), here.out

    table, more = inference.measure(network, dataset, settings.evaluate)
    more |= agreement.judged(table, audit.read(here.audit))
    details = scoring.details(
        table,
        dataset.name,
        dataset.source,
        settings.train.model,
        network.count_params(),
        audit.leaked(here.audit),
        more,
    )
    write_json(out / "metrics.json", scoring.metrics(details, scoring.cross_entropy(table)))
    write_json(out / "details.json", details)
    write_csv(out / "predictions.csv", table)
    parts = tables.parts(table)
    final = tables.final(parts)
    write_csv(
        out / "confusion.csv",
        parts[final][["label", "predicted"]].rename(columns={"label": "actual"}),
    )

    wrong = mistakes.worst(table, settings.evaluate.mistakes)
    faces = dataset.faces[pd.Index(dataset.table["id"]).get_indexer(wrong["id"])]
    with replacing(out / "figures") as folder:
        folder.mkdir()
        model_figures.draw(folder, details, history, wrong, faces, settings.train.select_on)
        pictures = {file.stem: file.read_bytes() for file in sorted(folder.glob("*.png"))}
    earlier = {"samples": here.eda / "sample_grid.png", "balance": here.balance / "counts.png"}
    pictures |= {name: file.read_bytes() for name, file in earlier.items() if file.exists()}
    looked_at = here.eda / "summary.json"
    identity = read_json(looked_at)["identity"] if looked_at.exists() else {}
    write_text(
        out / "report.html",
        report.render(
            details, history, settings.model_dump(), wrong, faces, pictures, identity=identity
        ),
    )

    for name in [name for name in ("public", final, "private_unseen") if name in details["splits"]]:
        row = details["splits"][name]
        share, low, high = (100 * row[key] for key in ("accuracy", "accuracy_low", "accuracy_high"))
        print(
            f"{name.replace('_', ' ')}: {share:.1f} % right ({low:.1f} to {high:.1f}) of {row['n']:,} images "
            f"of {dataset.name}"
        )
    print(f"look at {out}/report.html")
    with sync.best_effort():
        runs.project(Path.cwd())


if __name__ == "__main__":
    run(main)
