"""explain: model, data/balanced, predictions -> reports/explain: what the network looks at, how far its probabilities can be
trusted, which labels to look at again, and the model card. Section `explain`. About 20 seconds with the small network.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from ferlab import evaluation, explain, explain_page, files, results, tracking
from ferlab.dataset import Dataset
from stages import run


def main(here):
    settings, dataset = here.settings, Dataset.load(here.balanced)
    predictions = pd.read_csv(here.out / "predictions.csv", dtype={"id": str}, keep_default_na=False)
    parts = evaluation.parts(predictions)
    split = evaluation.final(parts)
    network = evaluation.load(here.model, settings.train.backend, len(dataset.classes))
    place = pd.Index(dataset.table["id"])

    def faces(rows):
        return np.array(dataset.faces[place.get_indexer(rows["id"])])

    with files.replacing(here.out / "explain") as folder:
        folder.mkdir()
        shown = explain.examples(parts[split])
        for name, rows in shown.items():
            given, classes = faces(rows), pd.Index(dataset.classes).get_indexer(rows["predicted"])
            heat, lost = np.zeros(given.shape), np.zeros(given.shape)
            if len(rows):
                heat = explain.grad_cam(network, given, classes)
                lost = explain.occlusion(lambda batch: evaluation.predict(network, batch), given, classes)
            explain_page.attention(folder / f"{name}.png", rows, given, heat, lost, right=name == "right")
        first = next(rows for rows in shown.values() if len(rows)).head(1)
        found = explain.feature_maps(network, faces(first)[0], settings.explain.layers)
        explain_page.maps(folder / "maps.png", faces(first)[0], found, settings.explain.maps)

        trust = {f"as it is ({split})": parts[split]}
        calibration = {"model_md5": tracking.md5(here.model), "split": split, "error": explain.calibration_error(parts[split])}
        if settings.explain.temperature and settings.train.select_on in parts:
            chosen = explain.temperature(parts[settings.train.select_on])
            cooled = explain.cooled(parts[split], chosen)
            trust[f"logits divided by {chosen:.2f}"] = cooled
            calibration |= {"temperature": chosen, "chosen_on": settings.train.select_on,
                            "error_cooled": explain.calibration_error(cooled)}
        explain_page.reliability(folder / "reliability.png", {name: explain.reliability(rows) for name, rows in trust.items()},
                                 f"Calibration ({dataset.name})")
        files.write_json(folder / "calibration.json", {key: round(value, 6) if isinstance(value, float) else value
                                                       for key, value in calibration.items()})
        errors, doubtful = explain.errors(parts[split]), explain.doubtful(predictions)
        files.write_csv(folder / "errors.csv", errors)
        files.write_csv(folder / "doubtful.csv", doubtful)
        rows = doubtful[doubtful["split"] == "train"].head(settings.evaluate.mistakes)
        explain_page.doubtful(folder / "doubtful.png", rows, faces(rows))
        about = {"dataset": dataset.name, "network": settings.train.model, "split": split, "images": len(parts[split]),
                 "accuracy": (parts[split]["label"] == parts[split]["predicted"]).mean(), "calibration": calibration,
                 "report": not here.name}
        details = files.read_json((results.folder(here.name) if here.name else here.out) / "details.json")
        files.write_text(folder / "model_card.md", explain_page.card(details, settings, calibration))
        files.write_text(folder / "explain.html", explain_page.render(
            about, {"errors": errors.to_dict("records"), "doubtful": doubtful["split"].value_counts().to_dict()},
            {file.stem: file.read_bytes() for file in sorted(folder.glob("*.png"))}))
    cooled = f", {100 * calibration['error_cooled']:.1f} % with its logits divided by {calibration['temperature']:.2f}" \
        if "temperature" in calibration else ""
    print(f"calibration error on {split}: {100 * calibration['error']:.1f} %{cooled}; {len(doubtful)} doubtful labels")
    print(f"look at {here.out}/explain/explain.html")
    if not here.name:
        try:
            tracking.project_explained(Path.cwd())
        except Exception as error:  # noqa: BLE001 - best effort: the pages are on disk
            print(f"warning: not shown in MLflow ({type(error).__name__}); `python -m ferlab sync` tries again")


if __name__ == "__main__":
    run(main)
