"""What `make bench` and `make ablation` count and write; the measuring itself on the real FER2013, shortly."""

import json
import os

import numpy as np
import pytest

from benchmarks import ablation, bench, scale
from ferlab import models, params
from ferlab.data import augment
from ferlab.training import backend
from tests.conftest import REPOSITORY


@pytest.mark.parametrize(("name", "millions"), [("silva_2025", 86.4), ("small", 43.0)])
def test_multiply_adds_are_those_counted_by_hand(name, millions):
    """silva_2025: 48^2 (9*32 + 9*32*32) + 24^2 (9*32*64 + 9*64*64) + 12^2 (9*64*128 + 9*128*128) + 4608*256 + 256*7."""
    backend.start("tensorflow")
    network = models.build(name, 7, 0.0)
    assert bench.multiply_adds(network) / 1e6 == pytest.approx(millions, rel=0.01)
    assert bench.multiply_adds(network, 24) == pytest.approx(
        bench.multiply_adds(network) / 4, rel=1e-6
    )


def test_the_numpy_warp_is_the_same_as_opencvs():
    faces = np.random.default_rng(0).integers(0, 256, (6, 48, 48), dtype=np.uint8)
    uniforms = augment.parameters((1,), 6)
    given = bench._numpy_warp(faces, augment._matrices(uniforms, True, 10, 0.08, 0.1)).astype(int)
    wanted = augment.apply(faces, uniforms, flip=True, rotation=10, shift=0.08, zoom=0.1).astype(
        int
    )
    assert np.abs(given - wanted).max() <= 6  # OpenCV interpolates in steps of 1/32 pixel


def test_the_committed_figures_are_shown(tmp_path):
    found = json.loads((REPOSITORY / "reports/bench.json").read_text())
    shown = bench.table(found)
    assert all(name in shown for name in found["ways"])
    bench.draw(tmp_path / "bench.png", found)
    assert (tmp_path / "bench.png").stat().st_size > 10_000


def test_the_ablation_names_what_each_ingredient_buys(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    found = {
        variant: [
            {
                "seconds": 100.0 + seed,
                "machine": "a machine",
                "public": dict.fromkeys(ablation.VIEWS, 0.6),
                "private": {"one": 0.6, "two": 0.63, "ten": 0.65 - 0.01 * number},
            }
            for seed in ablation.SEEDS
        ]
        for number, variant in enumerate(ablation.VARIANTS)
    }
    page = ablation.text(found)
    for number, variant in enumerate(ablation.VARIANTS):
        assert f"| {variant} |" in page and (not number or f"| -{number}.0 | 101 |" in page)
    assert "| ten views: one | 60.00 % (60.00–60.00) | 60.00 % (60.00–60.00) | -5.0 |" in page
    for changes in ablation.VARIANTS.values():
        assert set(changes) <= set(params.Train.model_fields)


def test_many_trials_are_worked_out_from_what_one_machine_did(settings):
    """Two workers, 100 images/s each: the defaults' 20 epochs of 1,000 images, half of them at (32/48)^2 of the pixels."""
    one = {
        "workers": 2,
        "threads": 1,
        "images_per_second": 200,
        "start_seconds": 10.0,
        "seconds_a_trial": 1.0,
        "training_seconds": 1.5,
        "empty_task_ms": 1.0,
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
    trial, rows = scale.model(found, settings().train)
    assert trial == pytest.approx(20 * 1000 * (1 - 0.5 * 5 / 9) / 100)
    assert [row["workers"] for row in rows] == [2, 20, 200]
    assert [row["hours"] for row in rows] == [
        round((waves * trial + 10) / 3600, 1) for waves in (500, 50, 5)
    ]
    assert rows[2]["load"]["MLflow's server"] == pytest.approx(
        200 * 20 / trial / 20
    )  # the 90 came with a p99 above a second
    page = scale.text(found)
    assert (
        "so that Ray costs 0.10 s a trial" in page
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
    bench.read_faces()
    found = bench.race({way: (way, 1) for way in (bench.TEXTS, "speedrun, 32x32")})
    assert all(one["images_per_second"] > 10 for one in found.values())


@real
@pytest.mark.slow
def test_sixteen_times_the_data_cost_neither_memory_nor_speed(monkeypatch):
    """1.3 GB of faces, memory-mapped. The best turns are compared: a busy machine only ever takes time away."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(bench, "ROUNDS", 5)
    bench.read_faces()
    found = bench.race({times: ("speedrun, 48x48", int(times)) for times in ("1", "16")})
    assert found["16"]["anonymous_mb"] < 1500
    assert found["16"]["fastest"] > 0.9 * found["1"]["fastest"]
