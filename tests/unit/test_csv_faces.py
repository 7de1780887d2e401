"""The quick way through a CSV reads what the csv module reads, and leaves it what is odd."""

import io
import re
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from ferlab.data.readers import csv_faces, csv_rows, sources
from ferlab.files import UserError
from tests.forms import CSV, ICML, QUOTED, WITH_IDS


def rows_of(content, plain, side=48, block=1 << 19):
    """All that `read_plain` or `read_rows` makes of a CSV, or its error's text."""
    columns = csv_rows.columns_of(content)
    with mock.patch.object(csv_faces, "BLOCK", block):
        try:
            at, file = csv_rows.column_indices(columns, "x"), io.BytesIO(content)
            layout = csv_rows.Layout(columns, at, side, "x")
            if not plain:
                parts = [csv_rows.read_rows(file, layout)]
            else:
                parts = list(csv_faces.read_plain(file, layout))
        except UserError as error:
            return str(error)
    return [
        [value for part in parts for value in column(part)]
        for column in (
            lambda part: part[0].tolist(),
            *(lambda part, i=i: part[i] for i in range(1, 5)),
        )
    ]


HEADERS = [
    b"emotion,pixels,Usage",
    b"emotion, Usage, pixels",
    b"pixels,emotion",
    b"id,Usage,emotion,pixels",
    b"pixels,note,usage,emotion",
    b"emotion,pixels,usage,note",
]
CELLS = {
    "emotion": [b"0", b"6", b" 3 ", b'"2"'],
    "usage": [b"Training", b"privatetest ", b'"PublicTest"'],
    "id": [b"a", b"", b"\xc3\xa9", b"\xe2"],
    "note": [b"", b"1 2 3 4", b'"q"'],
    "pixels": [b"0 7 25 255", b'"1 2 3 4"', b"99 100 199 200", b"000 01 1 1"],
}
ODD = [
    *(b"7", b"", b"1 2 3", b"1 2 3 4 5", b"1  2 3 4", b" 1 2 3 4 ", b"1\t2 3 4", b"1 2 3 256"),
    *(b"1 2 3 -4", b"1 2 3 x", b"1 2 3 0004", b"1 2 3 \xb2", b"1.0 2 3 4", b"+1 2 3 4"),
    *(b"1-2 3 4", b"1x2 3 4", b"1.2 3 4", b"1  2 3", b" 1 2 3", b"1 2 3 ", b"1 2 3 1004"),
    *(b"1 2 3 4,", b"Nowhere", b"'1 2 3 4'"),
]
QUOTES = [
    *(b'"1 2 3 4', b'"1 2 3 4 5', b'0 1 2 3 4"', b'1 2 3 4"', b'"1 2 ""3 4"', b'"1 2,3 4"'),
    *(b'1"2 3 4 5"', b'"1 2 3 4"5', b'"1 2\n3 4"', b"\r", b'""', b'"'),
]


@st.composite
def csvs(draw, odd=ODD + QUOTES):
    """Small CSVs of four pixels a row; most rows are as they should be, some have an odd cell."""
    header = draw(st.sampled_from(HEADERS))
    lines = [header]
    names = [name.strip().lower().decode() for name in header.split(b",")]
    for _ in range(draw(st.integers(0, 8))):
        cells = [draw(st.sampled_from(CELLS[name])) for name in names]
        if odd and draw(st.integers(0, 4)) == 0:
            cells[draw(st.integers(0, len(cells) - 1))] = draw(st.sampled_from(odd))
        lines.append(b",".join(cells) if draw(st.integers(0, 9)) else b"")
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    before, after = draw(st.sampled_from([b"", b"\xef\xbb\xbf"])), draw(st.sampled_from([b"", end]))
    return before + end.join(lines) + after


def same_or_left(content, block=1 << 19):
    try:
        assert rows_of(content, True, 2, block) == rows_of(content, False, 2), content
    except csv_faces.NotPlain:
        assert b'"' in content or re.search(rb"\r(?!\n)", content)


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("odd", ODD + QUOTES)
def test_the_quick_way_takes_no_odd_cell_for_a_plain_one(header, odd):
    row = [CELLS[name.strip().lower().decode()][0] for name in header.split(b",")]
    for column in range(len(row)):
        for end in b"\n", b"\r\n":
            other = row[:column] + [odd] + row[column + 1 :]
            same_or_left(end.join([header, b",".join(row), b",".join(other), b",".join(row), b""]))


@examples(max_examples=300, deadline=None, derandomize=True)
@given(content=csvs(), block=st.sampled_from([1, 30, 200, 1 << 19]))
def test_the_quick_way_reads_what_the_strict_one_reads_or_leaves_it(content, block):
    same_or_left(content, block)


@examples(max_examples=100, deadline=None, derandomize=True)
@given(content=csvs(odd=()))
def test_plain_rows_need_no_csv_module(content):
    with mock.patch.multiple(csv_rows, parse_pixels=None, parse_row=None):
        rows = rows_of(content, True, 2)
    assert len(rows[0]) == len([line for line in content.splitlines()[1:] if line])


@pytest.mark.parametrize(
    "content", [CSV, ICML, QUOTED, WITH_IDS], ids=["csv", "icml", "quoted", "ids"]
)
def test_published_shapes_go_the_quick_way(content, monkeypatch):
    expected = rows_of(content, False)
    for name in ("parse_row", "parse_pixels", "read_rows"):
        monkeypatch.setattr(csv_rows, name, None)
    assert rows_of(content, True) == expected and len(expected[0]) == 35


@pytest.mark.parametrize("line", [2, 3, 17, 36])
def test_an_error_in_a_later_block_names_its_line(line, tmp_path, monkeypatch):
    monkeypatch.setattr(csv_faces, "BLOCK", 5000)
    lines = CSV.splitlines()
    lines[line - 1] = lines[line - 1].replace(b",T", b" 1,T").replace(b",P", b" 1,P")
    (tmp_path / "x.csv").write_bytes(b"\n".join(lines))
    with pytest.raises(UserError, match=f"x.csv, line {line}: 2305 pixels, expected 2304"):
        sources.read(str(tmp_path / "x.csv"))


def test_the_first_of_two_errors_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_faces, "BLOCK", 30_000)
    lines = CSV.splitlines()
    lines[20], lines[30] = b"9" + lines[20][1:], b"8" + lines[30][1:]
    (tmp_path / "x.csv").write_bytes(b"\n".join(lines))
    with pytest.raises(UserError, match="line 21: label 9"):
        sources.read(str(tmp_path / "x.csv"))


def test_a_csv_is_read_without_holding_it(tmp_path, monkeypatch):
    """What one call asks of the file is a block, and no more blocks than a few wait."""
    asked, parsed, ahead = [], [], []
    parse = csv_faces.parse_block
    monkeypatch.setattr(csv_faces, "BLOCK", 10_000)
    monkeypatch.setattr(csv_faces, "parse_block", lambda *block: parsed.append(1) or parse(*block))

    class File(io.BytesIO):
        def read(self, size=-1):
            asked.append(size)
            ahead.append(len(asked) - len(parsed))
            return super().read(size)

    assert len(csv_faces.read_csv(lambda: File(CSV), "x")[0][0]) == 35
    assert set(asked) == {4096, 10_000} and max(ahead) < 20
