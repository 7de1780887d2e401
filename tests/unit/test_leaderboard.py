"""The leaderboard holds every result, needs no data or models, and refers to nothing outside."""

import re
import shutil

import pytest

from ferlab import files, recipes
from ferlab.reporting import leaderboard
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


def test_without_a_result_it_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(files.UserError, match="recipes/results: no result yet"):
        leaderboard.write()
