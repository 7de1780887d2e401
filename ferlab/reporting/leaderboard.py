"""`python -m ferlab leaderboard`: every recipe's result and the bench's on one page, accuracy against training time.

Writes reports/leaderboard.html with reports/leaderboard/<key>.html, a page for each result (without faces, so that it works
where no data are), and reports/leaderboard.png for the README.
"""

from pathlib import Path

import numpy as np
from matplotlib.text import Text
from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import Bbox

from ferlab import files, params, recipes
from ferlab.evaluation import tables
from ferlab.progress import duration
from ferlab.reporting import model_figures, pages, report
from ferlab.reporting.figures import ACCENT, INK, MUTED, figure
from ferlab.reporting.papers import CLAIMS
from ferlab.tracking import provenance

OUT = Path("reports")


def rows():
    """One dict per result, best private (or test) accuracy first; of the bench only a result on the real FER2013."""
    found = [
        _row(key, *recipes.read_result(key)[1:], settings=_settings(key))
        for key in recipes.with_result()
    ]
    if (OUT / "details.json").exists() and (OUT / "metrics.json").exists():
        details, model = files.read_json(OUT / "details.json"), Path("models/model.keras")
        if details["dataset"].startswith("fer2013") and model.exists():
            history = Path("models/history.csv")
            import pandas as pd

            found.append(
                _row(
                    "bench",
                    details,
                    pd.read_csv(history) if history.exists() else None,
                    provenance.read_run(model),
                    params.raw(),
                )
            )
    return sorted(found, key=lambda row: -row["accuracy"])


def _settings(key):
    return recipes.raw_recipe(*recipes.recipe_of(key))


def _row(key, details, history, about, settings):
    split = tables.final(details["splits"])
    scores, six = details["splits"][split], details["six_class"][split]
    # an ensemble costs what its members cost together
    members = [step["added"] for step in details.get("ensemble", [])]
    seconds = (
        sum(recipes.read_result(one)[3].get("train_seconds", 0) for one in members)
        if members
        else about.get("train_seconds")
    )
    claims = [
        (where, score, value)
        for where, score, value in CLAIMS.get(recipes.recipe_of(key)[0], [])
        if score == "accuracy"
    ]
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
        "six": six["accuracy"],
        "public": details["splits"].get("public", {}).get("accuracy"),
        "unseen": details["splits"].get("private_unseen", {}).get("accuracy"),
        "seconds": seconds,
        "trained": bool(members or about.get("epochs")),
        "machine": about.get("machine", {}).get("cpu", ""),
        "published": claims[0] if claims else None,
    }


def write():
    """Write the pages and the figure; returns the paths of the first page and the figure."""
    found = rows()
    if not found:
        raise files.UserError(
            "recipes/results: no result yet; run one: dvc --cd recipes repro evaluate@majority"
        )
    draw(OUT / "leaderboard.png", found)
    with files.replacing(OUT / "leaderboard") as folder:
        folder.mkdir()
        for row in found:
            files.write_text(folder / f"{row['key']}.html", _page(row, folder))
    picture = (OUT / "leaderboard.png").read_bytes()
    files.write_text(
        OUT / "leaderboard.html",
        pages.template("leaderboard.html").render(rows=found, picture=picture, duration=duration)
        + "\n",
    )
    return [OUT / "leaderboard.html", OUT / "leaderboard.png"]


def _page(row, folder):
    """The report of a committed result: figures drawn anew, no faces."""
    details, scores = row["details"], row["details"]["splits"][row["split"]]
    pictures, path = {}, folder / "figure.png"
    where = f"({row['split']}, {details['dataset']})"
    matrix = scores["confusion"], details["classes"]
    drawn = {
        "confusion_shares": lambda: model_figures.confusion_shares(
            path, *matrix, f"Of 100 faces {where}"
        ),
        "confusion_counts": lambda: model_figures.confusion_counts(path, *matrix, f"Faces {where}"),
        "per_class_f1": lambda: model_figures.per_class_f1(
            path, scores["per_class"], f"F1 by class {where}"
        ),
    }
    if row["history"] is not None:
        drawn["learning_curves"] = lambda: model_figures.learning_curves(
            path, row["history"], row["settings"]["train"]["select_on"]
        )
    if "robustness" in details:
        drawn["robustness"] = lambda: model_figures.robustness(
            path, details["robustness"], f"Accuracy on disturbed faces {where}"
        )
    for name, draw_one in drawn.items():
        draw_one()
        pictures[name] = path.read_bytes()
    path.unlink()
    return report.render(
        details, row["history"], row["settings"], None, None, pictures, key=row["key"]
    )


def draw(path, found):
    """Private accuracy with its interval against seconds of training; rings: what a text claims, on the split it names."""
    timed = [row for row in found if row["trained"]]
    with figure(path, 8, 6) as (drawn, axes):
        for row in found:
            if not row["trained"]:
                axes.axhline(row["accuracy"], color=MUTED, linestyle=":", linewidth=1)
                axes.text(
                    0.005,
                    row["accuracy"] + 0.004,
                    row["key"],
                    transform=axes.get_yaxis_transform(),
                    fontsize=8,
                    color=MUTED,
                )
        for row in timed:
            spread = np.array([[row["accuracy"] - row["low"]], [row["high"] - row["accuracy"]]])
            colour = ACCENT if row["key"].startswith(("speedrun", "champion")) else INK
            axes.errorbar(
                row["seconds"],
                row["accuracy"],
                yerr=spread,
                fmt="o",
                color=colour,
                markersize=5,
                linewidth=1,
            )
            if row["published"] and not _is_seed(row):
                axes.plot(
                    row["seconds"],
                    row["published"][2],
                    "o",
                    markerfacecolor="none",
                    markeredgecolor=ACCENT,
                    markersize=9,
                )
        axes.axhspan(0.6, 0.7, color=MUTED, alpha=0.12)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ticks = [60 * minutes for minutes in (1, 2, 5, 10, 20, 50, 100)]
        axes.set_xscale("log")
        axes.set_xlim(
            min([50, *(0.8 * row["seconds"] for row in timed)]),
            max([7200, *(1.3 * row["seconds"] for row in timed)]),
        )
        axes.set_xticks(ticks, [f"{tick // 60} min" for tick in ticks])
        axes.minorticks_off()
        axes.set(
            title="Private accuracy on FER2013 against training time",
            ylim=(0.1, 0.8),
            xlabel="training; bars: 95 % interval; rings: what the text claims; band: people, 65 ± 5 %",
        )
        _name(drawn, axes, timed)


def _is_seed(row):
    return "-s" in row["key"]


def _name(drawn, axes, timed):
    """Each recipe's name beside its dot, at the first of some places where it covers no dot, ring or other name.

    A line leads to the names that stand further away.
    """
    drawn.draw_without_rendering()
    taken = []
    for row in timed:
        low, high = (
            axes.transData.transform((row["seconds"], row[end])) for end in ("low", "high")
        )
        taken.append(Bbox([low - (5, 0), high + (5, 0)]))
        if row["published"]:
            ring = axes.transData.transform((row["seconds"], row["published"][2]))
            taken.append(Bbox([ring - 8, ring + 8]))
    for row in timed:
        if _is_seed(row):
            continue
        dot = row["seconds"], row["accuracy"]
        for side, up in (
            (8, -3),
            (-8, -3),
            (8, 9),
            (-8, 9),
            (8, -15),
            (-8, -15),
            (12, 24),
            (-12, 24),
            (12, -30),
            (-12, -30),
            (12, 38),
            (-12, 38),
            (12, -44),
            (-12, -44),
        ):
            line = (
                {"arrowstyle": "-", "color": MUTED, "linewidth": 0.7, "shrinkB": 4}
                if abs(up) > 20
                else None
            )
            name = axes.annotate(
                row["key"],
                dot,
                (side, up),
                fontsize=8,
                textcoords="offset points",
                arrowprops=line,
                ha="left" if side > 0 else "right",
            )
            place = _words(name)
            if (
                not any(place.overlaps(other) for other in taken)
                and axes.bbox.x0 < place.x0
                and place.x1 < axes.bbox.x1
            ):
                break
            name.remove()
        else:
            name = axes.annotate(row["key"], dot, (8, -3), fontsize=8, textcoords="offset points")
        taken.append(_words(name))


def _words(name):
    """Where an annotation's words stand, without its line."""
    name.get_window_extent()  # moves it to its place
    return Text.get_window_extent(name)
