"""Comparing: significance as statisticians measure it, the luck of the seed kept apart, six and
seven classes meet on six."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from ferlab import recipes
from ferlab.data.classes import CLASSES
from ferlab.data.dataset import SIZE, Dataset
from ferlab.evaluation import scoring, significance, tables
from ferlab.files import UserError
from ferlab.reporting import compare_page, comparison, leaderboard
from ferlab.tracking import lookup
from tests.builders import about
from tests.repository import TOP
from tests.unit.test_report import HOSTILE, Outside


def result(name, seed, right=0.5, classes=CLASSES, dataset="fer2013", n=700, **changed):
    """A made-up Result: the same images for every seed, other guesses."""
    labels = np.array(CLASSES, object)[np.arange(n) % 7]
    if "disgust" not in classes:
        labels = np.where(labels == "disgust", "angry", labels)
    places = pd.Index(classes).get_indexer(labels)
    given = (
        np.random.default_rng(seed).dirichlet(np.ones(len(classes)), n)
        + right * np.eye(len(classes))[places]
    )
    table = pd.DataFrame(
        {
            "id": [f"{i:04}" for i in range(n)],
            "label": labels,
            "split": np.where(np.arange(n) % 2, "public", "private"),
            "origin": "original",
            "official": -1,
        }
    )
    data = Dataset(dataset, tuple(classes), np.zeros((n, SIZE, SIZE), np.uint8), table)
    predictions = tables.of_dataset(data, given / given.sum(axis=1, keepdims=True))
    details = scoring.details(predictions, about(dataset))
    history = pd.DataFrame({"epoch": [1, 2], "selection_accuracy": [0.4, 0.5]})
    values = {"train": {"epochs": 2, "seed": seed}, "balance": {"strategy": "none"} | changed}
    return lookup.Result(name, values, details, predictions, history, [1.0, 2.0])


def test_significance_is_mcnemar_and_a_paired_bootstrap():
    random = np.random.default_rng(0)
    first, second = random.random(3589) < 0.65, random.random(3589) < 0.67
    entry = significance.compare(first, second)
    only = int((first & ~second).sum()), int((second & ~first).sum())
    assert (entry["only_first"], entry["only_second"]) == only
    assert entry["p"] == binomtest(only[0], sum(only)).pvalue
    assert entry["difference"] == pytest.approx(second.mean() - first.mean())
    # of the difference, where the two kinds are about as many
    spread = np.sqrt(sum(only)) / len(first)
    assert entry["low"] == pytest.approx(entry["difference"] - 1.96 * spread, abs=0.15 * spread)
    assert entry["high"] == pytest.approx(entry["difference"] + 1.96 * spread, abs=0.15 * spread)
    assert significance.compare(first, first) == {
        "difference": 0,
        "low": 0,
        "high": 0,
        "p": 1,
        "only_first": 0,
        "only_second": 0,
    }


def test_holm_equals_its_published_rule_and_corrects_more_than_two_results():
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([0.9, 0.8]) == [1.0, 1.0]
    three = [result("a", 0), result("b", 1, strategy="x"), result("c", 2, strategy="y")]
    found = comparison.compare(three)["significance"]
    assert sorted(test["p_holm"] for test in found) == sorted(
        significance.holm([test["p"] for test in found])
    )
    assert found[0]["p_holm"] > found[0]["p"] or found[1]["p_holm"] > found[1]["p"]
    assert "Holm over 2 tests" in compare_page.text(comparison.compare(three))
    assert "Holm" not in compare_page.text(comparison.compare(three[:2]))


def trained(random, seeds, images, luck):
    """bool (seeds, N): networks of one recipe; `luck` moves each network's accuracy as a whole."""
    shift = random.normal(0, luck, (seeds, 1))
    return random.random((seeds, len(images))) < np.clip(images + shift, 0, 1)


def test_recipes_that_differ_by_their_seeds_luck_alone_are_rarely_told_apart():
    """Of equal recipes whose seeds are worth ±3 points, 5 in 100 may be called different; McNemar's
    test, made for two trained networks, calls far more of their networks different."""
    random, recipes_apart, networks_apart = np.random.default_rng(0), 0, 0
    for _ in range(150):
        images = random.beta(2, 1, 1000)
        first, second = (trained(random, 4, images, 0.03) for _ in range(2))
        recipes_apart += significance.recipes(first, second)["p"] < 0.05
        only = (first[0] & ~second[0]).sum(), (~first[0] & second[0]).sum()
        networks_apart += binomtest(int(only[0]), int(sum(only))).pvalue < 0.05
    assert recipes_apart <= 12 and networks_apart >= 25


def test_a_real_difference_of_recipes_is_found_with_its_size_and_interval():
    random = np.random.default_rng(1)
    images = random.beta(2, 1, 3589)
    first = trained(random, 5, images, 0.003)
    found = significance.recipes(first, trained(random, 3, images + 0.05, 0.003))
    assert found["p"] < 0.001 and found["low"] < found["difference"] < found["high"]
    assert found["seeds"] == [5, 3] and found["difference"] == pytest.approx(0.045, abs=0.015)
    none = significance.recipes(first, first)
    assert (none["difference"], none["p"]) == (0, 1)


def test_one_more_training_lies_in_its_interval_about_95_times_of_100():
    """Seeds worth ±1 point; what the next one is worth on all faces is held against the interval
    that three of them give, measured on 1,000 faces."""
    random, inside, everybody = (
        np.random.default_rng(2),
        0,
        np.random.default_rng(3).beta(2, 1, 5000),
    )
    for _ in range(300):
        known = trained(random, 3, random.choice(everybody, 1000), 0.01).mean(axis=1)
        low, high = significance.one_more(known, known.mean() * (1 - known.mean()) / 1000, 1000)
        other = np.clip(everybody + random.normal(0, 0.01), 0, 1).mean()
        inside += low <= other <= high
    assert 276 <= inside <= 297


def test_only_what_differs_is_shown_and_the_text_says_of_what_luck_it_may_be():
    same = comparison.compare([result("a", 0), result("b", 1, strategy="weights")])
    assert same["differing"] == [("train.seed", [0, 1]), ("balance.strategy", ["none", "weights"])]
    assert "that may be the luck of the images" in compare_page.text(same)
    long = comparison.compare([result("a", 0), result("b", 0, strategy=60 * ["weights"])])
    assert max(map(len, compare_page.text(long).split("set differently")[1].splitlines())) < 90
    better = comparison.compare([result("a", 0), result("b", 1, right=1.0, strategy="weights")])
    text = compare_page.text(better)
    assert better["significance"][0]["p"] < 0.001
    assert "these two trained networks differ by more than the luck of the images" in text
    assert "of the recipes that says nothing" in text and "(known: 1 against 1)" in text
    rows = better["disagree"][0]
    assert (rows["first"] != rows["second"]).all() and rows["sure"].is_monotonic_decreasing
    table = better["scores"][1]
    assert table["n"] == better["n"] == 350


def test_six_and_seven_classes_meet_on_six():
    six = [name for name in CLASSES if name != "disgust"]
    compared = comparison.compare(
        [result("seven", 0), result("six", 1, classes=six), result("again", 2)]
    )
    assert compared["folded"] and compared["classes"] == tuple(six)
    assert (
        np.sum(compared["scores"][0]["confusion"])
        == np.sum(compared["scores"][1]["confusion"])
        == 350
    )
    assert "disgust counted as angry" in compare_page.text(compared)


def test_two_seeds_of_one_recipe_are_never_called_different_recipes():
    """However small p: their difference is the luck of the seed."""
    compared = comparison.compare([result("a", 0), result("b", 1, right=1.0)])
    assert compared["differing"] == [("train.seed", [0, 1])]
    assert compared["significance"][0]["p"] < 0.001
    said = "one recipe, trained twice: what differs is luck, of the seed too, whatever p says"
    assert said in compare_page.text(compared)


def test_a_result_under_two_names_is_called_one_result():
    text = compare_page.text(comparison.compare([result("a", 0), result("b", 0)]))
    assert "this is the same result twice" in text and "trained twice" not in text
    assert "they disagree on 0\n" in f"{text}\n"


def test_recipes_of_several_seeds_are_compared_with_the_networks_as_units():
    """Seeds that are not named count too; a seed that is there twice counts once."""
    first = [result(f"a{seed}", seed, right=0.5) for seed in range(4)]
    second = [result(f"b{seed}", 9 + seed, right=0.8, strategy="weights") for seed in range(3)]
    further = [*first[1:], *second[1:], result("again", 0), result("third", 5, strategy="merge")]
    compared = comparison.compare([first[0], second[0]], further)
    (pair,) = compared["recipes"]
    assert pair["seeds"] == [4, 3] and not pair["same"]
    means = [
        np.mean([each.details["splits"]["private"]["accuracy"] for each in side])
        for side in (first, second)
    ]
    assert pair["test"]["means"] == pytest.approx(means)
    assert pair["test"]["p"] < 0.05
    text = compare_page.text(compared)
    assert "the recipes, 3 seeds" in text and "more than the luck of seeds and images" in text


def test_what_cannot_be_compared_is_refused(monkeypatch, tmp_path):
    other = result("other", 1)
    moved = other.predictions.assign(id="x" + other.predictions["id"])
    with pytest.raises(UserError, match="different images"):
        comparison.compare(
            [result("a", 0), lookup.Result("other", {}, other.details, moved, None, [])]
        )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="at least two"):
        compare_page.write(["workspace"])
    with pytest.raises(UserError, match="reports/predictions.csv: not found"):
        compare_page.write(["workspace", "x"])


def test_the_page_needs_no_other_file_and_nothing_breaks_out_of_it():
    results = [result(f"a{HOSTILE}", 0), result("b", 1), result("c", 2, strategy=HOSTILE)]
    compared = comparison.compare(results)
    faces = {id: np.zeros((SIZE, SIZE), np.uint8) for id in compared["disagree"][0].index[:5]}
    page = compare_page.page(compared, results, faces)
    outside = Outside(page)
    assert "script" not in outside.tags
    assert all(
        str(address).startswith("data:image/png;base64,")
        for address in outside.addresses
        if address
    )
    assert page.count("<figure") == 2 + 24 + 24
    assert "One recipe, trained twice" in page and "Of the recipes that says nothing" in page


def test_committed_recipes_are_compared_on_a_fresh_clone(monkeypatch, tmp_path):
    shutil.copytree(
        TOP / "recipes", tmp_path / "recipes", ignore=shutil.ignore_patterns("runs", "tmp")
    )
    monkeypatch.chdir(tmp_path)
    keys = [*recipes.with_result(), "majority"]
    compared = comparison.compare([lookup.find(key) for key in keys])
    datasets = "fer2013 and fer2013-jpeg"  # silva_2025's, told with every number
    assert (compared["n"], compared["dataset"], compared["names"]) == (3589, datasets, keys)
    assert recipes.raw_recipe("majority")["balance"]["strategy"] == "none"
    said = []
    monkeypatch.setattr("ferlab.tracking.artifacts.log_page", lambda *_: None)
    monkeypatch.setattr(compare_page, "page", lambda *_: "")  # drawn by another test
    compare_page.write(["speedrun", "speedrun_equalized"], tmp_path / "page.html", said.append)
    assert "the recipes, 3 seeds" in said[0] and "against 5" in said[0]


@pytest.fixture
def record(tmp_path, monkeypatch):
    """The working directory: a copy of recipes/ with the results of two seeds of the speedrun."""
    shutil.copytree(
        TOP / "recipes", tmp_path / "recipes", ignore=shutil.ignore_patterns("results", "runs")
    )
    for key in ("speedrun", "speedrun-s1"):
        shutil.copytree(TOP / "recipes/results" / key, tmp_path / "recipes/results" / key)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path / "recipes"


def test_a_recipe_is_shown_with_the_parameters_its_result_was_made_with(record):
    """The recipe's file was changed since: no result of the record was made with 99 epochs."""
    before, path = recipes.raw_recipe("speedrun", 1), record / "speedrun.yaml"
    text = path.read_text()
    path.write_text(text.replace(f"  epochs: {before['train']['epochs']}", "  epochs: 99"))
    assert recipes.raw_recipe("speedrun")["train"]["epochs"] == 99
    first, second = (lookup.find(key) for key in ("speedrun", "speedrun-s1"))
    assert second.values == before
    assert comparison.differing([first.values, second.values]) == [("train.seed", [0, 1])]
    assert {row["result"].values["train"]["epochs"] for row in leaderboard.rows()} == {
        before["train"]["epochs"]
    }
    (record / "dvc.lock").unlink()  # made without DVC: the file is all there is
    assert recipes.pinned("speedrun")["train"]["epochs"] == 99


def test_the_two_forms_of_fer2013_are_compared_face_by_face_and_only_with_a_note():
    first, second = result("a", 0), result("b", 1, dataset="fer2013-jpeg")
    for number, side in enumerate((first, second)):
        side.predictions["official"] = np.arange(len(side.predictions))
        side.predictions["id"] = [f"{number}-{i}" for i in range(len(side.predictions))]
    compared = comparison.compare([first, second])
    assert compared["n"] == 350 and compared["dataset"] == "fer2013 and fer2013-jpeg"
    assert (
        comparison.TWO_FORMS in compare_page.text(compared)
        and "not the same pixels" in compare_page.page(compared, [first, second]).lower()
    )
    alike = comparison.compare([first, first])
    assert comparison.TWO_FORMS not in compare_page.text(alike)
    second.details["dataset"] = "custom-12345678"
    with pytest.raises(UserError, match="evaluated on different images"):
        comparison.compare([first, second])


def test_a_result_with_private_and_one_without_meet_on_the_private_images():
    """The other's `test` also holds the public images, which chose the first one's epoch."""
    both, test = result("both", 0), result("test", 1)
    rows = test.predictions.assign(split="test")
    details = scoring.details(rows, about("sample"))
    test = lookup.Result("test", test.values, details, rows, test.history, [])
    found = comparison.compare([both, test])
    private = (both.predictions["split"] == "private").sum()
    assert 0 < private < len(both.predictions)
    assert found["split"] == "private" and found["n"] == private


def test_nothing_is_a_little_less_than_nothing():
    """A difference that rounds to none has no sign: no -0 on the page or in the text."""
    one = result("a", 0, n=3000)
    rows = one.predictions.copy()
    mistaken = rows.index[rows["split"] == "private"][0]
    columns = [f"p_{name}" for name in CLASSES]
    other = [name for name in CLASSES if name != rows.loc[mistaken, "label"]][0]
    rows.loc[mistaken, columns] = 0.01
    rows.loc[mistaken, [f"p_{other}", "predicted"]] = [0.94, other]
    two = lookup.Result("b", one.values, one.details, rows, one.history, [])
    compared = comparison.compare([one, two])
    page = compare_page.page(compared, [one, two])
    assert 'class="less' in page and not re.search(r">-0<|-0\.00|>\+0<", page)
    entry = {"difference": -0.00001, "low": -0.00002, "high": 0.0, "p": 1, "p_holm": 1, "tests": 1}
    assert compare_page._points(entry) == "+0.00 points (+0.00 to +0.00)"


def test_names_that_are_right_are_green_and_a_line_says_why_no_face_is_shown(monkeypatch, tmp_path):
    results = [result("a", 0), result("b", 1, right=1.0)]
    compared = comparison.compare(results)
    page = compare_page.page(compared, results, why="the faces are elsewhere; fetch them")
    shown = [
        re.findall(r"<b( class=\"right\")?>(\w+)</b>", cell)
        for cell in page.split("<figure title=")[1:]
    ]
    wanted = compared["disagree"][0].head(24)
    assert len(shown) == len(wanted) > 9
    for (first, second), row in zip(shown, wanted.itertuples(), strict=True):
        assert (first[1], second[1]) == (row.first, row.second)
        assert [bool(first[0]), bool(second[0])] == [
            row.first == row.label,
            row.second == row.label,
        ]
    assert "<b>The faces are elsewhere; fetch them.</b>" in page
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FER2013", raising=False)
    faces, why = compare_page._faces({"digest": "0" * 64, "dataset": "fer2013"}, {"0001"})
    assert faces == {} and "export FER2013=" in why


def test_faces_are_those_of_the_local_data(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    faces = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE), np.uint8)
    table = pd.DataFrame(
        {"id": ["a", "b"], "label": CLASSES[:2], "split": "test", "origin": "original"}
    ).assign(official=-1)
    data = Dataset("mine", CLASSES, faces, table)
    data.save("data/raw")
    found, why = compare_page._faces({"digest": data.digest, "dataset": "mine"}, {"b"})
    assert why == "" and list(found) == ["b"] and (found["b"] == faces[1]).all()
