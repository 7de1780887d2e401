"""FER2013's CSV row by row, by the csv module: any CSV, and the error of any that is wrong.

A row is a label (0 to 6, or a name), the gray values of a square face in one cell, and the split;
the columns stand in any order. `ferlab.data.readers.csv_faces` reads what is plain much faster, and
comes here with the rest.
"""

import csv
import io
import itertools
import re
from dataclasses import dataclass
from math import isqrt

import numpy as np
from PIL import Image
from tqdm import tqdm

from ferlab.data.dataset import SIZE
from ferlab.data.readers import images
from ferlab.data.readers.spellings import CLASS_OF, CSV_CODES, SPLIT_OF
from ferlab.files import UserError

CODES = set("0123456")
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz", ".7z", ".rar")
MIN_SIDE = 8  # pixels; what is smaller is a row cut short
MAX_LINE = 4 << 20  # bytes: faces of up to 1024x1024 have room


class NotPlain(Exception):
    """The lines cannot be told apart without reading all cells before."""


@dataclass(frozen=True)
class Layout:
    """How the rows of one CSV are built. columns: names in lower case. at: `column_indices`. side:
    of each face, pixels. place: the CSV's name in errors."""

    columns: list
    at: dict
    side: int
    place: str

    @property
    def pixels(self):
        """Gray values of each face."""
        return self.side * self.side


def columns_of(head):
    """Header names in lower case, without the spaces that icml_face_data.csv puts there."""
    line = (head[:4096].decode("utf-8-sig", "replace").splitlines() or [""])[0]
    return [name.strip(' "').lower() for name in line.split(",")]


def has_faces_in_a_csv(files, open_member):
    """Whether a file named .csv has the column `pixels`; arguments as of `choose_csv`."""
    for parts, handle in files:
        if parts[-1].lower().endswith(".csv"):
            with open_member(handle) as file:
                if "pixels" in columns_of(file.read(4096)):
                    return True
    return False


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
        packed = next(("/".join(p) for p, _ in files if p[-1].lower().endswith(PACKED)), None)
        but = f", but {packed}: unpack it, or give it alone" if packed else ""
        raise UserError(
            f"{place}: holds neither class folders (train/angry/..., or <class>/...) nor a CSV{but}"
        )
    best = [item for item in candidates if item[0] == max(rank for rank, *_ in candidates)]
    if len(best) > 1:
        names = ", ".join(sorted(name for _, name, _ in best)[:3])
        raise UserError(f"{place}: holds several CSVs ({names}); give one of them alone")
    _, name, handle = best[0]
    names = ", ".join(sorted(name for _, name, _ in candidates))
    notes = {"notes": f"{name} chosen among {names}"} if len(candidates) > 1 else {}
    return name, handle, notes


def layout(file, columns, place):
    """The Layout of a CSV at its start: all faces have the size of the first."""
    at = column_indices(columns, place)
    text = io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="")
    side = SIZE
    try:
        rows = rows_of(text, place)
        next(rows)
        cells = next(filter(None, rows))
        values = len(cells[at["pixels"]].split())
        if values >= MIN_SIDE**2 and isqrt(values) ** 2 == values:
            side = isqrt(values)
    except (StopIteration, IndexError, csv.Error):
        pass  # reading the rows says what is wrong
    finally:
        text.detach()
    return Layout(columns, at, side, place)


def rows_of(text, place):
    """The csv module's reader of a text file at its start; the module's own limit of a cell would
    be a face of about 190x190. Raises UserError for a line of more than MAX_LINE."""

    def lines():
        for number in itertools.count(1):
            line = text.readline(MAX_LINE)
            if len(line) == MAX_LINE and line[-1] not in "\r\n":
                raise UserError(f"{place}, line {number}: of more than {MAX_LINE >> 20} MiB")
            if not line:
                return
            yield line

    csv.field_size_limit(MAX_LINE)
    return csv.reader(lines())


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


def read_rows(file, layout):
    """(faces uint8 (n, pixels), ids, labels, splits, line numbers) of the rows after the header."""
    text = io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="")
    reader = rows_of(text, layout.place)
    rows = []
    try:
        next(reader)
        for row in tqdm(reader, "reading rows", disable=None, leave=False):
            if row:
                line = f"{layout.place}, line {reader.line_num}"
                rows.append((*parse_row(row, layout, line), reader.line_num))
    except csv.Error as error:
        raise UserError(f"{layout.place}, line {reader.line_num}: {error}") from None
    finally:
        text.detach()
    faces, *rest = map(list, zip(*rows, strict=True)) if rows else ([], [], [], [], [])
    return np.array(faces, np.uint8).reshape(-1, layout.pixels), *rest


def parse_line(line, layout, shown):
    """(pixels, id, label, split) of the bytes of one line alone; NotPlain where it may be a part of
    a row, or more than one."""
    if b'"' in line or b"\r" in line or len(line) >= MAX_LINE:
        raise NotPlain  # a quoted cell may go on in the next line; a lone \r ends a line
    try:
        row = next(rows_of(io.StringIO(line.decode("utf-8", "replace")), shown))
    except csv.Error as error:
        raise UserError(f"{shown}: {error}") from None
    return parse_row(row, layout, shown)


def parse_row(row, layout, line):
    """(pixels uint8 (n,), id, label, split) of a row's cells; `line` is its name in errors."""
    columns, at = layout.columns, layout.at
    if len(row) != len(columns):
        expected = f"{len(columns)} ({','.join(columns)})"
        raise UserError(f"{line}: {len(row)} values, expected {expected}")
    word = row[at["emotion"]].strip()
    usage = row[at["usage"]].strip() if at["usage"] is not None else "Training"
    label = label_of(word)
    if not label:
        raise UserError(f"{line}: label {word}, expected 0 to 6 or a name such as {CSV_CODES[3]}")
    split = SPLIT_OF.get(usage.lower())
    if not split:
        known = "Training, PublicTest, PrivateTest, Validation"
        raise UserError(f"{line}: unknown Usage {usage!r}; known: {known}")
    name = row[at["id"]].strip() if at["id"] is not None else None
    return parse_pixels(row[at["pixels"]], layout.pixels, line), name, label, split


def label_of(word):
    """The class that a cell names, by FER2013's code or by a spelling; None where it names none."""
    return CSV_CODES[int(word)] if word in CODES else CLASS_OF.get(word.lower())


def parse_pixels(text, expected, line):
    """uint8 (expected,): the gray values of one cell, separated by blanks."""
    try:
        values = np.fromstring(text, np.int64, sep=" ")
        if len(values) == expected and not (values & ~255).any():
            return values.astype(np.uint8)
    except (ValueError, DeprecationWarning):
        pass
    words = text.split()
    if len(words) != expected:
        raise UserError(f"{line}: {len(words)} pixels, expected {expected}")
    wrong = next((word for word in words if not _is_gray_level(word)), "?")
    raise UserError(f"{line}: pixel {wrong}, expected 0 to 255")


def resized(faces, side):
    """uint8 (N, 48, 48) of faces uint8 (N, side * side), as a picture of that size would be."""
    faces = faces.reshape(-1, side, side)
    if side == SIZE:
        return faces
    small = [images.face(Image.fromarray(face)) for face in faces]
    return np.array(small, np.uint8).reshape(-1, SIZE, SIZE)


def _is_gray_level(word):
    return bool(re.fullmatch(r"\d{1,3}", word, re.ASCII)) and int(word) <= 255
