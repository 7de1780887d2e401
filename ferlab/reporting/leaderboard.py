"""`python -m ferlab leaderboard`: every result on the real FER2013 on one page.

These are the recipes', the workspace's and the DVC experiments'. Writes reports/leaderboard.html
with reports/leaderboard/<name>.html, a page for each result (without faces, so that it works where
no data are), and reports/leaderboard.png.
"""

import re
from pathlib import Path

from ferlab import dvc_files, files, recipes
from ferlab.evaluation import tables
from ferlab.reporting import pages, report
from ferlab.reporting.claims import CLAIMS, measured
from ferlab.reporting.figures import leaderboard_figure
from ferlab.tracking import lookup, provenance

OUT = Path("reports")


def write(say=print):
    """Write the pages and the figure; returns the paths of the first page and the figure.

    say(line): of experiments that cannot be shown. Raises UserError where there is no result.
    """
    results = rows(say)
    if not results:
        raise files.UserError(
            "recipes/results: no result yet; run one: dvc --cd recipes repro evaluate@majority"
        )
    page, picture = OUT / "leaderboard.html", OUT / "leaderboard.png"
    with files.replacing(picture) as part, open(part, "wb") as file:
        leaderboard_figure.draw(file, groups(results))
    with files.replacing(OUT / "leaderboard") as folder:
        folder.mkdir()
        for row in results:
            files.write_text(folder / f"{row['page']}.html", _page(row))
    template = pages.template("leaderboard.html")
    html = template.render(rows=results, further=_further(results), picture=picture.read_bytes())
    files.write_text(page, html + "\n")
    return [page, picture]


def rows(say=print):
    """One dict per result, best private (or test) accuracy first.

    The workspace's and the DVC experiments' are among them where they are on the real FER2013.
    """
    results = [
        _row(lookup.find(key), provenance.committed(recipes.result_folder(key) / "run.json"))
        for key in recipes.with_result()
    ]
    return sorted([*results, *_workspace(), *_experiments(say)], key=lambda row: -row["accuracy"])


def _workspace():
    model = Path(lookup.MODEL)
    wanted = (OUT / "details.json", OUT / "metrics.json", OUT / "predictions.csv", model)
    if not all(path.exists() for path in wanted):
        return []
    if not files.read_json(wanted[0])["dataset"].startswith("fer2013"):
        return []
    return [_row(lookup.workspace(), provenance.read_run(model), "workspace")]


def _experiments(say):
    """The DVC experiments on FER2013; of one that differs in nothing from the workspace too."""
    root, found = files.root(), []
    for name, commit, _ in dvc_files.experiments():
        try:
            locked = dvc_files.stages(dvc_files.show(root, commit, "dvc.lock"))
            if dvc_files.parameters(locked).get("download", {}).get("dataset") == "sample":
                continue
            result = lookup.experiment(name, commit)
        except files.UserError as error:
            say(f"not shown: {error}")
            continue
        if result.details["dataset"].startswith("fer2013"):
            run = provenance.read_run_of(dvc_files.outputs(locked).get(lookup.MODEL, ""))
            found.append(_row(result, run, "experiment"))
    return found


def groups(results):
    """Results as the figure shows them: a dict per recipe and per result of yours that is evaluated
    on the private images.

    name, kind (text, ours, yours), accuracy, low, high (of claims.measured), seconds (their mean;
    None of what trained nothing), seeds [(seconds, accuracy)], published (on the same split).
    """
    by_name = {}
    for row in results:
        if row["split"] == "private":
            name = recipes.recipe_of(row["key"])[0] if row["kind"] == "recipe" else row["key"]
            by_name.setdefault((name, row["kind"]), []).append(row)
    shown = []
    for (name, kind), own in by_name.items():
        accuracy, low, high = measured(
            [row["details"]["splits"]["private"] for row in own], "accuracy"
        )
        timed = [row for row in own if row["trained"] and row["seconds"]]
        seeds = [(row["seconds"], row["accuracy"]) for row in timed]
        published = own[0]["published"]
        shown.append({
            "name": name,
            "kind": "yours" if kind != "recipe" else "text" if _has_year(name) else "ours",
            "accuracy": accuracy,
            "low": low,
            "high": high,
            "seconds": sum(seconds for seconds, _ in seeds) / len(seeds) if seeds else None,
            "seeds": seeds,
            "published": published[2] if published and published[0] == "private" else None,
        })  # fmt: skip
    return shown


def _has_year(recipe):
    return re.search(r"_20\d\d", recipe)


def _row(result, run, kind="recipe"):
    """A result of lookup with what the page and the figure need. run: the content of run.json."""
    key, details = result.name, result.details
    split = tables.final(details["splits"])
    scores = details["splits"][split]
    seconds, machine = run.get("train_seconds"), run.get("machine", {})
    members = [step["added"] for step in details.get("ensemble", [])]
    trained_on = [machine.get("gpu", machine.get("cpu")), run.get("precision")]
    runs = [run]
    if members:  # an ensemble costs what its members cost together
        runs = [recipes.read_result(member)[3] for member in members]
        seconds, trained_on = sum(each.get("train_seconds", 0) for each in runs), []
    on_gpu = sum("gpu" in each.get("machine", {}) for each in runs)
    claims = CLAIMS.get(recipes.recipe_of(key)[0], []) if kind == "recipe" else []
    accuracies = [claim for claim in claims if claim[1] == "accuracy"]
    return {
        "key": key,
        "kind": kind,
        "page": f"experiment-{key}" if kind == "experiment" else key,
        "result": result,
        "run": run,
        "split": split,
        "details": details,
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
        "gpu": ("GPU" if on_gpu == len(runs) else "partly GPU") if on_gpu else "",
        "machine": ", ".join(filter(None, trained_on)),
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
    """The report of a result: charts drawn anew, no faces."""
    result = row["result"]
    return report.render(
        result.details,
        result.history,
        result.values,
        result.predictions,
        key=row["key"],
        recipe=recipes.recipe_of(row["key"])[0],
        kind=row["kind"],
        run=row["run"],
    )
