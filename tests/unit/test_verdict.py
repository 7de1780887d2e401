"""The last lines of `make repro` are a verdict, and `make show` says which row is which."""

import json
import subprocess

import pytest
from ruamel.yaml import YAML

from ferlab.reporting import summary, verdict
from ferlab.tracking import provenance
from ferlab.workspace import experiments
from tests.repository import TOP

MODEL = "models/model.keras"
INTEL = {"cpu": "Intel Xeon", "tensorflow": "2.20.0", "cores": 2}


def lock(model="a", raw="r", epochs=12, code="c", dataset="sample"):
    stages = {
        "download": {
            "params": {"params.yaml": {"download": {"dataset": dataset}}},
            "outs": [{"path": "data/raw", "md5": raw}],
        },
        "train": {
            "deps": [{"path": "ferlab/training/loop.py", "md5": code}],
            "params": {"params.yaml": {"train": {"epochs": epochs}}},
            "outs": [{"path": MODEL, "md5": model}, {"path": "models/history.csv", "md5": model}],
        },
    }
    return {"stages": stages}


def details(accuracy=0.856, spread=0.01):
    private = {"n": 3589, "accuracy": accuracy}
    private |= {"accuracy_low": accuracy - spread, "accuracy_high": accuracy + spread}
    return {"dataset": "sample", "splits": {"private": private}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A commit of a result of 85.6 %, made on an Intel Xeon; the result here is of an AMD EPYC."""
    here = {"machine": INTEL | {"cpu": "AMD EPYC"}, "precision": "bfloat16"}
    monkeypatch.setattr(provenance, "read_run", lambda model: here)
    (tmp_path / "reports").mkdir()
    write(tmp_path, lock())
    (tmp_path / "reports/metrics.json").write_text(json.dumps({"private_accuracy": 0.856}))
    pinned = {"model": "a", "machine": INTEL, "precision": "bfloat16"}
    (tmp_path / "reports/run.json").write_text(json.dumps(pinned))
    commit = "git init -q && git add -A && git -c user.name=t -c user.email=t@t commit -qm x"
    subprocess.run(commit, shell=True, cwd=tmp_path, check=True)
    return tmp_path


def write(folder, content):
    with open(folder / "dvc.lock", "w") as file:
        YAML().dump(content, file)


def said(folder, working, here=None, paths=False):
    write(folder, working)
    return verdict.lines(folder, here or details(), paths)


def test_equal_bits_are_one_line(folder):
    assert said(folder, lock()) == ["Reproduced to the last bit: private 85.6 %, as pinned."]


def test_other_bits_on_another_machine_are_expected_and_the_machines_are_named(folder):
    first, second = said(folder, lock(model="b"), details(0.853))
    assert first == "Reproduced: private 85.3 % (pinned 85.6 %)."
    assert second.startswith(
        "Bits differ, as expected: pinned on Intel Xeon (bfloat16), this is AMD EPYC (bfloat16); "
    )
    assert "models/" not in first + second and "history" not in first + second
    listed = said(folder, lock(model="b"), paths=True)
    assert listed[2:] == [f"  {MODEL}: a -> b", "  models/history.csv: a -> b"]


def test_another_accuracy_than_luck_explains_is_an_alarm(folder):
    first, _ = said(folder, lock(model="b"), details(0.7))
    assert first == "NOT reproduced: private 70.0 % (pinned 85.6 %), more than luck explains."


def test_other_faces_are_an_alarm(folder):
    first, _ = said(folder, lock(model="b", raw="s"))
    assert first.startswith("NOT reproduced: data/raw differ")


def test_other_code_and_other_versions_are_named_as_the_reason(folder, monkeypatch):
    assert "the code does (ferlab/training/loop.py)" in said(folder, lock("b", code="d"))[1]
    here = {"machine": INTEL | {"tensorflow": "2.21.0"}, "precision": "bfloat16"}
    monkeypatch.setattr(provenance, "read_run", lambda model: here)
    assert "tensorflow 2.20.0 -> 2.21.0" in said(folder, lock(model="b"))[1]
    here["machine"] = INTEL
    assert said(folder, lock(model="b"))[1].endswith("make verify")


def test_another_experiment_is_no_failure_and_is_compared_where_the_faces_are_the_same(folder):
    line = "Another experiment than the pinned one: train.epochs 12 -> 30."
    assert said(folder, lock("b", epochs=30), details(0.87)) == [
        f"{line} Private 87.0 % (pinned 85.6 %)."
    ]
    line = "Another experiment than the pinned one: download.dataset sample -> x."
    assert said(folder, lock("b", "s", dataset="x")) == [line]


def test_a_machine_that_is_not_that_of_the_pinned_model_is_not_named(folder):
    (folder / "reports/run.json").write_text(json.dumps({"model": "z", "machine": INTEL}))
    subprocess.run(
        "git add -A && git -c user.name=t -c user.email=t@t commit -qm y",
        shell=True,
        cwd=folder,
        check=True,
    )
    second = said(folder, lock(model="b"))[1]
    assert second.startswith("Bits differ, as expected on another kind of processor;")


def row(name, rev, accuracy, **values):
    return {
        "Experiment": name,
        "rev": rev,
        "State": None,
        "private_accuracy": accuracy,
        "disgust_recall": "None",
        "download.dataset": "sample",
        "train.epochs": 12.0,
        "data/raw": "123",
        **values,
    }


@pytest.fixture
def shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def show(*rows, width=120):
        monkeypatch.setattr("dvc.api.exp_show", lambda: list(rows))
        return experiments.text(width).splitlines()

    return show


HERE, PINNED = row(None, "workspace", 0.856), row(None, "main", 0.856)


def test_before_the_first_experiment_show_says_what_to_do(shown, tmp_path):
    lines = shown(HERE, PINNED)
    assert lines[1].split() == ["workspace", "85.6", "%", "as", "pinned"]
    assert "nothing was run here yet: make repro" in lines
    assert any("dvc exp run -S" in line for line in lines)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/details.json").touch()
    assert "nothing was run here yet: make repro" not in shown(HERE, PINNED)


def test_a_score_of_nought_is_shown_as_such(shown):
    first, line, *_ = shown(HERE | {"disgust_recall": 0.0}, PINNED)
    assert first.split() == ["private", "disgust", "changed"]
    assert line.split()[:5] == ["workspace", "85.6", "%", "0.0", "%"]


def test_experiments_are_one_short_line_each_with_what_was_changed(shown):
    many = {f"train.k{k}": k for k in range(40)}
    lines = shown(
        HERE | many | {"train.epochs": 30.0},
        PINNED,
        row("long", "abc", 0.87, **{"train.epochs": 30.0}),
        row("wide", "abd", 0.88, **many),
        row("waits", "abe", None, State="Queued", **{"train.epochs": 3.0}),
    )
    assert max(map(len, lines)) <= 120
    assert lines[0].split() == ["private", "changed"]
    assert lines[2].split() == ["pinned", "85.6", "%"]
    assert lines[3].split() == ["long", "87.0", "%", "epochs=30"]
    assert lines[4].endswith(" ...")
    assert lines[5].split() == ["waits", "-", "queued", "epochs=3"]
    assert "pinned: the result in the last commit (`main` for DVC)" in lines[-2]
    assert "compare" in lines[-1]


@pytest.mark.parametrize(
    "n, epochs, accuracy, expected, absent",
    [
        (
            160,
            12,
            0.3,
            ["careful: no better than", "train.batch_size=16 train.epochs=100"],
            "merge",
        ),
        (16000, 12, 0.9, ["predict <photo> --model workspace"], "careful"),
        (1, 12, 0.9, ["(1 face in batches of 128, 12 times: 12 steps"], "1 faces"),
    ],
)
def test_what_is_next_with_ones_own_faces_is_no_advice_about_fer2013(
    n, epochs, accuracy, expected, absent
):
    from ferlab import params

    per_class = {"smile": {"support": 30}, "frown": {"support": 10}}
    private = {"n": 40, "accuracy": accuracy, "accuracy_low": accuracy - 0.1}
    splits = {"train": {"n": n}, "private": private | {"per_class": per_class}}
    found = summary._next(
        {"dataset": "custom-1", "splits": splits}, params.load(TOP / "params.yaml"), {}
    )
    for part in expected:
        assert part in "\n".join(found)
    assert absent not in "\n".join(found)


def test_how_long_fer2013_takes_is_reckoned_without_the_compiling():
    """1 s for 1,000 faces of 48x48, a face of 32x32 (32/48)^2 of that: six epochs of each with
    28,709 faces and a third of public's 3,589. Two epochs also compiled for a minute.
    """
    from ferlab import params

    settings = params.load(TOP / "params.yaml")
    assert (settings.train.epochs, settings.train.low_resolution) == (12, 0.5)
    full = (2873 + 2873 / 2 / 3) / 1000
    epochs = [60 + full * 4 / 9, *[full * 4 / 9] * 5, 60 + full, *[full] * 5]
    run = {"epochs": epochs, "train_seconds": sum(epochs)}
    expected = 6 * (1 + 4 / 9) * (28709 + 3589 / 3) / 1000
    assert round(expected / 60) == 4
    [line] = summary._next({"dataset": "sample"}, settings, run)
    assert line.endswith("(its training alone: about 4 min on this machine)")
