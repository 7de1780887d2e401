"""`python -m benchmarks.copies`: is every kind of copy of FER2013 recognised for what it is?

Copies as they circulate are made from the official one ($FER2013), so that the truth about each is
known, and described by what `python -m ferlab identify` uses. Writes docs/identify-table.md (about
ten minutes).
"""

import os
import tempfile
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks import run
from ferlab import files
from ferlab.data.classes import CLASSES
from ferlab.data.dataset import SIZE
from ferlab.data.identity import copies
from ferlab.data.readers import sources
from ferlab.data.readers.spellings import CSV_CODES, OFFICIAL

OUT = Path("docs/identify-table.md")
FOLDER = {"train": "train", "public": "test", "private": "test"}
FERPLUS = {"train": "FER2013Train", "public": "FER2013Valid", "private": "FER2013Test"}


def encoded(face, ending=".png"):
    """The bytes of an image file; JPEG of quality 95, as OpenCV saves it."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if ending == ".jpg" else []
    return cv2.imencode(ending, face, quality)[1].tobytes()


def moved(face, random, angle=0.0, zoom=0.0, shift=0.0):
    """The face turned, zoomed and shifted by up to so much (degrees, share, share).

    Where a movement uncovers something, the edge is repeated.
    """
    middle = (SIZE - 1) / 2
    matrix = cv2.getRotationMatrix2D(
        (middle, middle), random.uniform(-angle, angle), 1 + random.uniform(-zoom, zoom)
    )
    matrix[:, 2] += random.uniform(-shift, shift, 2) * SIZE
    return cv2.warpAffine(face, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE)


def brighter(face):
    return cv2.add(face, np.full_like(face, 40))


def altered(face):
    """A widespread alteration: contrast times 1.2, then equalised."""
    return cv2.equalizeHist(cv2.convertScaleAbs(face, alpha=1.2))


def changed(change, ending=".png"):
    """A function: dataset -> {name: bytes}, official folders, every face changed."""

    def make(data, random):
        return {
            f"{FOLDER[row.split]}/{row.label}/{row.id}{ending}": encoded(
                change(face, random), ending
            )
            for face, row in zip(data.faces, data.table.itertuples(), strict=True)
        }

    return make


def resplit(data, random, change=None, share=0.8):
    """im0.png, im1.png ... in train/<class> and test/<class>, 80 to 20 by lot.

    With `change` each fifth face is there once more, changed, before they are split.
    """
    rows = [(face, label) for face, label in zip(data.faces, data.table["label"], strict=True)]
    if change:
        rows += [(change(face), label) for face, label in rows[::5]]
    entries, numbers = {}, {}
    for (face, label), lot in zip(rows, random.random(len(rows)), strict=True):
        folder = f"{'train' if lot < share else 'test'}/{label}"
        numbers[folder] = numbers.get(folder, -1) + 1
        entries[f"{folder}/im{numbers[folder]}.png"] = encoded(face)
    return entries


def augmented(data, random):
    """Each fifth face once more, mirrored or not and moved, before all are split anew."""

    def change(face):
        return moved(face[:, ::-1] if random.random() < 0.5 else face, random, 10, 0.05, 0.05)

    return resplit(data, random, change)


def mixed(data, random):
    """A third mirrored, a third brighter, a third equalised."""
    kinds = (lambda face: face[:, ::-1], brighter, cv2.equalizeHist)
    lots = iter(random.integers(0, 3, len(data.faces)))
    return changed(lambda face, _: kinds[next(lots)](np.ascontiguousarray(face)))(data, random)


def relabelled(data, random):
    """Each twentieth face under the next class's name."""
    table = data.table.copy()
    table.loc[::20, "label"] = [
        CLASSES[(CLASSES.index(label) + 1) % 7] for label in table.loc[::20, "label"]
    ]
    return {
        f"{FOLDER[row.split]}/{row.label}/{row.id}.png": encoded(face)
        for face, row in zip(data.faces, table.itertuples(), strict=True)
    }


def ferplus(data, random):
    """As FER+'s own program writes them: fer0000000.png in FER2013Train and its other folders."""
    return {
        f"{FERPLUS[row.split]}/fer{row.official:07}.png": encoded(face)
        for face, row in zip(data.faces, data.table.itertuples(), strict=True)
    }


def shuffled_csv(data, random):
    """Rows and columns in another order, blanks in the header, \\r\\n."""
    codes = {name: code for code, name in enumerate(CSV_CODES)}
    usage = {split: name for name, split in OFFICIAL.items()}
    lines = [" pixels,emotion, Usage"]
    for row in random.permutation(len(data.faces)):
        label, split = data.table["label"].iloc[row], data.table["split"].iloc[row]
        lines.append(
            f"{' '.join(map(str, data.faces[row].ravel().tolist()))},{codes[label]},{usage[split]}"
        )
    return {"icml.csv": "\r\n".join(lines).encode()}


COPIES = {
    "rows and columns of the CSV in another order, `\\r\\n`": shuffled_csv,
    "contrast × 1.2, equalised, JPEG 95 (the copy of before)": changed(
        lambda face, _: altered(face), ".jpg"
    ),
    "brightness + 40": changed(lambda face, _: brighter(face)),
    "mirrored": changed(lambda face, _: face[:, ::-1]),
    "turned by up to 15°": changed(lambda face, random: moved(face, random, angle=15)),
    "cropped to the middle 44×44, and enlarged again": changed(
        lambda face, _: cv2.resize(face[2:46, 2:46], (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    ),
    "96×96 RGB JPEG": changed(
        lambda face, _: cv2.cvtColor(
            cv2.resize(face, (96, 96), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2BGR
        ),
        ".jpg",
    ),
    "tinted (RGB, sepia)": changed(
        lambda face, _: np.stack([face * 0.6, face * 0.8, face], axis=2).astype(np.uint8)
    ),
    "a third each mirrored, brighter, equalised": mixed,
    "each twentieth under another label": relabelled,
    "80/20 split anew, `im0.png …`": resplit,
    "each fifth once more, mirrored or moved, then 80/20": augmented,
    "FER+ file names, no class folders": ferplus,
}


HEAD = [
    "| copy | official images found | what was done | foreign | more than once | in another split "
    "| other label | leak | seconds |",
    "|---|---|---|---|---|---|---|---|---|",
]


def row(name, identity, seconds):
    """A line of the table, from what identify says of a copy."""
    changes = ", ".join(f"{kind} {n:,}" for kind, n in identity["changes"].items())
    known, leak = f"{identity['known']:,}", identity["leak"]
    numbers = (f"{identity[key]:,}" for key in ("foreign", "repeated", "moved", "relabelled"))
    leaked = f"{leak['images']:,} of {leak['of']:,}"
    return f"| {' | '.join((name, known, changes, *numbers, leaked, f'{seconds:.0f}'))} |"


def main():
    if not os.environ.get("FER2013"):
        raise files.UserError(
            "copies: FER2013 names no copy of the real dataset; export FER2013=~/fer2013.zip"
        )
    data = sources.read("fer2013")[0]
    rows = list(HEAD)
    with tempfile.TemporaryDirectory() as folder:
        for name, make in tqdm(COPIES.items(), "copies", disable=None):
            path = Path(folder) / "copy.zip"
            with zipfile.ZipFile(path, "w") as archive:
                for member, content in make(data, np.random.default_rng(0)).items():
                    archive.writestr(member, content)
            start = time.perf_counter()
            identity = copies.copy(path)
            rows.append(row(name, identity, time.perf_counter() - start))
            print(rows[-1], flush=True)
    files.write_text(OUT, "\n".join(rows) + "\n")


if __name__ == "__main__":
    run(main)
