"""FER2013's CSV row by row, by the csv module: any CSV, and the error of any that is wrong.

A row is a label (0 to 6), 48x48 gray values in one cell, and the split; the columns stand in any
order. `ferlab.data.readers.csv_faces` reads what is plain much faster, and comes here with the
rest.
"""

import csv
import io
import re

import numpy as np
from tqdm import tqdm

from ferlab.data.dataset import SIZE
from ferlab.data.readers.spellings import CSV_CODES, SPLIT_OF
from ferlab.files import UserError

PIXELS = SIZE * SIZE
MAX_LINE = 1 << 20  # bytes of a line; no cell of more than 128 KiB is read anyway


def columns_of(head):
    """Header names in lower case, without the spaces that icml_face_data.csv puts there."""
    line = (head[:4096].decode("utf-8-sig", "replace").splitlines() or [""])[0]
    return [name.strip(' "').lower() for name in line.split(",")]


def choose_csv(kind, files, open_member, place):
    """(name, handle, notes) of the CSV to read: labelled, and with splits if there is such a one.

    kind, files, open_member: as `archives.opened` yields them. notes: what was chosen among
    several.
    """
    candidates = []
    for parts, handle in files:
        with open_member(handle) as file:
            columns = columns_of(file.read(4096))
        if kind == "file" or "pixels" in columns or parts[-1].lower().endswith(".csv"):
            rank = [name in columns for name in ("emotion", "pixels", "usage")]
            candidates.append((rank, "/".join(parts), handle))
    if not candidates:
        raise UserError(f"{place}: holds neither class folders (train/angry/...) nor a CSV")
    best = [item for item in candidates if item[0] == max(rank for rank, *_ in candidates)]
    if len(best) > 1:
        names = ", ".join(sorted(name for _, name, _ in best)[:3])
        raise UserError(f"{place}: holds several CSVs ({names}); give one of them alone")
    _, name, handle = best[0]
    names = ", ".join(sorted(name for _, name, _ in candidates))
    notes = {"notes": f"{name} chosen among {names}"} if len(candidates) > 1 else {}
    return name, handle, notes


def column_indices(columns, place):
    """{name: index of the column, None where an optional one is missing} of what is read.

    "others" lists the indices of the id and of all that are not read.
    """
    for name in ("emotion", "pixels"):
        if name not in columns:
            header = ", ".join(columns)[:60]
            raise UserError(
                f"{place}, line 1: no column {name!r} (found: {header!a}); "
                "expected emotion,pixels,Usage"
            )
        if columns.count(name) > 1:
            times = columns.count(name)
            raise UserError(f"{place}, line 1: the column {name!r} stands there {times} times")
    at = {
        name: columns.index(name) if name in columns else None
        for name in ("emotion", "pixels", "usage", "id")
    }
    read = (at["emotion"], at["pixels"], at["usage"])
    return at | {"others": [i for i in range(len(columns)) if i not in read]}


def read_rows(file, columns, at, place):
    """(faces uint8 (n, 2304), ids, labels, splits, line numbers) of the rows after the header."""
    text = io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="")
    reader = csv.reader(iter(lambda: text.readline(MAX_LINE), ""))
    rows = []
    try:
        next(reader)
        for row in tqdm(reader, "reading rows", disable=None, leave=False):
            if row:
                line = f"{place}, line {reader.line_num}"
                rows.append((*parse_row(row, columns, at, line), reader.line_num))
    except csv.Error as error:
        raise UserError(f"{place}, line {reader.line_num}: {error}") from None
    finally:
        text.detach()
    faces, *rest = map(list, zip(*rows, strict=True)) if rows else ([], [], [], [], [])
    return np.array(faces, np.uint8).reshape(-1, PIXELS), *rest


def parse_row(row, columns, at, line):
    """(pixels uint8 (2304,), id, label, split) of a row's cells; `line` is its name in errors."""
    if len(row) != len(columns):
        expected = f"{len(columns)} ({','.join(columns)})"
        raise UserError(f"{line}: {len(row)} values, expected {expected}")
    label = row[at["emotion"]].strip()
    usage = row[at["usage"]].strip() if at["usage"] is not None else "Training"
    if label not in set("0123456"):
        raise UserError(f"{line}: label {label}, expected 0 to 6")
    split = SPLIT_OF.get(usage.lower())
    if not split:
        known = "Training, PublicTest, PrivateTest, Validation"
        raise UserError(f"{line}: unknown Usage {usage!r}; known: {known}")
    name = row[at["id"]].strip() if at["id"] is not None else None
    return parse_pixels(row[at["pixels"]], line), name, CSV_CODES[int(label)], split


def parse_pixels(text, line):
    """uint8 (2304,): the gray values of one cell, separated by blanks."""
    try:
        values = np.fromstring(text, np.int64, sep=" ")
        if len(values) == PIXELS and not (values & ~255).any():
            return values.astype(np.uint8)
    except (ValueError, DeprecationWarning):
        pass
    words = text.split()
    if len(words) != PIXELS:
        raise UserError(f"{line}: {len(words)} pixels, expected {PIXELS}")
    wrong = next((word for word in words if not _is_gray_level(word)), "?")
    raise UserError(f"{line}: pixel {wrong}, expected 0 to 255")


def _is_gray_level(word):
    return bool(re.fullmatch(r"\d{1,3}", word, re.ASCII)) and int(word) <= 255
