"""The recipes are what their texts say, dvc.yaml knows all, results are read back as written."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from ferlab import __main__ as ferlab_verbs
from ferlab import dvc_files, files, params, recipes
from ferlab.data import balance
from ferlab.data.classes import CLASSES
from ferlab.data.dataset import SIZE, assemble
from ferlab.data.readers.sources import FER2013_COUNTS
from ferlab.evaluation import baselines, ensembles, scoring, tables
from ferlab.files import UserError, read_json, write_json
from ferlab.reporting import claims, papers
from ferlab.reporting.figures import claims_figure
from tests.builders import tiny
from tests.pipeline.test_pipeline import is_declared, is_exempt
from tests.repository import TOP
from tests.synthetic import make

NAMES = sorted(
    file.stem
    for file in (TOP / "recipes").glob("*.yaml")
    if file.name not in ("dvc.yaml", "keys.yaml", "params.yaml")
)


def read(path):
    return YAML(typ="safe").load((TOP / path).read_text())


@pytest.fixture(scope="module")
def pipeline():
    return read("recipes/dvc.yaml")


@pytest.fixture(scope="module")
def record():
    """The lists of keys.yaml."""
    return read("recipes/keys.yaml")


@pytest.fixture(scope="module")
def keys(record):
    """{key: {recipe, model}} of all that trains."""
    return record["networks"]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_strictly_valid_and_says_what_it_is(name, monkeypatch):
    monkeypatch.chdir(TOP)
    settings = recipes.load_recipe(name)
    head = (TOP / f"recipes/{name}.yaml").read_text().split("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert not hasattr(settings, "train") or settings.train.seed == 0
    form = "fer2013-jpeg" if name == "silva_2025" else "fer2013"
    assert settings.download.dataset == form


def test_the_pipeline_lists_every_recipe_with_its_network(pipeline, record, keys, monkeypatch):
    monkeypatch.chdir(TOP)
    settings = {name: recipes.load_recipe(name) for name in NAMES}
    kinds = {
        kind: {name for name, values in settings.items() if hasattr(values, kind)}
        for kind in ("train", "baseline", "ensemble")
    }
    assert set(pipeline["stages"]["baseline"]["foreach"]) == kinds["baseline"]
    assert {network["recipe"] for network in keys.values()} == kinds["train"]
    assert set(record["recipes"]) == kinds["train"] | kinds["baseline"]
    assert set(record["results"]) == set(keys) | kinds["baseline"] | kinds["ensemble"]
    for name in kinds["ensemble"]:
        candidates = [
            f"results/{key}/predictions.csv.gz" for key in settings[name].ensemble.candidates
        ]
        assert [dep for dep in pipeline["stages"][name]["deps"] if "results/" in dep] == candidates
    for key, network in keys.items():
        recipe, seed = recipes.recipe_of(key)
        assert (recipe, key) == (network["recipe"], recipes.key(recipe, seed))
        assert recipes.load_recipe(recipe, seed).train.model == network["model"]
        assert recipes.load_recipe(recipe, seed).train.seed == seed


def test_workspace_and_recipes_are_one_graph(pipeline):
    """The same stages in the same order, from code that the workspace declares too.

    test_pipeline.py looks at whether all code is declared.
    """
    workspace = read("dvc.yaml")["stages"]
    all_stages = pipeline["stages"] | read("recipes/explain/dvc.yaml")["stages"]
    stages = {name: stage.get("do", stage) for name, stage in all_stages.items()}
    assert [name for name in stages if name in workspace] == list(workspace)
    for name in workspace:
        declared = workspace[name]["deps"]
        for dep in stages[name]["deps"]:
            path = re.sub(r"^(\.\./)*", "", dep).replace("${item.model}", "${train.model}")
            if path.startswith(("stages/", "ferlab/")):
                assert any(path == top or path.startswith(f"{top}/") for top in declared), path
                python = (TOP / path).is_dir() and list((TOP / path).rglob("*.py"))
                assert not python, f"{path}: a folder outside recipes/ has Python's caches"


@pytest.mark.parametrize("stage", ["baseline", "speedrun_ensemble", "evaluate"])
def test_what_needs_no_network_declares_its_modules_and_loads_nothing_heavy(stage, pipeline):
    module = "ensemble" if stage.endswith("ensemble") else stage
    loaded = subprocess.run(
        [sys.executable, "-c", f"import stages.{module}, sys; print(*sys.modules)"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    described = pipeline["stages"][stage]
    deps = {dep.removeprefix("../") for dep in described.get("do", described)["deps"]}
    report = (
        "ferlab.data.augment",
        "ferlab.evaluation.calibration",
        "ferlab.evaluation.mistakes",
        "ferlab.evaluation.robustness",
        "ferlab.reporting",
    )
    for name in (name for name in loaded if name.split(".")[0] == "ferlab"):
        of_the_workspace = stage == "evaluate" and name.startswith(report)
        assert is_declared(name, deps) or is_exempt(name) or of_the_workspace, name
    assert not {"tensorflow", "keras", "mlflow"} & set(loaded)


@pytest.fixture(scope="module")
def fer2013():
    """FER2013's labels and splits over blank faces: what balancing counts needs no pixel."""
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
    no_two_alike = fer2013.table[["id"]].assign(group=-1, near_group=-1)
    return balance.balance(fer2013, recipes.load_recipe(name).balance, no_two_alike)


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


def test_fourlayer_2025_grows_disgust_and_surprise_and_is_trained_as_published(
    fer2013, monkeypatch
):
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


def test_majority_gives_the_shares_of_the_training_images_to_every_image():
    data = make({"angry": (5, 9, 9), "happy": (3, 4, 20), "sad": (2, 4, 4)})
    given, weights = baselines.majority(data, None)
    assert given.shape == (len(data.faces), 3) and weights == 3
    np.testing.assert_allclose(given, np.tile([0.5, 0.3, 0.2], (len(data.faces), 1)), atol=1e-6)


def test_baselines_give_probabilities(settings):
    data = tiny(train=4)
    for kind in ("majority", "handcrafted"):
        given, weights = baselines.KINDS[kind](
            data, params.Baseline(kind=kind, regularisation=0.01)
        )
        assert given.shape == (len(data.faces), 7) and weights >= 7
        np.testing.assert_allclose(given.sum(axis=1), 1, atol=1e-5)
    train = (data.table["split"] == "train").to_numpy()
    assert (
        given[train].argmax(axis=1) == data.labels[train]
    ).all()  # 900 numbers for 28 faces: known by heart


def committed(key, data, probabilities, digest="0" * 64):
    """Write a result as the evaluate stage commits it, rows in another order."""
    folder = recipes.result_folder(key)
    table = tables.of_dataset(data, probabilities).sample(frac=1, random_state=len(key))
    tables.write_packed(folder / "predictions.csv.gz", table)
    write_json(folder / "details.json", {"model": {"parameters": 10}, "digest": digest})
    write_json(folder / "metrics.json", {})


def test_an_ensemble_is_the_mean_of_its_members_for_the_images_they_predicted(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    data = tiny(train=4)
    both = np.random.default_rng(0).dirichlet(np.ones(7), (2, len(data.faces)))
    for key, probabilities in zip("ab", both, strict=True):
        committed(key, data, probabilities)
    mean = ensembles.ensemble(["a", "b"], "all")
    assert mean.members == ["a", "b"] and len(mean.steps) == 2
    rows = data.table.set_index("id").loc[mean.predictions["id"]]
    assert set(rows["split"]) == {"public", "private"}
    at = data.table.reset_index().set_index("id").loc[mean.predictions["id"], "index"]
    given = tables.probabilities(mean.predictions)
    np.testing.assert_allclose(given, both.mean(axis=0)[at], rtol=1e-3)
    np.testing.assert_allclose(given.sum(axis=1), 1, atol=1e-3)
    with pytest.raises(UserError, match="c/predictions.csv.gz: not found; known results: a, b"):
        ensembles.ensemble(["a", "c"], "all")


def test_an_ensemble_over_six_and_seven_classes_folds_and_loses_no_probability(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    data = tiny(train=4)
    six = balance.STRATEGIES["merge"](data, None)
    random = np.random.default_rng(0)
    committed("seven", data, random.dirichlet(np.ones(7), len(data.faces)))
    committed("six", six, random.dirichlet(np.ones(6), len(data.faces)))
    mean = ensembles.ensemble(["seven", "six"], "all").predictions
    assert tables.classes_of(mean) == six.classes
    np.testing.assert_allclose(tables.probabilities(mean).sum(axis=1), 1, atol=1e-3)


def test_an_ensemble_of_other_data_or_other_images_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = tiny(train=4)
    even = np.full((len(data.faces), 7), 1 / 7)
    committed("a", data, even)
    committed("other", data, even, digest="1" * 64)
    with pytest.raises(UserError, match="other and a are of different data"):
        ensembles.ensemble(["a", "other"], "all")
    fewer = data.where(np.arange(len(data.faces) - 1))
    committed("fewer", fewer, even[:-1])
    with pytest.raises(UserError, match="fewer and a predict different images"):
        ensembles.ensemble(["a", "fewer"], "all")


def test_greedy_selection_adds_what_raises_public_accuracy_and_then_stops(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = tiny(train=4)
    truth = np.eye(7)[data.labels]
    wrong = np.roll(truth, 1, axis=1)
    public = np.flatnonzero((data.table["split"] == "public").to_numpy())

    def right_on(share):
        """Sure where it is right, unsure where it is wrong: two halves together know all."""
        rows = public[share]
        probabilities = 0.55 * wrong + 0.45 * truth
        probabilities[rows] = truth[rows]
        return probabilities

    half = len(public) // 2
    committed("bad", data, wrong)
    committed("first", data, right_on(slice(0, half + 1)))
    committed("second", data, right_on(slice(half, None)))
    chosen = ensembles.ensemble(["bad", "second", "first"], "greedy")
    assert set(chosen.members) == {"first", "second"}
    accuracies = [step["public_accuracy"] for step in chosen.steps]
    assert accuracies[0] < accuracies[1] == 1
    assert ensembles.ensemble(["bad", "second", "first"], "all").members[0] == "bad"


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


@pytest.mark.parametrize("name", ["speedrun_ensemble", "champion_ensemble"])
def test_an_ensembles_candidates_are_of_one_dataset_and_each_is_named_once(name, monkeypatch):
    monkeypatch.chdir(TOP)
    ensemble = recipes.load_recipe(name).ensemble
    candidates = [recipes.load_recipe(recipes.recipe_of(key)[0]) for key in ensemble.candidates]
    assert {recipe.download.dataset for recipe in candidates} == {"fer2013"}
    twice = ensemble.model_dump() | {"candidates": ["speedrun", "compact", "speedrun"]}
    with pytest.raises(ValueError, match="speedrun is named more than once"):
        params.Ensemble.model_validate(twice)


def test_use_puts_a_recipe_into_the_workspace_and_keeps_comments_and_changes(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    (tmp_path / "recipes").mkdir()
    for name in (
        "params.yaml",
        "recipes/params.yaml",
        "recipes/fourlayer_2025.yaml",
        "recipes/silva_2025.yaml",
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
    assert changed["train.epochs"] == (12, 71)
    assert changed["balance.classes"] == (["disgust"], ["disgust", "surprise"])

    def comments(text):
        return [line for line in text.splitlines() if line.strip().startswith("#")]

    assert comments((tmp_path / "params.yaml").read_text()) == comments(before)
    with pytest.raises(UserError, match="not committed"):
        recipes.use("fourlayer_2025")
    (tmp_path / "params.yaml").write_text(before)
    ferlab_verbs.use(SimpleNamespace(recipe="silva_2025"))
    assert "next: make repro DATA=fer2013-jpeg " in capsys.readouterr().out
    with pytest.raises(UserError, match="trains no network"):
        recipes.use("majority")


def test_scores_of_a_table_of_its_file_and_of_its_packed_file_are_equal(tmp_path):
    data = tiny(train=4)
    probabilities = np.random.default_rng(0).dirichlet(np.full(7, 0.1), len(data.faces))
    probabilities[0] = np.eye(7)[0]  # zeros and a one
    table = tables.of_dataset(data, probabilities)
    tables.write(tmp_path / "predictions.csv", table)
    pd.testing.assert_frame_equal(
        tables.read(tmp_path / "predictions.csv"), table, check_dtype=False
    )
    kept = table[table["split"] != "train"].reset_index(drop=True)
    packed = tmp_path / "predictions.csv.gz"
    tables.write_packed(packed, table)
    pd.testing.assert_frame_equal(tables.read(packed), kept, check_dtype=False)
    first = packed.read_bytes()
    tables.write_packed(packed, table)
    assert packed.read_bytes() == first
    np.testing.assert_allclose(
        tables.probabilities(table),
        np.maximum(probabilities, np.exp(-tables.MAX_STEPS / tables.STEPS)),
        rtol=3e-4,
    )


def test_every_committed_result_is_the_one_that_its_lock_names():
    for folder, top in ((TOP, ""), (TOP / "recipes", "results/")):
        known = dvc_files.locked(folder)
        results = {path: md5 for path, md5 in known.items() if path.startswith(top or "reports/")}
        committed = [path for path in results if (folder / path).is_file()]
        assert committed, folder  # at the top, a fresh clone has only the sample's metrics
        for path in committed:
            assert files.md5(folder / path) == results[path], path
    for key in recipes.with_result():
        assert f"results/{key}/metrics.json" in committed, key


def test_every_committed_result_can_be_scored_again_from_its_predictions(monkeypatch):
    monkeypatch.chdir(TOP)
    for key in recipes.with_result():
        metrics, details, _, _ = recipes.read_result(key)
        table = tables.of_recipe(key)
        for split in ("public", "private", "test"):
            rows = tables.parts(table)[split]
            again = scoring.scores(rows["label"], rows["predicted"], tables.classes_of(table))
            assert again["confusion"] == details["splits"][split]["confusion"], (key, split)
        assert round(scoring.cross_entropy(table), 6) == metrics["loss"], key


@pytest.mark.parametrize(
    ("measured", "published", "low", "high", "seeds", "word"),
    [
        (0.60, 0.58, 0.59, 0.61, 3, "exceeded"),
        (0.60, 0.58, 0.59, 0.61, 1, "reproduced"),  # the luck of the seed is not in the interval
        (0.585, 0.58, 0.57, 0.60, 3, "reproduced"),
        (0.57, 0.58, 0.56, 0.585, 1, "reproduced"),
        (0.55, 0.58, 0.54, 0.56, 1, "not reached"),
    ],
)
def test_the_verdict_on_a_claim(measured, published, low, high, seeds, word):
    assert claims.verdict(measured, published, low, high, seeds) == word


def guessed(seed, right=0.6, n=2000):
    """One split's scores of a network that is right on so many images."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 7
    hits = random.random(n) < right
    predicted = np.where(hits, labels, random.integers(0, 7, n))
    names = np.array(CLASSES, object)
    return names[labels], names[predicted]


def test_precision_recall_and_f1_have_a_bootstraps_interval():
    labels, predicted = guessed(0)
    entry = scoring.scores(labels, predicted, CLASSES)
    true, said = (pd.Index(CLASSES).get_indexer(names) for names in (labels, predicted))
    again = {"precision_macro": [], "recall_macro": [], "sad": []}
    for rows in np.random.default_rng(1).integers(0, len(true), (500, len(true))):
        right = true[rows] == said[rows]
        hits = np.bincount(true[rows][right], minlength=7)
        called, support = (np.bincount(side[rows], minlength=7) for side in (said, true))
        again["precision_macro"].append((hits / called).mean())
        again["recall_macro"].append((hits / support).mean())
        again["sad"].append(2 * hits[5] / (called + support)[5])
    bounds = {name: np.quantile(values, (0.025, 0.975)) for name, values in again.items()}
    for score in ("precision_macro", "recall_macro"):
        value, *found = claims.measured([entry], score)
        assert value == entry[score] and found == pytest.approx(bounds[score], abs=0.005), score
    value, *found = claims.measured([entry], "f1", CLASSES.index("sad"))
    assert value == pytest.approx(entry["per_class"]["sad"]["f1"])
    assert found == pytest.approx(bounds["sad"], abs=0.01)
    assert claims.measured([entry], "accuracy")[1:] == scoring.interval(
        round(entry["accuracy"] * 2000), 2000
    )


def test_several_seeds_are_one_claim_with_the_luck_of_both():
    """Alike seeds leave about the interval of the images, unlike ones widen it."""
    alike = [scoring.scores(*guessed(0), CLASSES)] * 3
    unlike = [scoring.scores(*guessed(seed, 0.5 + 0.1 * seed), CLASSES) for seed in range(3)]
    for score in ("accuracy", "precision_macro"):
        value, low, high = claims.measured(alike, score)
        _, one_low, one_high = claims.measured(alike[:1], score)
        assert value == pytest.approx(alike[0][score])
        assert (low, high) == pytest.approx((one_low, one_high), abs=0.002)
        value, low, high = claims.measured(unlike, score)
        assert value == pytest.approx(np.mean([entry[score] for entry in unlike]))
        assert low < value - 0.2 and high > value + 0.2


@pytest.fixture
def claimed(tmp_path, monkeypatch):
    """Recipes of which silva_2025 has results: those of the speedrun, better than its text."""
    left_out = shutil.ignore_patterns("runs", "silva_2025", "silva_2025-s*")
    shutil.copytree(TOP / "recipes", tmp_path / "recipes", ignore=left_out)
    monkeypatch.chdir(tmp_path)

    def seeds(*numbers):
        for seed in numbers:
            old = recipes.result_folder(recipes.key("speedrun", seed))
            shutil.copytree(old, recipes.result_folder(recipes.key("silva_2025", seed)))
        lines = papers.text(papers.rows()).splitlines()
        return [line for line in lines if line.startswith("| silva_2025 | test |")]

    return seeds


def test_the_page_of_papers_names_sequences_and_both_leak_free_numbers(claimed):
    path = recipes.result_folder("anamika_2025") / "details.json"
    details = read_json(path)
    splits = details["splits"]
    splits["ck48"] |= {"groups": 309, "accuracy_low": 0.6543, "accuracy_high": 0.7654}
    splits["private_unseen_near"] = splits["private_unseen"] | {"accuracy": 0.6123}
    write_json(path, details)
    page = papers.text(papers.rows())
    assert "| leak-free (exact) | leak-free (near) |" in page and "61.23 %" in page
    assert "(65.4–76.5) of 927 images in 309 groups" in page


def test_one_seed_reproduces_and_only_several_exceed(claimed):
    one = claimed(0)
    assert len(one) == 6 and all(line.endswith("| 1 | reproduced |") for line in one)
    assert all(re.search(r"\d % \(\d\d\.\d–\d\d\.\d\)", line) for line in one)
    three = claimed(1, 2)
    assert three[0].endswith("| 3 | exceeded |") and len(three) == 6


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
        dataset = recipes.load_recipe(recipes.recipe_of(key)[0]).download.dataset
        assert details["dataset"] == dataset and run["machine"]["cpu"]
        assert dataset == "fer2013" or f"| {key} (on {dataset}) |" in page
        size = (recipes.result_folder(key) / "predictions.csv.gz").stat().st_size
        assert size < 250_000, "too large to be committed"
        assert (
            read_json(recipes.result_folder(key) / "metrics.json")["private_accuracy"]
            == details["splits"]["private"]["accuracy"]
        )
    claims_figure.draw(tmp_path / "papers.png", [row for row in papers.rows() if row["key"]])
    shown = {label.get_text().split()[0] for label in drawn[0].axes[0].get_yticklabels()}
    assert shown == {row["recipe"] for row in papers.rows() if row["key"]}


ROW = re.compile(
    r"\[(\w+)\]\((?:\.\./)?recipes/\1\.yaml\).*\| (?:\*\*)?(?P<mean>[\d.]+) %(?:\*\*)? "
    r"\((?P<low>[\d.]+)(?:–| to )(?P<high>[\d.]+)(?P<seeds> over the seeds)?"
    r"(?:; (?P<next_low>[\d.]+)–(?P<next_high>[\d.]+) for one more training)?\) \| "
    r"(?P<exact>[\d.]+), (?P<near>[\d.]+) % \|(?: (?P<ferplus>[\d.]+) % \|)?"
)


@pytest.mark.parametrize("page", ["README.md", "docs/record.md"])
def test_the_tables_that_people_read_say_what_the_results_say(page, monkeypatch):
    monkeypatch.chdir(TOP)
    start = re.compile(r"\| (`fer2013\S* \| )?\[\w+\]\((\.\./)?recipes/")
    rows = [line for line in Path(page).read_text().splitlines() if start.match(line)]
    assert len(rows) > 5
    for line in rows:
        row = ROW.search(line)
        assert row, line
        keys = [key for key in recipes.with_result() if recipes.recipe_of(key)[0] == row[1]]
        results = [recipes.read_result(key) for key in keys]
        splits = [details["splits"] for _, details, _, _ in results]
        private = [split["private"]["accuracy"] for split in splits]
        ends = min(private), max(private)
        if not row["seeds"]:
            assert len(keys) == 1, line
            ends = [splits[0]["private"][f"accuracy_{end}"] for end in ("low", "high")]
        measured = {
            "mean": np.mean(private),
            "low": ends[0],
            "high": ends[1],
            "exact": np.mean([split["private_unseen"]["accuracy"] for split in splits]),
            "near": np.mean([split["private_unseen_near"]["accuracy"] for split in splits]),
        }
        if row["next_low"]:
            _, *interval = claims.measured([split["private"] for split in splits], "accuracy")
            measured["next_low"], measured["next_high"] = interval
        if row["ferplus"]:
            measured["ferplus"] = np.mean([metrics["ferplus_accuracy"] for metrics, *_ in results])
        for name, value in measured.items():
            assert float(row[name]) == pytest.approx(100 * value, abs=0.0501), (name, line)


def test_the_figure_shows_the_mean_over_the_seeds_with_the_interval_of_the_table(
    claimed, drawn, tmp_path
):
    line = claimed(1, 2)[0]
    mean, low, high = map(float, re.search(r"([\d.]+) % \(([\d.]+)–([\d.]+)\)", line).groups())
    claims_figure.draw(tmp_path / "papers.png", [row for row in papers.rows() if row["key"]])
    (axes,) = drawn[0].axes
    names = [label.get_text().split()[0] for label in axes.get_yticklabels()]
    place = names.index(line.split()[1])
    bar = axes.containers[place]
    assert 100 * bar[0].get_xdata()[0] == pytest.approx(mean, abs=0.01)
    ends = 100 * bar[2][0].get_segments()[0][:, 0]
    assert ends == pytest.approx([low, high], abs=0.06)
