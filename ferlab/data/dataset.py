"""A dataset is its content: faces, a table of labels and splits, and the class names.

Nothing else goes into it: no time, no path, no machine. On disk it is one folder of faces.npy
(uint8), table.csv and dataset.json; equal content gives equal bytes.
"""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ferlab.files import UserError, read_json, replacing, write_csv, write_json

SIZE = 48
SPLITS = ("train", "validation", "public", "private", "test")
COLUMNS = ["id", "label", "split", "origin", "official"]


@dataclass(frozen=True)
class Dataset:
    """Gray faces with labels.

    faces: uint8 (N, 48, 48).
    table: N rows of `id` (text, unique), `label` (class name), `split` (one of SPLITS; `test` only
      where a source does not divide it into public and private), `origin` ("original", or the id
      that an augmented image was made from) and `official` (the row of the official fer2013.csv
      that it shows, from 0; -1 where none is known: ferlab.data.identity).
    classes: names, alphabetical; a label's index is its place there.
    training: what train does beyond the images (`class_weights`: one float per class, `sampler`:
      "balanced").
    sizes: images per size in the source, before all were made 48x48, e.g. {"48x48": 35887}.
    source: digest of the dataset this one was made from, empty for an original.
    identity: of an original, what identity.description says of it; empty where it is no copy.
    """

    name: str
    classes: tuple
    faces: np.ndarray
    table: pd.DataFrame
    training: dict = field(default_factory=dict)
    sizes: dict = field(default_factory=dict)
    source: str = ""
    identity: dict = field(default_factory=dict)

    def __post_init__(self):
        assert self.faces.dtype == np.uint8 and self.faces.shape[1:] == (SIZE, SIZE)
        assert len(self.faces) == len(self.table) and list(self.table.columns) == COLUMNS
        assert list(self.classes) == sorted(self.classes)
        assert set(self.table["label"]) <= set(self.classes)

    @property
    def labels(self):
        """Class indices, int64 (N,)."""
        index = {name: place for place, name in enumerate(self.classes)}
        return self.table["label"].map(index).to_numpy(np.int64)

    @property
    def digest(self):
        """sha256 of the decoded faces with their labels and splits.

        Their order, ids and file formats do not count.
        """
        rows = zip(self.faces, self.table["label"], self.table["split"], strict=True)
        each = sorted(
            hashlib.sha256(face.tobytes() + f"{label},{split}".encode()).digest()
            for face, label, split in rows
        )
        return hashlib.sha256(b"".join(each)).hexdigest()

    def where(self, mask):
        """The rows of a boolean mask or integer index, in that order.

        A mask of one run of rows copies no face.
        """
        rows = faces = mask
        if np.asarray(mask).dtype == bool:
            rows = faces = np.flatnonzero(mask)
            if len(rows) and rows[-1] - rows[0] == len(rows) - 1:
                faces = slice(rows[0], rows[-1] + 1)
        table = self.table.iloc[rows].reset_index(drop=True)
        return replace(self, faces=self.faces[faces], table=table)

    def ordered(self):
        """The rows in canonical order: by split, then by id as text."""
        ids = np.array(self.table["id"], dtype=str)
        splits = self.table["split"].map(SPLITS.index).to_numpy(int)
        return self.where(np.lexsort((ids, splits)))

    def split(self, name):
        """The rows of one split; `test` is public and private together where these exist."""
        names = ["public", "private", "test"] if name == "test" else [name]
        return self.where(self.table["split"].isin(names).to_numpy())

    def counts(self):
        """DataFrame: one row per class, one column per split that is present."""
        table = pd.crosstab(self.table["label"], self.table["split"])
        splits = [split for split in SPLITS if split in table]
        return table.reindex(index=list(self.classes), columns=splits, fill_value=0)

    def save(self, folder):
        """Write the folder atomically."""
        with replacing(folder) as part:
            part.mkdir()
            faces = np.ascontiguousarray(self.faces)
            header = np.lib.format.header_data_from_array_1_0(faces)
            with open(part / "faces.npy", "wb") as file:  # np.save would hide that the disk is full
                np.lib.format.write_array_header_1_0(file, header)
                file.write(faces.data)
            write_csv(part / "table.csv", self.table)
            write_json(part / "dataset.json", self._about())

    def _about(self):
        """What dataset.json holds."""
        counts = {
            split: {c: int(n) for c, n in column.items()} for split, column in self.counts().items()
        }
        about = {
            "name": self.name,
            "digest": self.digest,
            "source": self.source,
            "classes": list(self.classes),
            "counts": counts,
            "training": self.training,
            "sizes": self.sizes,
        }
        return about | ({"identity": self.identity} if self.identity else {})

    @classmethod
    def load(cls, folder):
        """Read what `save` wrote; faces are memory-mapped, so nothing is held twice.

        Raises UserError where the folder is missing or holds something else.
        """
        folder = Path(folder)
        try:
            about = read_json(folder / "dataset.json")
            faces = np.load(folder / "faces.npy", mmap_mode="r", allow_pickle=False)
            table = pd.read_csv(folder / "table.csv", dtype=str, keep_default_na=False)
            table = table.astype({"official": np.int64})
            return cls(
                about["name"],
                tuple(about["classes"]),
                faces,
                table,
                about["training"],
                about["sizes"],
                about["source"],
                about.get("identity", {}),
            )
        except FileNotFoundError as error:
            raise UserError(f"{error.filename}: not found; `dvc repro` makes it") from None
        except (ValueError, KeyError, AssertionError) as error:
            raise UserError(
                f"{folder}: not a ferlab dataset ({error}); remove it and run `dvc repro`"
            ) from None


def assemble(name, classes, faces, ids, labels, splits):
    """A Dataset from parallel sequences, its rows in canonical order: by split, then by id as text.

    faces: uint8 (N, 48, 48). ids, labels, splits: N texts.
    """
    columns = {"id": ids, "label": labels, "split": splits, "origin": "original"}
    table = pd.DataFrame(columns, dtype=object).assign(official=-1)
    return Dataset(name, tuple(classes), faces, table).ordered()
