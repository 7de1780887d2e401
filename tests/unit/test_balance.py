"""Each balancing strategy does what it says, and evaluation images stay as they are."""

import os
from dataclasses import replace

import numpy as np
import pytest

from ferlab.data.audit import audit
from ferlab.data.balance import balance, counts_table, held_out
from ferlab.data.dataset import SPLITS, Dataset
from ferlab.files import UserError
from ferlab.params import Balance
from ferlab.reporting.figures import data_figures
from tests.synthetic import make

PLAIN = {
    "strategy": "none",
    "classes": ["disgust"],
    "target": "median",
    "flip": True,
    "rotation": 15.0,
    "shift": 0.08,
    "zoom": 0.1,
    "holdout": 0.0,
    "drop_seen": False,
    "seed": 0,
}
EVALUATION = ("public", "private", "test")


@pytest.fixture(scope="module")
def dataset():
    return make({"angry": (12, 3, 3), "disgust": (5, 2, 2), "happy": (21, 4, 4), "sad": (15, 3, 3)})


def balanced(dataset, **settings):
    return balance(dataset, Balance(**{**PLAIN, **settings}), audit(dataset, 0.985))


def training_counts(dataset):
    return dataset.counts()["train"].to_dict()


def same(one, other):
    """Equal in everything that is stored."""
    return (
        np.array_equal(one.faces, other.faces)
        and one.table.equals(other.table)
        and one.classes == other.classes
        and one.training == other.training
    )


@pytest.mark.parametrize("strategy", ["none", "augment", "weights", "sampler"])
@pytest.mark.parametrize("holdout", [0.0, 0.25])
def test_evaluation_images_are_never_touched(dataset, strategy, holdout):
    after = balanced(dataset, strategy=strategy, holdout=holdout, drop_seen=True)
    for split in EVALUATION:
        assert same(dataset.split(split), replace(after.split(split), training={}))


def test_merge_changes_no_evaluation_pixel_and_only_labels_of_disgust(dataset):
    after = balanced(dataset, strategy="merge")
    assert np.array_equal(after.faces, dataset.faces) and after.table["id"].equals(
        dataset.table["id"]
    )
    assert after.classes == ("angry", "happy", "sad")
    assert after.table["label"].equals(dataset.table["label"].replace("disgust", "angry"))


@pytest.mark.parametrize("strategy", ["none", "augment", "merge", "weights", "sampler"])
def test_rows_stay_in_canonical_order_and_ids_unique(dataset, strategy):
    table = balanced(dataset, strategy=strategy, holdout=0.2, target="max").table
    keys = [
        (SPLITS.index(split), id) for split, id in zip(table["split"], table["id"], strict=True)
    ]
    assert keys == sorted(keys) and len(set(keys)) == len(keys) and table["id"].is_unique


def test_none_without_cuts_changes_nothing(dataset):
    assert same(balanced(dataset), dataset)


def test_holdout_takes_the_first_of_each_class_by_id_as_text(dataset):
    after = balanced(dataset, holdout=0.2)
    held = after.split("validation").table
    assert held["label"].value_counts().to_dict() == {
        "angry": 2,
        "disgust": 1,
        "happy": 4,
        "sad": 3,
    }  # int(0.2 * n)
    happy = held.loc[held["label"] == "happy", "id"]
    assert list(happy) == [f"happy/Train_{n}" for n in (1, 10, 11, 12)]  # not 1, 2, 3, 4
    assert training_counts(after) == {"angry": 10, "disgust": 4, "happy": 17, "sad": 12}


def test_holdout_refuses_to_mix_with_a_validation_split():
    with pytest.raises(UserError, match="balance.holdout = 0.2.*validation"):
        balanced(make({"angry": 5}, splits=("train", "validation")), holdout=0.2)


@pytest.fixture
def leaking(dataset):
    """The pixels of sad train 3 also stand in public, those of sad train 1 and 9 in train alone."""
    faces, at = dataset.faces.copy(), {id: row for row, id in enumerate(dataset.table["id"])}
    faces[at["sad/Public_1"]] = faces[at["sad/Train_3"]]
    faces[at["sad/Train_9"]] = faces[at["sad/Train_1"]]
    return replace(dataset, faces=faces)


def test_drop_seen_drops_just_the_training_images_that_leak(leaking):
    after = balanced(leaking, drop_seen=True)
    assert set(leaking.table["id"]) - set(after.table["id"]) == {"sad/Train_3"}
    assert same(balanced(leaking), leaking)


def test_holdout_never_cuts_a_group_of_duplicates_apart(leaking):
    """Exact ones, near ones, blank ones, and ones under two labels; the shares stay."""
    faces, at = leaking.faces.copy(), {id: row for row, id in enumerate(leaking.table["id"])}
    pairs = [("happy/Train_1", "happy/Train_9"), ("happy/Train_20", "happy/Train_21")]
    pairs += [("angry/Train_1", "angry/Train_12"), ("angry/Train_10", "sad/Train_15")]
    for number, (first, second) in enumerate(pairs):
        near = faces[at[first]] // 2 + np.uint8(60)  # the same but for brightness and contrast
        faces[at[second]] = near if number == 0 else faces[at[first]]
    for blank in ("sad/Train_10", "sad/Train_2"):
        faces[at[blank]] = 7
    twins = replace(leaking, faces=faces)
    after = balanced(twins, holdout=0.25)
    split = after.table.set_index("id")["split"]
    for first, second in (*pairs, ("sad/Train_1", "sad/Train_9"), ("sad/Train_10", "sad/Train_2")):
        assert split[first] == split[second], (first, second)
    assert split["happy/Train_9"] == split["angry/Train_12"] == "validation"
    held = after.split("validation").table["label"].value_counts().to_dict()
    assert held == {"angry": 3, "disgust": 1, "happy": 5, "sad": 3}  # int(0.25 * n)
    assert same(after, balanced(twins, holdout=0.25, seed=9))


def test_a_group_larger_than_the_share_stays_in_train_and_the_real_share_is_said(dataset):
    faces, table = dataset.faces.copy(), dataset.table
    faces[((table["label"] == "sad") & (table["split"] == "train")).to_numpy()] = faces[0]
    after = balanced(replace(dataset, faces=faces), holdout=0.2)
    assert held_out(dataset, after) == (
        "7 of 53 training images became validation (13.2 %, of a class 0.0 to 20.0 %); "
        "duplicates and near duplicates stay together"
    )
    merged = balanced(dataset, holdout=0.2, strategy="merge")
    assert "10 of 53 training images" in held_out(dataset, merged)


def test_a_holdout_that_cuts_nothing_is_refused():
    with pytest.raises(UserError, match="balance.holdout = 0.1: cuts no image"):
        balanced(make({"angry": 5, "sad": 9}), holdout=0.1)


def test_drop_seen_keeps_the_twins_of_a_held_out_image_with_it(leaking):
    after = balanced(leaking, drop_seen=True, holdout=0.2)
    assert {"sad/Train_1", "sad/Train_9"} < set(after.split("validation").table["id"])
    assert set(leaking.table["id"]) - set(after.table["id"]) == {"sad/Train_3"}


def test_drop_seen_refuses_the_audit_of_other_images(dataset):
    with pytest.raises(UserError, match="audit.csv"):
        balance(dataset, Balance(**{**PLAIN, "drop_seen": True}), audit(make({"angry": 3}), 0.985))


@pytest.mark.parametrize("target, disgust", [("median", 13), ("max", 21), (9, 9), (5, 5), (2, 5)])
def test_augment_grows_to_the_target_and_never_shrinks(dataset, target, disgust):
    after = balanced(dataset, strategy="augment", target=target)
    assert training_counts(after) == {**training_counts(dataset), "disgust": disgust}


def test_augment_takes_the_originals_in_turn_and_names_them(dataset):
    table = balanced(dataset, strategy="augment", target=13).table
    new = table[table["origin"] != "original"]
    assert sorted(new["id"]) == sorted(
        [f"disgust/Train_{n}+1" for n in (1, 2, 3, 4, 5)]
        + [f"disgust/Train_{n}+2" for n in (1, 2, 3)]
    )
    assert (new["id"].str.split("+").str[0] == new["origin"]).all() and (
        new["split"] == "train"
    ).all()


def test_augment_refuses_a_name_that_another_image_has(dataset):
    """It would be evaluated, or trained on, in that image's place."""
    table = dataset.table.assign(
        id=dataset.table["id"].replace("disgust/Train_2", "disgust/Train_1+1")
    )
    with pytest.raises(UserError, match="would be called disgust/Train_1.1, as another is"):
        balanced(replace(dataset, table=table), strategy="augment", target=13)


def test_augment_makes_new_images_and_keeps_the_old(dataset):
    after = balanced(dataset, strategy="augment", target="max")
    old = after.where((after.table["origin"] == "original").to_numpy())
    assert same(old, dataset)
    assert len({face.tobytes() for face in after.faces}) == len(after.faces)


def test_augment_of_an_image_depends_on_seed_id_and_turn_alone(dataset):
    few, many = (
        balanced(dataset, strategy="augment", target=n, classes=c)
        for n, c in ((9, ["disgust"]), (30, ["happy", "disgust"]))
    )
    faces = [dict(zip(d.table["id"], d.faces, strict=True)) for d in (few, many)]
    assert all(np.array_equal(face, faces[1][id]) for id, face in faces[0].items())
    other = balanced(dataset, strategy="augment", target=9, seed=1)
    assert (
        few.digest != other.digest
        and few.digest == balanced(dataset, strategy="augment", target=9).digest
    )


def test_augment_with_holdout_uses_no_validation_image(dataset):
    table = balanced(dataset, strategy="augment", target="max", holdout=0.4).table
    held = set(table.loc[table["split"] == "validation", "id"])
    assert held and not held & set(table["origin"])


def test_augment_refuses_a_class_without_training_images(dataset):
    with pytest.raises(UserError, match="balance.classes: surprise has no training images"):
        balanced(dataset, strategy="augment", classes=["surprise"])


def test_merge_refuses_a_dataset_without_disgust():
    with pytest.raises(UserError, match="no class disgust"):
        balanced(make({"angry": 3, "sad": 3}), strategy="merge")


def test_weights_are_scikit_learns_balanced_ones(dataset):
    from sklearn.utils.class_weight import compute_class_weight

    after = balanced(dataset, strategy="weights", holdout=0.2)
    labels = after.split("train").labels
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    np.testing.assert_allclose(after.training["class_weights"], expected)
    assert np.mean(np.array(after.training["class_weights"])[labels]) == pytest.approx(1)


def test_sampler_is_left_to_training_and_survives_saving(dataset, tmp_path):
    balanced(dataset, strategy="sampler").save(tmp_path / "balanced")
    assert Dataset.load(tmp_path / "balanced").training == {"sampler": "balanced"}


def test_counts_table_holds_every_class_and_split_of_either(dataset, drawn, tmp_path):
    table = counts_table(dataset, balanced(dataset, strategy="merge", holdout=0.2))
    assert len(table) == 4 * 4 and list(table.columns) == ["split", "label", "before", "after"]
    rows = table.set_index(["split", "label"])
    assert list(rows.loc[("train", "disgust")]) == [5, 0] and list(
        rows.loc[("validation", "angry")]
    ) == [0, 3]
    assert table["before"].sum() == table["after"].sum() == len(dataset.faces)
    data_figures.balance_counts(table, tmp_path / "counts.png")
    bars = [bar.get_width() for axes in drawn[0].axes for bars in axes.containers for bar in bars]
    assert sorted(bars) == sorted([*table["before"], *table["after"]])  # every split changed


@pytest.mark.slow
@pytest.mark.skipif(
    "FER2013" not in os.environ, reason="needs the real images: set FER2013 to their zip"
)
def test_real_fer2013_is_cut_and_merged_as_published():
    from ferlab.data.readers.sources import read

    dataset, _ = read("fer2013")
    table = audit(dataset, 0.985)
    cut = balance(dataset, Balance(**{**PLAIN, "holdout": 0.2}), table)
    train, held = table["split"] == "train", table["id"].isin(cut.split("validation").table["id"])
    for group in ("group", "near_group"):
        twins = table[train & (table[group] >= 0)]
        assert (held[twins.index].groupby(twins[group]).nunique() == 1).all()
    assert cut.counts().sum().to_dict() == {
        "train": 22968,
        "validation": 5741,
        "public": 3589,
        "private": 3589,
    }
    merged = balance(dataset, Balance(**{**PLAIN, "strategy": "merge"}), table)
    assert training_counts(merged) == {
        "angry": 4431,
        "fear": 4097,
        "happy": 7215,
        "neutral": 4965,
        "sad": 4830,
        "surprise": 3171,
    }
    grown = balance(dataset, Balance(**{**PLAIN, "strategy": "augment", "drop_seen": True}), table)
    seen = table["seen"] & (table["split"] == "train")
    assert training_counts(grown)["disgust"] == int(
        np.median(
            list(balance(dataset, Balance(**{**PLAIN, "drop_seen": True}), table).counts()["train"])
        )
    )
    assert not set(table.loc[seen, "id"]) & set(grown.split("train").table["id"])


def test_params_and_balance_know_the_same_strategies():
    from typing import get_args

    from ferlab.data.balance import STRATEGIES

    assert set(get_args(Balance.model_fields["strategy"].annotation)) == set(STRATEGIES)
