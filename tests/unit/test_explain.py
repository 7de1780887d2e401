"""What is explained is computed rightly: attention, calibration, label issues."""

import numpy as np
import pandas as pd
import pytest

from ferlab import models, params
from ferlab.evaluation import attention, calibration, inference, mistakes, tables
from ferlab.files import UserError
from ferlab.reporting import explain_page
from ferlab.reporting.figures import attention_figures
from ferlab.training import backend
from tests.unit.test_report import HOSTILE, Outside

CLASSES = ("angry", "happy")


def table(chances, labels, splits="public", classes=CLASSES):
    """Predictions of two classes; chances: of the second."""
    rows = pd.DataFrame(
        {"id": [f"{i:03}" for i in range(len(labels))], "split": splits, "label": labels}
    )
    return tables.make(rows, np.stack([1 - np.asarray(chances), chances], 1), classes)


def corner_network():
    """Says happy (class 1) where the upper left quarter is bright, by one dense layer."""
    import keras

    inputs = keras.Input((48, 48, 1), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.AveragePooling2D(24, name="quarter")(x)
    logits = keras.layers.Dense(2, name="logits")(keras.layers.Flatten()(x))
    network = keras.Model(inputs, keras.layers.Softmax()(logits))
    network.get_layer("logits").set_weights(
        [np.array([[0, 8.0], [0, 0], [0, 0], [0, 0]], np.float32), np.zeros(2, np.float32)]
    )
    return network


def test_attention_stands_where_the_network_looks():
    backend.start("tensorflow")
    network, faces = corner_network(), np.full((2, 48, 48), 255, np.uint8)
    faces[1, :24, :24] = 0  # bright everywhere but where the network looks: no evidence at all
    heat = attention.hires_cam(network, faces, np.array([1, 1]))
    assert heat.shape == (2, 48, 48) and heat.min() >= 0 and heat.max() == pytest.approx(1)
    assert heat[0, :20, :20].min() > 0.4 and heat[0, 38:, 38:].max() < 0.1
    assert heat[1] == pytest.approx(0)
    lost = attention.occlusion(
        lambda batch: inference.predict(network, batch), faces, np.array([1, 1])
    )
    assert lost[0, :24, :24].mean() > 10 * abs(lost[0, 30:, 30:]).mean()
    assert lost[0, 38:, 38:] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["small", "silva_2025", "resnet", "vit"])
def test_every_kind_of_network_can_be_asked(name):
    backend.start("tensorflow")
    network, faces = (
        models.build(name, 7, 0.2),
        np.random.default_rng(0).integers(0, 256, (3, 48, 48), dtype=np.uint8),
    )
    heat = attention.hires_cam(network, faces, np.array([0, 3, 6]))
    assert heat.shape == (3, 48, 48) and np.isfinite(heat).all()
    found = attention.feature_maps(network, faces[0], "pools")
    assert found and all(values.ndim == 3 for values in found.values())
    with pytest.raises(
        UserError, match="explain.layers: the network has no layer 'nose' with maps; it has "
    ):
        attention.feature_maps(network, faces[0], ["nose"])


def test_a_gradient_is_the_slope_of_the_logit():
    backend.start("tensorflow")
    network = corner_network()
    import keras

    rest = keras.Model(attention.last_maps(network), network.get_layer("logits").output)
    slopes = attention._gradient(keras, rest, np.ones((1, 2, 2, 1), np.float32), np.array([1]))
    np.testing.assert_allclose(slopes[0, :, :, 0], [[8, 0], [0, 0]])


def test_calibration_is_counted_as_by_hand():
    rows = table([0.95, 0.95, 0.65, 0.05], ["happy", "angry", "happy", "angry"])
    found = calibration.reliability(rows)
    assert found["images"].tolist() == [1, 3]
    assert found["accuracy"].tolist() == pytest.approx([1, 2 / 3])
    assert calibration.calibration_error(rows) == pytest.approx(
        (1 * 0.35 + 3 * abs(0.95 - 2 / 3)) / 4, rel=3e-4
    )


def test_a_temperature_found_on_overconfident_rows_undoes_it_and_changes_no_class():
    random = np.random.default_rng(0)
    true = 1 / (1 + np.exp(-random.normal(0, 2, 4000)))
    labels = np.where(random.random(4000) < true, "happy", "angry")
    odds = (true / (1 - true)) ** 3  # three times as sure as it may be
    rows = table(odds / (1 + odds), labels)
    found = calibration.temperature(rows)
    assert found == pytest.approx(3, rel=0.1)
    scaled = calibration.temperature_scaled(rows, found)
    assert calibration.calibration_error(scaled) < calibration.calibration_error(rows) / 3
    assert (
        scaled[["p_angry", "p_happy"]].to_numpy().argmax(1)
        == rows[["p_angry", "p_happy"]].to_numpy().argmax(1)
    ).all()


def test_trust_takes_its_temperature_from_the_split_that_selects_alone():
    random = np.random.default_rng(0)
    true = 1 / (1 + np.exp(-random.normal(0, 2, 4000)))
    labels = np.where(random.random(4000) < true, "happy", "angry")
    odds = (true / (1 - true)) ** 3
    parts = {"public": table(odds / (1 + odds), labels), "private": table(true, labels)}
    trust = calibration.trust(parts, "private", "public")
    assert (trust["split"], trust["chosen_on"]) == ("private", "public")
    assert trust["temperature"] == pytest.approx(3, rel=0.1)  # private's own would be 1
    assert trust["error"] < 0.03 < 0.1 < trust["error_temperature_scaled"]
    without = {"split": "private", "error": trust["error"]}
    assert calibration.trust(parts, "private") == without
    assert calibration.trust({"private": parts["private"]}, "private", "public") == without


def test_errors_label_issues_and_examples_are_those_of_the_table():
    rows = table([0.99, 0.02, 0.97, 0.6], ["angry", "angry", "happy", "angry"])
    found = mistakes.errors(rows).set_index("class")
    assert (
        found.loc["angry", "wrong"] == pytest.approx(2 / 3)
        and found.loc["angry", "mostly called"] == "happy"
    )
    assert found.loc["angry", "sure when wrong"] == pytest.approx((0.99 + 0.6) / 2, rel=3e-4)
    assert found.loc["happy", "wrong"] == 0 and found.loc["happy", "mostly called"] == ""
    assert mistakes.label_issues(rows)["id"].tolist() == ["000"]
    shown = mistakes.examples(rows)
    assert shown["right"]["id"].tolist() == ["001", "002"] and shown["wrong"]["id"].tolist() == [
        "000"
    ]


def explained(labels, dataset="mine", layer="pool", classes=CLASSES):
    """The page of explain for two classes; chances: always the second."""
    rows = table(np.linspace(0.6, 0.99, len(labels)), labels, classes=classes)
    found, shown = mistakes.errors(rows), {}
    for name, own in mistakes.examples(rows).items():
        faces = np.full((len(own), 48, 48), 128, np.uint8)
        shown[name] = explain_page.looks(own, faces, np.zeros(faces.shape), np.ones(faces.shape))
    about = {
        "dataset": dataset,
        "network": "small",
        "split": "public",
        "images": len(rows),
        "accuracy": 0.5,
        "calibration": {"split": "public", "error": 0.1},
        "report": True,
    }
    lists = {"errors": found.to_dict("records"), "label_issues": {}}
    trust = {"as it is": calibration.reliability(rows)}
    maps = {layer: np.random.default_rng(0).random((3, 3, 5))}
    layers = np.zeros((48, 48), np.uint8), maps, 4
    issues = mistakes.label_issues(rows)
    issues = issues, np.zeros((len(issues), 48, 48), np.uint8)
    return explain_page.render(about, lists, shown, trust, issues, layers)


def test_the_page_names_classes_that_are_never_right_or_never_wrong_and_its_scales():
    page = explained(["angry", "happy", "happy"])
    assert "<b>Never right: angry.</b>" in page and "<b>Never wrong: happy.</b>" in page
    for said in ("no evidence", "the strongest in this face", "hiding helps", "hiding costs"):
        assert page.count(said) == 2
    assert "from black, where it is lowest in this face, to white" in page
    assert "3 × 3 × 5, the first 4 channels" in page
    assert "−100 points" in page


def test_names_on_the_page_stay_text():
    classes = ("angry", HOSTILE)
    page = explained([HOSTILE, "angry", HOSTILE], dataset=HOSTILE, layer=HOSTILE, classes=classes)
    assert "&lt;script" in page
    assert "script" not in Outside(page).tags


def test_evidence_is_red_where_it_is_and_hiding_is_red_where_it_costs_and_blue_where_it_helps():
    face, heat, lost = np.full((48, 48), 128, np.uint8), np.zeros((48, 48)), np.zeros((48, 48))
    heat[:24], lost[:16], lost[32:] = 1, 0.5, -0.5
    red, _, blue = np.moveaxis(attention_figures.evidence(face, heat).astype(int), 2, 0)
    assert (red[:24] - blue[:24]).min() > 20 > (red[24:] - blue[24:]).max()
    red, _, blue = np.moveaxis(attention_figures.hidden(face, lost).astype(int), 2, 0)
    assert (red - blue)[:16].min() > 20 and (blue - red)[32:].min() > 20
    assert abs(red - blue)[20:28].max() < 5
    assert attention_figures.channel(np.array([[0, 2.0]])).tolist() == [[0, 255]]
    assert attention_figures.channel(np.ones((2, 2))).max() == 0


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ("sample", "drawn and named by a program"),
        ("fer2013-jpeg", "Goodfellow et al. 2013"),
        ("my-faces", "only those who made the dataset can say"),
    ],
)
def test_a_card_tells_the_limits_of_its_own_data(dataset, said):
    scores = {"n": 4, "accuracy": 0.5, "accuracy_low": 0.2, "accuracy_high": 0.8, "per_class": {}}
    details = {
        "dataset": dataset,
        "digest": "0",
        "classes": ["happy", "sad"],
        "model": {"name": "small", "parameters": 1},
        "splits": {"private": scores},
    }
    card = explain_page.card(details, params.load(), {"split": "private", "error": 0.1})
    assert said in card
    others = {"drawn and named", "Goodfellow", "FER2013 was", "only those who"}
    assert not any(word in card for word in others if word not in said and "fer2013" not in dataset)
