"""What `make bench` and `make ablation` count and write; the measuring itself on the real FER2013,
shortly.
"""

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import benchmarks
from benchmarks import (
    FACES,
    ablation,
    bench,
    bench_parts,
    bench_report,
    fit,
    ideas,
    read_faces,
    scale_report,
    ways,
)
from ferlab import files, models, params, recipes
from ferlab.data import augment
from ferlab.files import UserError
from ferlab.training import backend, optimizers
from tests.builders import tiny
from tests.conftest import REPOSITORY


@pytest.mark.parametrize(("name", "millions"), [("silva_2025", 86.4), ("small", 43.0)])
def test_multiply_adds_are_those_counted_by_hand(name, millions):
    """silva_2025: 48^2 (9*32 + 9*32*32) + 24^2 (9*32*64 + 9*64*64) + 12^2 (9*64*128 + 9*128*128) +
    4608*256 + 256*7.
    """
    backend.start("tensorflow")
    network = models.build(name, 7, 0.0)
    assert ways.multiply_adds(network) / 1e6 == pytest.approx(millions, rel=0.01)


def test_the_numpy_warp_is_the_same_as_opencvs():
    faces = np.random.default_rng(0).integers(0, 256, (6, 48, 48), dtype=np.uint8)
    uniforms = augment.parameters((1,), 6)
    given = bench_parts.numpy_warp(faces, augment._matrices(uniforms, True, 10, 0.08, 0.1)).astype(
        int
    )
    wanted = augment.apply(faces, uniforms, flip=True, rotation=10, shift=0.08, zoom=0.1).astype(
        int
    )
    assert np.abs(given - wanted).max() <= 6  # OpenCV interpolates in steps of 1/32 pixel


def test_a_benchmark_takes_as_many_devices_as_the_parameters_say(settings):
    """TensorFlow spreads no batch; on one device, the figures would be of another training."""
    wanted = settings(**{"train.devices": 2}).train
    with pytest.raises(UserError, match="train.devices = 2: only JAX spreads a batch"):
        fit(tiny(), wanted)
    with pytest.raises(UserError, match="train.devices = 2: only JAX spreads a batch"):
        ways._ours(tiny(), wanted, in_any_order=False)


WAY = {
    "images_per_second": 1234.4,
    "slowest": 1100.0,
    "fastest": 1300.0,
    "epoch_seconds": 23.3,
    "share_of_peak": 0.256,
    "peak_mb": 1450,
    "anonymous_mb": 900,
}
FASTER = WAY | {"images_per_second": 1250.0, "share_of_peak": 0.5, "feed_share": 0.071}
BENCH = {
    "machine": {"cores": 2, "cpu": "a machine"},
    "ways": {ways.TEXTS: WAY, "silva_2025, float32": FASTER},
    "seconds": {"speedrun": 72},
    "feed_ms": {"OpenCV": 1.5},
    "pipeline_seconds": {"eda": 7.5},
    "no_op_seconds": None,
    "scale": {"1": WAY, "16": WAY | {"images_per_second": 1200.0}},
    "until": {"default": {"59.53 %": 40, "65.00 %": None}},
    "took_seconds": 200,
}


def test_the_benchmark_s_numbers_are_shown_with_their_units(tmp_path, drawn):
    lines = bench_report.table(BENCH).splitlines()
    assert " ".join(lines[1].split()) == "texts 1,234 23.3 26 % 1,450 MB"
    assert " ".join(lines[2].split()) == "silva_2025, float32 1,250 23.3 50 % 7.1 % 1,450 MB"
    assert "seconds of training: speedrun 72" in lines
    assert any("nothing to do: not measured" in line for line in lines)
    assert "16 x the data: 1,200 images/s, 900 MB of its own" in lines
    assert "default: 59.53 % of public after 40 s, 65.00 % not reached" in lines
    assert lines[-1] == "took 3 min"
    bench_report.draw(tmp_path / "bench.png", BENCH)
    bench_report.draw_scale(tmp_path / "scale.png", BENCH["scale"])
    ways, (speed, memory) = drawn[0].axes[0], drawn[1].axes
    names = [label.get_text() for label in ways.get_yticklabels()]
    assert names == ["silva_2025, as the texts train", "silva_2025, float32"]
    bars = [bar.get_width() for bar in ways.patches]
    assert bars == [1234.4, 1250.0] and max(bars) < ways.get_xlim()[1]
    assert [text.get_text() for text in ways.texts] == [
        "1,234   26 % of peak",
        "1,250   50 % of peak",
    ]
    assert [text.get_text() for text in speed.texts] == ["1,234", "1,200"]
    assert [text.get_text() for text in memory.texts] == ["900", "900"]
    assert [label.get_text() for label in speed.get_xticklabels()] == ["1x", "16x"]


def test_kinds_of_processors_stand_side_by_side():
    slow = BENCH | {"kind": "avx2", "peak_gflops": {"float32": 100, "bfloat16": 7}}
    fast = BENCH | {"kind": "amx", "peak_gflops": {"float32": 300, "bfloat16": 2000}}
    slow["seconds"], fast["seconds"] = (
        {ways.TEXTS: 3000, "speedrun": 300},
        {ways.TEXTS: 2000, "speedrun": 80},
    )
    slow["ways"] = {ways.TEXTS: WAY}
    page = bench_report.page([slow, fast]).splitlines()
    assert "|  | amx | avx2 |" in page
    assert "| silva_2025, as the texts train | 1,234 (26 %) | 1,234 (26 %) |" in page
    assert "| silva_2025, float32 | 1,250 (50 %) | not measured |" in page
    assert "| times less | 25.0 | 10.0 |" in page


@pytest.mark.parametrize(
    ("flags", "name"),
    [("avx2 avx512f avx512_bf16", "avx512-bf16"), ("sse avx2", "avx2"), ("sse4_1", "x86_64")],
)
def test_a_processor_s_kind_is_the_best_that_its_flags_name(flags, name, monkeypatch):
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: f"a: 1\nflags : fpu {flags}\n")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert bench.kind() == name


def test_each_processor_has_a_file_of_its_own():
    assert bench.file_name("AMD EPYC (family 26, model 2)") == "amd-epyc-family-26-model-2"
    assert bench.file_name("Intel(R) Xeon(R) 8488C") == "intel-r-xeon-r-8488c"


def test_the_speedrun_costs_what_its_epochs_take_at_its_speed(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(bench, "training_images", lambda: 20_000)
    result = {"images_per_second": 1000.0, "model": "silva_2025"}
    seconds = bench.totals(
        {name: result for name in ways.WAYS if name != "speedrun"}
        | {"speedrun": {"images_per_second": 2000.0, "model": "small"}}
    )
    settings = recipes.load_recipe("speedrun").train
    assert seconds["speedrun"] == 10 * settings.epochs
    assert settings.low_resolution == 0  # a faster part would have to be measured apart
    assert seconds[ways.TEXTS] == round(bench.SILVA_IMAGES / 1000)


def test_a_way_s_share_of_the_peak_and_of_the_feed_are_worked_out_from_its_speed(monkeypatch):
    """500 images/s of a million multiply-adds, forward and twice backward: 3 GFLOP/s of 30."""
    monkeypatch.setattr(bench, "training_images", lambda: 28_709)
    result = {"images_per_second": 500.0, "multiply_adds": 10**6, "precision": "float32"}
    result |= {"batch_size": 100, "feed_ms": 10.0}
    bench.add_shares({"a way": result}, {"float32": 30})
    assert result["epoch_seconds"] == 57.4
    assert result["share_of_peak"] == 0.1
    assert result["feed_share"] == 0.05  # 10 of the 200 ms of a batch


def test_the_ablation_names_what_each_ingredient_buys(monkeypatch):
    monkeypatch.chdir(REPOSITORY)

    def seeds(private, seconds):
        scores = {"one": private - 0.05, "two": private, "ten": private + 0.02}
        result = {"machine": "a machine", "public": dict.fromkeys(scores, 0.6), "private": scores}
        return [result | {"seconds": seconds + seed} for seed in range(3)]

    idea, added = next(iter(ideas.IDEAS)), next(iter(ablation.ADDED))
    results = {"nothing": seeds(0.65, 100.0), "mirror": seeds(0.64, 90.0)}
    results |= {added: seeds(0.63, 110.0), idea: seeds(0.66, 99.0)}
    page = ablation.text(results).splitlines()
    public = "60.00 % (60.00–60.00)"
    assert f"| nothing | {public} | 65.00 % (65.00–65.00) |  | 101 |" in page
    assert f"| mirror | {public} | 64.00 % (64.00–64.00) | -1.0 | 91 |" in page
    assert f"| two views: one | {public} | 60.00 % (60.00–60.00) | -5.0 | 101 |" in page
    assert f"| two views: ten | {public} | 67.00 % (67.00–67.00) | +2.0 | 101 |" in page
    put_in = page.index("| put in | public | private | private, against the speedrun | seconds |")
    assert put_in < page.index(f"| {added} | {public} | 63.00 % (63.00–63.00) | -2.0 | 111 |")
    assert put_in < page.index(f"| {idea} | {public} | 66.00 % (66.00–66.00) | +1.0 | 100 |")


def test_the_ablation_shows_the_views_that_the_recipe_takes(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    evaluate = recipes.load_recipe("speedrun").evaluate
    own = {"flip": False, "shift": 0} | ablation.VIEWS[ablation.OWN]
    assert own == {"flip": evaluate.flip, "shift": evaluate.shift}


def test_the_committed_pages_are_made_of_the_committed_numbers(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    results = {}
    for row in files.read_json(ablation.NOTES).values():
        results.setdefault(row["variant"], []).append(row)
    assert ablation.PAGE.read_text() == ablation.text(results), "make ablation"
    kinds = [files.read_json(path) for path in sorted(bench.FOLDER.glob("*.json"))]
    assert kinds and bench.PAGE.read_text() == bench_report.page(kinds), "make bench"


def test_each_idea_of_the_ablation_is_what_its_name_says():
    params = SimpleNamespace(optimizer="muon", learning_rate=0.02, weight_decay=0.05)
    keras = backend.start("tensorflow")
    dirac, whitening, momentum, biases, steps = ideas.IDEAS.values()
    with momentum():
        assert models.build("small", 7, 0.0).layers[4].momentum == 0.6
    assert models.build("small", 7, 0.0).layers[4].momentum == 0.9
    with dirac():
        kernel = np.array(models.build("small", 7, 0.0).layers[6].kernel)  # the second of six
    image = np.random.default_rng(0).random((1, 8, 8, kernel.shape[2]), np.float32)
    convolved = np.asarray(keras.ops.conv(image, kernel, padding="same"))
    np.testing.assert_array_equal(convolved[..., : kernel.shape[2]], image)
    with steps():
        assert optimizers.build(keras, params).ns_steps == 3
    assert optimizers.build(keras, params).ns_steps == 5

    def moved(optimizer):
        """How far a first step takes scale and bias of a layer."""
        network = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
        variables, before = network.trainable_variables, network.get_weights()
        optimizer.build(variables)
        optimizer.apply([keras.ops.ones(4)] * 2)
        return [
            float(old[0] - np.asarray(new)[0]) for old, new in zip(before, variables, strict=False)
        ]

    with biases():
        assert moved(optimizers.build(keras, params)) == pytest.approx([0.02, 0.08], rel=1e-3)
    assert moved(optimizers.build(keras, params)) == pytest.approx([0.02, 0.02], rel=1e-3)


def test_the_first_layer_whitens_patches_of_training_faces(tmp_path, monkeypatch):
    data = tiny(train=5)
    data.save(tmp_path / "faces")
    monkeypatch.setattr(ideas, "FACES", tmp_path / "faces")
    keras = backend.start("tensorflow")
    with ideas.IDEAS["a first layer that begins by whitening"]():
        kernel = np.array(models.build("small", 7, 0.0).layers[2].kernel)
    faces = data.split("train").faces[..., None].astype(np.float32) / 127.5 - 1
    convolved = np.asarray(keras.ops.conv(faces, kernel, padding="valid"))
    np.testing.assert_allclose(convolved[..., :9], -convolved[..., 9:18], atol=1e-4)
    spread = np.cov(convolved[..., :9].reshape(-1, 9), rowvar=False)
    np.testing.assert_allclose(spread, np.diag(np.diag(spread)), atol=1e-4)
    assert np.diag(spread).min() > 0.5 and 0.95 < np.diag(spread).max() < 1  # for a small constant


@pytest.mark.parametrize("variant", [*ablation.VARIANTS, *ablation.ADDED])
def test_each_variant_of_the_ablation_changes_the_speedrun_to_valid_settings(variant, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    changes = (ablation.VARIANTS | ablation.ADDED)[variant]
    settings = ablation.train_settings(changes, 0).model_dump()
    assert params.Train.model_validate(settings).model_dump() == settings
    speedrun = ablation.train_settings({}, 0).model_dump()
    assert {key for key in speedrun if speedrun[key] != settings[key]} == set(changes)


def test_many_trials_are_calculated_from_what_one_machine_did(settings):
    """Two workers, 100 images/s each: the defaults' 12 epochs of 1,000 images, half of them at
    (32/48)^2 of the pixels.
    """
    one = {
        "workers": 2,
        "threads": 1,
        "images_per_second": 200,
        "start_seconds": 10.0,
        "seconds_a_trial": 1.0,
        "training_seconds": 1.5,
        "checkpoint_mb": 10.0,
    }
    found = {
        "machine": {"cores": 2, "cpu": "a machine"},
        "images": 6000,
        "training_images": 1000,
        "plain_seconds": 1.9,
        "trials": [
            one | {"workers": 1, "threads": 2, "images_per_second": 150, "seconds_a_trial": 2.0},
            one,
        ],
        "writes": [
            {"in_flight": 8, "per_second": 20.0, "p50_ms": 5, "p99_ms": 50, "refused": 0},
            {"in_flight": 16, "per_second": 90.0, "p50_ms": 5, "p99_ms": 1500, "refused": 0},
        ],
        "optuna_ms": {"ask": 10.0, "report": 1.0},
    }
    trial, rows = scale_report.model(found, settings().train)
    assert trial == pytest.approx(12 * 1000 * (1 - 0.5 * 5 / 9) / 100)
    assert [row["workers"] for row in rows] == [2, 20, 200]
    assert [row["hours"] for row in rows] == [
        round((waves * trial + 10) / 3600, 1) for waves in (500, 50, 5)
    ]
    assert rows[2]["load"]["MLflow's server"] == pytest.approx(
        200 * 12 / trial / 20
    )  # the 90 came with a p99 above a second
    page = scale_report.text(found)
    assert (
        "so that Ray Tune costs 0.10 s a trial" in page
        and "First bottleneck: checkpoints at 100 MB/s, full at about" in page
    )


real = pytest.mark.skipif(
    not os.environ.get("FER2013"), reason="FER2013 names no copy of the real dataset"
)


@real
@pytest.mark.slow
def test_ways_of_training_take_turns_on_the_real_data(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(bench, "SECONDS", 0.3)
    read_faces()
    results = bench.race({way: (way, 1) for way in (ways.TEXTS, "speedrun")})
    assert all(result["images_per_second"] > 10 for result in results.values())
    texts, speedrun = results.values()
    assert (texts["model"], texts["precision"]) == ("silva_2025", "float32")
    assert speedrun["feed_ms"] > 0 and "feed_ms" not in texts


@real
@pytest.mark.slow
def test_sixteen_times_the_data_cost_no_memory_for_their_faces(monkeypatch):
    """1.06 GB of faces, memory-mapped; what grows is the table of labels."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(bench, "ROUNDS", 1)
    read_faces()
    once = bench.race({"1": ("speedrun", 1)})["1"]
    often = bench.race({"16": ("speedrun", 16)})["16"]
    faces = 16 * np.load(FACES / "faces.npy", mmap_mode="r").nbytes / 2**20
    assert often["anonymous_mb"] - once["anonymous_mb"] < faces / 2


def test_the_benchmarks_take_only_the_official_pixels(tmp_path, monkeypatch):
    from ferlab.data.readers import sources

    monkeypatch.setattr(benchmarks, "FACES", tmp_path / "bench/faces")
    given = {"kind": "path", "path": "folders.zip"}
    jpeg, official = (replace(tiny(), name=name) for name in ("fer2013-jpeg", "fer2013"))
    monkeypatch.setattr(sources, "read", lambda name: (jpeg, given))
    with pytest.raises(UserError, match="FER2013: folders.zip is fer2013-jpeg; let it name the"):
        read_faces()
    jpeg.save(benchmarks.FACES)  # as an older version kept it
    monkeypatch.setattr(sources, "read", lambda name: (official, given))
    read_faces()
    assert benchmarks.Dataset.load(benchmarks.FACES).name == "fer2013"
