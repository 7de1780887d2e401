"""Comparing: significance as statisticians measure it, six and seven classes meet on six."""

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


def test_only_what_differs_is_shown_and_the_text_says_whether_it_may_be_chance():
    same = comparison.compare([result("a", 0), result("b", 1)])
    assert same["differing"] == [("train.seed", [0, 1])]
    assert "could be chance" in compare_page.text(same)
    better = comparison.compare([result("a", 0), result("b", 1, right=1.0, strategy="weights")])
    assert [key for key, _ in better["differing"]] == ["train.seed", "balance.strategy"]
    assert better["significance"][0]["p"] < 0.001 and "more than chance" in compare_page.text(
        better
    )
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
    assert page.count("<figure") == 3 + 24 + 24


def test_committed_recipes_are_compared_on_a_fresh_clone(monkeypatch, tmp_path):
    keys = [*recipes.with_result(), "majority"]
    compared = comparison.compare([lookup.find(key) for key in keys])
    assert (compared["n"], compared["dataset"], compared["names"]) == (3589, "fer2013", keys)
    assert recipes.raw_recipe("majority")["balance"]["strategy"] == "none"


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
    assert {row["settings"]["train"]["epochs"] for row in leaderboard.rows()} == {
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


def test_a_result_with_private_and_one_without_meet_on_the_whole_test_split():
    """Where only one has private images, both are compared on all of test, as the text says."""
    both, test = result("both", 0), result("test", 1)
    rows = test.predictions.assign(split="test")
    details = scoring.details(rows, about("sample"))
    test = lookup.Result("test", test.values, details, rows, test.history, [])
    found = comparison.compare([both, test])
    assert found["split"] == "test" and found["n"] == len(both.predictions)
