"""The drawn sample is one constant: its bytes, its counts, and blemishes that an audit finds."""

from types import SimpleNamespace

import numpy as np
import pytest

from ferlab.data.sample import dataset as sample
from ferlab.data.sample.people import people
from ferlab.data.sample.portraits import paint

DIGEST = "811a7ac673f6c5268a03bc9b7c89dc8337a1c85fec1168ba29e5f0a62c012c56"


@pytest.fixture(scope="module")
def drawn():
    return sample.draw()


def test_same_bytes_on_every_machine(drawn):
    assert drawn.digest == DIGEST


def test_counts_follow_fer2013(drawn):
    assert drawn.name == "sample" and len(drawn.faces) == 10051
    for split, (_, counts) in sample.COUNTS.items():
        assert tuple(drawn.counts()[split]) == counts


def test_ids_are_unique_numbered_and_say_nothing_about_the_class(drawn):
    assert drawn.table["id"].is_unique and set(drawn.table["origin"]) == {"original"}
    for split, (prefix, counts) in sample.COUNTS.items():
        part = drawn.split(split)
        assert list(part.table["id"]) == [f"{prefix}_{number:05d}" for number in range(sum(counts))]
        assert len(set(part.labels[:100])) >= 6


def test_blemishes_are_the_announced_ones(drawn):
    splits = drawn.table["split"].to_numpy()
    blank = ~drawn.faces.any(axis=(1, 2))
    assert blank.sum() == sample.BLANK and set(splits[blank]) == {"train"}
    first = {
        drawn.faces[row].tobytes(): row for row in np.flatnonzero((splits == "train") & ~blank)
    }
    assert len(first) == (splits == "train").sum() - sample.BLANK
    for split, count in sample.REPEATED.items():
        pairs = [
            (first[drawn.faces[row].tobytes()], row)
            for row in np.flatnonzero(splits == split)
            if drawn.faces[row].tobytes() in first
        ]
        relabelled = [drawn.labels[source] != drawn.labels[row] for source, row in pairs]
        assert (len(pairs), sum(relabelled)) == (count, sample.RELABELLED[split])
    different = len({face.tobytes() for face in drawn.faces})
    assert different == len(drawn.faces) - sum(sample.REPEATED.values()) - (sample.BLANK - 1)


def test_another_seed_draws_other_people_in_blocks_of_any_size(monkeypatch):
    small = {split: (prefix, (5,) * 7) for split, (prefix, _) in sample.COUNTS.items()}
    monkeypatch.setattr(sample, "COUNTS", small)
    monkeypatch.setattr(sample, "REPEATED", {"public": 2, "private": 3})
    monkeypatch.setattr(sample, "RELABELLED", {"public": 1, "private": 1})
    one, other = sample.draw(1), sample.draw(2)
    assert one.digest != other.digest and (one.faces != other.faces).any(axis=(1, 2)).mean() > 0.9
    monkeypatch.setattr(sample, "BLOCK", 17)
    assert sample.draw(1).digest == one.digest


def test_no_number_has_room_to_overflow():
    """Painted again in 64 bits, every tone is the same, so 32 bits were enough."""
    random = np.random.Generator(np.random.PCG64(3))
    narrow = people(random, np.arange(280) % 7)
    wide = {key: value.astype(np.int64) for key, value in narrow.items()}
    tones, same_tones = paint(SimpleNamespace(**narrow)), paint(SimpleNamespace(**wide))
    assert tones.dtype == np.int32 and same_tones.dtype == np.int64
    np.testing.assert_array_equal(tones, same_tones)
