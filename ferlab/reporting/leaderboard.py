"""`python -m ferlab leaderboard`: every recipe's result and the workspace's on one page.

Writes reports/leaderboard.html with reports/leaderboard/<key>.html, a page for each result (without
faces, so that it works where no data are), and reports/leaderboard.png.
"""

from pathlib import Path

import pandas as pd

from ferlab import files, params, recipes
from ferlab.evaluation import tables
from ferlab.progress import duration
from ferlab.reporting import pages, report
from ferlab.reporting.claims import CLAIMS
from ferlab.reporting.figures import leaderboard_figure, model_figures
from ferlab.tracking import lookup, provenance

OUT = Path("reports")


def write():
    """Write the pages and the figure; returns the paths of the first page and the figure.

    Raises UserError where there is no result.
    """
    results = rows()
    if not results:
        raise files.UserError(
            "recipes/results: no result yet; run one: dvc --cd recipes repro evaluate@majority"
        )
    page, picture = OUT / "leaderboard.html", OUT / "leaderboard.png"
    leaderboard_figure.draw(picture, results)
    with files.replacing(OUT / "leaderboard") as folder:
        folder.mkdir()
        for row in results:
            files.write_text(folder / f"{row['key']}.html", _page(row))
    template = pages.template("leaderboard.html")
    html = template.render(
        rows=results, further=_further(results), picture=picture.read_bytes(), duration=duration
    )
    files.write_text(page, html + "\n")
    return [page, picture]


def rows():
    """One dict per result, best private (or test) accuracy first.

    The workspace's is among them where it is on the real FER2013.
    """
    results = []
    for key in recipes.with_result():
        _, details, history, run = recipes.read_result(key)
        results.append(_row(key, details, history, run, recipes.pinned(key)))
    return sorted([*results, *_workspace()], key=lambda row: -row["accuracy"])


def _workspace():
    details, model = OUT / "details.json", Path("models/model.keras")
    if not (details.exists() and (OUT / "metrics.json").exists() and model.exists()):
        return []
    details = files.read_json(details)
    if not details["dataset"].startswith("fer2013"):
        return []
    path = Path("models/history.csv")
    history = pd.read_csv(path) if path.exists() else None
    return [_row(lookup.WORKSPACE, details, history, provenance.read_run(model), params.raw())]


def _row(key, details, history, run, settings):
    split = tables.final(details["splits"])
    scores = details["splits"][split]
    seconds = run.get("train_seconds")
    members = [step["added"] for step in details.get("ensemble", [])]
    if members:  # an ensemble costs what its members cost together
        runs = [recipes.read_result(member)[3] for member in members]
        seconds = sum(run.get("train_seconds", 0) for run in runs)
    claims = CLAIMS.get(recipes.recipe_of(key)[0], [])
    accuracies = [claim for claim in claims if claim[1] == "accuracy"]
    return {
        "key": key,
        "split": split,
        "details": details,
        "history": history,
        "settings": settings,
        "dataset": details["dataset"],
        "network": details["model"]["name"],
        "weights": details["model"]["parameters"],
        "classes": len(details["classes"]),
        "accuracy": scores["accuracy"],
        "low": scores["accuracy_low"],
        "high": scores["accuracy_high"],
        "f1": scores["f1_macro"],
        "six": details["six_class"][split]["accuracy"],
        "public": details["splits"].get("public", {}).get("accuracy"),
        "seconds": seconds,
        "trained": bool(members or run.get("epochs")),
        "machine": ", ".join(
            filter(None, (run.get("machine", {}).get("cpu"), run.get("precision")))
        ),
        "published": accuracies[0] if accuracies else None,
    }


def _further(results):
    """[(key, name, scores)] of the further sets of faces that results were measured on."""
    return [
        (row["key"], name, row["details"]["splits"][name])
        for row in results
        for name in row["details"].get("left_out", {})
    ]


def _page(row):
    """The report of a committed result: figures drawn anew, no faces."""
    details, history, settings = row["details"], row["history"], row["settings"]
    where = f"({row['split']}, {details['dataset']})"

    def draw(folder):
        model_figures.draw_scores(folder, details, row["split"], where)
        if history is not None:
            selection = settings["train"]["select_on"]
            model_figures.learning_curves(folder / "learning_curves.png", history, selection)

    pictures = pages.drawn(draw)
    return report.render(details, history, settings, None, None, pictures, key=row["key"])
