"""explain: model, faces, predictions, details.json -> reports/explain.

What the network looks at, how far its probabilities can be trusted, which labels to look at again,
and the model card. Reads the section `explain`, and those that the model card shows. About 20
seconds with the small network.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from ferlab import files
from ferlab.data.dataset import Dataset
from ferlab.evaluation import attention, calibration, inference, mistakes, tables
from ferlab.evaluation.network import loading
from ferlab.progress import counted
from ferlab.reporting import explain_page
from stages import run


def main(
    experiment,
    balanced=Path("data/balanced"),
    model=Path("models/model.keras"),
    predictions=Path("reports/predictions.csv"),
    details=Path("reports/details.json"),
    explained=Path("reports/explain"),
):
    settings, dataset = experiment.settings, Dataset.load(balanced)
    table = tables.read(predictions)
    parts = tables.parts(table)
    split = tables.final(parts)
    network = loading.load(model, settings.train.backend, dataset.classes)
    rows_of = pd.Index(dataset.table["id"])

    def faces(rows):
        return np.array(dataset.faces[rows_of.get_indexer(rows["id"])])

    shown, layers = _attention(network, parts[split], faces, dataset.classes, settings.explain)
    trust, diagrams = _calibration(parts, split, settings)
    trust = {"model_md5": files.md5(model)} | trust
    errors, issues = mistakes.errors(parts[split]), mistakes.label_issues(table)
    rows = issues[issues["split"] == "train"].head(settings.evaluate.mistakes)
    about = {
        "dataset": dataset.name,
        "network": settings.train.model,
        "split": split,
        "images": len(parts[split]),
        "accuracy": (parts[split]["label"] == parts[split]["predicted"]).mean(),
        "calibration": trust,
        "report": not experiment.key,
    }
    lists = {
        "errors": errors.to_dict("records"),
        "label_issues": issues["split"].value_counts().to_dict(),
    }
    page = explain_page.render(about, lists, shown, diagrams, (rows, faces(rows)), layers)
    with files.replacing(explained) as folder:
        folder.mkdir()
        files.write_json(folder / "calibration.json", trust)
        files.write_csv(folder / "errors.csv", errors)
        files.write_csv(folder / "label_issues.csv", issues)
        card = explain_page.card(files.read_json(details), settings, trust)
        files.write_text(folder / "model_card.md", card)
        files.write_text(folder / "explain.html", page)

    scaled = ""
    if "temperature" in trust:
        error, temperature = 100 * trust["error_temperature_scaled"], trust["temperature"]
        scaled = f", {error:.1f} % with its logits divided by {temperature:.2f}"
    print(
        f"calibration error on {split}: {100 * trust['error']:.1f} %{scaled}; "
        f"{counted(len(issues), 'label')} to look at again"
    )
    print(f"look at {explained}/explain.html")
    if not experiment.key:
        _show_in_mlflow()


def _attention(network, rows, faces, classes, settings):
    """Where the network looks and what its layers keep of a face, as explain_page.render takes
    both.
    """
    shown, examples = {}, mistakes.examples(rows)
    for name, own in examples.items():
        pixels, asked = faces(own), pd.Index(classes).get_indexer(own["predicted"])
        heat, lost = np.zeros(pixels.shape), np.zeros(pixels.shape)
        if len(own):
            heat = attention.hires_cam(network, pixels, asked)
            lost = attention.occlusion(
                lambda batch: inference.predict(network, batch), pixels, asked
            )
        shown[name] = explain_page.looks(own, pixels, heat, lost)
    first = faces(next(own for own in examples.values() if len(own)).head(1))[0]
    maps = attention.feature_maps(network, first, settings.layers)
    return shown, (first, maps, settings.maps)


def _calibration(parts, split, settings):
    """(errors before and after temperature scaling with six decimals, reliability by name)."""
    chosen_on = settings.train.select_on if settings.explain.temperature else ""
    trust = calibration.trust(parts, split, chosen_on)
    curves = {f"as it is ({split})": parts[split]}
    if "temperature" in trust:
        temperature = trust["temperature"]
        scaled = calibration.temperature_scaled(parts[split], temperature)
        curves[f"logits divided by {temperature:.2f}"] = scaled
    return trust, {name: calibration.reliability(rows) for name, rows in curves.items()}


def _show_in_mlflow():
    from ferlab.tracking import runs, sync

    with sync.best_effort():
        runs.project_explained(Path.cwd())


if __name__ == "__main__":
    run(main)
