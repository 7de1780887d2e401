"""explain: model, data/balanced, predictions -> reports/explain: what the network looks at, how far its probabilities can be
trusted, which labels to look at again, and the model card. Section `explain`. About 20 seconds with the small network.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from ferlab import files, recipes
from ferlab.data.dataset import Dataset
from ferlab.evaluation import attention, calibration, inference, mistakes, tables
from ferlab.reporting import explain_page
from ferlab.reporting.figures import attention_figures, face_figures, model_figures
from ferlab.tracking import provenance, runs, sync
from stages import run


def main(here):
    settings, dataset = here.settings, Dataset.load(here.balanced)
    predictions = pd.read_csv(
        here.out / "predictions.csv", dtype={"id": str}, keep_default_na=False
    )
    parts = tables.parts(predictions)
    split = tables.final(parts)
    network = inference.load(here.model, settings.train.backend, len(dataset.classes))
    place = pd.Index(dataset.table["id"])

    def faces(rows):
        return np.array(dataset.faces[place.get_indexer(rows["id"])])

    with files.replacing(here.out / "explain") as folder:
        folder.mkdir()
        shown = mistakes.examples(parts[split])
        for name, rows in shown.items():
            given, classes = faces(rows), pd.Index(dataset.classes).get_indexer(rows["predicted"])
            heat, lost = np.zeros(given.shape), np.zeros(given.shape)
            if len(rows):
                heat = attention.grad_cam(network, given, classes)
                lost = attention.occlusion(
                    lambda batch: inference.predict(network, batch), given, classes
                )
            attention_figures.attention(
                folder / f"{name}.png", rows, given, heat, lost, right=name == "right"
            )
        first = next(rows for rows in shown.values() if len(rows)).head(1)
        found = attention.feature_maps(network, faces(first)[0], settings.explain.layers)
        attention_figures.maps(folder / "maps.png", faces(first)[0], found, settings.explain.maps)

        shown_tables = {f"as it is ({split})": parts[split]}
        trusted = {
            "model_md5": provenance.md5(here.model),
            "split": split,
            "error": calibration.calibration_error(parts[split]),
        }
        if settings.explain.temperature and settings.train.select_on in parts:
            chosen = calibration.temperature(parts[settings.train.select_on])
            cooled = calibration.temperature_scaled(parts[split], chosen)
            shown_tables[f"logits divided by {chosen:.2f}"] = cooled
            trusted |= {
                "temperature": chosen,
                "chosen_on": settings.train.select_on,
                "error_cooled": calibration.calibration_error(cooled),
            }
        model_figures.reliability(
            folder / "reliability.png",
            {name: calibration.reliability(rows) for name, rows in shown_tables.items()},
            f"Calibration ({dataset.name})",
        )
        files.write_json(
            folder / "calibration.json",
            {
                key: round(value, 6) if isinstance(value, float) else value
                for key, value in trusted.items()
            },
        )
        errors, doubtful = mistakes.errors(parts[split]), mistakes.label_issues(predictions)
        files.write_csv(folder / "errors.csv", errors)
        files.write_csv(folder / "doubtful.csv", doubtful)
        rows = doubtful[doubtful["split"] == "train"].head(settings.evaluate.mistakes)
        face_figures.mistakes(folder / "doubtful.png", rows, faces(rows), "Labels to look at again")
        about = {
            "dataset": dataset.name,
            "network": settings.train.model,
            "split": split,
            "images": len(parts[split]),
            "accuracy": (parts[split]["label"] == parts[split]["predicted"]).mean(),
            "calibration": trusted,
            "report": not here.name,
        }
        details = files.read_json(
            (recipes.result_folder(here.name) if here.name else here.out) / "details.json"
        )
        files.write_text(folder / "model_card.md", explain_page.card(details, settings, trusted))
        files.write_text(
            folder / "explain.html",
            explain_page.render(
                about,
                {
                    "errors": errors.to_dict("records"),
                    "doubtful": doubtful["split"].value_counts().to_dict(),
                },
                {file.stem: file.read_bytes() for file in sorted(folder.glob("*.png"))},
            ),
        )
    cooled = (
        f", {100 * trusted['error_cooled']:.1f} % with its logits divided by {trusted['temperature']:.2f}"
        if "temperature" in trusted
        else ""
    )
    print(
        f"calibration error on {split}: {100 * trusted['error']:.1f} %{cooled}; {len(doubtful)} doubtful labels"
    )
    print(f"look at {here.out}/explain/explain.html")
    if not here.name:
        with sync.best_effort():
            runs.project_explained(Path.cwd())


if __name__ == "__main__":
    run(main)
