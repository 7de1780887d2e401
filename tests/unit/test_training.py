"""The training loop: what decides numbers derives from (seed, epoch, index) alone.

So a killed run goes on to the same bytes.
"""

import hashlib
import io
import itertools
import os
import random
import subprocess
import sys

import numpy as np
import pytest

import stages.train
from ferlab import models, params
from ferlab.files import UserError
from ferlab.training import (
    backend,
    batches,
    fingerprint,
    loop,
    model_file,
    network,
    optimizers,
    schedule,
)
from ferlab.training.callbacks import Callbacks, Reporter
from tests.synthetic import make

PARAMETERS = {
    "small": 687_015,
    "medium": 1_750_519,
    "wide": 3_108_167,
    "vgg": 1_767_207,
    "resnet": 2_761_895,
    "vit": 1_280_759,
    "efficientnet_lite0": 3_421_415,
    "silva_2025": 1_468_135,
    "ho_2016": 1_727_687,
    "ho_2016_baseline": 124_935,
    "fourlayer_2025": 981_927,
    "fourlayer_2025_plain": 979_719,
}  # with seven classes
TINY = {"train.batch_size": 16, "train.epochs": 3}


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def faces():
    """35 training and 14 public images of two classes, which brightness tells apart."""
    dataset = make({"angry": (9, 4, 4), "happy": (26, 10, 10)})
    dataset.faces[dataset.labels == 1] //= 3
    return dataset


def train(
    dataset, settings, checkpoint=None, die_after=None, die_in=None, on_nondeterministic=None
):
    """(hash of the saved model, history) in this process.

    die_after: raise after the checkpoint of this epoch (from 1). die_in: (epoch, step) from 0,
    raise after that step.
    """

    def epoch(row, seconds):
        if row["epoch"] == die_after:
            raise Killed

    def step(epoch, step, steps):
        if (epoch, step) == die_in:
            raise Killed

    backend.start(settings.backend, settings.precision, settings.seed)
    model, history, seconds = loop.fit(
        dataset, settings, checkpoint, Callbacks(step, epoch, on_nondeterministic)
    )
    assert len(seconds) == len(history)
    path = checkpoint.with_name("model.keras")
    model_file.save(model, path)
    return hashlib.sha256(path.read_bytes()).hexdigest(), history


@pytest.mark.parametrize("name", params.models())
def test_each_network_has_its_stated_size_and_gives_probabilities(name):
    backend.start("tensorflow")
    model = models.build(name, 7, 0.2)
    probabilities = np.asarray(model.predict_on_batch(np.zeros((2, 48, 48, 1), np.uint8)))
    assert model.count_params() == PARAMETERS[name]
    assert probabilities.shape == (2, 7)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


STATES = {
    "one_cycle with warm-up, adamw, best": {},
    "cosine, averaged, sgd": {
        "train.schedule": "cosine",
        "train.averaging": 0.9,
        "train.optimizer": "sgd",
    },
    "plateau and early stopping, adam": {
        "train.schedule": "constant",
        "train.reduce_on_plateau": 1,
        "train.early_stopping": 2,
        "train.optimizer": "adam",
        "train.epochs": 5,
        "train.warmup": 0.0,
    },
    "constant, averaged, last": {
        "train.schedule": "constant",
        "train.averaging": 0.9,
        "train.keep": "last",
    },
    "erased, dropout, last": {"train.keep": "last", "train.erase": 0.3, "train.dropout": 0.5},
    "small faces first, muon": {"train.low_resolution": 0.6, "train.optimizer": "muon"},
    "mixed in any light, first only the last layer": {
        "train.mixup": 0.5,
        "train.light": 0.6,
        "train.frozen": 1,
    },
    "small faces first, averaged": {
        "train.low_resolution": 0.3,
        "train.averaging": 0.9,
        "train.precision": "bfloat16",
    },
}
QUICK = ("small faces first, muon",)  # the default's kind


@pytest.mark.parametrize(
    "state",
    [state if state in QUICK else pytest.param(state, marks=pytest.mark.slow) for state in STATES],
)
def test_a_run_killed_in_any_step_and_after_any_epoch_goes_on_to_the_same_bytes(
    tmp_path, faces, settings, state
):
    """Killed three times: in a random step of a random epoch, after it, and after the last."""
    section = settings(**TINY | STATES[state]).train
    expected, history = train(faces, section, tmp_path / "whole" / "checkpoint.npz")
    rng = random.Random(state)
    epoch, step = rng.randrange(len(history)), rng.randrange(3)  # 35 images in batches of 16
    checkpoint = tmp_path / "killed" / "checkpoint.npz"
    for death in ({"die_in": (epoch, step)}, {"die_after": epoch + 1}, {"die_after": len(history)}):
        if death != {"die_after": epoch + 1} or epoch + 1 < len(history):
            with pytest.raises(Killed):
                train(faces, section, checkpoint, **death)
    resumed, resumed_history = train(faces, section, checkpoint)
    assert resumed == expected
    assert resumed_history.equals(history)


@pytest.mark.slow
def test_another_seed_gives_other_bytes(tmp_path, faces, settings):
    hashes = set()
    for seed in (0, 1):
        section = settings(**TINY, **{"train.seed": seed}).train
        hashes.add(train(faces, section, tmp_path / str(seed) / "checkpoint.npz")[0])
    assert len(hashes) == 2


@pytest.mark.slow
def test_a_machine_that_does_not_repeat_a_step_is_reported_for_each_side_of_the_faces(
    tmp_path, faces, settings, monkeypatch
):
    """And trying it changes no bit of the result."""
    half_small = settings(**TINY, **{"train.low_resolution": 0.5, "train.dropout": 0.2}).train
    reports = []

    def report():
        reports.append("nondeterministic")

    expected, _ = train(faces, half_small, tmp_path / "plain/checkpoint.npz")
    tried, _ = train(
        faces, half_small, tmp_path / "tried/checkpoint.npz", on_nondeterministic=report
    )
    assert tried == expected
    assert not reports
    seed_dropout, calls = network.seed_dropout, itertools.count()
    monkeypatch.setattr(
        network, "seed_dropout", lambda model, *_: seed_dropout(model, next(calls), 0)
    )
    train(faces, half_small, tmp_path / "other/checkpoint.npz", on_nondeterministic=report)
    assert reports == ["nondeterministic"] * 2


@pytest.mark.slow
def test_a_saved_model_holds_no_date_and_no_optimiser(tmp_path, faces, settings):
    import zipfile

    import keras

    train(faces, settings(**TINY | {"train.epochs": 1}).train, tmp_path / "checkpoint.npz")
    with zipfile.ZipFile(tmp_path / "model.keras") as file:
        assert {info.date_time for info in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert b"1980-01-01" in file.read("metadata.json")
    assert not hasattr(
        keras.models.load_model(tmp_path / "model.keras", safe_mode=True), "optimizer"
    )


@pytest.mark.slow
def test_plateau_halves_the_rate_and_early_stopping_ends_the_run(tmp_path, faces, settings):
    stuck = settings(
        **TINY
        | {
            "train.epochs": 12,
            "train.learning_rate": 1e-9,
            "train.optimizer": "sgd",
            "train.schedule": "constant",
            "train.warmup": 0.0,
            "train.reduce_on_plateau": 2,
            "train.early_stopping": 3,
        }
    )
    _, history = train(faces, stuck.train, tmp_path / "checkpoint.npz")
    falls = history["selection_loss"].cummin().diff().fillna(-1) < 0
    last_fall = int(np.flatnonzero(falls)[-1])
    assert len(history) < 12
    assert len(history) == last_fall + 1 + 3
    assert history["learning_rate"].iloc[-1] < history["learning_rate"].iloc[0]


@pytest.mark.parametrize(
    ("shape", "last"), [("one_cycle", 0.01), ("cosine", 0.0003), ("constant", 1.0)]
)
def test_the_rate_rises_to_its_peak_and_follows_the_schedule(settings, shape, last):
    section = settings(
        **{"train.schedule": shape, "train.learning_rate": 1.0, "train.warmup": 0.2}
    ).train
    rates = [schedule.rate(step, 100, section) for step in range(100)]
    assert rates[0] < 0.1
    assert rates[20] == pytest.approx(1)
    assert max(rates) <= 1
    assert rates[99] == pytest.approx(last, rel=0.4)


def test_batches_depend_on_seed_and_epoch_alone(faces, settings):
    section, part = settings(**TINY).train, faces.split("train")
    first = [batch[0] for batch in batches.batches(part, section, 3)]
    list(batches.batches(part, section, 0))
    again = [batch[0] for batch in batches.batches(part, section, 3)]
    other = [batch[0] for batch in batches.batches(part, section, 4)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert sum(len(batch) for batch in first) == len(part.faces)


def test_two_epochs_show_each_image_once_mirrored_and_once_not(faces, settings):
    still = settings(
        **TINY
        | {"train.rotation": 0, "train.shift": 0.0, "train.zoom": 0.0, "train.low_resolution": 0.0}
    ).train
    part = faces.split("train")
    both = np.concatenate(
        [batch[0][..., 0] for epoch in (0, 1) for batch in batches.batches(part, still, epoch)]
    )
    shown = sorted(face.tobytes() for face in both)
    assert shown == sorted(
        [face.tobytes() for face in part.faces] + [face[:, ::-1].tobytes() for face in part.faces]
    )


def test_mixup_shows_faces_between_two_with_targets_and_weights_between_theirs(faces, settings):
    still = {"train.rotation": 0, "train.shift": 0.0, "train.zoom": 0.0, "train.flip": False}
    still |= TINY | {"train.low_resolution": 0.0}
    part = faces.split("train")
    plain, mixed = (
        list(batches.batches(part, settings(**still, **{"train.mixup": mixup}).train, 1))
        for mixup in (0.0, 0.4)
    )
    for (before, targets, _), (after, shares, _) in zip(plain, mixed, strict=True):
        share = np.where(targets != np.roll(targets, 1, axis=0), np.abs(shares - targets), 0)
        assert 0 <= share.max() <= 0.5 and np.allclose(shares.sum(axis=1), 1)
        low = np.minimum(before, np.roll(before, 1, axis=0))
        high = np.maximum(before, np.roll(before, 1, axis=0))
        assert ((low <= after) & (after <= high)).all()
        # a face whose target is mixed is mixed in the same share
        for row in np.flatnonzero(share.max(axis=1) > 0.1):
            other, own = before[row - 1].astype(float), before[row].astype(float)
            expected = own + share[row].max() * (other - own)
            assert np.abs(after[row] - expected).max() <= 0.51
    assert any((shares.max(axis=1) < 0.95).any() for _, shares, _ in mixed)
    again = list(batches.batches(part, settings(**still, **{"train.mixup": 0.4}).train, 1))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(mixed, again, strict=True))


def test_another_light_changes_contrast_and_brightness_within_its_bounds_and_nothing_else(settings):
    dataset = make({"angry": (40, 4, 4), "happy": (40, 10, 10)})
    dataset.faces[:] = 96 + dataset.faces // 4  # far from black and white, where light is cut off
    still = {"train.rotation": 0, "train.shift": 0.0, "train.zoom": 0.0, "train.flip": False}
    still |= TINY | {"train.low_resolution": 0.0}
    part = dataset.split("train")
    plain, lit, again = (
        list(batches.batches(part, settings(**still, **{"train.light": light}).train, 1))
        for light in (0.0, 0.5, 0.5)
    )
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(lit, again, strict=True))
    factors, levels = [], []
    for (before, *labels), (after, *same) in zip(plain, lit, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(labels, same, strict=True))
        for face, other in zip(before.astype(float), after.astype(float), strict=True):
            factor, level = np.polyfit(face.ravel() - face.mean(), other.ravel(), 1)
            assert np.abs(level + factor * (face - face.mean()) - other).max() < 1
            factors.append(factor)
            levels.append(level - face.mean())
    assert 1 / 1.55 < min(factors) < 0.75 and 1.3 < max(factors) < 1.55
    assert -41 < min(levels) < -25 and 25 < max(levels) < 41


@pytest.mark.slow
def test_while_all_is_frozen_but_the_last_layer_nothing_else_changes(faces, settings):
    """One epoch, then one more in which all layers learn."""
    trained = {}
    for epochs in (1, 2):
        changes = {"train.epochs": epochs, "train.frozen": 1, "train.keep": "last"}
        section = settings(**TINY | changes).train
        backend.start("tensorflow", "float32", section.seed)
        fresh = models.build(section.model, 2, section.dropout)
        backend.start("tensorflow", "float32", section.seed)
        model, _, _ = loop.fit(faces, section)
        trained[epochs] = {
            layer.name
            for layer, before in zip(model.layers, fresh.layers, strict=True)
            if any(
                not np.array_equal(a, b)
                for a, b in zip(layer.get_weights(), before.get_weights(), strict=True)
            )
        }
    assert trained[1] == {"logits"}
    assert len(trained[2]) > 10


def test_the_first_epochs_show_small_faces_and_a_network_with_flatten_refuses_them(faces, settings):
    section = settings(**TINY | {"train.low_resolution": 0.6}).train  # two of three epochs
    sides = [
        next(batches.batches(faces.split("train"), section, epoch))[0].shape[1:]
        for epoch in range(3)
    ]
    assert sides == [(32, 32, 1), (32, 32, 1), (48, 48, 1)]
    with pytest.raises(
        UserError,
        match="train.low_resolution = 0.6: the network silva_2025 takes no faces of 32x32",
    ):
        train(
            faces,
            settings(**TINY | {"train.low_resolution": 0.6, "train.model": "silva_2025"}).train,
        )


def test_muon_updates_a_kernel_by_an_orthogonal_step_as_large_as_adams(settings):
    keras = backend.start("tensorflow")
    kernel = keras.Variable(np.zeros((3, 3, 8, 16), np.float32), name="kernel")
    optimizer = optimizers.muon(
        keras, settings(**{"train.learning_rate": 0.1, "train.weight_decay": 0.0}).train
    )
    optimizer.build([kernel])
    optimizer.apply(
        [np.random.default_rng(0).normal(size=kernel.shape).astype(np.float32)], [kernel]
    )
    step = np.asarray(kernel).reshape(72, 16)
    values = np.linalg.svd(step, compute_uv=False)
    # Five Newton-Schulz iterations leave the singular values near one another, not equal.
    assert values.max() / values.min() < 2
    # Liu et al. 2025: as large as AdamW's.
    assert np.sqrt((step**2).mean()) == pytest.approx(0.2 * 0.1, rel=0.2)


def test_class_weights_reach_the_batches_and_the_sampler_draws_classes_equally(settings):
    from dataclasses import replace

    section = settings(**TINY).train
    part = make({"angry": (30, 1, 1), "happy": (270, 1, 1)}).split("train")
    weighted = replace(part, training={"class_weights": [5.0, 0.5]})
    for _, targets, weights in batches.batches(weighted, section, 0):
        assert np.array_equal(weights, np.where(targets[:, 0] == 1, 5.0, 0.5).astype(np.float32))
    drawn = np.concatenate(
        [
            part.labels[batches.order(replace(part, training={"sampler": "balanced"}), section, e)]
            for e in range(10)
        ]
    )
    assert len(drawn) == 10 * len(part.faces)
    assert 0.45 < drawn.mean() < 0.55


@pytest.mark.slow
def test_a_diverging_loss_is_one_line(tmp_path, faces, settings):
    backend.start("tensorflow")
    with pytest.raises(UserError, match="the loss is nan; lower train.learning_rate"):
        loop.fit(
            faces,
            settings(
                **TINY
                | {
                    "train.learning_rate": 10.0,
                    "train.optimizer": "sgd",
                    "train.weight_decay": 1.0,
                    "train.epochs": 30,
                    "train.schedule": "constant",
                }
            ).train,
        )


def test_a_backend_that_is_not_there_is_one_line():
    import importlib.util

    if importlib.util.find_spec("torch"):
        pytest.skip("torch is installed here")
    import subprocess
    import sys

    finished = subprocess.run(
        [
            sys.executable,
            "-c",
            "from ferlab.training import backend\nfrom stages import run\n"
            "run(lambda here: backend.start('torch'))",
        ],
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 1
    assert finished.stderr.strip() == (
        "error: train.backend = 'torch': torch is not installed; choose tensorflow or install it"
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_fused_normalisation_gives_what_keras_own_gives(precision):
    """In training and in use, and the same statistics; 1e-4 of the largest value."""
    keras = backend.start("tensorflow", precision)
    inputs = keras.Input((6, 6, 3))
    plain = keras.Model(inputs, keras.layers.BatchNormalization(momentum=0.9)(inputs))
    fused = network.fused(plain)
    assert type(fused.layers[1]) is not keras.layers.BatchNormalization
    faces = np.random.default_rng(0).normal(3, 2, (8, 6, 6, 3)).astype(np.float32)
    ulp = 2**-8 if precision == "bfloat16" else 0  # the outputs of both are rounded to 8 bits
    for training in (True, True, False):
        ours, theirs = (
            np.asarray(keras.ops.cast(model(faces, training=training), "float32"))
            for model in (fused, plain)
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=ulp)
        for ours, theirs in zip(fused.get_weights(), plain.get_weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_what_the_fused_kernel_does_not_know_stays_keras_own():
    keras = backend.start("tensorflow")
    inputs = keras.Input((6, 6, 4))
    x = keras.layers.BatchNormalization(axis=1)(inputs)
    x = keras.layers.BatchNormalization(renorm=True)(x)
    x = keras.layers.GroupNormalization(2)(x)
    model = keras.Model(inputs, keras.layers.BatchNormalization()(keras.layers.Flatten()(x)))
    assert [type(layer) for layer in network.fused(model).layers] == [
        type(layer) for layer in model.layers
    ]


def test_a_trained_model_is_of_plain_keras_layers(tmp_path, faces, settings):
    train(faces, settings(**TINY | {"train.epochs": 1}).train, tmp_path / "checkpoint.npz")
    import keras

    model = keras.models.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}


FLAGS = "processor\t: 0\nflags\t\t: fpu avx2 {}\n"


@pytest.mark.parametrize(
    ("cpuinfo", "backend_name", "expected"),
    [
        (FLAGS.format("avx512_bf16"), "tensorflow", "bfloat16"),
        (FLAGS.format("amx_bf16"), "torch", "bfloat16"),
        (FLAGS.format("amx_bf16"), "jax", "float32"),
        (FLAGS.format(""), "tensorflow", "float32"),
        ("Features\t: fp asimd bf16\n", "tensorflow", "float32"),
    ],
)
def test_auto_is_the_precision_that_the_processor_has(monkeypatch, cpuinfo, backend_name, expected):
    monkeypatch.setattr(backend, "open", lambda *_, **__: io.StringIO(cpuinfo), raising=False)
    monkeypatch.setattr(backend, "GPU_DEVICES", ())
    assert backend.precision_of("auto", backend_name) == expected
    assert backend.precision_of("float32", backend_name) == "float32"
    assert backend.precision_of("bfloat16", backend_name) == "bfloat16"


def test_the_fingerprint_counts_the_precision_that_auto_means(monkeypatch, faces, settings):
    asked, prints = settings(**{"train.precision": "auto"}).train, {}
    for flags in ("avx512_bf16", "sse"):
        text = FLAGS.format(flags)
        monkeypatch.setattr(backend, "open", lambda *_, t=text, **__: io.StringIO(t), raising=False)
        prints[flags] = fingerprint.fingerprint(asked, faces)
    explicit = asked.model_copy(update={"precision": "float32"})
    assert prints["avx512_bf16"] != prints["sse"] == fingerprint.fingerprint(explicit, faces)


@pytest.mark.slow
def test_the_users_keras_settings_change_nothing(tmp_path):
    """Another data format, number type or epsilon in ~/.keras/keras.json."""
    (tmp_path / "keras.json").write_text(
        '{"image_data_format": "channels_first", "floatx": "float16", "epsilon": 0.1, '
        '"backend": "torch"}'
    )
    script = (
        "from ferlab.training import backend; keras = backend.start('tensorflow'); "
        "print(keras.config.image_data_format(), keras.config.floatx(), keras.config.epsilon())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["channels_last", "float32", "1e-07"]


def test_muon_takes_kernels_as_matrices_and_leaves_depthwise_ones_out():
    shape = optimizers._matrix_shape
    assert shape("conv2d/kernel", (3, 3, 32, 64)) == (288, 64)
    assert shape("mha/query/kernel", (128, 4, 32)) == (128, 128)
    assert shape("mha/attention_output/kernel", (4, 32, 128)) == (128, 128)
    assert shape("depthwise/kernel", (3, 3, 128, 1)) is None
    assert shape("logits/kernel", (256, 7)) is None
    assert shape("dense/bias", (256,)) is None


def test_where_public_is_large_epochs_are_compared_on_a_part_of_it():
    dataset = make({"angry": (4, 5, 1)})
    whole = loop._affordable(dataset.split("public"), 4)
    assert len(whole.faces) == 5
    many = dataset.split("public").where(np.zeros(5000, int))
    assert len(loop._affordable(many, 4).faces) == loop.MIN_SELECTION
    assert len(loop._affordable(many, 6000).faces) == 3000
    assert len(loop._affordable(many, 28709).faces) == 5000


@pytest.mark.parametrize("content", ["", "[1", "3", "null", "[1]", '"x"'])
def test_a_damaged_memory_of_what_repeats_is_as_good_as_none(tmp_path, settings, content):
    memory = tmp_path / "memory.json"
    memory.write_text(content)
    reporter = Reporter(settings(**TINY).train, None, memory)
    reporter.progress.close()
    assert reporter.known_repeats == {}


@pytest.mark.slow
def test_that_a_machine_repeats_is_tried_once_and_remembered(
    tmp_path, faces, settings, monkeypatch
):
    tried = []
    monkeypatch.setattr(network, "is_deterministic", lambda *_: bool(tried.append(1)))
    section, known, reports = settings(**TINY).train, {}, []
    for _ in range(2):
        backend.start("tensorflow")
        loop.fit(
            faces,
            section,
            callbacks=Callbacks(on_nondeterministic=lambda: reports.append(1), known_repeats=known),
        )
    sides = len({schedule.side_of(section, epoch) for epoch in range(section.epochs)})
    assert len(tried) == len(known) == sides
    assert len(reports) == 2 * sides  # said each time


@pytest.mark.parametrize(
    ("asked", "in_hardware", "line"),
    [
        ("auto", True, None),
        ("auto", False, None),
        ("auto", None, "this system does not say whether its processor multiplies bfloat16"),
        ("float32", True, "train.precision=auto is 1.5 to 2 times faster"),
        ("float32", False, None),
        ("bfloat16", True, None),
        ("bfloat16", False, "took 20 times as long as in float32 just now"),
    ],
)
def test_what_the_precision_costs_is_told_before_training(
    monkeypatch, settings, asked, in_hardware, line
):
    monkeypatch.setattr(backend, "GPU_DEVICES", ())
    monkeypatch.setattr(backend, "has_bfloat16", lambda: in_hardware)
    monkeypatch.setattr(network, "slowdown_of_bfloat16", lambda: 20.4)
    told = stages.train.about_precision(settings(**{"train.precision": asked}).train)
    assert told is None if line is None else line in told
