"""`make show`: the results that DVC knows here, a line each: accuracies, and what was changed.

DVC's own table has a column for each of 14 metrics, 40 parameters and 60 files; this one fits into
a terminal.
"""

import shutil
from pathlib import Path

from ferlab import files, params

SCORES = {  # heading: metrics, the first that is there
    "private": ("private_accuracy", "test_accuracy"),
    "public": ("public_accuracy",),
    "macro F1": ("private_f1_macro", "test_f1_macro"),
    "disgust": ("disgust_recall",),
}
FIRST = (
    "no experiment yet; try one:\n  source .venv/bin/activate && dvc exp run -S train.rotation=0"
)
NEXT = "next: python -m ferlab compare <two names>    back to one: dvc exp apply <name>"


def text(width=None):
    """The table, what its rows are, and what to do next.

    width: of the terminal, in characters. Raises UserError where DVC cannot tell.
    """
    from dvc.api import exp_show
    from dvc.exceptions import DvcException

    try:
        rows = [_plain(row) for row in exp_show()]
    except DvcException as error:
        raise files.UserError(f"dvc exp show: {files.one_line(error)}") from None
    width = width or shutil.get_terminal_size((120, 20)).columns
    named, pinned = _named(rows)
    lines = _table(named, pinned, width)
    if not Path("reports/details.json").exists():
        lines += ["", "nothing was run here yet: make repro"]
    about = "workspace: what lies here now"
    if pinned:
        about = f"pinned: the result in the last commit (`{pinned['rev']}` for DVC); {about}"
    experiments = len(named) - 1 - bool(pinned)
    return "\n".join([*lines, "", about, NEXT if experiments else FIRST])


def _named(rows):
    """({name: row} of what is shown, the row of the last commit or None)."""
    named, pinned = {}, None
    for row in rows:
        if row["rev"] == "workspace":
            named["workspace"] = row
        elif not row["Experiment"] and pinned is None:
            named["pinned"] = pinned = row
        else:
            named[row["Experiment"] or row["rev"]] = row
    return named, pinned


def _plain(row):
    """A row of exp_show, whose numbers are floats and whose missing values are the text None."""

    def plain(value):
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return None if value in ("None", "", "-") else value

    return {key: plain(value) for key, value in row.items()}


def _table(named, pinned, width):
    """The lines of the table, none longer than `width`."""
    cells = [["", *SCORES, "changed"]]
    for name, row in named.items():
        found = [
            next((row[key] for key in keys if row.get(key) is not None), None)
            for keys in SCORES.values()
        ]
        scores = [f"{100 * value:.1f} %" if value is not None else "-" for value in found]
        state = "" if row["State"] in (None, "Success") else f"{str(row['State']).lower()} "
        cells.append([name, *scores, state + _changed(row, pinned)])
    empty = [i for i in range(1, len(SCORES) + 1) if all(row[i] == "-" for row in cells[1:])]
    cells = [[cell for i, cell in enumerate(row) if i not in empty] for row in cells]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for name, *scores, changed in cells:
        columns = [f"{score:>{n}}" for score, n in zip(scores, widths[1:-1], strict=True)]
        lines.append("  ".join([f"{name:<{widths[0]}}", *columns, changed]).rstrip())
    return [line if len(line) <= width else f"{line[: width - 4]} ..." for line in lines]


def _changed(row, pinned):
    """What a result's parameters are that the pinned one has otherwise: `epochs=30 rotation=0`."""
    if pinned is None or row is pinned:
        return ""
    keys = [
        key
        for key in {**pinned, **row}
        if key.partition(".")[0] in params.SECTIONS and row.get(key) != pinned.get(key)
    ]
    if keys:
        return " ".join(f"{key.partition('.')[2]}={row.get(key)}" for key in keys)
    metrics = [key for keys in SCORES.values() for key in keys]
    same = all(row.get(key) == pinned.get(key) for key in metrics)
    return "as pinned" if same else "the same parameters"
