"""Copies are described rightly: of a small made-up original, and of the real one if present."""

import dataclasses
import io
import json
import os
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from ferlab import __main__
from ferlab.data.classes import CLASSES
from ferlab.data.identity import copies, description, fingerprints, identify
from ferlab.data.readers import sources
from ferlab.files import UserError
from tests.builders import images, tiny

N = 350  # a multiple of 7 and 10
RANDOM = np.random.default_rng(7)
# Smooth random pictures with the contrasts of photos; no two are alike.
FACES = np.stack(
    [
        cv2.resize(
            RANDOM.integers(20, 236, (9, 9), dtype=np.uint8),
            (48, 48),
            interpolation=cv2.INTER_CUBIC,
        )
        for _ in range(N)
    ]
)
FACES[5] = FACES[6]  # equal official images: other labels, other splits
LABELS = np.array([CLASSES[index % 7] for index in range(N)], object)
SPLITS = np.array(["train"] * 250 + ["public"] * 50 + ["private"] * 50, object)
SPLITS[6] = "private"
KNOWN = fingerprints.restored(fingerprints.make(FACES, LABELS, SPLITS))


def found(faces=FACES, labels=LABELS, splits=SPLITS, **flags):
    return identify.match(faces, labels, splits, KNOWN, **flags)


def each(change):
    return np.stack([change(face) for face in FACES])


def moved(face, angle=0.0, zoom=1.0, x=0.0, y=0.0):
    matrix = cv2.getRotationMatrix2D((23.5, 23.5), angle, zoom)
    matrix[:, 2] += x, y
    return cv2.warpAffine(face, matrix, (48, 48), borderMode=cv2.BORDER_REPLICATE)


def jpeg(face):
    return cv2.imdecode(cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], 0)


CHANGES = {
    "exact": lambda face: face,
    "lossy": jpeg,
    "brightness or contrast": lambda face: cv2.convertScaleAbs(face, alpha=0.7, beta=50),
    "equalised": lambda face: jpeg(cv2.equalizeHist(face)),
    "mirrored": lambda face: face[:, ::-1],
    "rotated": lambda face: moved(face, angle=9),
    "resized or cropped": lambda face: moved(face, zoom=1.06, x=2),
    "altered": lambda face: cv2.convertScaleAbs(face[:, ::-1], alpha=0.7, beta=50),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_each_change_alone_is_named_and_the_image_known(kind):
    match = found(each(CHANGES[kind]))
    assert (match.official == np.arange(N)).mean() > 0.97
    assert (match.change == kind).mean() > 0.95


def test_turned_by_a_right_angle_is_rotated_whichever_way():
    for turns in (1, 2, 3):
        match = found(np.rot90(FACES, turns, (1, 2)))
        assert (match.change == "rotated").mean() > 0.95 and (
            match.official == np.arange(N)
        ).mean() > 0.98


def test_other_sizes_and_colours_come_from_the_file():
    small = each(
        lambda face: cv2.resize(cv2.resize(face, (96, 96), interpolation=cv2.INTER_CUBIC), (48, 48))
    )
    yes = np.ones(N, bool)
    assert (found(each(jpeg), resized=yes).change == "resized or cropped").all()
    assert (
        found(small, resized=yes).change[small.any((1, 2))] == "resized or cropped"
    ).mean() > 0.95
    assert (
        found(each(lambda face: cv2.convertScaleAbs(face, alpha=0.8)), coloured=yes).change
        == "colour"
    ).all()


def test_the_jpegs_of_kaggles_folders_are_known_exactly(monkeypatch):
    """By their own hash, so that no search is needed: nearly equal images are not mistaken."""
    jpegs = each(
        lambda face: cv2.imdecode(cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 95])[1], 0)
    )
    monkeypatch.setattr(identify, "search", None)
    match = found(jpegs)
    assert (match.official == np.arange(N)).all() and (match.change == "lossy").all()


def test_foreign_images_are_not_known():
    others = np.stack(
        [
            cv2.resize(
                np.random.default_rng(seed).integers(20, 236, (9, 9), dtype=np.uint8),
                (48, 48),
                interpolation=cv2.INTER_CUBIC,
            )
            for seed in range(1000, 1200)
        ]
    )
    match = identify.match(others, LABELS[:200], SPLITS[:200], KNOWN)
    assert (match.official == -1).mean() > 0.99 and set(match.change[match.official == -1]) == {""}


def test_equal_official_images_are_told_apart_by_label_and_split():
    match = found()
    assert (match.official == np.arange(N)).all()
    turned = found(FACES[[6, 5]], LABELS[[6, 5]], SPLITS[[6, 5]])
    assert turned.official.tolist() == [6, 5]
    alone = found(FACES[[5, 5, 5]], LABELS[[0, 0, 0]], SPLITS[[5, 5, 5]])
    assert sorted(set(alone.official)) == [5, 6]  # the third is one of them once more


def test_nearly_equal_official_images_are_not_taken_twice():
    twins = FACES.copy()
    twins[1::2] = np.clip(
        twins[::2].astype(int) + np.random.default_rng(0).integers(0, 2, twins[::2].shape), 0, 255
    )
    known = fingerprints.restored(fingerprints.make(twins, LABELS, SPLITS))
    for step in (1, -1):  # as they are, and mirrored
        match = identify.match(
            np.stack([jpeg(face)[:, ::step] for face in twins]), LABELS, SPLITS, known
        )
        assert len(set(match.official)) > 0.98 * N
        assert (match.official == np.arange(N)).mean() > 0.95  # the twins bear other labels


def described(match, labels=LABELS, splits=SPLITS):
    return description.describe(match, labels, splits, KNOWN)


def test_a_true_copy_has_nothing_to_tell():
    told = described(found())
    assert told["known"] == told["images"] == N and told["changes"] == {"exact": N}
    assert not any(told[name] for name in ("missing", "foreign", "repeated", "moved", "relabelled"))
    assert told["leak"] == {"images": 0, "of": 101}
    assert told["splits"]["private"] == {"private": 51} and told["labels"]["sad"] == {"sad": 50}


def test_missing_repeated_moved_relabelled_and_leaked_images_are_counted():
    keep = np.r_[20:N, 100:110]  # twenty are missing, ten stand here twice
    faces, labels, splits = FACES[keep].copy(), LABELS[keep].copy(), SPLITS[keep].copy()
    splits[-10:] = "private"  # and those are in train already: the leak
    faces[-5:] = faces[-5:, :, ::-1]  # five of them as altered twins
    labels[:7] = "happy"
    told = described(identify.match(faces, labels, splits, KNOWN), labels, splits)
    assert (told["missing"], told["repeated"], told["moved"]) == (20, 10, 10)
    assert told["relabelled"] == 6  # one of the seven was happy already
    assert {
        name: row.get("happy", 0) for name, row in told["labels"].items() if name != "happy"
    } == dict.fromkeys(set(CLASSES) - {"happy"}, 1)
    assert told["leak"] == {"images": 10, "of": 110} and told["changes"]["mirrored"] == 5
    assert told["splits"]["train"]["private"] == 10


@pytest.mark.parametrize("name, moved", [("test", 0), ("validation", 51), ("train", 101)])
def test_other_names_of_a_split_are_no_other_split(name, moved):
    splits = np.where(SPLITS == "train", "train", name).astype(object)
    assert described(found(splits=splits), splits=splits)["moved"] == moved


def write(path, entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def png(face, size=None, mode="L"):
    file = io.BytesIO()
    picture = Image.fromarray(face).convert(mode)
    (picture.resize(size, Image.Resampling.BICUBIC) if size else picture).save(file, "PNG")
    return file.getvalue()


def sepia(face):
    file = io.BytesIO()
    Image.fromarray(np.stack([face, face * 0.8, face * 0.6], axis=2).astype(np.uint8)).save(
        file, "PNG"
    )
    return file.getvalue()


CODES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
FERPLUS = {"train": "FER2013Train", "public": "FER2013Valid", "private": "FER2013Test"}
FORMS = {
    "im0.png in each class": lambda i: (
        f"{'train' if i % 5 else 'test'}/{LABELS[i]}/im{i}.png",
        png(FACES[i]),
    ),
    "no splits": lambda i: (f"faces/{LABELS[i]}/{i}.png", png(FACES[i])),
    "FER+ names": lambda i: (f"data/{FERPLUS[SPLITS[i]]}/fer{i:07}.png", png(FACES[i])),
    "official names": lambda i: (
        f"x/{LABELS[i]}/{'PublicTest' if SPLITS[i] == 'public' else 'Training'}_{i}.png",
        png(FACES[i]),
    ),
    "96x96 RGB": lambda i: (f"train/{LABELS[i]}/{i}.png", png(FACES[i], (96, 96), "RGB")),
    "sepia": lambda i: (f"train/{LABELS[i]}/{i}.png", sepia(FACES[i])),
    "folders 0 to 6": lambda i: (f"train/{CODES.index(LABELS[i])}/{i}.png", png(FACES[i])),
    "one folder": lambda i: (f"images/{i}.png", png(FACES[i])),
    "other classes": lambda i: (
        f"train/{'contempt' if i % 7 == 3 else LABELS[i]}/{i}.png",
        png(FACES[i]),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_copies_of_every_form_are_read(form, tmp_path):
    path = write(tmp_path / "x.zip", dict(map(FORMS[form], range(N))))
    told = copies.copy(path, KNOWN)
    assert told["images"] == N and told["known"] >= N - 3
    kind = {"96x96 RGB": "resized or cropped", "sepia": "colour"}.get(form, "exact")
    assert told["changes"][kind] > 0.95 * N
    if form == "im0.png in each class":
        assert told["splits"]["train"]["test"] == sum(SPLITS[::5] == "train") and told[
            "moved"
        ] == sum((SPLITS != "train") & (np.arange(N) % 5 > 0)) + sum(SPLITS[::5] == "train")
    if form in ("no splits",):
        assert told["leak"] == {"images": 0, "of": 0} and told["moved"] == 0
    if form == "FER+ names":
        assert told["moved"] == told["relabelled"] == 0 and told["splits"]["public"] == {
            "public": 50
        }
    if form == "other classes":
        assert told["labels"]["happy"] == {"contempt": 50} and (
            told["relabelled"],
            told["unnamed"],
        ) == (0, 50)
    if form in ("folders 0 to 6", "one folder"):
        assert (told["relabelled"], told["unnamed"]) == (0, N if form == "one folder" else 0)
    text = description.table(told)
    assert told["summary"][0] in text and ("resized or cropped" in text) == (form == "96x96 RGB")


def test_a_csv_without_splits_is_read(tmp_path):
    rows = [
        f"{CODES.index(LABELS[i])},{' '.join(map(str, FACES[i].ravel().tolist()))}"
        for i in range(N)
    ]
    (tmp_path / "x.csv").write_text("\n".join(["emotion,pixels", *rows]))
    told = copies.copy(tmp_path / "x.csv", KNOWN)
    assert (
        told["known"] == N
        and told["relabelled"] == told["moved"] == 0
        and list(told["splits"]["public"]) == [""]
    )
    with_picture = write(
        tmp_path / "y.zip",
        {"x.csv": (tmp_path / "x.csv").read_bytes(), "example.png": png(FACES[0])},
    )
    assert (
        copies.copy(with_picture, KNOWN)["known"] == N
    )  # a picture beside the CSV only illustrates it


def test_an_excerpt_is_a_copy_too(tmp_path):
    some = dict(map(FORMS["no splits"], range(30)))
    big = dataclasses.replace(KNOWN, hashes=np.r_[KNOWN.hashes, np.arange(9000, dtype=np.uint64)])
    assert copies.copy(write(tmp_path / "x.zip", some), KNOWN)["known"] == 30
    found = copies.copy(write(tmp_path / "x.zip", some), KNOWN) | {"official": len(big.hashes)}
    assert description.is_copy(found) and not description.is_copy(
        found | {"foreign": 31, "images": 61}
    )


def test_the_pipeline_tells_the_same_of_sizes_and_colours(tmp_path, monkeypatch):
    """What `make repro` and the report say of a copy is what `identify` says."""
    monkeypatch.setattr(fingerprints, "read", lambda: KNOWN)
    entries = {}
    for i in range(N):
        content = (
            sepia(FACES[i]) if i < 100 else png(FACES[i], (96, 96)) if i < 200 else png(FACES[i])
        )
        split = "train" if SPLITS[i] == "train" else "test"
        entries[f"{split}/{LABELS[i]}/{i}.png"] = content
    path = write(tmp_path / "x.zip", entries)
    data, _ = sources.read_path(path)
    told = copies.copy(path, KNOWN)
    assert (
        data.identity == told | {"notes": data.identity["notes"]}  # on the split that was cut
        and told["changes"]["colour"] > 95
        and told["changes"]["resized or cropped"] > 95
    )
    rows = data.table.set_index("id")["official"]
    assert all(rows[name] in (int(name.rpartition("/")[2]), -1, 5, 6) for name in rows.index)


def test_made_up_faces_are_no_copy_of_the_real_fer2013(tmp_path):
    data, _ = sources.read_path(write(tmp_path / "x.zip", images(tiny())))
    assert data.identity == {} and set(data.table["official"]) == {-1}


def test_what_cannot_be_a_copy_or_be_read_is_one_line(tmp_path):
    few = write(tmp_path / "few.zip", {f"train/happy/{i}.png": png(FACES[i]) for i in range(3)})
    with pytest.raises(UserError, match=r"few.zip: no copy of FER2013: 3 of 350 known$"):
        copies.copy(few, KNOWN)
    bad = write(
        tmp_path / "bad.zip",
        {"train/happy/1.png": png(FACES[1]), "train/happy/2.png": b"\x89PNG broken"},
    )
    with pytest.raises(
        UserError, match=r"bad.zip: train/happy/2.png: not an image; replace or remove it$"
    ):
        copies.copy(bad, KNOWN)


def test_fingerprints_that_do_not_belong_here_are_refused(tmp_path, monkeypatch, capsys):
    content = bytearray(fingerprints.PATH.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "fingerprints.npz").write_bytes(content)
    monkeypatch.setattr(fingerprints, "PATH", tmp_path / "fingerprints.npz")
    fingerprints.read.cache_clear()
    write(tmp_path / "x.zip", {"train/happy/1.png": png(FACES[1])})
    monkeypatch.setattr("sys.argv", ["ferlab", "identify", str(tmp_path / "x.zip")])
    with pytest.raises(
        SystemExit, match="^error: .*fingerprints.npz: not the fingerprints that belong here"
    ):
        __main__.main()
    fingerprints.read.cache_clear()


def test_the_command_prints_a_table_or_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fingerprints, "read", lambda: KNOWN)
    path = write(tmp_path / "x.zip", dict(map(FORMS["no splits"], range(N))))
    for arguments in ([], ["--json"]):
        monkeypatch.setattr("sys.argv", ["ferlab", "identify", str(path), *arguments])
        __main__.main()
        told = capsys.readouterr().out
        assert (
            json.loads(told)["known"] == N
            if arguments
            else "350 of the 350 official images" in told
        )


def test_the_fingerprints_are_small_and_hold_the_official_counts():
    known = fingerprints.read()
    assert fingerprints.PATH.stat().st_size < 2_000_000 and len(known.hashes) == 35887
    assert {
        split: int((known.splits == split).sum()) for split in ("train", "public", "private")
    } == {"train": 28709, "public": 3589, "private": 3589}
    assert len(np.unique(known.groups)) == 35887 - 3369 + 1516  # the exact duplicates


REAL = os.environ.get("FER2013", "")


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="needs the real images: set FER2013 to their zip")
def test_no_image_can_be_recovered_from_the_fingerprints(monkeypatch):
    """The best linear reconstruction, learned on half of the images, is worth no more than a blur
    of nine by nine points."""
    data, _ = sources.read("fer2013")
    faces = (
        data.faces[np.argsort(data.table["official"].to_numpy())]
        .reshape(-1, 48 * 48)
        .astype(np.float32)
    )
    faces -= faces.mean(1, keepdims=True)
    faces /= np.maximum(faces.std(1, keepdims=True), 1)
    blur = np.stack(
        [
            cv2.resize(
                cv2.resize(face.reshape(48, 48), (9, 9), interpolation=cv2.INTER_AREA),
                (48, 48),
                interpolation=cv2.INTER_CUBIC,
            ).ravel()
            for face in faces[1::2]
        ]
    )
    vectors = fingerprints.read().vectors
    decoder = np.linalg.lstsq(vectors[::2], faces[::2], rcond=None)[0]
    lost = ((vectors[1::2] @ decoder - faces[1::2]) ** 2).mean()
    blurred = ((blur - faces[1::2]) ** 2).mean()
    print("share of the pixels' variance that is lost:", lost, "by a blur of 9x9 points:", blurred)
    assert lost > blurred > 0.2


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="needs the real images: set FER2013 to their zip")
def test_the_real_fer2013_and_the_copy_that_was_taken_for_it(tmp_path):
    data, _ = sources.read("fer2013")
    assert (
        data.name == "fer2013"
        and data.identity["changes"] == {"exact": 35887}
        and data.identity["missing"] == 0
    )
    rows = data.table.itertuples()
    folder = {"train": "train", "public": "test", "private": "test"}
    before = {
        f"{folder[row.split]}/{row.label}/{row.id}.jpg": cv2.imencode(
            ".jpg",
            cv2.equalizeHist(cv2.convertScaleAbs(face, alpha=1.2)),
            [cv2.IMWRITE_JPEG_QUALITY, 95],
        )[1].tobytes()
        for face, row in zip(data.faces, rows, strict=True)
    }
    told = copies.copy(write(tmp_path / "before.zip", before))
    assert told["known"] > 35800 and told["changes"]["equalised"] > 30000 and told["foreign"] < 50
