"""The page needs no other file, is equal for equal results, and nothing breaks out of it."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from ferlab import params
from ferlab.data.classes import CLASSES
from ferlab.data.dataset import SIZE, Dataset
from ferlab.evaluation import calibration, mistakes, scoring, tables
from ferlab.files import read_json, write_json
from ferlab.reporting import pages, report
from ferlab.reporting.figures import model_figures
from ferlab.tracking import provenance
from stages import evaluate, experiment, predict
from tests.builders import about

RUN = {
    "train_seconds": 401.0,
    "precision": "bfloat16",
    "finished": "2026-11-20T12:00:00Z",
    "commit": "8b541773e644ec7aa46d23c74144dce5e41bf320",
    "machine": {"cpu": "AMD EPYC", "cores": 2, "system": "Linux", "python": "3.11.7", "keras": "3"},
}
HOSTILE = '<script src="http://evil.example/x.js">$alert(1)</script>'


class Result:
    """A small made-up result with random pixels as faces: what the stage hands to the report."""

    def __init__(
        self,
        folder,
        name="sample",
        classes=CLASSES,
        splits=("train", "public", "private"),
        right=0.1,
    ):
        random, n = np.random.default_rng(0), 210
        labels = np.arange(n) % len(classes)
        chosen = random.integers(0, len(splits), n)
        table = pd.DataFrame(
            {
                "id": [f"{HOSTILE}{i:04}" for i in range(n)],
                "label": np.array(classes, object)[labels],
                "split": np.array(splits, object)[chosen],
                "origin": "original",
                "official": np.arange(n),
            }
        )
        faces = random.integers(0, 256, (n, SIZE, SIZE), np.uint8)
        self.dataset = Dataset(name, tuple(classes), faces, table)
        given = (
            random.dirichlet(np.ones(len(classes)), n) * (1 - right)
            + right * np.eye(len(classes))[labels]
        )
        self.table = tables.of_dataset(self.dataset, given)
        self.details = scoring.details(
            self.table,
            about(name, self.dataset.digest, 1000),
            {"private_unseen": set(table["id"][:20]), "private_unseen_near": set(table["id"][:40])},
        )
        self.history = pd.DataFrame(
            {
                "epoch": [1, 2, 3],
                "learning_rate": 0.1,
                "running_loss": [2, 1, 0.5],
                "running_accuracy": [0.2, 0.4, 0.6],
                "selection_loss": [2, 1.1, 1.2],
                "selection_accuracy": [0.2, 0.5, 0.4],
                "chosen": [0, 1, 0],
            }
        )
        self.settings = params.load().model_dump()
        self.wrong = mistakes.worst(self.table, 12)
        self.faces = faces[pd.Index(table["id"]).get_indexer(self.wrong["id"])]
        self.folder = folder

    def pictures(self):
        model_figures.draw(
            self.folder, self.details, self.history, self.wrong, self.faces, "public"
        )
        return {file.stem: file.read_bytes() for file in sorted(self.folder.glob("*.png"))}

    def page(self, **more):
        return report.render(
            self.details,
            self.history,
            self.settings,
            self.table,
            self.wrong,
            self.faces,
            samples=report.strips(self.dataset, 4),
            **more,
        )


COUNTS = pd.DataFrame(
    {
        "split": ["train", "train", "public"],
        "label": ["happy", "sad", "sad"],
        "before": [5, 2345, 3],
        "after": [8, 2345, 3],
    }
)


class Outside(HTMLParser):
    """Collects the tags, and every address that an attribute or a style refers to."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.addresses = [], re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", page)
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [
            value for key, value in attributes if key in ("src", "href", "srcset", "data", "poster")
        ]


def test_figures_and_page_are_equal_for_equal_results(tmp_path):
    result, again = Result(tmp_path), Result(tmp_path)
    pictures = result.pictures()
    assert set(pictures) == {
        "confusion_shares",
        "confusion_counts",
        "learning_curves",
        "per_class_f1",
        "mistakes",
    }
    assert all(png.startswith(b"\x89PNG") for png in pictures.values())
    assert again.pictures() == pictures
    assert again.page() == result.page()


def test_page_refers_to_nothing_outside(tmp_path):
    result = Result(tmp_path)
    outside = Outside(result.page(note="../.ferlab/runs/1234.html"))
    # the other page of the run, beside it, and what no result can hold: when and where it was made
    outside.addresses.remove("explain/explain.html")
    outside.addresses.remove("../.ferlab/runs/1234.html")
    outside.tags.remove("object")
    assert len(outside.addresses) == 7 + len(result.wrong)
    assert all(address.startswith("data:image/png;base64,") for address in outside.addresses)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(outside.tags)


def test_hostile_names_stay_text(tmp_path):
    result = Result(tmp_path, name=HOSTILE, classes=sorted(["happy", HOSTILE, "$x^$"]))
    result.settings["download"]["dataset"] = HOSTILE
    result.details["model"]["name"] = HOSTILE
    page = result.page(counts=COUNTS.assign(label=HOSTILE), key=HOSTILE)
    assert "<script" not in page and "&lt;script" in page
    assert "script" not in Outside(page).tags


@pytest.mark.parametrize(
    "name, drawn, people",
    [("sample", True, False), ("fer2013", False, True), ("custom-12345678", False, False)],
)
def test_page_names_the_dataset_and_never_passes_the_sample_off_as_fer2013(
    tmp_path, name, drawn, people
):
    page = Result(tmp_path, name).page()
    assert f"small on {name}</h1>" in page
    assert ("Drawn faces, not FER2013" in page) is drawn
    assert ("Goodfellow" in page) is people


def test_page_of_a_dataset_without_private_images_or_mistakes(tmp_path):
    result = Result(tmp_path, splits=("train", "test"), right=0.99)
    assert result.wrong.empty
    page = result.page()
    assert (
        "There are none: every test face is classified correctly." in page
        and "Leak-free" not in page
    )


def test_page_says_whether_disgust_was_merged(tmp_path):
    six = [name for name in CLASSES if name != "disgust"]
    assert "Disgust counts as angry" in Result(tmp_path).page()
    assert "This dataset has no disgust" in Result(tmp_path, "fer2013", six).page()
    # people were asked for seven classes
    assert "Goodfellow" not in Result(tmp_path, "fer2013", six).page()


def test_page_shows_what_people_say_where_that_is_known(tmp_path):
    result = Result(tmp_path)
    assert "What ten other people say" not in result.page()
    row = {"images": 8, "agrees": 5, "another": 1, "other": 1, "unclear": 1, "contradicted": 0.25}
    none = {key: 0 for key in row}
    agreed = {
        "n": 6,
        "accuracy": 0.7234,
        "accuracy_low": 0.7111,
        "accuracy_high": 0.7333,
        "label_accuracy": 0.6234,
        "label_accuracy_low": 0.6111,
        "label_accuracy_high": 0.6333,
    }
    result.details["ferplus"] = {
        "split": "private",
        "images": 8,
        "not_known": 4321,
        "no_majority": 1,
        "agreed": agreed,
        "labels": {"happy": row, HOSTILE: row | {"contradicted": 0.125}, "sad": none},
        "all": row,
    }
    page = " ".join(result.page().replace("\N{NO-BREAK SPACE}", " ").split())
    section = page[page.index("What ten other people say") : page.index("How it learned")]
    cells = re.findall(
        r"<tr><td>([^<]*)</td> ?<td>8</td> <td>62.5 %</td> ?<td>([^<]*)</td> <td>12.5 %</td></tr>",
        section,
    )
    shown = [(name[:5], share) for name, share in cells]  # not of a class without images
    assert shown == [("happy", "25.0 %"), ("&lt;s", "12.5 %"), ("all", "25.0 %")]
    assert "<b>By their majority: 72.3 %</b> (71.1 % to 73.3 %) of the 6 faces" in section
    assert "<b>By the label: 62.3 %</b> (61.1 % to 63.3 %) of the same faces" in section
    assert "has no votes on 4,321 further faces" in section
    agreed["n"] = result.details["ferplus"]["not_known"] = 0
    assert "By their majority" not in result.page() and "further faces." not in result.page()


def test_worst_mistakes_come_most_confident_first(tmp_path):
    rows = mistakes.worst(Result(tmp_path).table, 5)
    assert (
        len(rows) == 5
        and set(rows["split"]) == {"private"}
        and (rows["label"] != rows["predicted"]).all()
    )
    assert rows["share"].is_monotonic_decreasing


class Network:
    """Stands in for a Keras model; it always says the same."""

    output_shape = (None, len(CLASSES))

    def predict_on_batch(self, faces):
        return np.tile(np.float32([0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]), (len(faces), 1))

    def count_params(self):
        return 1000


def test_stage_writes_every_file_and_survives_a_broken_tracking(tmp_path, monkeypatch, capsys):
    result = Result(tmp_path)
    private = (result.dataset.table["split"] == "private").to_numpy()
    seen, near = (private & (np.arange(210) < count) for count in (50, 90))
    train = (result.dataset.table["split"] == "train").to_numpy()
    text = (params.Path.cwd() / "params.yaml").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "models").mkdir()
    (tmp_path / "models/model.keras").touch()
    for name in ("eda/sample_grid.png", "balance/counts.png"):
        (tmp_path / "reports" / name).parent.mkdir(parents=True)
        (tmp_path / "reports" / name).write_bytes(pages.png(np.zeros((48, 48), np.uint8)))
    write_json("reports/eda/summary.json", {"identity": {}})
    COUNTS.to_csv("reports/balance/counts.csv", index=False)
    provenance.write_run(tmp_path / "models/model.keras", RUN)
    result.dataset.save("data/balanced")
    result.dataset.table[["id", "label", "split", "official"]].assign(
        seen=seen, near_group=np.where(near | train, 0, -1)
    ).to_csv("data/audit.csv", index=False)
    result.history.to_csv("models/history.csv", index=False)
    monkeypatch.setattr(
        "ferlab.evaluation.network.loading.load", lambda path, name, classes: Network()
    )
    monkeypatch.setattr("ferlab.tracking.runs.project", lambda folder: 1 / 0)
    predict.main(experiment())
    evaluate.main(experiment())
    out = tmp_path / "reports"
    files = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
    files -= {"eda/sample_grid.png", "eda/summary.json", "balance/counts.png", "balance/counts.csv"}
    figures = {
        "confusion_shares",
        "confusion_counts",
        "learning_curves",
        "per_class_f1",
        "mistakes",
    }
    assert files == {
        "metrics.json",
        "details.json",
        "about.json",
        "run.json",
        "predictions.csv",
        "confusion.csv",
        "report.html",
        *(f"figures/{name}.png" for name in figures),
    }
    people = read_json("reports/details.json")["ferplus"]
    assert people["agreed"]["accuracy"] == read_json("reports/metrics.json")["ferplus_accuracy"]
    assert "What ten other people say" in (out / "report.html").read_text(encoding="utf-8")
    splits = read_json("reports/details.json")["splits"]
    assert people["images"] == splits["private"]["n"]
    assert splits["private"]["n"] - splits["private_unseen"]["n"] == seen.sum() > 0
    assert splits["private"]["n"] - splits["private_unseen_near"]["n"] == near.sum() > seen.sum()
    page = (out / "report.html").read_text(encoding="utf-8")
    for name, left_out in (("exact", seen), ("near", near)):
        said = page[page.index(f"Leak-free ({name}): ") :]
        assert f"{left_out.sum()} private images" in " ".join(said.split("</p>")[0].split())
    (note,) = re.findall(r'<object [^>]*data="([^"]+)"', page)
    assert "2 cores AMD EPYC" in (out / note).read_text()
    assert "AMD EPYC" not in page and "before balancing" in page and ">2,345<" in page
    rows = pd.read_csv("reports/confusion.csv")
    assert list(rows) == ["actual", "predicted"] and len(rows) == splits["private"]["n"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("public: ") and lines[-1].startswith(
        "warning: not shown in MLflow (ZeroDivisionError"
    )


def test_one_confusion_matrix_shows_shares_or_images(tmp_path):
    """A switch without a script: each cell holds both."""
    result = Result(tmp_path)
    page = result.page()
    assert page.count('class="panel matrix"') == 1 and page.count('type="radio"') == 2
    confusion = np.array(result.details["splits"]["private"]["confusion"])
    cells = re.findall(r'<span class="share">(\d+)</span><span class="count">(\d+)</span>', page)
    assert [int(count) for _, count in cells] == [count for count in confusion.flat if count]
    shares = np.rint(100 * confusion / confusion.sum(axis=1, keepdims=True))
    assert [int(share) for share, _ in cells] == [
        share for share, count in zip(shares.flat, confusion.flat, strict=True) if count
    ]
    assert ".as-count:checked ~ table .share { display: none; }" in " ".join(page.split()).replace(
        ".as-share:checked ~ table .count, ", ""
    )


def test_the_page_says_when_where_and_of_which_commit_it_was_trained(tmp_path):
    page = Result(tmp_path).page(run=RUN, key="a-small-s1", recipe="a-small", kind="recipe")
    for said in ("2026-11-20", "8b541773e6", "7 min in bfloat16", "2 cores AMD EPYC", "keras 3"):
        assert said in page
    assert "<title>a-small-s1: " in page and ">a-small-s1: small on sample</h1>" in page
    assert "repro evaluate@a-small-s1\n" in page and "python -m ferlab use a-small\n" in page
    mine = Result(tmp_path).page(run=RUN, key="slow", kind="experiment")
    assert "dvc exp apply slow" in mine and "evaluate@" not in mine
    assert report.about_run(RUN).count("2 cores AMD EPYC") == 1


@pytest.mark.parametrize(
    ("share", "said", "line"),
    [
        (0.5, "The first 2 epochs trained on faces shrunk to 32 × 32", True),
        (0.25, "The first epoch trained on faces shrunk to 32 × 32", True),
        (1, "All epochs trained on faces shrunk to 32 × 32", False),
        (0, "shrunk to", False),
    ],
)
def test_the_change_of_face_size_is_explained(tmp_path, share, said, line):
    result = Result(tmp_path)
    result.settings["train"] |= {"low_resolution": share, "epochs": 4}
    page = " ".join(result.page().split())
    assert (said in page) is (share > 0)
    assert page.count("48 × 48 from here") == 2 * line  # in both charts


def test_precision_against_recall_is_counted_as_by_hand():
    rows = pd.DataFrame(
        {
            "id": [*"abcd"],
            "split": "private",
            "label": ["happy", "sad", "happy", "sad"],
            "predicted": "happy",
            "p_happy": [0.9, 0.7, 0.7, 0.1],
            "p_sad": [0.1, 0.3, 0.3, 0.9],
        }
    )
    recall, precision, average = calibration.precision_recall(rows, "happy")
    assert recall.tolist() == [0.5, 1, 1] and precision.tolist() == [1, 2 / 3, 0.5]
    assert average == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert calibration.precision_recall(rows[rows["label"] == "sad"], "happy")[2] == 0


def test_every_class_has_its_line_of_precision_and_recall(tmp_path):
    page = Result(tmp_path).page()
    chart = page[page.index("Precision against recall") :].split("</figure>")[0]
    assert chart.count("<polyline") == len(CLASSES)
    assert all(re.search(rf"</i>{name} \d\.\d\d</span>", chart) for name in CLASSES)


@pytest.mark.parametrize(
    ("low", "high", "whole", "wanted"),
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.5, 12.5, True, [5, 10]),
        (0.5, 3.5, True, [1, 2, 3]),
        (0.21, 0.24, False, [0.21, 0.22, 0.23, 0.24]),
    ],
)
def test_axes_have_round_marks(low, high, whole, wanted):
    assert pages.ticks(low, high, whole=whole) == pytest.approx(wanted)
