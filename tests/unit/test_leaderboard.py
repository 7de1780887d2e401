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
    """A clone's recipes without models, written once."""
    top = tmp_path_factory.mktemp("leaderboard")
    shutil.copytree(TOP / "recipes", top / "recipes", ignore=shutil.ignore_patterns("runs"))
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
