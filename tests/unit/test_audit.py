"""The audit finds duplicates, contradictions, leaks and blanks, planted or in the real file."""

import os
from dataclasses import replace

import numpy as np
import pytest

from ferlab.data.audit import audit, leaked, of, read, statistics, summary
from ferlab.files import write_csv
from ferlab.reporting.figures import data_figures, face_figures
from tests.synthetic import make

THRESHOLD = 0.985


@pytest.fixture
def planted():
    """Equal pixels: angry train 1, public 1 and sad private 1 (a leak, contradicting); sad train 1
    and 2 (harmless). Blank: sad public 1 and 2. Near: angry train 2 and 3, a little noise apart."""
    dataset = make({"angry": 5, "sad": 5})
    faces, at = dataset.faces.copy(), {id: row for row, id in enumerate(dataset.table["id"])}
    faces[at["angry/Public_1"]] = faces[at["sad/Private_1"]] = faces[at["angry/Train_1"]]
    faces[at["sad/Train_2"]] = faces[at["sad/Train_1"]]
    faces[at["sad/Public_1"]], faces[at["sad/Public_2"]] = 7, 9
    noise = np.random.default_rng(5).integers(0, 3, (48, 48))
    faces[at["angry/Train_3"]] = np.clip(faces[at["angry/Train_2"]] + noise, 0, 255)
    return replace(dataset, faces=faces, table=dataset.table.assign(official=np.arange(29, -1, -1)))


def ids(table, mask):
    return set(table.loc[mask, "id"])


def test_rows_follow_the_dataset(planted):
    table = audit(planted, THRESHOLD)
    same = ["id", "split", "label", "official"]
    measured = ["mean", "std", "blank", "group", "near_group"]
    assert list(table) == same + measured + ["across_splits", "conflicting", "seen"]
    assert table[same].equals(planted.table[same])
    np.testing.assert_allclose(table["mean"], planted.faces.mean((1, 2)), atol=1e-4)
    np.testing.assert_allclose(table["std"], planted.faces.std((1, 2)), atol=1e-4)


def test_exact_groups_are_found_with_what_is_wrong_about_them(planted):
    table = audit(planted, THRESHOLD)
    leak = {"angry/Train_1", "angry/Public_1", "sad/Private_1"}
    harmless = {"sad/Train_1", "sad/Train_2"}
    groups = table[table["group"] >= 0].groupby("group")["id"]
    assert {frozenset(ids) for _, ids in groups} == {frozenset(leak), frozenset(harmless)}
    assert sorted(table["group"].unique()) == [-1, 0, 1]
    for column in ("across_splits", "conflicting", "seen"):
        assert ids(table, table[column]) == leak
    assert ids(table, table["blank"]) == {"sad/Public_1", "sad/Public_2"}


def test_a_group_across_evaluation_splits_alone_is_not_seen():
    dataset = make({"angry": 2})
    faces, split = dataset.faces.copy(), dataset.table["split"].to_numpy()
    faces[np.flatnonzero(split != "train")[[0, -1]]] = 100
    faces[np.flatnonzero(split != "train")[[0, -1]], 0] = 0
    table = audit(replace(dataset, faces=faces), THRESHOLD)
    assert table["across_splits"].sum() == 2 and not table["seen"].any()


def test_near_groups_hold_noisy_copies_and_exact_ones_but_no_blanks(planted):
    table = audit(planted, THRESHOLD)
    groups = table[table["near_group"] >= 0].groupby("near_group")["id"]
    assert {frozenset(ids) for _, ids in groups} == {
        frozenset({"angry/Train_1", "angry/Public_1", "sad/Private_1"}),
        frozenset({"sad/Train_1", "sad/Train_2"}),
        frozenset({"angry/Train_2", "angry/Train_3"}),
    }


def test_near_groups_are_found_across_blocks_of_comparison(planted, monkeypatch):
    whole = audit(planted, THRESHOLD)
    monkeypatch.setattr("ferlab.data.audit.BLOCK", 4)
    assert audit(planted, THRESHOLD).equals(whole)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9, 0.97])
def test_near_groups_are_those_of_all_correlations(threshold, monkeypatch):
    """Against the plain way, all pairs of 12x12 thumbnails: 17 faces at random, each with noise."""
    random = np.random.default_rng(0)
    directions = random.normal(size=(17, 48, 48)).repeat(6, 0)
    noise = random.normal(size=directions.shape) * random.uniform(0, 1.5, (len(directions), 1, 1))
    faces = (directions + noise) * 20 + 128
    small = faces.reshape(-1, 12, 4, 12, 4).mean((2, 4)).clip(0, 255).astype(np.uint8)
    faces = small.repeat(4, 1).repeat(4, 2)
    dataset = make({"angry": 34})
    monkeypatch.setattr("ferlab.data.audit.BLOCK", 16)
    found = audit(replace(dataset, faces=faces), threshold)["near_group"].to_numpy()
    close = np.corrcoef(small.reshape(-1, 144)) >= threshold
    for _ in range(7):
        close = close @ close  # friends of friends, and theirs
    expected = np.array([row.argmax() if row.sum() > 1 else -1 for row in close])
    assert np.array_equal(found[:, None] == found, expected[:, None] == expected)
    assert len(set(found)) > 1


def test_threshold_one_still_groups_equal_images(planted):
    table = audit(planted, 1.0)
    assert (table.loc[table["group"] >= 0, "near_group"] >= 0).all()


def test_summary_counts(planted):
    found = summary(audit(planted, THRESHOLD), planted)
    assert found == {
        "dataset": "synthetic",
        "digest": planted.digest,
        "images": 30,
        "source_sizes": {},
        "identity": {},
        "blank": 2,
        "duplicate_groups": 2,
        "duplicate_images": 5,
        "groups_across_splits": 1,
        "groups_conflicting": 1,
        "near_duplicate_groups": 3,
        "near_duplicate_images": 7,
        "evaluation_images_seen_in_train": {"public": 1, "private": 1},
        "evaluation_images_nearly_seen_in_train": {"public": 1, "private": 1},
    }


def test_private_images_that_train_has_exactly_and_nearly_are_told_apart(planted, tmp_path):
    faces, at = planted.faces.copy(), {id: row for row, id in enumerate(planted.table["id"])}
    noise = np.random.default_rng(6).integers(0, 3, (48, 48))
    faces[at["sad/Private_2"]] = np.clip(faces[at["sad/Train_3"]] + noise, 0, 255)
    faces[at["sad/Private_3"]] = faces[at["sad/Public_3"]]  # no training image: no leak
    write_csv(tmp_path / "audit.csv", audit(replace(planted, faces=faces), THRESHOLD))
    assert leaked(tmp_path / "audit.csv", planted.table) == {
        "private_unseen": {"sad/Private_1"},
        "private_unseen_near": {"sad/Private_1", "sad/Private_2"},
    }


def test_an_audit_of_the_official_pixels_serves_their_other_form(planted, tmp_path):
    """Known by their official rows: other ids, another order."""
    official = planted
    write_csv(tmp_path / "audit.csv", audit(official, THRESHOLD))
    turned = official.table.iloc[::-1].reset_index(drop=True)
    files = replace(
        official, faces=official.faces[::-1], table=turned.assign(id="f" + turned["id"])
    )
    found = of(tmp_path / "audit.csv", files)
    assert found["id"].tolist() == files.table["id"].tolist()
    assert found["seen"].tolist() == read(tmp_path / "audit.csv")["seen"].tolist()[::-1]
    plain = leaked(tmp_path / "audit.csv", official.table)
    assert leaked(tmp_path / "audit.csv", files.table) == {
        name: {f"f{id}" for id in ids} for name, ids in plain.items()
    }
    strange = replace(planted, table=planted.table.assign(official=-1))
    assert of(tmp_path / "audit.csv", strange).equals(read(tmp_path / "audit.csv"))


def test_an_official_image_may_stand_twice_in_a_copy(planted, tmp_path):
    """Then its official row says nothing, and the ids do."""
    twice = replace(planted, table=planted.table.assign(official=5))
    write_csv(tmp_path / "audit.csv", audit(twice, THRESHOLD))
    assert of(tmp_path / "audit.csv", twice).equals(read(tmp_path / "audit.csv"))
    assert leaked(tmp_path / "audit.csv", twice.table)["private_unseen"] == {"sad/Private_1"}


def test_csv_gives_the_same_audit_back(planted, tmp_path):
    table = audit(planted, THRESHOLD)
    write_csv(tmp_path / "audit.csv", table)
    back = read(tmp_path / "audit.csv")
    assert list(back["id"]) == list(table["id"]) and (back.dtypes[3:] == table.dtypes[3:]).all()
    same = ["official", "group", "near_group", "seen"]
    assert back[same].equals(table[same])


def test_statistics_are_those_of_all_pixels(planted):
    table = statistics(audit(planted, THRESHOLD)).set_index(["label", "split"])
    pixels = planted.faces[(planted.table["label"] == "sad") & (planted.table["split"] == "public")]
    row = table.loc[("sad", "public")]
    assert row["n"] == 5 and row["mean"] == pytest.approx(pixels.mean(), abs=1e-3)
    assert row["std"] == pytest.approx(pixels.std(), abs=1e-3) and row["min_image_mean"] == 7


@pytest.mark.parametrize("duplicates", [True, False])
def test_figures_are_drawn_and_their_bytes_repeat(planted, duplicates, tmp_path):
    dataset = planted if duplicates else make({"angry": 3, "sad": (0, 2, 2)})
    table = audit(dataset, THRESHOLD)
    for again in ("a", "b"):
        data_figures.class_counts(dataset.counts(), tmp_path / f"counts_{again}.png", "Images")
        face_figures.sample_grid(dataset, tmp_path / f"grid_{again}.png", 10)
        face_figures.mean_faces(dataset, tmp_path / f"mean_{again}.png")
        data_figures.pixel_statistics(table, tmp_path / f"pixels_{again}.png")
        face_figures.duplicates(dataset, table, tmp_path / f"duplicates_{again}.png")
    drawn = {file.name: file.read_bytes() for file in tmp_path.glob("*.png")}
    assert len(drawn) == 10 and all(
        data == drawn[name.replace("_a", "_b")] for name, data in drawn.items()
    )


@pytest.mark.slow
@pytest.mark.skipif(
    "FER2013" not in os.environ, reason="needs the real images: set FER2013 to their zip"
)
def test_real_fer2013_has_its_known_figures(tmp_path):
    from ferlab.data.readers.sources import read as read_source

    dataset, about = read_source("fer2013")
    table = audit(dataset, THRESHOLD)
    found = summary(table, dataset)
    # the class folders are JPEGs of the CSV's pixels
    groups, images = (1899, 4518) if about["form"].startswith("csv") else (1898, 4516)
    known = {
        "images": 35887,
        "blank": 13,
        "duplicate_groups": 1516,
        "duplicate_images": 3369,
        "groups_across_splits": 557,
        "groups_conflicting": 57,
        "near_duplicate_groups": groups,
        "near_duplicate_images": images,
        "evaluation_images_seen_in_train": {"public": 280, "private": 288},
    }
    assert {name: found[name] for name in known} == known
    write_csv(tmp_path / "audit.csv", audit(dataset, 0.97))
    left_out = {
        name: len(ids) for name, ids in leaked(tmp_path / "audit.csv", dataset.table).items()
    }
    assert left_out == {"private_unseen": 288, "private_unseen_near": 491}
