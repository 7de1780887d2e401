"""evaluate: predictions, about.json, data/audit.csv -> metrics.json, details.json and the report.

Reads no network and only the parameters that the report shows (all but `explain`). For a recipe it
writes to recipes/results/<key>, small enough to be committed: comparison, leaderboard and papers
read these and never need a model. Seconds.
"""

from pathlib import Path

import pandas as pd

from ferlab.data import audit
from ferlab.data.dataset import Dataset
from ferlab.evaluation import mistakes, scoring, tables
from ferlab.files import read_json, replacing, root, write_csv, write_json, write_text
from ferlab.progress import counted
from ferlab.reporting import report
from ferlab.reporting.figures import model_figures
from ferlab.tracking import provenance
from stages import run

REPORTED = ("download", "eda", "balance", "train", "evaluate")  # sections, on the page
SHOWN = ("public", "private", "test", *tables.UNSEEN)  # of the splits, in the last lines


def main(
    experiment,
    predictions=Path("reports/predictions.csv"),
    about=Path("reports/about.json"),
    audit_csv=Path("data/audit.csv"),
    results=Path("reports"),
    history=Path("models/history.csv"),
    balanced=Path("data/balanced"),
    eda=Path("reports/eda"),
    counts=Path("reports/balance"),
):
    table, network = tables.read(predictions), read_json(about)
    more = network["more"] | scoring.ferplus(table)
    details = scoring.details(table, network, audit.leaked(audit_csv, table), more)
    write_json(results / "metrics.json", scoring.metrics(details, scoring.cross_entropy(table)))
    write_json(results / "details.json", details)
    if experiment.key:
        tables.write_packed(results / "predictions.csv.gz", table)
        if noted := provenance.read_run_of(
            network["run"]
        ):  # else trained elsewhere: the copy stays
            write_json(results / "run.json", noted)
    else:
        _note_machine(network["run"], results / "run.json")
        sources = history, balanced, eda, counts
        _report(experiment.settings, table, details, network["run"], results, *sources)
    _print(details)
    _show_in_mlflow(experiment)


def _note_machine(model, path):
    """Keep where the model was trained, to be committed with the result; as it is where it is the
    committed model, so that a repeated run changes no file of Git's."""
    noted = provenance.read_run_of(model)
    if noted and not (path.exists() and read_json(path).get("model") == model):
        write_json(path, {"model": model} | noted)


def _report(settings, table, details, run, results, history_csv, balanced, eda, counts):
    """Confusion table, figures and report.html of the workspace.

    run: the md5 under which the network's run.json is kept; a page about it is put beside it.
    """
    dataset, history = Dataset.load(balanced), pd.read_csv(history_csv)
    parts = tables.parts(table)
    pairs = parts[tables.final(parts)][["label", "predicted"]]
    write_csv(results / "confusion.csv", pairs.rename(columns={"label": "actual"}))
    wrong = mistakes.worst(table, settings.evaluate.mistakes)
    faces = dataset.faces[pd.Index(dataset.table["id"]).get_indexer(wrong["id"])]
    with replacing(results / "figures") as folder:
        folder.mkdir()
        model_figures.draw(folder, details, history, wrong, faces, settings.train.select_on)
    values = {section: getattr(settings, section).model_dump() for section in REPORTED}
    note = f"{provenance.RUNS}/{run}.html"
    page = report.render(
        details,
        history,
        values,
        table,
        wrong,
        faces,
        samples=report.strips(dataset),
        # classes may be called 1, or nan
        counts=pd.read_csv(counts / "counts.csv", dtype={"label": str}, keep_default_na=False),
        identity=read_json(eda / "summary.json")["identity"],
        note=f"../{note}",
    )
    write_text(results / "report.html", page)
    if noted := provenance.read_run_of(run):
        write_text(root() / note, report.about_run(noted))


def _print(details):
    for name in SHOWN:
        if name in details["splits"] and (name != "test" or "private" not in details["splits"]):
            row = details["splits"][name]
            share, low, high = (100 * row[f"accuracy{end}"] for end in ("", "_low", "_high"))
            print(
                f"{name.replace('_', ' ')}: {share:.2f} % right ({low:.2f} to {high:.2f}) "
                f"of {counted(row['n'], 'image')} of {details['dataset']}"
            )


def _show_in_mlflow(experiment):
    from ferlab.tracking import runs, sync

    with sync.best_effort():
        if experiment.key:
            runs.project_recipe(experiment.key)
        else:
            runs.project(Path.cwd())


if __name__ == "__main__":
    run(main)
