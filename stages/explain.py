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
from ferlab.reporting.figures import attention_figures, face_figures, model_figures
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

    with files.replacing(explained) as folder:
        folder.mkdir()
        _attention(folder, network, parts[split], faces, dataset.classes, settings.explain)
        trust = _calibration(folder, parts, split, settings, dataset.name)
        trust = {"model_md5": files.md5(model)} | trust
        files.write_json(folder / "calibration.json", trust)
        errors, issues = mistakes.errors(parts[split]), mistakes.label_issues(table)
        files.write_csv(folder / "errors.csv", errors)
        files.write_csv(folder / "label_issues.csv", issues)
        rows = issues[issues["split"] == "train"].head(settings.evaluate.mistakes)
        face_figures.mistakes(
            folder / "label_issues.png", rows, faces(rows), "Labels to look at again"
        )
        card = explain_page.card(files.read_json(details), settings, trust)
        files.write_text(folder / "model_card.md", card)
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
        pictures = {file.stem: file.read_bytes() for file in sorted(folder.glob("*.png"))}
        page = explain_page.render(about, lists, pictures)
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


def _attention(folder, network, rows, faces, classes, settings):
    """right.png, wrong.png: where the network looks; maps.png: what its layers keep of a face."""
    examples = mistakes.examples(rows)
    for name, shown in examples.items():
        pixels, asked = faces(shown), pd.Index(classes).get_indexer(shown["predicted"])
        heat, lost = np.zeros(pixels.shape), np.zeros(pixels.shape)
        if len(shown):
            heat = attention.hires_cam(network, pixels, asked)
            lost = attention.occlusion(
                lambda batch: inference.predict(network, batch), pixels, asked
            )
        attention_figures.attention(
            folder / f"{name}.png", shown, pixels, heat, lost, right=name == "right"
        )
    first = faces(next(shown for shown in examples.values() if len(shown)).head(1))[0]
    maps = attention.feature_maps(network, first, settings.layers)
    attention_figures.maps(folder / "maps.png", first, maps, settings.maps)


def _calibration(folder, parts, split, settings, dataset):
    """reliability.png; returns the errors before and after temperature scaling, six decimals."""
    curves = {f"as it is ({split})": parts[split]}
    trust = {"split": split, "error": round(calibration.calibration_error(parts[split]), 6)}
    chosen_on = settings.train.select_on
    if settings.explain.temperature and chosen_on in parts:
        temperature = calibration.temperature(parts[chosen_on])
        scaled = calibration.temperature_scaled(parts[split], temperature)
        curves[f"logits divided by {temperature:.2f}"] = scaled
        trust |= {
            "temperature": round(temperature, 6),
            "chosen_on": chosen_on,
            "error_temperature_scaled": round(calibration.calibration_error(scaled), 6),
        }
    model_figures.reliability(
        folder / "reliability.png",
        {name: calibration.reliability(rows) for name, rows in curves.items()},
        f"Calibration ({dataset})",
    )
    return trust


def _show_in_mlflow():
    from ferlab.tracking import runs, sync

    with sync.best_effort():
        runs.project_explained(Path.cwd())


if __name__ == "__main__":
    run(main)
