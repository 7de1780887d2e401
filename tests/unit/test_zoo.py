"""A recipe's model by its name, without training: from a release folder, an address, or DVC's
remote, and only if it is the pinned one.
"""

import functools
import hashlib
import http.server
import json
import shutil
import threading

import pytest

from ferlab.files import UserError
from ferlab.serving import model_lookup
from tests.repository import TOP

KEY, CONTENT = "speedrun", b"the network's bytes"
MODEL = f"runs/{KEY}/model.keras"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A fresh clone with the recipes, whose lock pins CONTENT, but without any model."""
    recipes = tmp_path / "clone/recipes"
    recipes.mkdir(parents=True)
    (tmp_path / "clone/stages").mkdir()
    for path in (TOP / "recipes").glob("*.yaml"):
        if path.name not in ("dvc.yaml", "keys.yaml"):
            shutil.copy(path, recipes)
    (recipes / "results").symlink_to(TOP / "recipes/results")
    out = {"path": MODEL, "md5": hashlib.md5(CONTENT).hexdigest(), "hash": "md5"}
    lock = {"schema": "2.0", "stages": {"train": {"cmd": "train", "outs": [out]}}}
    (recipes / "dvc.lock").write_text(json.dumps(lock))
    (recipes / "dvc.yaml").write_text(
        json.dumps({"stages": {"train": {"cmd": "train", "outs": [MODEL]}}})
    )
    monkeypatch.chdir(recipes.parent)
    for name in ("DVC_ROOT", model_lookup.MODELS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    return recipes


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def site(tmp_path):
    """(folder, its address) of a server on this machine."""
    folder = tmp_path / "site"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield folder, f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


@pytest.fixture(params=["folder", "address"])
def released(request, checkout, site, monkeypatch):
    """The file of a release folder; FERLAB_MODELS names the folder, or its address."""
    folder, address = site
    monkeypatch.setenv(model_lookup.MODELS, address if request.param == "address" else str(folder))
    return folder / f"{KEY}.keras"


def fetched():
    with model_lookup.find_model(KEY) as (path, _):
        return path.read_bytes()


def test_a_released_model_is_fetched_by_its_recipes_name(released, checkout):
    released.write_bytes(CONTENT)
    assert fetched() == CONTENT


def test_another_file_under_that_name_is_refused_and_not_kept(released, checkout):
    released.write_bytes(b"another network")
    said = r"speedrun.keras: has the md5 \w+, recipes/dvc.lock says \w+: .*; dvc .* trains it \("
    with pytest.raises(UserError, match=said):
        fetched()
    released.write_bytes(CONTENT)
    assert fetched() == CONTENT


def test_what_is_not_there_is_told_with_what_training_costs(released, checkout):
    said = r"(speedrun.keras: not found|answers 404).*\(.*FERLAB_MODELS.*minutes on"
    with pytest.raises(UserError, match=said):
        fetched()


def test_a_password_in_the_address_is_not_shown(checkout, site, monkeypatch):
    secret = site[1].replace("://", "://me:hidden@")
    monkeypatch.setenv(model_lookup.MODELS, secret)
    (site[0] / f"{KEY}.keras").write_bytes(b"another network")
    with pytest.raises(UserError, match="has the md5") as refused:
        fetched()
    assert "hidden" not in str(refused.value)


def test_without_any_place_the_ways_to_the_model_are_told(checkout):
    from dvc.repo import Repo

    Repo.init(str(checkout), no_scm=True).close()
    with pytest.raises(UserError, match=r"trains it \(.*; or FERLAB_MODELS=.*docs/use.md"):
        fetched()


@pytest.mark.parametrize("kind", ["folder", "address"])
def test_a_model_comes_from_dvcs_remote_and_a_changed_one_is_refused(kind, checkout, site):
    from dvc.repo import Repo

    folder, address = site
    Repo.init(str(checkout), no_scm=True).close()
    url = address if kind == "address" else folder
    (checkout / ".dvc/config").write_text(
        f"[core]\n    no_scm = true\n    remote = models\n['remote \"models\"']\n    url = {url}\n"
    )
    digest = hashlib.md5(CONTENT).hexdigest()
    pushed = folder / "files/md5" / digest[:2] / digest[2:]
    pushed.parent.mkdir(parents=True)
    pushed.write_bytes(CONTENT)
    assert fetched() == CONTENT
    shutil.rmtree(checkout / ".dvc/cache", ignore_errors=True)
    pushed.write_bytes(b"another network")
    with pytest.raises(UserError, match="speedrun: "):
        fetched()
