"""The recipes are what their texts say, dvc.yaml knows all of them, and their results are read back as they were written."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from ferlab import params, recipes
from ferlab.data import balance
from ferlab.data.classes import CLASSES
from ferlab.data.dataset import SIZE, assemble
from ferlab.data.readers.sources import FER2013_COUNTS
from ferlab.evaluation import baselines, ensembles, tables
from ferlab.files import UserError, read_json, write_json
from ferlab.reporting import papers
from tests.builders import tiny
from tests.pipeline.test_pipeline import EXEMPT
from tests.repository import TOP

NAMES = sorted(
    file.stem
    for file in (TOP / "recipes").glob("*.yaml")
    if file.name not in ("dvc.yaml", "params.yaml")
)


@pytest.fixture(scope="module")
def pipeline():
    return YAML(typ="safe").load((TOP / "recipes/dvc.yaml").read_text())


@pytest.fixture(scope="module")
def keys(pipeline):
    """{key: {recipe, seed, model}} of all that trains."""
    return next(one["networks"] for one in pipeline["vars"] if "networks" in one)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_strictly_valid_and_says_what_it_is(name, monkeypatch):
    monkeypatch.chdir(TOP)
    settings = recipes.load_recipe(name)
    head = (TOP / f"recipes/{name}.yaml").read_text().split("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert hasattr(settings, "anchor") or settings.train.seed == 0
    assert settings.download.dataset == "fer2013"


def test_the_pipeline_lists_every_recipe_with_its_network(pipeline, keys, monkeypatch):
    monkeypatch.chdir(TOP)
    anchored = next(one["anchors"] for one in pipeline["vars"] if "anchors" in one)
    assert sorted(next(one["recipes"] for one in pipeline["vars"] if "recipes" in one)) == NAMES
    ensembles = next(one["ensembles"] for one in pipeline["vars"] if "ensembles" in one)
    for name, one in ensembles.items():
        assert recipes.load_recipe(name).anchor.members == [
            key for place, key in one.items() if place != "recipe"
        ]
    assert {one["recipe"] for one in keys.values()} | set(anchored) | set(ensembles) == set(NAMES)
    for key, one in keys.items():
        assert key == recipes.key(one["recipe"], one["seed"])
        assert recipes.load_recipe(one["recipe"], one["seed"]).train.model == one["model"]
        assert recipes.load_recipe(one["recipe"], one["seed"]).train.seed == one["seed"]


def test_a_recipe_depends_on_the_same_code_as_the_bench(pipeline):
    bench = YAML(typ="safe").load((TOP / "dvc.yaml").read_text())["stages"]

    def code(stage):
        deps = (
            dep.removeprefix("../").replace("${item.model}", "${train.model}")
            for dep in stage["deps"]
        )
        return {dep for dep in deps if dep.startswith(("stages/", "ferlab/"))}

    stages = {name: stage.get("do", stage) for name, stage in pipeline["stages"].items()}
    for name in ("download", "eda", "balance", "train"):
        assert code(stages[name]) == code(bench[name]), name
    assert code(stages["predict"]) - {"stages/predict.py"} <= code(bench["evaluate"])


@pytest.mark.parametrize("stage", ["anchor", "ensemble", "judge", "judge_anchor", "judge_ensemble"])
def test_what_needs_no_network_declares_its_modules_and_loads_nothing_heavy(stage, pipeline):
    module = "judge" if stage.startswith("judge") else "anchor"
    told = subprocess.run(
        [sys.executable, "-c", f"import stages.{module}, sys; print(*sys.modules)"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    deps = pipeline["stages"][stage]["do"]["deps"]
    for name in {name for name in told if name.split(".")[0] == "ferlab"} - set(EXEMPT):
        assert f"../{name.replace('.', '/')}.py" in deps, name
    assert not {"tensorflow", "keras", "mlflow"} & set(told)


@pytest.fixture(scope="module")
def fer2013():
    """FER2013's labels and splits over blank faces: what balancing does to the counts needs no pixel."""
    rows = [
        (name, split)
        for split, column in FER2013_COUNTS.items()
        for name, n in zip(CLASSES, column, strict=True)
        for _ in range(n)
    ]
    faces = np.zeros((len(rows), SIZE, SIZE), np.uint8)
    return assemble(
        "fer2013", CLASSES, faces, [f"{i:05}" for i in range(len(rows))], *zip(*rows, strict=True)
    )


def balanced(fer2013, name, monkeypatch):
    monkeypatch.chdir(TOP)
    return balance.balance(fer2013, recipes.load_recipe(name).balance, None)


def test_silva_2025_has_the_published_split_and_layer_table(fer2013, monkeypatch):
    data = balanced(fer2013, "silva_2025", monkeypatch)
    assert [len(data.split(name).faces) for name in ("train", "validation", "test")] == [
        22968,
        5741,
        7178,
    ]
    layers = [
        layer.count_params() for layer in network("silva_2025", 7).layers if layer.count_params()
    ]
    assert layers == [320, 9248, 18496, 36928, 73856, 147584, 1179904, 1799]
    train = recipes.load_recipe("silva_2025").train
    assert (train.optimizer, train.learning_rate, train.batch_size, train.epochs) == (
        "adam",
        0.001,
        64,
        35,
    )
    assert (train.flip, train.rotation, train.shift, train.zoom) == (True, 10, 0.1, 0.1)
    assert (
        train.early_stopping
        and train.reduce_on_plateau
        and train.keep == "best"
        and train.select_on == "validation"
    )


def test_ho_2016_has_nine_convolutions_six_classes_and_the_merged_counts(fer2013, monkeypatch):
    data = balanced(fer2013, "ho_2016", monkeypatch)
    whole = data.counts()[["train", "validation"]].sum(axis=1)
    assert whole.to_dict() == {
        "angry": 4431,
        "fear": 4097,
        "happy": 7215,
        "neutral": 4965,
        "sad": 4830,
        "surprise": 3171,
    }
    kinds = [type(layer).__name__ for layer in network("ho_2016", 6).layers]
    assert [
        kinds.count(kind) for kind in ("Conv2D", "MaxPooling2D", "Dense", "BatchNormalization")
    ] == [9, 3, 3, 0]
    train = recipes.load_recipe("ho_2016").train
    assert (train.epochs, train.batch_size, train.early_stopping, train.dropout) == (
        100,
        128,
        5,
        0.3,
    )
    first = [type(layer).__name__ for layer in network("ho_2016_baseline", 6).layers]
    assert first.count("Conv2D") == 3


def test_fourlayer_2025_grows_disgust_and_surprise_and_is_trained_as_told(fer2013, monkeypatch):
    data = balanced(fer2013, "fourlayer_2025", monkeypatch)
    grown = set(data.table.loc[data.table["origin"] != "original", "label"])
    assert grown == {"disgust", "surprise"}
    for name, dropout, norms in (
        ("fourlayer_2025", True, True),
        ("fourlayer_2025_plain", False, False),
    ):
        settings = recipes.load_recipe(name)
        assert (settings.train.batch_size, settings.train.epochs, settings.train.schedule) == (
            64,
            71,
            "cosine",
        )
        assert (
            settings.balance.flip,
            settings.balance.rotation > 0,
            settings.balance.zoom > 0,
        ) == (True, True, True)
        assert bool(settings.train.dropout) == dropout
        kinds = [type(layer).__name__ for layer in network(name, 7).layers]
        assert kinds.count("Conv2D") == 4
        assert ("BatchNormalization" in kinds) == norms


def network(name, classes):
    from ferlab import models
    from ferlab.training import backend

    backend.start("tensorflow")
    return models.build(name, classes, 0.3)


def test_anchors_give_probabilities(settings):
    data = tiny(train=4)
    for kind in ("majority", "handcrafted"):
        given, weights = baselines.KINDS[kind](
            data, params.Anchor(kind=kind, regularisation=0.01, members=[])
        )
        assert given.shape == (len(data.faces), 7) and weights >= 7
        np.testing.assert_allclose(given.sum(axis=1), 1, atol=1e-5)
    train = (data.table["split"] == "train").to_numpy()
    assert (
        given[train].argmax(axis=1) == data.labels[train]
    ).all()  # 900 numbers for 28 faces: known by heart


def test_an_ensemble_is_the_mean_of_its_members_for_the_faces_they_judged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, chances = (
        tiny(train=4),
        np.random.default_rng(0).dirichlet(np.ones(7), (2, len(tiny(train=4).faces))).round(3),
    )
    for key, given in zip("ab", chances, strict=True):
        table = tables.of_dataset(data, given)
        folder = recipes.result_folder(key)
        folder.mkdir(parents=True)
        tables.write_packed(
            folder, table.sample(frac=1, random_state=0)
        )  # their order does not matter
        write_json(folder / "details.json", {"model": {"parameters": 10}})
        write_json(folder / "metrics.json", {})
    given, weights = ensembles.ensemble(
        data, params.Anchor(kind="ensemble", regularisation=1.0, members=["a", "b"])
    )
    train = (data.table["split"] == "train").to_numpy()
    assert np.isnan(given[train]).all() and weights == 20
    np.testing.assert_allclose(given[~train], chances.mean(axis=0)[~train], atol=1e-6)
    with pytest.raises(UserError, match="c/predictions.csv.gz: not found; known results: a, b"):
        ensembles.ensemble(
            data, params.Anchor(kind="ensemble", regularisation=1.0, members=["a", "c"])
        )
    with pytest.raises(UserError, match="at least one"):
        ensembles.ensemble(data, params.Anchor(kind="ensemble", regularisation=1.0, members=[]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("train:", "trian:"), "recipes/silva_2025.yaml: unknown key trian"),
        (("  epochs: 35", "  epochs: 0"), "recipes/silva_2025.yaml: train.epochs = 0: "),
        (
            ("  model: silva_2025", "  model: silva"),
            "recipes/silva_2025.yaml: train.model = 'silva': unknown network",
        ),
        (
            ("  seed: 0", "  sead: 0"),
            "recipes/silva_2025.yaml: unknown key balance.sead, did you mean seed?",
        ),
    ],
)
def test_a_bad_recipe_is_refused_with_its_file_and_key(change, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    for name in ("params", "silva_2025"):
        text = (TOP / f"recipes/{name}.yaml").read_text()
        (tmp_path / f"recipes/{name}.yaml").write_text(
            text.replace(*change) if name != "params" else text
        )
    with pytest.raises(UserError) as caught:
        recipes.load_recipe("silva_2025")
    assert str(caught.value).startswith(said)
    with pytest.raises(UserError, match="no such recipe, did you mean silva_2025"):
        recipes.load_recipe("silva2025")


def test_use_puts_a_recipe_on_the_bench_and_keeps_comments_and_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    (tmp_path / "recipes").mkdir()
    for name in (
        "params.yaml",
        "recipes/params.yaml",
        "recipes/fourlayer_2025.yaml",
        "recipes/majority.yaml",
    ):
        (tmp_path / name).write_text((TOP / name).read_text())
    subprocess.run(
        "git add -A && git -c user.name=t -c user.email=t@example.org commit -qm start",
        shell=True,
        check=True,
    )
    before = (tmp_path / "params.yaml").read_text()
    changed = recipes.use("fourlayer_2025")
    after, wanted = params.load(), recipes.load_recipe("fourlayer_2025")
    assert (after.balance, after.train, after.evaluate) == (
        wanted.balance,
        wanted.train,
        wanted.evaluate,
    )
    assert after.download.dataset == "sample"
    assert changed["train.epochs"] == (20, 71)
    assert changed["balance.classes"] == (["disgust"], ["disgust", "surprise"])

    def comments(text):
        return [line for line in text.splitlines() if line.strip().startswith("#")]

    assert comments((tmp_path / "params.yaml").read_text()) == comments(before)
    with pytest.raises(UserError, match="not committed"):
        recipes.use("fourlayer_2025")
    with pytest.raises(UserError, match="trains no network"):
        recipes.use("majority")


def test_predictions_are_read_back_in_thousandths_and_packed_alike_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame(
        {
            "id": ["a", "b", "NA"],
            "split": ["train", "public", "private"],
            "label": ["happy", "sad", "sad"],
            "predicted": ["happy", "sad", "happy"],
            "p_happy": [1, 0.12345, 0.5004],
            "p_sad": [0, 0.87655, 0.4996],
        }
    )
    tables.write_packed(recipes.result_folder("x"), table)
    first = (recipes.result_folder("x") / "predictions.csv.gz").read_bytes()
    tables.write_packed(recipes.result_folder("x"), table)
    assert (recipes.result_folder("x") / "predictions.csv.gz").read_bytes() == first
    back = tables.of_recipe("x")
    assert back["id"].tolist() == ["b", "NA"]
    assert back["p_happy"].tolist() == [0.123, 0.5]
    assert back["predicted"].tolist() == ["sad", "happy"]
    with pytest.raises(UserError, match="known results"):
        tables.of_recipe("y")


@pytest.mark.parametrize(
    ("measured", "published", "low", "high", "word"),
    [
        (0.60, 0.58, 0.59, 0.61, "exceeded"),
        (0.585, 0.58, 0.57, 0.60, "reproduced"),
        (0.57, 0.58, 0.56, 0.585, "reproduced"),
        (0.55, 0.58, 0.54, 0.56, "not reached"),
        (0.58, 0.58, None, None, "reproduced"),
        (0.57, 0.58, None, None, "not reached"),
    ],
)
def test_the_verdict_on_a_claim(measured, published, low, high, word):
    assert papers.verdict(measured, published, low, high) == word


def test_the_page_of_papers_shows_committed_results_and_hides_no_recipe(
    monkeypatch, drawn, tmp_path
):
    monkeypatch.chdir(TOP)
    page = papers.text(papers.rows())
    assert page == (TOP / "reports/papers.md").read_text(), "python -m ferlab papers writes it anew"
    assert all(f"| {name}" in page for name in NAMES)
    for key in recipes.with_result():
        _, details, _, run = recipes.read_result(key)
        assert f"{100 * details['splits']['private']['accuracy']:.2f} %" in page
        assert details["dataset"] == "fer2013" and run["machine"]["cpu"]
        assert (recipes.result_folder(key) / "predictions.csv.gz").stat().st_size < 200_000
        assert (
            read_json(recipes.result_folder(key) / "metrics.json")["private_accuracy"]
            == details["splits"]["private"]["accuracy"]
        )
    papers._figure(tmp_path / "papers.png", [row for row in papers.rows() if row["key"]])
    shown = {label.get_text().split()[0] for label in drawn[0].axes[0].get_yticklabels()}
    assert shown == {row["key"] for row in papers.rows() if row["key"] == row["recipe"]}
