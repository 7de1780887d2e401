"""Two or more results side by side: what was set differently, what came out, and whether the difference is noise.

A result is named as a recipe's key, a DVC experiment, an MLflow run (name or id), or `bench` for the working directory. All
are compared with the first one, on the images that both predicted; six- and seven-class results on six classes.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from ferlab import evaluation, files, params, report, results
from ferlab.figures import ACCENT, INK, figure

FORMS = ("not the same pixels: some of these results are on fer2013, the official ones, some on fer2013-jpeg, the same "
         "faces saved as JPEG")
RESAMPLES = 10_000
LINES = ("#30638e", "#d1495b", "#6a994e", "#6d597a", "#edae49", "#00a6a6")


@dataclass(frozen=True)
class Result:
    """values: parameters as nested dicts. predictions: of the evaluation splits. history may be None, seconds of epochs empty."""

    name: str
    values: dict
    details: dict
    predictions: pd.DataFrame
    history: pd.DataFrame | None
    seconds: list


def find(name):
    """The Result of that name; UserError, with what is known, where there is none."""
    if name == "bench":
        return bench()
    if name in results.listed():
        _, details, history, run = results.read(name)
        return Result(name, params.raw_recipe(*params.recipe_of(name)), details, results.predictions(name), history,
                      run.get("epochs", []))
    from ferlab import tracking

    known = {experiment: revision for experiment, revision, _ in tracking.experiments()}
    if name in known:
        return experiment(name, known[name])
    found = tracked(name)
    if found:
        return found
    listed = ["bench", *results.listed(), *known]
    raise files.UserError(f"{name}: no recipe with a result, no DVC experiment and no MLflow run; known: {', '.join(listed)}")


def bench(folder=Path("."), name="bench"):
    """The result in a folder laid out as the bench."""
    from ferlab import tracking

    try:
        table = pd.read_csv(folder / "reports/predictions.csv", dtype={"id": str}, keep_default_na=False)
        details = files.read_json(folder / "reports/details.json")
    except FileNotFoundError as error:
        raise files.UserError(f"{name}: {error.filename} not found; `dvc repro` makes it") from None
    model = folder / "models/model.keras"
    noted = tracking.read_run(model) if model.exists() else {}
    return Result(name, params.raw(folder / "params.yaml"), details, table[table["split"] != "train"],
                  pd.read_csv(folder / "models/history.csv"), noted.get("epochs", []))


def experiment(name, revision):
    """The result of a DVC experiment, brought from Git and DVC's cache."""
    from dvc.api import DVCFileSystem

    with tempfile.TemporaryDirectory() as temporary:
        folder, system = Path(temporary), DVCFileSystem(str(files.root()), rev=revision)
        for file in ("params.yaml", "reports/predictions.csv", "reports/details.json", "models/history.csv",
                     "models/model.keras"):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            try:
                system.get(file, str(folder / file))
            except Exception as error:  # DVC raises many kinds
                reason = " ".join(str(error).split())[:100]
                fix = f"dvc exp apply {name} && dvc repro"
                raise files.UserError(f"{name}: {file} is not in DVC's cache ({reason}); {fix}") from None
        return bench(folder, name)


def tracked(name):
    """The result of an MLflow run, by its name or id, from its artifacts; None where there is no such run."""
    from ferlab import tracking

    with tracking.store() as client, tempfile.TemporaryDirectory() as temporary:
        runs = tracking.named(client, name)
        if not runs:
            return None
        folder, run_id = Path(temporary), runs[0].info.run_id
        try:
            for file in ("params.yaml", "details.json", "predictions.csv.gz", "history.csv"):
                client.download_artifacts(run_id, file, str(folder))
        except Exception as error:  # MLflow's stores raise many kinds
            reason = " ".join(str(error).split())[:100]
            raise files.UserError(f"{name}: the MLflow run lacks {file} ({reason}); python -m ferlab sync") from None
        return Result(runs[0].info.run_name or name, params.raw(folder / "params.yaml"), files.read_json(folder / "details.json"),
                      results.read_predictions(folder / "predictions.csv.gz"), pd.read_csv(folder / "history.csv"), [])


def compare(found):
    """All that is shown, from two or more Results: a dict of tables, each later result against the first.

    Raises UserError where they have no evaluation images in common.
    """
    final = next((name for name in ("private", "test") if all(name in one.details["splits"] for one in found)), None)
    tables = [_final(one) for one in found]
    folded = len({evaluation.classes_of(table) for table in tables}) > 1
    if folded:
        tables = [evaluation.fold(table) for table in tables]
    if final is None or len({evaluation.classes_of(table) for table in tables}) > 1:
        raise files.UserError(f"{' and '.join(one.name for one in found)}: not the same classes or splits, nothing to compare")
    datasets = sorted({one.details["dataset"] for one in found})
    # The same faces, differently saved, have other ids in the two forms; each still shows its row of fer2013.csv.
    both = datasets == ["fer2013", "fer2013-jpeg"]
    for one, table in zip(found, tables, strict=True):
        if both and "official" not in table:
            raise files.UserError(f"{one.name}: written before faces were known by their row of fer2013.csv; evaluate it again")
    tables = [table.set_index(table["official"].astype(str) if both else "id") for table in tables]
    common = tables[0].index
    for table in tables[1:]:
        common = common[common.isin(table.index)]
    tables = [table.loc[common] for table in tables]
    if not len(common) or any((table["label"] != tables[0]["label"]).any() for table in tables):
        raise files.UserError(f"{' and '.join(one.name for one in found)}: judged on different images (datasets "
                              f"{', '.join(datasets)}); nothing to compare")
    classes = evaluation.classes_of(tables[0])
    scores = [evaluation.scores(table["label"], table["predicted"], classes) for table in tables]
    right = [(table["label"] == table["predicted"]).to_numpy() for table in tables]
    return {"names": [one.name for one in found], "dataset": " and ".join(datasets),
            "note": FORMS if both else "", "split": final, "n": len(common),
            "folded": folded, "classes": classes, "scores": scores, "differing": differing([one.values for one in found]),
            "noise": [noise(right[0], other) for other in right[1:]],
            "disagree": [disagreements(tables[0], table) for table in tables[1:]]}


def _final(one):
    rows = evaluation.parts(one.predictions)
    return rows[evaluation.final(rows)]


def differing(values):
    """[(section.key, value of each)] of the parameters that are not the same everywhere; what an older result or a recipe does
    not name has its default."""
    defaults = {f"{section}.{key}": field.default for section, model in params.SECTIONS.items()
                for key, field in model.model_fields.items() if not field.is_required()}
    flat = [{name: value for name, value in defaults.items() if name.split(".")[0] in one}
            | {f"{section}.{key}": value for section, inner in one.items() for key, value in inner.items()} for one in values]
    every = dict.fromkeys(key for one in flat for key in one)
    rows = [(key, [one.get(key, "–") for one in flat]) for key in every]
    return [(key, row) for key, row in rows if any(value != row[0] for value in row)]


def noise(first, second):
    """Whether two networks' hits on the same images (bool, N) differ by more than chance.

    McNemar's exact test on the images that only one has right, and the 95 % interval of the difference in accuracy from a
    paired bootstrap (10,000 resamples, always the same ones).
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    n = len(first)
    p = binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1.0
    shares = np.array([only_second, only_first, n - only_first - only_second]) / n
    draws = np.random.Generator(np.random.Philox(0)).multinomial(n, shares, RESAMPLES)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / n, (0.025, 0.975))
    return {"difference": float((only_second - only_first) / n), "low": float(low), "high": float(high), "p": float(p),
            "only_first": only_first, "only_second": only_second}


def disagreements(first, second):
    """Rows (index: id) on which two tables say different things: label, first, second; the surest disagreement first."""
    rows = first.index[first["predicted"].to_numpy() != second["predicted"].to_numpy()]
    chances = [f"p_{name}" for name in evaluation.classes_of(first)]
    sure = first.loc[rows, chances].max(axis=1) + second.loc[rows, chances].max(axis=1)
    table = pd.DataFrame({"label": first.loc[rows, "label"], "first": first.loc[rows, "predicted"],
                          "second": second.loc[rows, "predicted"], "sure": sure})
    return table.sort_values("sure", ascending=False, kind="stable")


def verdict(one):
    """A noise entry in words."""
    points = f"{100 * one['difference']:+.2f} points ({100 * one['low']:+.2f} to {100 * one['high']:+.2f})"
    p = f"p = {one['p']:.2g}" if one["p"] > 1e-16 else "p < 1e-16"
    return f"{points}, McNemar {p}: " + ("more than chance" if one["p"] < 0.05 else "could be chance")


def text(told):
    """Plain lines for a terminal."""
    width = max(14, *(len(name) for name in told["names"]))
    folded = ", disgust counted as angry" if told["folded"] else ""
    lines = [f"{told['split']} of {told['dataset']}, {told['n']:,} images{folded}", *[told["note"]] * bool(told["note"]), "",
             f"  {'accuracy':<{width}}"]
    for name, scores in zip(told["names"], told["scores"], strict=True):
        lines.append(f"  {name:<{width}} {100 * scores['accuracy']:6.2f} %  ({100 * scores['accuracy_low']:.2f} to "
                     f"{100 * scores['accuracy_high']:.2f})   F1 macro {scores['f1_macro']:.3f}")
    for name, one, rows in zip(told["names"][1:], told["noise"], told["disagree"], strict=True):
        lines += ["", f"{name} against {told['names'][0]}: {verdict(one)}",
                  f"  only {told['names'][0]} is right on {one['only_first']:,}, only {name} on {one['only_second']:,}; "
                  f"they disagree on {len(rows):,}, first {', '.join(rows.index[:3])}"]
    lines += ["", f"  {'F1 by class':<24}" + "".join(f"{name[:16]:>18}" for name in told["names"])]
    lines += [f"  {label:<24}" + "".join(f"{scores['per_class'][label]['f1']:>18.3f}" for scores in told["scores"])
              for label in told["classes"]]
    lines += ["", f"  {'set differently':<24}" + "".join(f"{name[:16]:>18}" for name in told["names"])]
    lines += [f"  {key:<24}" + "".join(f"{str(value):>18}" for value in values) for key, values in told["differing"]]
    return "\n".join(lines if told["differing"] else [*lines, "  nothing"])


def page(told, found, faces=None):
    """The comparison as one self-contained HTML page. faces: {id: uint8 (48, 48)} of the images to show, where at hand."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _matrices(folder / "confusion.png", told)
        _bars(folder / "f1.png", told)
        _curves(folder / "curves.png", found)
        pictures = {file.stem: file.read_bytes() for file in sorted(folder.glob("*.png"))}
    shown = [[{"id": row.Index, "label": row.label, "first": row.first, "second": row.second,
               "png": report.png(faces[row.Index]) if faces and row.Index in faces else None}
              for row in rows.head(24).itertuples()] for rows in told["disagree"]]
    return report.template("compare.html").render(told=told, pictures=pictures, shown=shown, verdict=verdict) + "\n"


def write(names, out=Path("reports/compare.html"), report_to=print):
    """Compare by name: prints the text, writes the page, and adds it to the MLflow runs of those that have one."""
    if len(names) < 2:
        raise files.UserError("name at least two results; `python -m ferlab compare bench silva_2025`")
    found = [find(name) for name in names]
    told = compare(found)
    wanted = {id for rows in told["disagree"] for id in rows.index[:24]}
    files.write_text(out, page(told, found, pixels(found[0].details["digest"], wanted)))
    report_to(text(told))
    report_to(f"\nwrote {out}")
    try:
        from ferlab import tracking

        tracking.log_page(names, out)
    except Exception as error:  # noqa: BLE001 - best effort: the page is on disk
        report_to(f"warning: not added to MLflow ({type(error).__name__})")


def pixels(digest, wanted):
    """{id: face} of the images with these ids, or rows of fer2013.csv as texts, from a dataset of this digest that lies in
    data/raw or recipes/runs/raw, or is $FER2013."""
    from ferlab.dataset import Dataset

    for folder in (Path("data/raw"), params.RECIPES / "runs/raw"):
        try:
            if files.read_json(folder / "dataset.json")["digest"] == digest:
                data = Dataset.load(folder)
                return _chosen(data, wanted)
        except (FileNotFoundError, KeyError, files.UserError):
            continue
    return _given(digest, wanted)


def _given(digest, wanted):
    """The same from $FER2013, where it is that dataset."""
    from ferlab import sources

    if not os.environ.get("FER2013") or sources.NAMES.get(digest) != "fer2013":
        return {}
    try:
        data, _ = sources.read("fer2013")
    except files.UserError:  # the faces are an extra: no comparison fails for them
        return {}
    return _chosen(data, wanted)


def _chosen(data, wanted):
    for names in (data.table["id"], data.table["official"].astype(str)):
        rows = np.flatnonzero(names.isin(wanted))
        if len(rows):
            return dict(zip(names.iloc[rows], data.faces[rows], strict=True))
    return {}


def _matrices(path, told):
    """A confusion matrix per result, in percent of the class, and the first difference beside them."""
    names, classes = told["names"], [name[:9] for name in told["classes"]]
    matrices = [np.asarray(one["confusion"]) for one in told["scores"]]
    shares = [matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1) for matrix in matrices]
    panels = [(name, share, 0, "Blues") for name, share in zip(names, shares, strict=True)]
    panels += [(f"{name} minus {names[0]}", share - shares[0], 1, "RdBu")
               for name, share in zip(names[1:], shares[1:], strict=True)]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with figure(path, 4.4 * columns, 4.2 * rows, rows=rows, columns=columns, squeeze=False) as (_, axes):
        for axis, (title, values, signed, colours) in zip(axes.flat, panels, strict=False):
            limit = max(np.abs(values).max(), 0.05) if signed else 1
            axis.imshow(values, cmap=colours, vmin=-limit if signed else 0, vmax=limit)
            for (y, x), value in np.ndenumerate(values):
                words = f"{100 * value:+.0f}" if signed else f"{100 * value:.0f}"
                axis.text(x, y, words, ha="center", va="center", fontsize=8,
                          color="white" if abs(value) > 0.65 * limit else INK)
            axis.set_xticks(range(len(classes)), classes, rotation=40, ha="right")
            axis.set_yticks(range(len(classes)), classes)
            axis.grid(visible=False)
            axis.set_title(title[:44])
        for axis in axes.flat[len(panels):]:
            axis.axis("off")


def _bars(path, told):
    places = np.arange(len(told["classes"]))
    height = 0.8 / len(told["names"])
    with figure(path, 5.6, 1.4 + 0.3 * len(places) * len(told["names"])) as (_, axes):
        for turn, (name, scores) in enumerate(zip(told["names"], told["scores"], strict=True)):
            axes.barh(places + (turn - (len(told["names"]) - 1) / 2) * height,
                      [scores["per_class"][label]["f1"] for label in told["classes"]], height * 0.92, label=name[:40],
                      color=LINES[turn % len(LINES)])
        axes.set_yticks(places, told["classes"])
        axes.invert_yaxis()
        axes.set(title="F1 by class", xlim=(0, 1))
        axes.grid(visible=False, axis="y")
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=2)


def _curves(path, found):
    """Accuracy on the selection split against epochs, and against seconds where these were noted."""
    with figure(path, 5.6, 5.2, rows=2) as (_, (epochs, seconds)):
        timed = False
        for turn, one in enumerate(found):
            if one.history is None:
                continue
            line = {"color": LINES[turn % len(LINES)], "label": one.name[:40], "marker": "."}
            epochs.plot(one.history["epoch"], one.history["selection_accuracy"], **line)
            if len(one.seconds) == len(one.history):
                seconds.plot(np.cumsum(one.seconds), one.history["selection_accuracy"], **line)
                timed = True
        epochs.set(title="Accuracy on the selection split", xlabel="epoch")
        seconds.set(xlabel="seconds of training")
        if not timed:
            seconds.text(0.5, 0.5, "no seconds were noted", transform=seconds.transAxes, ha="center", color=ACCENT)
        if any(one.history is not None for one in found):
            epochs.legend(frameon=False, loc="lower right")
