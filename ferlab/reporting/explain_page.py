"""The page of the stage `explain`, and the model card."""

from ferlab.evaluation import tables
from ferlab.reporting import pages
from ferlab.reporting.figures import attention_figures


def render(about, tables, shown, trust, issues, layers):
    """The page as text.

    about: dict of dataset, network, split, images, accuracy, calibration and report (whether
    report.html lies one folder up). tables: {"errors": rows, "label_issues": {split: images}}.
    shown: {"right": cells, "wrong": cells}, cells of `looks`. trust: {name: table of
    calibration.reliability}. issues: (rows with label, predicted, share; their faces). layers:
    (face, {name: activations (height, width, channels)}, how many channels to show).
    """
    face, maps, limit = layers
    never = {
        name: [row["class"] for row in tables["errors"] if row["class"] not in cells]
        for name, cells in ((name, {cell["label"] for cell in shown[name]}) for name in shown)
    }
    html = pages.template("explain.html").render(
        about=about,
        tables=tables,
        shown=shown,
        never=never,
        reliability=_reliability(trust),
        issues=[
            row | {"png": pages.png(pixels)}
            for row, pixels in zip(issues[0].to_dict("records"), issues[1], strict=True)
        ],
        face=pages.png(face),
        layers=[_layer(name, values, limit) for name, values in maps.items()],
    )
    return html + "\n"


def looks(rows, faces, heat, lost):
    """One cell per row: label, predicted, share, the face as it is, and with what was seen in it.

    rows: of ferlab.evaluation.mistakes.examples. faces: theirs, uint8 (n, 48, 48). heat, lost: as
    attention_figures takes them, (n, 48, 48).
    """
    cells = []
    for place, row in enumerate(rows.to_dict("records")):
        pictures = (
            faces[place],
            attention_figures.evidence(faces[place], heat[place]),
            attention_figures.hidden(faces[place], lost[place]),
        )
        cells.append({
            "label": row["label"],
            "predicted": row["predicted"],
            "share": row["share"],
            "points": 100 * max(lost[place].max(), 0),
            "pngs": [pages.png(picture) for picture in pictures],
        })  # fmt: skip
    return cells


def _layer(name, values, limit):
    shown = [pages.png(attention_figures.channel(values[..., c])) for c in range(values.shape[2])]
    return {
        "name": name,
        "shape": " × ".join(map(str, values.shape)),
        "channels": values.shape[2],
        "pngs": shown[:limit],
    }


def _reliability(diagrams):
    """The chart of how often it is right against how sure it is, and the images behind it."""
    first = next(iter(diagrams.values()))
    series = [("perfectly calibrated", "var(--soft)", "dashed", (0, 1), (0, 1))]
    for (name, table), ink in zip(diagrams.items(), ("var(--blue)", "var(--red)"), strict=False):
        series.append((name, ink, "dots", table["confidence"], table["accuracy"]))
    share = first["images"] / first["images"].sum()
    names = [f"{100 * low:.0f}–{100 * low + 10:.0f} %" for low in first["low"]]
    counts = (f"{images:,}" for images in first["images"])
    bars = [
        (name, [(value, words)]) for name, value, words in zip(names, share, counts, strict=True)
    ]
    chart = pages.lines(
        series, "how sure it is (across), how often right (up)", (0, 1), (0, 1), "xy"
    )
    return {"chart": chart, "bars": bars, "most": share.max()}


def card(details, settings, calibration):
    """The model card (Mitchell et al. 2018, arXiv:1810.03993) as Markdown.

    details: the content of details.json. settings: the parameters. calibration: the content of
    calibration.json.
    """
    split = tables.final(details["splits"])
    text = pages.template("model_card.md").render(
        details=details,
        settings=settings,
        calibration=calibration,
        split=split,
        scores=details["splits"][split],
        views=pages.views(settings.evaluate.model_dump()),
    )
    return text + "\n"
