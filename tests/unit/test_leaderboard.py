"""The leaderboard holds every result, needs no data or models, and refers to nothing outside."""

import dataclasses
import re
import shutil

import pytest

from ferlab import files, recipes
from ferlab.reporting import leaderboard, papers
from ferlab.reporting.figures import leaderboard_figure
from ferlab.tracking import lookup
from tests.repository import TOP
from tests.unit.test_report import Outside


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A clone's recipes without models, written once; CK+ in one result as sequences."""
    top = tmp_path_factory.mktemp("leaderboard")
    shutil.copytree(TOP / "recipes", top / "recipes", ignore=shutil.ignore_patterns("runs"))
    path = top / "recipes/results/anamika_2025/details.json"
    details = files.read_json(path)
    splits = details["splits"]
    splits["ck48"] |= {"groups": 309, "accuracy_low": 0.6543, "accuracy_high": 0.7654}
    splits["private_unseen_near"] = splits["private_unseen"] | {"n": 3098, "accuracy": 0.6123}
    files.write_json(path, details)
    (top / "reports").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        leaderboard.write()
    return top


def test_every_result_has_its_line_its_page_and_its_number(folder, monkeypatch):
    monkeypatch.chdir(folder)
    page = (folder / "reports/leaderboard.html").read_text()
    assert recipes.with_result()
    for key in recipes.with_result():
        metrics, details, _, _ = recipes.read_result(key)
        assert f'href="leaderboard/{key}.html"' in page
        assert f"{100 * metrics['private_accuracy']:.1f}" in page
        own = (folder / f"reports/leaderboard/{key}.html").read_text()
        assert f"{100 * details['splits']['private']['accuracy']:.1f}" in own
        assert f"<title>{key}: " in own and "Precision against recall" in own
    shown = [float(value) for value in re.findall(r'<td data-value="([\d.]+)"><b>', page)]
    assert shown == sorted(shown, reverse=True) and len(shown) == len(recipes.with_result())


def test_sequences_and_both_leak_free_numbers_are_shown_by_name(folder):
    board = (folder / "reports/leaderboard.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
    page = (folder / "reports/leaderboard/anamika_2025.html").read_text()
    page = " ".join(page.replace("\N{NO-BREAK SPACE}", " ").split())
    assert ">leak-free (exact)</button>" in board and ">leak-free (near)</button>" in board
    assert "61.2 %" in board and "<b>Leak-free (near): 61.2 %</b>" in page
    assert "Without the 288 private images" in page and "Without the 491 private images" in page
    further = board[board.index("On further faces") :]
    assert ">309<" in further and "65.4–76.5" in further and "bootstrap over groups" in further
    assert "927 in 309 groups" in page and "a bootstrap over groups" in page


def test_what_was_trained_on_a_gpu_says_so(folder):
    page = (folder / "reports/leaderboard.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
    shown = {
        key: "" if row.endswith("min</td>") else row.rpartition(", ")[2].removesuffix("</td>")
        for key, row in re.findall(r'html">(\S+)</a>[^\0]*?(<td [^>]*>[^<]* min.*?</td>)', page)
    }
    on_gpu = {
        key: "gpu" in recipes.read_result(key)[3].get("machine", {})
        for key in recipes.with_result()
    }
    assert shown.pop("champion_ensemble") == "partly GPU"
    assert len(shown) > 30
    assert all((shown[key] == "GPU") == on_gpu[key] for key in shown)


def test_the_pages_refer_only_to_each_other(folder):
    for path in [folder / "reports/leaderboard.html", *(folder / "reports/leaderboard").iterdir()]:
        page = Outside(path.read_text())
        outside = [
            address
            for address in page.addresses
            if not address.startswith("data:image/png;base64,")
        ]
        assert all((path.parent / address).exists() for address in outside), path
        assert not {"link", "iframe", "object", "embed", "base"} & set(page.tags)


def test_equal_results_give_equal_bytes(folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = {path: path.read_bytes() for path in (folder / "reports").rglob("*.*")}
    leaderboard.write()
    assert {path: path.read_bytes() for path in (folder / "reports").rglob("*.*")} == before


def test_a_figure_that_cannot_be_drawn_to_its_end_leaves_the_old_one(folder, monkeypatch):
    def half(file, *_):
        file.write(b"half")
        raise OSError

    monkeypatch.chdir(folder)
    for module, figure in ((leaderboard, "leaderboard"), (papers, "claims")):
        *_, old = module.write()
        before = old.read_bytes()
        monkeypatch.setattr(getattr(module, f"{figure}_figure"), "draw", half)
        with pytest.raises(OSError):
            module.write()
        assert old.read_bytes() == before
        assert not list(old.parent.glob(f".{old.name}*"))


def test_without_a_result_it_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(files.UserError, match="recipes/results: no result yet"):
        leaderboard.write()


def test_experiments_on_fer2013_are_included_and_those_on_the_sample_are_not_even_fetched(
    folder, monkeypatch
):
    monkeypatch.chdir(folder)
    locks = {"a": "fer2013", "b": "sample", "c": "fer2013", "speedrun": "fer2013"}
    monkeypatch.setattr(
        leaderboard.dvc_files, "experiments", lambda: [(name, name, "") for name in locks]
    )

    def show(root, commit, file):
        parameters = f"download: {{dataset: {locks[commit]}}}"
        return f"stages: {{download: {{params: {{params.yaml: {{{parameters}}}}}}}}}"

    asked, said = [], []

    def found(name, commit):
        asked.append(name)
        if name == "c":
            raise files.UserError("c: gone; make it again")
        return dataclasses.replace(lookup.find("majority"), name=name)

    monkeypatch.setattr(leaderboard.dvc_files, "show", show)
    monkeypatch.setattr(leaderboard.lookup, "experiment", found)
    rows = leaderboard.rows(said.append)
    kinds = {row["key"]: row["kind"] for row in rows}
    assert kinds["a"] == "experiment" and "b" not in {*asked, *kinds} and "c" not in kinds
    pages = {row["page"]: row["accuracy"] for row in rows}
    assert len(pages) == len(rows), "an experiment named as a recipe has a page of its own"
    assert pages["experiment-speedrun"] == pages["majority"] < pages["speedrun"]
    assert said == ["not shown: c: gone; make it again"]
    group = next(group for group in leaderboard.groups(rows) if group["name"] == "a")
    assert group["kind"] == "yours" and group["published"] is None


def test_the_figure_has_one_split_a_dot_per_recipe_and_a_legend_for_all_it_shows(drawn, tmp_path):
    seeds = [(300, 0.66), (330, 0.68)]
    interval = {"accuracy": 0.67, "low": 0.65, "high": 0.69, "seconds": 315, "published": None}
    groups = [
        {"name": "speedrun", "kind": "ours", "seeds": seeds} | interval,
        {"name": "ho_2016", "kind": "text", "seeds": [(320, 0.67)]} | interval | {"published": 0.6},
        {"name": "mine", "kind": "yours", "seeds": [(310, 0.67)]} | interval,
        {"name": "majority", "kind": "ours", "seeds": []} | interval
        | {"seconds": None, "accuracy": 0.24},
        {"name": "ho_2016_baseline", "kind": "text", "seeds": [(900, 0.67)]} | interval
        | {"seconds": 900, "published": 0.15},
    ]  # fmt: skip
    leaderboard_figure.draw(tmp_path / "board.png", groups)
    (figure,) = drawn
    (legend,) = figure.legends
    words = " ".join(text.get_text() for text in legend.get_texts())
    for said in ("published system", "our own", "your workspace", "one seed", "claims", "people"):
        assert said in words
    assert "Private accuracy" in figure.axes[0].get_title(loc="left")
    texts = {text.get_text(): text for text in figure.axes[0].texts}
    assert "↓ majority 24.0 %, ho_2016_baseline as published 15.0 %" in texts
    assert figure.axes[0].get_ylim()[0] > 0.5  # neither decides what is shown
    figure.draw_without_rendering()
    boxes = [leaderboard_figure._words(texts[name]) for name in ("speedrun", "ho_2016", "mine")]
    assert not any(a.overlaps(b) for a in boxes for b in boxes if a is not b)


def test_only_what_was_claimed_of_the_private_images_stands_beside_them(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setitem(leaderboard.CLAIMS, "speedrun", [("test", "accuracy", 0.6)])
    monkeypatch.setitem(leaderboard.CLAIMS, "anamika_2025", [("private", "accuracy", 0.6)])
    shown = {group["name"]: group for group in leaderboard.groups(leaderboard.rows())}
    assert shown["speedrun"]["published"] is None and shown["anamika_2025"]["published"] == 0.6
    seeds = [key for key in recipes.with_result() if recipes.recipe_of(key)[0] == "speedrun"]
    assert len(shown["speedrun"]["seeds"]) == len(seeds)
