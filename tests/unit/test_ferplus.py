"""FER+: what its votes teach a network, what they say of labels, and a network scored by them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ferlab import files
from ferlab.data import agreement, audit, ferplus
from ferlab.data.classes import CLASSES
from ferlab.evaluation import scoring, tables
from ferlab.files import UserError
from ferlab.reporting import summary
from ferlab.reporting.figures import data_figures
from ferlab.training import batches
from stages import eda, evaluate, experiment
from tests.builders import about
from tests.repository import TOP
from tests.synthetic import make

SIX = tuple(name for name in CLASSES if name != "disgust")
VOTES = [
    {"happy": 10},
    {"sad": 6, "neutral": 4},
    {"sad": 5, "neutral": 5},
    {"disgust": 6, "angry": 4},
    {"contempt": 8, "happy": 2},
    {"NF": 10},
    {"angry": 4, "disgust": 3, "fear": 3},
    {"neutral": 9, "happy": 1},
]
MAJORITY = ["happy", "sad", "", "disgust", "contempt", "NF", "", "neutral"]


@pytest.fixture
def votes(monkeypatch):
    """Eight images with the votes above instead of the real ones."""
    table = pd.DataFrame(VOTES, columns=[*CLASSES, *ferplus.OTHERS]).fillna(0).astype(int)
    monkeypatch.setattr(ferplus, "votes", lambda: table)


def known(official, first="happy"):
    """A dataset of training images, one for each of `official`: half `first`, half sad."""
    half = len(official) // 2
    data = make({first: half, "sad": len(official) - half}, splits=("train",))
    return replace(data, table=data.table.assign(official=official))


def part(labels, predicted, official, classes=CLASSES, split="private"):
    """What `scored` says of images with these labels, predictions and official rows."""
    chances = np.eye(len(classes))[[classes.index(name) for name in predicted]]
    ids = [f"{i:03}" for i in range(len(labels))]
    rows = pd.DataFrame({"id": ids, "split": split, "label": labels})
    known = [*official, *[-1] * len(labels)][: len(labels)]
    return scoring.ferplus(tables.make(rows.assign(official=known), chances, classes))


def test_the_real_votes_are_ten_for_each_official_image():
    table = ferplus.votes()
    assert list(table) == [*CLASSES, "contempt", "unknown", "NF"]
    assert len(table) == 35_887
    assert table.sum(axis=1).value_counts().to_dict() == {10: 35_886, 9: 1}
    assert table.iloc[0].to_dict() == {name: 0 for name in table} | {
        "neutral": 4,
        "sad": 1,
        "angry": 3,
        "disgust": 2,
    }  # of the published fer2013new.csv


def test_soft_targets_are_shares_of_the_usable_votes(votes):
    found = ferplus.soft_targets(np.array([1, 3, 4, 5, -1]), CLASSES)
    assert found.dtype == np.float32
    expected = [{"sad": 0.6, "neutral": 0.4}, {"disgust": 0.6, "angry": 0.4}, {"happy": 1}, {}, {}]
    np.testing.assert_allclose(found, pd.DataFrame(expected, columns=CLASSES).fillna(0), atol=1e-7)


def test_soft_targets_count_disgust_as_angry_where_it_is_merged(votes):
    found = ferplus.soft_targets([3, 6], SIX)
    expected = [{"angry": 1}, {"angry": 0.7, "fear": 0.3}]
    np.testing.assert_allclose(found, pd.DataFrame(expected, columns=SIX).fillna(0), atol=1e-7)


def test_a_majority_is_more_than_half_of_the_votes_and_unknown_images_have_none(votes):
    assert ferplus.majority(range(8)).tolist() == MAJORITY
    assert ferplus.majority([-1, 0]).tolist() == ["", "happy"]
    named = agreement.named([0, 2, 3, -1], CLASSES)
    assert named.tolist() == ["happy", agreement.UNCLEAR, "disgust", ""]
    assert agreement.named([0, 2, 3, -1], SIX).tolist() == ["happy", agreement.UNCLEAR, "angry", ""]


def test_batches_hand_the_votes_to_the_loss_and_each_row_its_own(votes, settings):
    data = known([1, 7, 2, 1], first="neutral")
    chosen = settings(**{"train.labels": "ferplus", "train.batch_size": 3}).train
    targets = np.concatenate([batch[1] for batch in batches.batches(data, chosen, 0)])
    expected = ferplus.soft_targets(data.table["official"], data.classes)
    np.testing.assert_array_equal(targets, expected[batches.order(data, chosen, 0)])
    np.testing.assert_allclose(np.sort(targets[:, 0]), [0.4, 0.4, 0.5, 1])  # shares of neutral
    plain = settings().train
    hard = np.concatenate([batch[1] for batch in batches.batches(data, plain, 0)])
    np.testing.assert_array_equal(hard, np.eye(2)[data.labels[batches.order(data, plain, 0)]])


def test_images_without_votes_are_not_trained_on(votes):
    data = known([0, -1, 5, 1])
    assert batches.supervised(data, "fer2013") is data
    kept = batches.supervised(data, "ferplus")
    assert kept.table["official"].tolist() == [0, 1]
    np.testing.assert_array_equal(kept.faces, data.faces[[0, 3]])
    with pytest.raises(UserError, match="train.labels = 'ferplus'.*synthetic.*labels: fer2013"):
        batches.supervised(known([-1, 5, -1, -1]), "ferplus")


def test_counts_tell_confirmed_labels_from_contradicted_ones(votes):
    labels = ["happy", "happy", "sad", "sad", "sad", "happy", "angry", "angry", "sad"]
    names = agreement.named([0, 7, 1, 2, 4, 5, 6, 3, -1], CLASSES)
    table = agreement.confusion(labels, names, CLASSES)
    assert list(table) == [*CLASSES, *ferplus.OTHERS, agreement.UNCLEAR]
    happy = table.loc["happy"]
    assert happy[happy > 0].to_dict() == {"happy": 1, "neutral": 1, "NF": 1}
    assert table.to_numpy().sum() == 8  # without the unknown one
    found = agreement.counts(table)
    assert list(found) == ["images", "agrees", "another", "other", "unclear"]
    assert found.loc["happy"].tolist() == [3, 1, 1, 1, 0]
    assert found.loc["sad"].tolist() == [3, 1, 0, 1, 1]
    assert found.loc["angry"].tolist() == [2, 0, 1, 0, 1]
    assert found.loc["fear"].sum() == 0
    assert agreement.contradicted(found.loc["happy"]) == pytest.approx(2 / 3)
    assert agreement.contradicted(found.loc["fear"]) == 0


def test_a_network_is_scored_by_the_majority_and_by_the_label_on_the_same_faces(votes):
    labels = ["happy", "neutral", "sad", "disgust", "happy", "sad", "fear", "happy", "sad"]
    predicted = ["happy", "sad", "sad", "disgust", "happy", "sad", "fear", "happy", "sad"]
    found = part(labels, predicted, [0, 1, 2, 3, 4, 5, 6, 7, -1])["ferplus"]
    assert [found[key] for key in ("split", "images", "not_known", "no_majority")] == [
        "private",
        8,
        1,
        2,
    ]
    agreed = found["agreed"]  # 0, 1, 3 and 7: happy, sad, disgust, neutral
    assert (agreed["n"], agreed["accuracy"], agreed["label_accuracy"]) == (4, 0.75, 0.75)
    assert (agreed["accuracy_low"], agreed["accuracy_high"]) == scoring.interval(3, 4)
    assert (agreed["label_accuracy_low"], agreed["label_accuracy_high"]) == scoring.interval(3, 4)
    assert found["labels"]["happy"] == {
        "images": 3,
        "agrees": 1,
        "another": 1,
        "other": 1,
        "unclear": 0,
        "contradicted": pytest.approx(2 / 3),
    }
    assert found["all"] == {
        "images": 8,
        "agrees": 2,
        "another": 2,
        "other": 2,
        "unclear": 2,
        "contradicted": 0.5,
    }
    worse = part(labels, ["sad", *predicted[1:]], range(8))["ferplus"]["agreed"]
    assert (worse["accuracy"], worse["label_accuracy"]) == (0.5, 0.5)
    other = part(labels, [*predicted[:7], "neutral", "sad"], range(8))["ferplus"]["agreed"]
    assert (other["accuracy"], other["label_accuracy"]) == (1.0, 0.5)


def test_with_six_classes_a_majority_for_disgust_counts_as_angry(votes):
    found = part(["angry", "angry"], ["angry", "fear"], [3, 6], SIX)["ferplus"]
    assert found["agreed"]["n"] == 1 and found["agreed"]["accuracy"] == 1
    assert found["labels"]["angry"] == {
        "images": 2,
        "agrees": 1,
        "another": 0,
        "other": 0,
        "unclear": 1,
        "contradicted": 0,
    }
    seven = part(["angry", "angry"], ["angry", "fear"], [3, 6])["ferplus"]
    assert seven["labels"]["angry"]["another"] == 1 and seven["agreed"]["accuracy"] == 0


def test_faces_that_a_network_has_no_class_for_are_not_held_against_it(votes):
    found = part(["happy", "sad"], ["happy", "sad"], [0, 7], ("happy", "sad"))["ferplus"]
    assert found["agreed"]["n"] == 1 and found["agreed"]["accuracy"] == 1
    assert found["labels"]["sad"]["another"] == 1


def test_only_the_final_split_counts_and_nothing_known_says_nothing(votes):
    assert part(["happy"], ["happy"], [-1]) == {}
    assert part(["happy"], ["happy"], [0], split="test")["ferplus"]["split"] == "test"
    rows = pd.DataFrame({"id": ["a", "b"], "split": ["public", "private"], "label": "happy"})
    table = tables.make(rows.assign(official=[0, 7]), np.eye(7)[[3, 3]], CLASSES)
    found = scoring.ferplus(table)["ferplus"]
    assert found["images"] == 1 and found["labels"]["happy"]["another"] == 1


def test_details_round_it_and_metrics_take_one_number_of_it(votes):
    labels = ["happy", "happy", "happy", "sad"]
    chances = np.eye(7)[[CLASSES.index(name) for name in labels]]
    rows = pd.DataFrame({"id": list("abcd"), "split": "private", "label": labels, "group": ""})

    def metrics(official):
        table = tables.make(rows.assign(official=official), chances, CLASSES)
        details = scoring.details(table, about("x"), None, scoring.ferplus(table))
        assert json.loads(json.dumps(details)) == details
        return details, scoring.metrics(details, 1.0)

    details, found = metrics([0, 0, 7, 2])
    assert details["ferplus"]["agreed"]["accuracy"] == found["ferplus_accuracy"] == 0.666667
    assert details["ferplus"]["labels"]["happy"]["contradicted"] == 0.333333
    details, found = metrics([2, -1, -1, -1])  # known, but by no majority
    assert details["ferplus"]["agreed"]["n"] == 0 and "ferplus_accuracy" not in found
    details, found = metrics([-1, -1, -1, -1])
    assert "ferplus" not in details and "ferplus_accuracy" not in found


@pytest.mark.parametrize("official", [[0, 7, 1, 2, -1, 4], [-1] * 6], ids=["some known", "none"])
def test_eda_tells_agreement_of_known_images_only(votes, official, tmp_path, monkeypatch, capsys):
    data, some = known(official), max(official) >= 0
    (tmp_path / "params.yaml").write_text((TOP / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    data.save("data/raw")
    eda.main(experiment())
    assert audit.read("data/audit.csv")["official"].tolist() == official
    made = {file.name for file in (tmp_path / "reports/eda").iterdir()}
    names, said = {"agreement.csv", "agreement.png", "ferplus.csv"}, capsys.readouterr().out
    assert names & made == (names if some else set())
    assert ("FER+" in said) == some
    if some:
        assert "contradict 60.0 % of 5 labels; no majority names 1" in said
        found = pd.read_csv("reports/eda/agreement.csv")
        assert list(found) == ["split", "label", "images", "agrees", "another", "other", "unclear"]
        assert found.to_numpy().tolist() == [
            ["train", "happy", 3, 1, 2, 0, 0],
            ["train", "sad", 2, 0, 0, 1, 1],
        ]
        people = pd.read_csv("reports/eda/ferplus.csv").set_index("label")
        sad = people.loc["sad"]
        assert sad[sad > 0].to_dict() == {"contempt": 1, agreement.UNCLEAR: 1}


def test_evaluating_a_recipe_adds_what_people_say_to_what_measuring_found(
    votes, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(TOP / "recipes", "recipes", ignore=lambda *_: ["results", "runs"])
    monkeypatch.setattr("ferlab.tracking.runs.project_recipe", lambda key: None)
    rows = pd.DataFrame({"id": ["a", "b"], "split": "private", "label": ["sad", "happy"]})
    rows = rows.assign(official=[1, 7], group="")
    table = tables.make(rows, np.eye(7)[[5, 3]], CLASSES)
    tables.write("predictions.csv", table)
    files.write_json("about.json", about("fer2013") | {"run": "", "more": {"left_out": {"x": {}}}})
    files.write_csv("audit.csv", rows.assign(seen=False, near_group=-1))
    evaluate.main(
        experiment("majority"),
        predictions="predictions.csv",
        about="about.json",
        audit_csv="audit.csv",
        results=Path("recipes/results/majority"),
    )
    details = files.read_json("recipes/results/majority/details.json")
    assert details["left_out"] == {"x": {}}
    assert details["ferplus"]["agreed"]["n"] == 2
    metrics = files.read_json("recipes/results/majority/metrics.json")
    assert (metrics["ferplus_accuracy"], metrics["private_accuracy"]) == (0.5, 1.0)


def test_the_figure_of_agreement_has_equal_bytes_and_stands_classes_without_images(votes, tmp_path):
    names = agreement.named([0, 2], CLASSES)
    table = agreement.counts(agreement.confusion(["happy", "sad"], names, CLASSES))
    for name in "ab":
        data_figures.agreement(table, tmp_path / f"{name}.png", "How often")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("n", [0, 3100, None])
def test_the_summary_has_a_line_where_people_agree(n, tmp_path):
    scores = {"n": 3589, "accuracy": 0.7, "accuracy_low": 0.68, "accuracy_high": 0.72}
    splits = {"private": scores}
    details = {"dataset": "fer2013", "splits": splits, "six_class": splits}
    if n is not None:
        agreed = {"n": n, "accuracy": 0.7234, "accuracy_low": 0.7074, "accuracy_high": 0.7389}
        details["ferplus"] = {"agreed": agreed}
    (tmp_path / "params.yaml").write_text((TOP / "params.yaml").read_text())
    (tmp_path / "models").mkdir()
    (tmp_path / "models/model.keras").touch()
    files.write_json(tmp_path / "reports/details.json", details)
    files.write_json(tmp_path / "reports/metrics.json", {})
    lines = [line for line in summary.text(tmp_path).splitlines() if "FER+" in line]
    assert lines == ["  FER+ majority          3,100    72.34 %   70.74 to 73.89 %"] * bool(n)
