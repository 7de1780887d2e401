"""Scores, intervals equal to published ones, and the format of the files of a result."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
)

from ferlab.data.classes import CLASSES
from ferlab.data.dataset import SIZE, Dataset
from ferlab.evaluation import inference, scoring, tables
from ferlab.files import UserError
from tests.builders import about, tiny

SCORES = {
    "n",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
    "per_class",
    "confusion",
}
METRICS = {
    "train_accuracy",
    "public_accuracy",
    "private_accuracy",
    "private_accuracy_low",
    "private_accuracy_high",
    "private_unseen_accuracy",
    "test_accuracy",
    "private_precision_macro",
    "private_recall_macro",
    "private_f1_macro",
    "disgust_recall",
    "disgust_f1",
    "private_six_class_accuracy",
    "loss",
}


def guesses(n=300, splits=("train", "public", "private"), classes=CLASSES, seed=0):
    """A table of random predictions in which about half are right."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, len(classes), n)
    probabilities = random.dirichlet(np.ones(len(classes)), n) + 0.4 * np.eye(len(classes))[labels]
    table = pd.DataFrame(
        {
            "id": [f"{i:05}" for i in range(n)],
            "label": np.array(classes, object)[labels],
            "split": np.array(splits, object)[np.arange(n) % len(splits)],
            "origin": "original",
            "official": -1,
        }
    )
    dataset = Dataset("sample", tuple(classes), np.zeros((n, SIZE, SIZE), np.uint8), table)
    return tables.of_dataset(dataset, probabilities / probabilities.sum(axis=1, keepdims=True))


def details(predictions, seen=None):
    return scoring.details(predictions, about("sample"), seen)


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_scikit_learn(seed):
    table = guesses(seed=seed)
    labels, predicted = table["label"], table["predicted"]
    found = scoring.scores(labels, predicted, CLASSES)
    assert found["accuracy"] == accuracy_score(labels, predicted)
    assert found["confusion"] == confusion_matrix(labels, predicted, labels=CLASSES).tolist()
    for average in ("macro", "weighted"):
        expected = precision_recall_fscore_support(
            labels, predicted, labels=CLASSES, average=average, zero_division=0
        )
        assert [
            found[f"{key}_{average}"] for key in ("precision", "recall", "f1")
        ] == pytest.approx(expected[:3])
    expected = precision_recall_fscore_support(labels, predicted, labels=CLASSES, zero_division=0)
    got = [
        [found["per_class"][name][key] for name in CLASSES]
        for key in ("precision", "recall", "f1", "support")
    ]
    np.testing.assert_allclose(got, expected)


def test_a_class_without_images_or_never_predicted_scores_zero_as_in_scikit_learn():
    labels, predicted = ["happy", "happy", "sad"], ["happy", "happy", "happy"]
    found = scoring.scores(labels, predicted, CLASSES)
    expected = precision_recall_fscore_support(
        labels, predicted, labels=CLASSES, average="macro", zero_division=0
    )
    assert [found[f"{key}_macro"] for key in ("precision", "recall", "f1")] == pytest.approx(
        expected[:3]
    )
    assert found["per_class"]["sad"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    assert found["per_class"]["fear"]["support"] == 0


@pytest.mark.parametrize(
    "correct, n, low, high",
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_equals_published_intervals(correct, n, low, high):
    assert scoring.interval(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_augmented_images_are_not_counted():
    table = pd.DataFrame(
        {
            "id": ["a", "b"],
            "label": "sad",
            "split": "train",
            "origin": ["original", "a"],
            "official": -1,
        }
    )
    dataset = Dataset("sample", ("happy", "sad"), np.zeros((2, SIZE, SIZE), np.uint8), table)
    found = tables.of_dataset(dataset, np.array([[0.1, 0.9], [0.9, 0.1]]))
    assert found["id"].tolist() == ["a"] and found["predicted"].tolist() == ["sad"]
    about_images = ["id", "split", "label", "official", "group"]
    assert list(found) == [*about_images, "predicted", "p_happy", "p_sad"]


def test_folding_sums_probabilities_and_chooses_again():
    table = guesses(2)
    table[[f"p_{name}" for name in CLASSES]] = [
        [0.3, 0.3, 0, 0.4, 0, 0, 0],
        [0.1, 0, 0.9, 0, 0, 0, 0],
    ]
    table["label"] = ["disgust", "fear"]
    folded = tables.fold(table)
    assert tables.classes_of(folded) == tuple(name for name in CLASSES if name != "disgust")
    assert folded["label"].tolist() == ["angry", "fear"]
    assert folded["predicted"].tolist() == ["angry", "fear"]  # 0.3 + 0.3 beats happy's 0.4
    assert folded["p_angry"].tolist() == pytest.approx([0.6, 0.1], rel=3e-4)
    assert tables.fold(folded) is folded


def test_details_have_the_format_of_the_design():
    table = guesses()
    private = table.loc[table["split"] == "private", "id"]
    seen = {"private_unseen": set(private[:10]), "private_unseen_near": set(private[:25])}
    found = details(table, seen)
    assert list(found) == ["dataset", "digest", "classes", "model", "splits", "six_class"]
    assert found["model"] == {"name": "small", "parameters": 7}
    splits = ["train", "public", "private", "private_unseen", "private_unseen_near", "test"]
    assert list(found["splits"]) == splits
    assert all(set(scores) == SCORES for scores in found["splits"].values())
    sizes = {name: scores["n"] for name, scores in found["splits"].items()}
    assert list(sizes.values()) == [100, 100, 100, 90, 75, 200]
    assert list(found["six_class"]) == list(found["splits"])
    assert len(found["six_class"]["test"]["confusion"]) == 6
    assert found["six_class"]["test"]["n"] == 200


def test_a_merged_dataset_has_the_same_scores_as_six_classes():
    found = details(guesses(classes=[name for name in CLASSES if name != "disgust"]))
    assert found["six_class"] == found["splits"]
    assert "disgust_recall" not in scoring.metrics(found, 1.0)


def test_metrics_have_the_names_of_the_design():
    table = guesses()
    seen = {"private_unseen": set(), "private_unseen_near": set()}
    found = scoring.metrics(details(table, seen), scoring.cross_entropy(table))
    assert set(found) == METRICS and len({*found, "ferplus_accuracy"}) <= 15
    assert all(type(value) is float and round(value, 6) == value for value in found.values())


def test_without_private_images_test_takes_their_place():
    table = guesses(splits=("train", "test"))
    found = scoring.metrics(details(table), scoring.cross_entropy(table))
    assert set(found) == {
        name.replace("private_", "test_")
        for name in METRICS
        if name not in ("public_accuracy", "private_unseen_accuracy")
    }


def test_loss_is_the_cross_entropy_of_private():
    table = guesses()
    private = table[table["split"] == "private"]
    probabilities = private[[f"p_{name}" for name in CLASSES]].to_numpy()
    probabilities /= probabilities.sum(axis=1, keepdims=True)  # they were rounded
    assert scoring.cross_entropy(table) == pytest.approx(
        log_loss(private["label"], probabilities, labels=CLASSES), abs=1e-4
    )


def test_a_wrong_class_given_probability_zero_has_a_finite_loss():
    table = guesses(1, splits=("test",)).assign(
        label="sad", **{f"p_{name}": 0.0 for name in CLASSES}
    )
    assert scoring.cross_entropy(table) == pytest.approx(-np.log(1e-7))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.2, 8.0])
def test_an_answer_that_is_no_probability_is_refused_with_its_image(wrong):
    rows = guesses(4)[["id", "split", "label", "official", "group"]]
    answers = np.full((4, 7), 1 / 7)
    answers[2, 3] = wrong
    with pytest.raises(UserError, match="1 of 4 rows .* image 00002 "):
        tables.make(rows, answers, CLASSES)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("p_happy", "", "line 4: p_happy is ''"),
        ("p_happy", "nan", "line 4: p_happy is 'nan'"),
        ("p_happy", "inf", "line 4: p_happy is 'inf'"),
        ("p_happy", "0.99", "1 of 6 rows are no probabilities, first that of image 00002"),
        ("nll_happy", "", "line 4: nll_happy is ''"),
        ("split", "", "line 4: one of id, split, label, predicted is empty"),
        ("label", "", "line 4: one of id, split, label, predicted is empty"),
        ("label", "joy", "line 4: label and predicted must be of angry"),
        ("id", "00001", "line 4: this image is in an earlier line already"),
    ],
)
def test_a_row_that_says_nothing_is_refused_where_a_table_is_read(column, value, said, tmp_path):
    """It would vanish from a split or an ensemble, or count as sure of something."""
    path, table = tmp_path / "predictions.csv", guesses(6, splits=("private",))
    tables.write(path, table)
    if column.startswith("nll_"):
        tables.write_packed(tmp_path / "packed", table)
        path.write_bytes(gzip.decompress((tmp_path / "packed").read_bytes()))
    assert len(tables.read(path)) == 6
    lines = pd.read_csv(path, dtype=str, keep_default_na=False)
    lines.loc[2, column] = value
    lines.to_csv(path, index=False)
    with pytest.raises(UserError, match=said) as caught:
        tables.read(path)
    assert str(path) in str(caught.value)


class Model:
    """Stands in for Keras: the mean of the left and of the right half; counts batches."""

    output_shape = (None, 2)

    def __init__(self):
        self.sizes = []

    def predict_on_batch(self, faces):
        self.sizes.append(len(faces))
        return (
            np.stack(
                [faces[:, :, :24].mean(axis=(1, 2, 3)), faces[:, :, 24:].mean(axis=(1, 2, 3))], 1
            )
            / 255
        )


def test_prediction_uses_equal_batches_and_averages_the_mirror_image():
    faces = np.random.default_rng(0).integers(0, 256, (10, SIZE, SIZE), np.uint8)
    faces[:, :, 24:] //= 4
    plain, mirrored, model = Model(), Model(), Model()
    found = inference.predict(plain, faces, flip=False, batch=4)
    assert found.dtype == np.float32 and plain.sizes == [4, 4, 4]
    np.testing.assert_allclose(found, model.predict_on_batch(faces[..., None]), rtol=1e-6)
    both = inference.predict(mirrored, faces, flip=True, batch=4)
    np.testing.assert_allclose(
        both, np.repeat(found.mean(axis=1, keepdims=True), 2, axis=1), rtol=1e-6
    )
    assert inference.predict(model, faces[:0], flip=True).shape == (0, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace(b",", b";"), "has no column id"),
        (lambda text: b"", "damaged ("),
        (lambda text: gzip.compress(text)[:-20], "damaged ("),
    ],
    ids=["semicolons", "empty", "cut"],
)
@pytest.mark.parametrize("place", ["reports/predictions.csv.gz", "recipes/results/a/p.csv.gz"])
def test_a_damaged_table_is_one_line_with_what_brings_it_back(
    tmp_path, monkeypatch, change, said, place
):
    monkeypatch.chdir(tmp_path)
    path = Path(place)
    path.parent.mkdir(parents=True)
    table = tables.of_dataset(tiny(), np.full((len(tiny().faces), 7), 1 / 7))
    tables.write(Path("whole.csv"), table)
    text = change(Path("whole.csv").read_bytes())
    path.write_bytes(text if text[:2] == b"\x1f\x8b" else gzip.compress(text))
    with pytest.raises(UserError) as caught:
        tables.read(path)
    fix = "`dvc repro` makes the file anew"
    if place.startswith("recipes"):
        fix = f"git checkout {place} brings the committed one back"
    assert str(caught.value).startswith(f"{place}: {said}") and str(caught.value).endswith(fix)
