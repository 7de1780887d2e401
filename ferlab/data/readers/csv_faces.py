"""FER2013's CSV: a label, 48x48 gray values in one cell and the split, in any order of the columns.

The file is read as a stream. Lines of the plain shape that all published copies have are parsed by
NumPy, many at once and in two threads; any other line goes through the csv module, and so does the
whole file where a line alone cannot say what it means (quoted cells that hold line breaks, for
example). All three give the same rows and the same errors.
"""

import csv
import io
import re
from codecs import BOM_UTF8
from contextlib import contextmanager

import numpy as np
from tqdm import tqdm

from ferlab.data.dataset import SIZE
from ferlab.data.readers.archives import in_threads, refuse_stand_in
from ferlab.files import UserError

CSV_CODES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SPLIT_OF = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
    "public": "public",
    "publictest": "public",
    "private": "private",
    "privatetest": "private",
}
OFFICIAL = {"Training": "train", "PublicTest": "public", "PrivateTest": "private"}
PREFIX_OF = {
    **{split: prefix for prefix, split in OFFICIAL.items()},
    "validation": "Validation",
    "test": "Test",
}
PIXELS = SIZE * SIZE
BLOCK = 1 << 19  # bytes parsed at once: what NumPy makes of them stays in a core's cache
MAX_KEPT = 31 << 20  # bytes, just under the largest piece that glibc learns from
MAX_LINE = 1 << 20  # bytes of a line; no cell of more than 128 KiB is read anyway
MAX_PLAIN_LINE = 1 << 15  # bytes of a plain line


class NotPlain(Exception):
    """The lines cannot be told apart without reading all cells before."""


def columns_of(head):
    """Header names in lower case, without the spaces that icml_face_data.csv puts there."""
    line = (head[:4096].decode("utf-8-sig", "replace").splitlines() or [""])[0]
    return [name.strip(' "').lower() for name in line.split(",")]


def read_csv(reopen, place):
    """Faces uint8 (N, 48, 48) and parallel lists of ids, labels, splits and line names ("line 2").

    `reopen` gives the file, binary and at its start, each time it is called. Raises UserError for
    the first line that is no row of a label, 2304 pixels and a split.
    """
    with reopen() as file:
        head = file.read(4096)
    refuse_stand_in(head[:512], place)
    columns = columns_of(head)
    at = places_of(columns, place)
    try:
        with reopen() as file, read_to_its_end(file):
            parts = list(read_plain(file, columns, at, place))
    except NotPlain:
        with reopen() as file, read_to_its_end(file):
            parts = [read_strict(file, columns, at, place)]
    faces = np.concatenate([np.empty((0, PIXELS), np.uint8), *(part[0] for part in parts)])
    ids, labels, splits, numbers = (
        [value for part in parts for value in part[column]] for column in range(1, 5)
    )
    if at["id"] is None:
        width = max(5, len(str(len(ids))))  # ids sort as text
        ids = [f"{PREFIX_OF[split]}_{number:0{width}}" for number, split in enumerate(splits)]
    names = [f"line {number}" for number in numbers]
    return faces.reshape(-1, SIZE, SIZE), ids, labels, splits, names


@contextmanager
def read_to_its_end(file):
    """On a UserError read the rest: where the archive is damaged, that is the error."""
    try:
        yield
    except UserError:
        while file.read(BLOCK):
            pass
        raise


def places_of(columns, place):
    """{name: index of the column, None where an optional one is missing} of what is read.

    "others" lists the indices of the id and of all that are not read.
    """
    for name in ("emotion", "pixels"):
        if name not in columns:
            found = ", ".join(columns)[:60]
            raise UserError(
                f"{place}, line 1: no column {name!r} (found: {found!a}); "
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


def read_strict(file, columns, at, place):
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
    """(pixels uint8 (2304,), id, label, split) of a row's cells; `line` is what errors call it."""
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
    wrong = next(
        (word for word in words if not re.fullmatch(r"\d{1,3}", word, re.ASCII) or int(word) > 255),
        "?",
    )
    raise UserError(f"{line}: pixel {wrong}, expected 0 to 255")


def read_plain(file, columns, at, place):
    """Yield what `read_strict` gives, by blocks; raises NotPlain where only that can read it."""

    def numbered():
        number = 1
        for block in blocks(file):
            if number == 1:
                header, _, block = block.partition(b"\n")
                header = header.removeprefix(BOM_UTF8).removesuffix(b"\r")
                if any(unquoted(cell) is None for cell in header.split(b",")):
                    raise NotPlain
                number = 2
            yield block, number, columns, at, place
            number += block.count(b"\n")

    # glibc hands freed memory back to the system at once until a large piece was freed; without
    # this line half of the time goes into getting the same pages again for each block
    np.empty(MAX_KEPT, np.uint8)
    with tqdm(desc="reading rows", disable=None, leave=False) as progress:
        for part in in_threads(parse_block, numbered()):
            progress.update(len(part[0]))
            yield part


def blocks(file):
    """Yield the content in pieces of about BLOCK bytes of whole lines; the last gets its end."""
    rest = b""
    while piece := file.read(BLOCK):
        end = piece.rfind(b"\n") + 1
        if end:
            yield rest + piece[:end]
            rest = piece[end:]
        elif len(rest := rest + piece) > MAX_LINE:
            raise NotPlain
    if rest:
        yield rest + b"\n"


def unquoted(cell):
    """A cell's bytes without quotes around; None where what is in it needs the csv module."""
    if cell[:1] == b'"' == cell[-1:] and len(cell) > 1:
        cell = cell[1:-1]
    return None if b'"' in cell or b"\r" in cell else cell


def parse_block(block, number, columns, at, place):
    """What `read_strict` gives, of whole lines the first of which is line `number`."""
    starts, ends, edges, plain, pixels = plain_lines(block, len(columns), at["pixels"])
    faces, rows, known, blank = np.empty((len(starts), PIXELS), np.uint8), [], {}, []
    faces[plain] = pixels
    for i, (is_plain, cells) in enumerate(zip(plain.tolist(), edges.tolist(), strict=True)):
        row = other_cells(block, cells, at, known) if is_plain else None
        if row is None:
            line = block[starts[i] : ends[i]]
            if not line:
                blank.append(i)
                continue
            faces[i], *row = parse_line(line, columns, at, f"{place}, line {number + i}")
        rows.append((*row, number + i))
    ids, labels, splits, numbers = map(list, zip(*rows, strict=True)) if rows else ([], [], [], [])
    return np.delete(faces, blank, axis=0) if blank else faces, ids, labels, splits, numbers


def plain_lines(block, columns, column):
    """Where the lines and cells of a block are, and the pixels of the plain lines.

    Returns the lines' starts and ends (without \\n or \\r\\n), int (n,); the places of the
    separators around each line's cells, int (n, columns + 1), right only in plain lines; which
    lines are plain, bool (n,); and the pixels of these, uint8 (plain.sum(), 2304). Plain is a line
    of `columns` cells with, in the cell `column`, quoted or not, 2304 numbers of one to three
    digits, up to 255, with one blank between them.
    """
    content = np.frombuffer(block, np.uint8)
    digits = content - np.uint8(ord("0"))
    is_digit = (digits < 10).view(np.uint8)
    marks = np.flatnonzero(is_digit == 0)  # places of all that is no digit
    kinds = content[marks]
    lines = np.flatnonzero(kinds == ord("\n"))  # here and below: places in `marks`
    befores = np.append(-1, lines)[:-1]
    returns = (lines > befores + 1) & (kinds[lines - 1] == ord("\r"))
    returns &= marks[lines - 1] == marks[lines] - 1
    lasts = lines - returns
    place = np.append(marks, -1)  # place[-1]: before the first line
    starts, ends = place[befores] + 1, marks[lasts]

    commas = np.flatnonzero(kinds == ord(","))
    first = commas.searchsorted(befores, "right")
    plain = commas.searchsorted(lines) - first == columns - 1
    plain &= ends - starts < MAX_PLAIN_LINE
    edges = np.zeros((len(lines), columns + 1), np.intp)
    edges[:, 0], edges[:, -1] = befores, lasts
    if columns > 1:
        edges[plain, 1:-1] = commas[first[plain, None] + np.arange(columns - 1)]

    left, right = edges[:, column], edges[:, column + 1]
    quote = ord('"')
    quoted = plain & (right - left > 2)
    inner, outer = np.where(quoted, left + 1, 0), np.where(quoted, right - 1, 0)
    quoted &= (kinds[inner] == quote) & (marks[inner] == place[left] + 1)
    quoted &= (kinds[outer] == quote) & (marks[outer] == marks[right] - 1)
    left, right = left + quoted, right - quoted
    others = np.flatnonzero(kinds != ord(" "))
    plain &= right - left == PIXELS
    plain &= others.searchsorted(left, "right") == others.searchsorted(right)  # blanks alone

    around = place[left[plain, None] + np.arange(PIXELS + 1)]
    width = np.diff(around)
    good = (width.min(1, initial=9) > 1) & (width.max(1, initial=0) < 5)
    pixels = values_ending(around[:, 1:] - 1, digits, is_digit)
    good &= pixels.max(1, initial=0) < 256
    plain[plain] = good
    return starts, ends, place[edges], plain, pixels[good].astype(np.uint8)


def values_ending(places, digits, is_digit):
    """uint16, of the shape of `places`: the value of the up to three digits that end there.

    digits: uint8 (n,), the bytes less "0". is_digit: uint8 (n,), 1 where that is below 10.
    """
    digits = digits * is_digit
    hundreds = np.zeros_like(digits)
    np.multiply(digits[:-2], is_digit[1:-1], out=hundreds[2:])
    digits[1:] += digits[:-1] * np.uint8(10)
    values = hundreds.take(places).astype(np.uint16)
    values *= 100
    values += digits.take(places)
    return values


def other_cells(block, edges, at, known):
    """(id, label, split) of a plain line, or None where it needs another look.

    edges: the places of the separators around its cells. known: what was made of such cells before.
    """

    def cell(i):
        return block[edges[i] + 1 : edges[i + 1]]

    key = cell(at["emotion"]), cell(at["usage"]) if at["usage"] is not None else b"Training"
    if key not in known:
        label, usage = (text_of(cell) for cell in key)
        split = SPLIT_OF.get(usage.lower())
        known[key] = (CSV_CODES[int(label)], split) if label in set("0123456") and split else None
    if not known[key] or any(unquoted(cell(i)) is None for i in at["others"]):
        return None
    return text_of(cell(at["id"])) if at["id"] is not None else None, *known[key]


def text_of(cell):
    return (unquoted(cell) or b"").decode("utf-8", "replace").strip()


def parse_line(line, columns, at, shown):
    """(pixels, id, label, split) of one line alone, by the csv module."""
    if b'"' in line or b"\r" in line:
        raise NotPlain  # a quoted cell may go on in the next line; a lone \r ends a line
    try:
        return parse_row(next(csv.reader([line.decode("utf-8", "replace")])), columns, at, shown)
    except csv.Error as error:
        raise UserError(f"{shown}: {error}") from None
