"""The faces of FER2013's CSV, read as a stream.

Lines of the plain shape that all published copies have are parsed by NumPy, many at once and in two
threads; any other line goes through the csv module, and so does the whole file where a line alone
cannot say what it means (quoted cells that hold line breaks, for example). All three give the same
rows and the same errors.
"""

from codecs import BOM_UTF8
from contextlib import contextmanager

import numpy as np
from tqdm import tqdm

from ferlab.data.dataset import SIZE
from ferlab.data.readers import csv_rows
from ferlab.data.readers.archives import refuse_stand_in
from ferlab.data.readers.csv_rows import MAX_LINE, NotPlain, columns_of
from ferlab.data.readers.spellings import PREFIX_OF, SPLIT_OF
from ferlab.data.threads import in_threads
from ferlab.files import UserError

BLOCK = 1 << 19  # bytes parsed at once: what NumPy makes of them stays in a core's cache
MAX_KEPT = 31 << 20  # bytes, just under the largest piece that glibc learns from
MAX_PLAIN_LINE = 1 << 19  # bytes of a plain line: a face of 360x360


def read_csv(reopen, place):
    """((faces, ids, labels, splits, line names ("line 2")), notes), as `class_folders.read` gives.

    faces: uint8 (N, 48, 48), whatever square they are in the file. `reopen` gives the file, binary
    and at its start, each time it is called. Raises UserError for the first line that is not a row
    of a label, as many pixels as the first has, and a split.
    """
    with reopen() as file:
        head = file.read(4096)
    refuse_stand_in(head[:512], place)
    with reopen() as file:
        layout = csv_rows.layout(file, columns_of(head), place)
    try:
        with reopen() as file, _read_to_its_end(file):
            parts = [_small(part, layout) for part in read_plain(file, layout)]
    except NotPlain:
        with reopen() as file, _read_to_its_end(file):
            parts = [_small(csv_rows.read_rows(file, layout), layout)]
    faces = np.concatenate([np.empty((0, SIZE, SIZE), np.uint8), *(part[0] for part in parts)])
    ids, labels, splits, numbers = (
        [value for part in parts for value in part[column]] for column in range(1, 5)
    )
    if layout.at["id"] is None:
        width = max(5, len(str(len(ids))))  # ids sort as text
        ids = [f"{PREFIX_OF[split]}_{number:0{width}}" for number, split in enumerate(splits)]
    names = [f"line {number}" for number in numbers]
    notes = {
        "resized": set(range(len(ids))) if layout.side != SIZE else set(),
        "sizes": {f"{layout.side}x{layout.side}": len(ids)},
    }
    return (faces, ids, labels, splits, names), notes


def _small(part, layout):
    """What reading rows gives, with its faces as uint8 (n, 48, 48)."""
    return csv_rows.resized(part[0], layout.side), *part[1:]


@contextmanager
def _read_to_its_end(file):
    """On a UserError read the rest: where the archive is damaged, that is the error."""
    try:
        yield
    except UserError:
        while file.read(BLOCK):
            pass
        raise


def read_plain(file, layout):
    """Yield what `csv_rows.read_rows` gives, by blocks; NotPlain where only that can read the
    file."""

    def numbered():
        number = 1
        for block in _blocks(file):
            if number == 1:
                header, _, block = block.partition(b"\n")
                header = header.removeprefix(BOM_UTF8).removesuffix(b"\r")
                if any(_unquoted(cell) is None for cell in header.split(b",")):
                    raise NotPlain
                number = 2
            yield block, number, layout
            number += block.count(b"\n")

    # glibc hands freed memory back to the system at once until a large piece was freed; without
    # this line half of the time goes into getting the same pages again for each block
    np.empty(MAX_KEPT, np.uint8)
    with tqdm(desc="reading rows", disable=None, leave=False) as progress:
        for part in in_threads(parse_block, numbered()):
            progress.update(len(part[0]))
            yield part


def _blocks(file):
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


def _unquoted(cell):
    """A cell's bytes without quotes around; None where what is in it needs the csv module."""
    if cell[:1] == b'"' == cell[-1:] and len(cell) > 1:
        cell = cell[1:-1]
    return None if b'"' in cell or b"\r" in cell else cell


def parse_block(block, number, layout):
    """What `csv_rows.read_rows` gives, of whole lines the first of which is line `number`."""
    starts, ends, edges, plain, pixels = _plain_lines(block, layout)
    faces, rows, known, blank = np.empty((len(starts), layout.pixels), np.uint8), [], {}, []
    faces[plain] = pixels
    for i, (is_plain, cells) in enumerate(zip(plain.tolist(), edges.tolist(), strict=True)):
        row = _other_cells(block, cells, layout.at, known) if is_plain else None
        if row is None:
            line = block[starts[i] : ends[i]]
            if not line:
                blank.append(i)
                continue
            faces[i], *row = csv_rows.parse_line(line, layout, f"{layout.place}, line {number + i}")
        rows.append((*row, number + i))
    ids, labels, splits, numbers = map(list, zip(*rows, strict=True)) if rows else ([], [], [], [])
    return np.delete(faces, blank, axis=0) if blank else faces, ids, labels, splits, numbers


def _plain_lines(block, layout):
    """Where the lines and cells of a block are, and the pixels of the plain lines.

    Returns the lines' starts and ends (without \\n or \\r\\n), int (n,); the places of the
    separators around each line's cells, int (n, columns + 1), right only in plain lines; which
    lines are plain, bool (n,); and the pixels of these, uint8 (plain.sum(), pixels). Plain is a
    line of all columns with, in the cell of the pixels, quoted or not, as many numbers as a face
    has, of one to three digits, up to 255, with one blank between them.
    """
    columns, column, count = len(layout.columns), layout.at["pixels"], layout.pixels
    content = np.frombuffer(block, np.uint8)
    digits = content - np.uint8(ord("0"))
    is_digit = (digits < 10).view(np.uint8)
    marks = np.flatnonzero(is_digit == 0)  # places of all that is no digit
    kinds = content[marks]
    place = np.append(marks, -1)  # place[-1]: before the first line
    before, last = _line_marks(marks, kinds)
    starts, ends = place[before] + 1, marks[last]

    edges, plain = _cell_marks(kinds, before, last, columns)
    plain &= ends - starts < MAX_PLAIN_LINE
    left, right = _without_quotes(
        marks, kinds, place, edges[:, column], edges[:, column + 1], plain
    )
    others = np.flatnonzero(kinds != ord(" "))
    plain &= right - left == count
    plain &= others.searchsorted(left, "right") == others.searchsorted(right)  # blanks alone

    around = place[left[plain, None] + np.arange(count + 1)]
    width = np.diff(around)
    good = (width.min(1, initial=9) > 1) & (width.max(1, initial=0) < 5)
    pixels = _values_ending(around[:, 1:] - 1, digits, is_digit)
    good &= pixels.max(1, initial=0) < 256
    plain[plain] = good
    return starts, ends, place[edges], plain, pixels[good].astype(np.uint8)


def _line_marks(marks, kinds):
    """For each line the indices in `marks` of the line end before it (-1) and of its own, (n,)."""
    lines = np.flatnonzero(kinds == ord("\n"))
    before = np.append(-1, lines)[:-1]
    returns = (lines > before + 1) & (kinds[lines - 1] == ord("\r"))
    returns &= marks[lines - 1] == marks[lines] - 1
    return before, lines - returns


def _cell_marks(kinds, before, last, columns):
    """Indices in `marks` of the separators around each line's cells, int (n, columns + 1), and
    which lines have that many cells, bool (n,)."""
    commas = np.flatnonzero(kinds == ord(","))
    first = commas.searchsorted(before, "right")
    complete = commas.searchsorted(last) - first == columns - 1
    edges = np.zeros((len(last), columns + 1), np.intp)
    edges[:, 0], edges[:, -1] = before, last
    if columns > 1:
        edges[complete, 1:-1] = commas[first[complete, None] + np.arange(columns - 1)]
    return edges, complete


def _without_quotes(marks, kinds, place, left, right, plain):
    """The marks `left` and `right` of a cell, moved to its quotes where it has them, int (n,)."""
    quote = ord('"')
    quoted = plain & (right - left > 2)
    inner, outer = np.where(quoted, left + 1, 0), np.where(quoted, right - 1, 0)
    quoted &= (kinds[inner] == quote) & (marks[inner] == place[left] + 1)
    quoted &= (kinds[outer] == quote) & (marks[outer] == marks[right] - 1)
    return left + quoted, right - quoted


def _values_ending(places, digits, is_digit):
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


def _other_cells(block, edges, at, known):
    """(id, label, split) of a plain line, or None where it needs another look.

    edges: the places of the separators around its cells. known: what such cells meant before.
    """

    def cell(i):
        return block[edges[i] + 1 : edges[i + 1]]

    key = cell(at["emotion"]), cell(at["usage"]) if at["usage"] is not None else b"Training"
    if key not in known:
        label, usage = (_text_of(cell) for cell in key)
        split = SPLIT_OF.get(usage.lower())
        label = csv_rows.label_of(label)
        known[key] = (label, split) if label and split else None
    if not known[key] or any(_unquoted(cell(i)) is None for i in at["others"]):
        return None
    return _text_of(cell(at["id"])) if at["id"] is not None else None, *known[key]


def _text_of(cell):
    return (_unquoted(cell) or b"").decode("utf-8", "replace").strip()
