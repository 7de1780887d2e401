"""Peers: scoring and the two signs of contamination on arrays that tell the answer; the page; and
the real packages, where they are installed."""

import argparse
import json
import shutil

import numpy as np
import pytest

from benchmarks.peers import __main__ as peers
from benchmarks.peers import page, registry, scores
from ferlab.data.classes import CLASSES
from ferlab.data.readers.extra import Faces
from ferlab.files import UserError
from tests.repository import TOP

NAMES = np.array(CLASSES, object)


def drawn(count, seed=0):
    """Labels of the seven classes by lot, object (count,)."""
    return NAMES[np.random.default_rng(seed).integers(0, 7, count)]


def wrong(labels):
    """For each label the next class."""
    return NAMES[[(CLASSES.index(label) + 1) % 7 for label in labels]]


def test_f1_is_the_mean_over_the_classes_that_a_set_has():
    labels = ["angry", "angry", "sad", "sad"]
    found = scores.score(labels, ["angry", "neutral", "sad", "sad"])
    assert found["accuracy"] == 0.75 and found["f1_macro"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["recall"] == {"angry": 0.5, "sad": 1.0}


def test_the_interval_of_equal_frames_is_that_of_their_sequences():
    labels = drawn(300)
    right = np.random.default_rng(1).random(100).repeat(3) < 0.7
    answers, groups = np.where(right, labels, wrong(labels)), np.arange(100).repeat(3)
    alone, grouped = scores.score(labels, answers), scores.score(labels, answers, groups)
    assert grouped["groups"] == 100
    widths = [entry["high"] - entry["low"] for entry in (alone, grouped)]
    assert widths[1] > 1.5 * widths[0]


def test_who_learned_from_train_alone_has_its_copies_right_more_often():
    seen, tenths = np.arange(3000) < 300, np.arange(3000) % 10
    train_alone = scores.seen_in_train(tenths < np.where(seen, 9, 6), seen)
    private_too = scores.seen_in_train(tenths < 9, seen)
    assert train_alone["seen"]["n"] == 300 and train_alone["seen"]["low"] > 0.8
    assert train_alone["rest"]["high"] < 0.7 and train_alone["p"] < 1e-6
    assert private_too["p"] == 1


def test_a_label_that_all_others_contradict_is_counted_where_they_agree_alone():
    labels = np.array(["sad", "sad", "sad", "sad", "sad"], object)
    others = [["fear", "fear", "fear", "sad", ""], ["fear", "fear", "happy", "sad", ""]]
    answers = np.array(["sad", "fear", "sad", "sad", "sad"], object)
    found = scores.label_against(labels, answers, others)
    assert (found["n"], found["share"]) == (2, 0.5)


def test_who_knows_the_labels_by_heart_gives_them_against_the_others():
    labels, random = drawn(4000), np.random.default_rng(0)

    def guesses():
        # the others err on the same hard faces, in the same way
        return np.where(np.arange(4000) % 3 == 0, wrong(labels), labels)

    honest = np.where(random.random(4000) < 0.1, labels, guesses())
    others = [guesses(), guesses()]
    assert scores.label_against(labels, labels, others)["share"] == 1
    assert scores.label_against(labels, honest, others)["high"] < 0.15


def test_nothing_to_count_is_no_error():
    assert scores.label_against(["sad"], ["sad"], [["sad"]])["n"] == 0


def test_answers_are_kept_as_digits_and_read_back():
    made = {"labels": ["neutral", "disgusted", "fearful"], "scores": [[0, 1, 0], [1, 0, 0]]}
    assert list(registry.named(made)) == ["disgust", "neutral"]
    assert list(registry.unpacked(registry.packed(registry.named(made)))) == ["disgust", "neutral"]


@pytest.fixture
def set_of():
    """A set of faces with labels."""

    def make(name, labels):
        faces = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), 48, 48), np.uint8)
        ids = [str(number) for number in range(len(labels))]
        return Faces(name, faces, ids, list(labels), ids, {})

    return make


def test_a_rerun_asks_only_what_no_report_holds(tmp_path, monkeypatch, set_of):
    asked = []

    def ask(peer, kind, pixels):
        asked.append((kind, len(pixels)))
        if kind == "photo":
            raise UserError("stopped here")
        return {"labels": list(CLASSES), "scores": np.eye(7)[: len(pixels)], "cpu_ms": 1.0}

    monkeypatch.setattr(registry, "ask", ask)
    monkeypatch.setattr(peers, "OUT", tmp_path)
    sets = {"private": set_of("private", NAMES[:3]), "ck48": set_of("ck48", NAMES[:2])}
    for _ in range(2):
        with pytest.raises(UserError, match="stopped here"):
            peers.measure(registry.OURS, sets, again=False)
    assert asked == [("faces", 3), ("faces", 2), ("photo", 512), ("photo", 512)]
    report = json.loads((tmp_path / "ferlab.json").read_text())
    assert report["sets"]["private"]["answers"] == "012"
    sets["ck48"] = set_of("ck48", NAMES[:4])  # other faces are asked anew
    with pytest.raises(UserError):
        peers.measure(registry.OURS, sets, again=False)
    assert asked[4:] == [("faces", 4), ("photo", 512)]


def test_a_worker_that_fails_says_so_in_a_line(tmp_path, monkeypatch):
    peer = registry.Peer("ferlab", "ours", tmp_path / "none")
    monkeypatch.setattr(registry, "INSTALLED", tmp_path)
    (tmp_path / "ferlab/bin").mkdir(parents=True)
    program = tmp_path / "ferlab/bin/python"
    program.write_text("#!/bin/sh\necho 'no module named onnx' >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(UserError, match="ferlab: its worker failed: no module named onnx"):
        registry.ask(peer, "faces", np.zeros((1, 48, 48), np.uint8))


def test_without_node_or_for_another_name_a_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(registry, "INSTALLED", tmp_path)
    human = registry.named_peer("human")
    with pytest.raises(UserError, match="human: npm is not installed"):
        registry.install(human)
    with pytest.raises(UserError, match="human: node is not installed"):
        registry.ask(human, "photo", np.zeros((8, 8, 3), np.uint8))
    assert not list(tmp_path.iterdir())
    with pytest.raises(
        argparse.ArgumentTypeError, match="deepface: unknown; known are ferlab, fer"
    ):
        registry.named_peer("deepface")


def test_posed_faces_are_told_plainly():
    def entry(accuracy, recall):
        share = {"accuracy": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.05}
        return {"ck48": share | {"recall": recall}}

    found = {"ferlab": entry(0.71, {"angry": 0.38, "happy": 1.0}), "human": entry(0.8, {})}
    text = page.posed(found)
    assert "ours is behind: 71.0 % (66.0–76.0), against @vladmandic/human" in text
    assert "finds only 38 % of angry." in text
    found["human"] = entry(0.6, {})
    assert "no package here is better than ours" in page.posed(found)


def test_the_signs_point_at_who_shows_one_of_them():
    def entry(p, low, high):
        return {"seen_in_train": {"p": p}, "peers_against": {"low": low, "high": high}}

    found = {"ferlab": entry(1e-9, 0.1, 0.2), "fer": entry(1e-9, 0.15, 0.25)}
    assert "at none of them" in page.verdict(found)
    found |= {"human": entry(1e-9, 0.3, 0.4), "face-api": entry(0.6, 0.1, 0.2)}
    assert "@vladmandic/human 3.3.6, @vladmandic/face-api 1.7.15" in page.verdict(found)


def test_the_page_is_the_one_that_the_reports_give():
    found = json.loads((TOP / "reports/peers/scores.json").read_text())
    assert page.page(page.reports(TOP / "reports/peers"), found) == page.PATH.read_text()


@pytest.mark.parametrize("name", ["face-api", "human"])
def test_every_package_of_node_is_pinned_and_hashed(name):
    folder = registry.HERE / name
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    lock = json.loads((folder / "package-lock.json").read_text())["packages"]
    for package, version in wanted.items():
        assert lock[f"node_modules/{package}"]["version"] == version
    assert all(entry["integrity"].startswith("sha512-") for key, entry in lock.items() if key)


@pytest.mark.slow
@pytest.mark.parametrize("peer", registry.PEERS, ids=registry.NAMES)
def test_an_installed_peer_names_faces_and_finds_the_one_on_a_photo(peer):
    import skimage.data

    from ferlab.data.readers import images

    if not peer.installed:
        pytest.skip(f"{peer.name} is not installed: python -m benchmarks.peers --install")
    photo = skimage.data.astronaut()
    face = images.cut(photo, (171, 64, 107))  # she smiles
    made = registry.ask(peer, "faces", np.stack([face, face]))
    assert list(registry.named(made)) == ["happy", "happy"]
    assert registry.ask(peer, "photo", photo)["found"] == 1
