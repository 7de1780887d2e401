"""The expressions of a clip's faces over time, as a picture."""

import numpy as np
import pandas as pd

from ferlab import files
from ferlab.serving.clips.tracks import forgotten

FACES = 4  # that were seen longest, one above the other


def write(path, times, numbers, probabilities, classes):
    """Draw PNG `path`: a panel for each face, a line for each class.

    times, numbers: seconds and the face's number of each row of probabilities (n, C). Returns
    False, and draws nothing, without a face, or where the packages for it are not installed.
    """
    if not len(times):
        return False
    try:
        from ferlab.reporting.figures.style import PALETTE, figure, short
    except ModuleNotFoundError:
        return False  # the light way (requirements-predict.txt)

    table = pd.DataFrame(np.asarray(probabilities), columns=list(classes))
    table.insert(0, "seconds", times)
    seen = pd.Series(numbers).value_counts(sort=False).sort_values(ascending=False, kind="stable")
    shown = sorted(seen.index[:FACES])
    looks = np.diff(np.unique(times))
    gap = forgotten(np.median(looks) if len(looks) else 0)
    with files.replacing(path) as part:
        with figure(
            part.with_name(f"{part.name}.png"),
            height=0.9 + 1.9 * len(shown),
            rows=len(shown),
            sharex=True,
            squeeze=False,
        ) as (drawn, axes):
            for panel, number in zip(axes[:, 0], shown, strict=True):
                rows = _with_gaps(table[np.asarray(numbers) == number], gap)
                for name in classes:
                    panel.plot(
                        rows["seconds"],
                        100 * rows[name],
                        label=short(name),
                        color=PALETTE.get(name),
                    )
                panel.set(ylim=(0, 100), ylabel="probability, %", title=f"face {number}")
            axes[-1, 0].set_xlabel("seconds")
            handles, labels = axes[0, 0].get_legend_handles_labels()
            drawn.legend(handles, labels, loc="outside right upper", frameon=False)
        part.with_name(f"{part.name}.png").rename(part)
    return True


def _with_gaps(rows, gap):
    """The rows with an empty one, which ends lines, where the face was gone for `gap` seconds."""
    rows = rows.reset_index(drop=True)
    rows.index = rows.index * 2
    gone = rows.index[1:][np.diff(rows["seconds"]) > gap] - 1
    return pd.concat([rows, pd.DataFrame(np.nan, gone, rows.columns)]).sort_index()
