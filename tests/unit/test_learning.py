"""What a training computes, against values worked out by hand: its loss, its average of the
weights, what it shows the network, and what it keeps.

That the same training gives the same bytes is tests/unit/test_training.py.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import log_loss

from ferlab.data import augment, ferplus
from ferlab.training import backend, batches, loop, network, optimizers
from ferlab.training.checkpoint import State
from tests.synthetic import make

STILL = {f"train.{name}": 0.0 for name in ("rotation", "shift", "zoom", "erase", "low_resolution")}
STILL |= {"train.flip": False, "train.batch_size": 16, "train.epochs": 3}


@pytest.fixture(scope="module")
def faces():
    """35 training and 14 public images of two classes, which brightness tells apart."""
    dataset = make({"angry": (9, 4, 4), "happy": (26, 10, 10)})
    dataset.faces[dataset.labels == 1] //= 3
    return dataset


def shown(part, section, epoch=0):
    """The faces of an epoch, uint8 (N, side, side)."""
    return np.concatenate([batch[0][..., 0] for batch in batches.batches(part, section, epoch)])


def linear(classes=3):
    """A network of one dense layer, ready for `network.compiled`."""
    import keras

    inputs = keras.Input((48, 48, 1), dtype="uint8")
    scaled = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(scaled))


@pytest.mark.parametrize(
    ("keep", "kept"), [("best", 1), ("last", 2)], ids=["the best epoch", "the last"]
)
def test_the_result_has_the_weights_of_the_epoch_that_is_chosen(
    faces, settings, monkeypatch, keep, kept
):
    section = settings(**STILL | {"train.keep": keep, "train.model": "ho_2016_baseline"}).train
    accuracies, weights = [0.2, 0.6, 0.4], []

    def scored(model, *_):
        weights.append(model.get_weights())
        return 1.0, accuracies[len(weights) - 1]

    monkeypatch.setattr(loop, "evaluate", scored)
    backend.start("tensorflow")
    model, history, _ = loop.fit(faces, section)
    assert history["selection_accuracy"].tolist() == accuracies
    assert history["chosen"].tolist() == [int(epoch == kept) for epoch in range(3)]
    assert not np.array_equal(weights[1][0], weights[2][0])
    for found, expected in zip(model.get_weights(), weights[kept], strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("labels", ["fer2013", "ferplus"])
def test_an_epoch_is_scored_by_cross_entropy_and_accuracy(faces, settings, monkeypatch, labels):
    random, part = np.random.default_rng(0), faces.split("train")
    logits, votes = random.normal(size=(35, 2)), random.random((35, 2))
    monkeypatch.setattr(ferplus, "soft_targets", lambda *_: votes)
    named = part.labels if labels == "fer2013" else votes.argmax(axis=1)
    asked = SimpleNamespace(predict_on_batch=lambda batch: logits[: len(batch)])
    loss, accuracy = loop.evaluate(asked, part, settings(**{"train.labels": labels}).train)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert loss == pytest.approx(log_loss(named, chances))
    assert accuracy == np.mean(logits.argmax(axis=1) == named)


def test_a_step_learns_from_smoothed_targets_and_weighted_images(settings):
    """The loss of a step, and by the change of the bias its gradient, in numpy."""
    keras = backend.start("tensorflow")
    section = settings(
        **{"train.optimizer": "sgd", "train.learning_rate": 0.1, "train.weight_decay": 0.0},
        **{"train.label_smoothing": 0.3},
    ).train
    model = network.compiled(linear(), section, 48, False)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (4, 48, 48, 1), dtype=np.uint8)
    targets = np.eye(3, dtype=np.float32)[[0, 2, 1, 2]]
    weights = np.array([1, 0.5, 3, 0], np.float32)
    logits = np.asarray(model(images), np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    smooth = 0.7 * targets + 0.1
    loss = np.mean(weights * -(smooth * np.log(chances)).sum(axis=1))
    gradient = np.mean(weights[:, None] * (chances - smooth), axis=0)
    before = np.array(model.layers[-1].bias)
    logs = backend.step(model, images, targets, weights)
    assert float(logs["loss"]) == pytest.approx(loss, rel=1e-5)
    moved = np.array(model.layers[-1].bias) - before
    # Nesterov's first step, with momentum 0.9, is 1.9 times the gradient
    np.testing.assert_allclose(moved, -0.1 * 1.9 * gradient, rtol=1e-4, atol=1e-7)
    assert isinstance(model.optimizer, keras.optimizers.SGD)


def test_the_average_of_the_weights_is_exponential_with_a_quick_start(settings):
    section = settings(**{"train.averaging": 0.3}).train
    first, second = (
        SimpleNamespace(get_weights=lambda value=value: [np.full(3, value)]) for value in (2.0, 5.0)
    )
    averaged = loop._averaged([np.full(3, 1.0)], first, 0, section)  # momentum 1/10
    np.testing.assert_allclose(averaged[0], 0.1 * 1 + 0.9 * 2)
    averaged = loop._averaged(averaged, second, 100, section)  # momentum 0.3, not 101/110
    np.testing.assert_allclose(averaged[0], 0.3 * 1.9 + 0.7 * 5)


@pytest.mark.parametrize(
    ("movement", "value"), [("rotation", 20), ("shift", 0.2), ("zoom", 0.3), ("erase", 0.4)]
)
def test_each_movement_of_the_parameters_reaches_the_faces(faces, settings, movement, value):
    part, section = faces.split("train"), settings(**STILL | {f"train.{movement}": value}).train
    movements = dict.fromkeys(("rotation", "shift", "zoom"), 0.0) | {movement: value}
    originals = part.faces[batches.order(part, section, 2)]
    uniforms = augment.parameters((section.seed, 2, batches.TRANSFORM), len(originals))
    expected = augment.apply(originals, uniforms, flip=False, **movements)
    assert (expected != originals).any(axis=(1, 2)).mean() > 0.9
    np.testing.assert_array_equal(shown(part, section, 2), expected)


def test_order_and_mirrored_half_differ_with_seed_and_epoch(faces, settings):
    part = faces.split("train")
    orders, sights = [], []
    for seed, epoch in ((0, 0), (0, 2), (1, 0)):
        section = settings(**STILL, **{"train.seed": seed}).train
        orders.append(batches.order(part, section, epoch))
        assert sorted(orders[-1]) == list(range(35))
        mirrored = shown(part, settings(**STILL | {"train.flip": True, "train.seed": seed}).train)
        sights.append({face.tobytes() for face in mirrored})
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    assert sights[0] == sights[1] != sights[2]  # of seeds 0, 0 and 1, all in epoch 0


def test_a_plateau_halves_the_rate_after_as_many_epochs_as_it_says(settings):
    section, state = settings(**{"train.reduce_on_plateau": 2}).train, State()
    scales = []
    for loss in (1.0, 0.9, 0.95, 0.92, 0.91, 0.93, 0.8, 0.81):
        loop._count_epochs_since_best(state, loss, section)
        scales.append(state.rate_scale)
    assert scales == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert (state.best_loss, state.epochs_since_best) == (0.8, 1)


@pytest.mark.parametrize(
    ("name", "kind", "decay"),
    [
        ("adam", "Adam", None),
        ("adamw", "AdamW", 0.03),
        ("sgd", "SGD", 0.03),
        ("muon", "Muon", 0.03),
    ],
)
def test_each_optimizer_is_what_its_name_says(settings, name, kind, decay):
    keras = backend.start("tensorflow")
    section = settings(
        **{"train.optimizer": name, "train.learning_rate": 0.02, "train.weight_decay": 0.03}
    ).train
    optimizer = optimizers.build(keras, section)
    assert isinstance(optimizer, getattr(keras.optimizers, kind))
    assert type(optimizer).__name__ == kind  # AdamW is an Adam, too
    assert (float(optimizer.learning_rate), optimizer.weight_decay) == (pytest.approx(0.02), decay)
    if name == "sgd":
        assert (optimizer.momentum, optimizer.nesterov) == (0.9, True)
