"""`python -m ferlab predict`: the expressions in photos, folders, clips and a camera, by any trained model.

What is written: a picture with frames for each photo (a clip for each clip), and one table, a line per face.
"""

import contextlib
import itertools
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from ferlab import dvc_files, files, params, recipes
from ferlab.data.classes import CLASSES
from ferlab.data.readers import images
from ferlab.evaluation import inference, tables
from ferlab.serving import face_detection

SHIPPED = Path(__file__).parents[2] / "pretrained"  # model.keras, model.json, README.md
CLIPS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
CHUNK = 16  # photos whose faces are classified together
WHOLE = 96  # pixels: a picture no larger than this, in which no face is found, is taken for one that is already cut out


class Predictor:
    """A network and a detector, to be called from any thread."""

    def __init__(self, model="", detector=None):
        """model: as of `find_model`. detector: as of faces.Detector, or `none`: pictures are faces already cut out."""
        with find_model(model) as (path, backend):
            self.network = inference.load(path, backend)
        self.classes = self.network.about.classes or _classes(path, self.network.output_shape[-1])
        if len(self.classes) != self.network.output_shape[-1]:
            raise files.UserError(
                f"{path}: has {self.network.output_shape[-1]} classes, expected {len(self.classes)}"
            )
        self.detector = None if detector == "none" else face_detection.Detector(detector)
        self._lock = threading.Lock()

    def probabilities(self, cut):
        """float32 (n, C): of faces uint8 (n, 48, 48), the mean over each and its mirror image."""
        room = 1 << max(len(cut) - 1, 0).bit_length()  # few sizes, as each new one is compiled
        full = np.zeros((room, *cut.shape[1:]), np.uint8)
        full[: len(cut)] = cut
        with self._lock:
            return inference.predict(self.network, full, flip=True, batch=min(room, 512))[
                : len(cut)
            ]

    def squares(self, image):
        """int64 (n, 3): x, y and side of the faces in an RGB picture; the whole of a small one in which none is found."""
        found = self.detector(image) if self.detector else whole(image)
        return whole(image) if not len(found) and max(image.shape[:2]) <= WHOLE else found

    def __call__(self, pictures):
        """[(squares, probabilities)] of RGB pictures, all their faces classified together."""
        found = [self.squares(picture) for picture in pictures]
        cut = [
            images.cut(picture, square)
            for picture, squares in zip(pictures, found, strict=True)
            for square in squares
        ]
        given = (
            self.probabilities(np.stack(cut))
            if cut
            else np.zeros((0, len(self.classes)), np.float32)
        )
        ends = np.cumsum([len(squares) for squares in found])
        return [
            (squares, given[end - len(squares) : end])
            for squares, end in zip(found, ends, strict=True)
        ]

    def words(self, given):
        """["happy 93 %"], of probabilities (n, C)."""
        return [f"{self.classes[row.argmax()]} {100 * row.max():.0f} %" for row in given]


def whole(image):
    """int64 (1, 3): the square around a whole picture."""
    height, width = image.shape[:2]
    side = max(height, width)
    return np.array([((width - side) // 2, (height - side) // 2, side)])


@contextlib.contextmanager
def find_model(name):
    """Yield (path, backend) of a model, for as long as the block lasts.

    name: nothing (the one that ships), a `.keras` file, `workspace`, a recipe's key, a DVC experiment, an MLflow run (name or id).
    """
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.keras"
        if not name:
            yield _shipped(), "tensorflow"
        elif Path(name).suffix == ".keras":
            yield Path(name), "tensorflow"
        elif name == "workspace":
            yield Path("models/model.keras"), params.raw()["train"]["backend"]
        else:
            bring(name, path)
            yield path, "tensorflow"


def _shipped():
    about, path = files.read_json(SHIPPED / "model.json"), SHIPPED / "model.keras"
    if not path.exists() or files.sha256(path) != about["sha256"]:
        raise files.UserError(
            f"{path}: not the model that ships (its sha256 differs); git checkout {path.parent.name}"
        )
    return path


def _classes(path, count):
    """The names for this many outputs: FER2013's seven, or six where disgust was merged into anger."""
    six = tuple(name for name in CLASSES if name != tables.MERGE[0])
    for names in (CLASSES, six):
        if len(names) == count:
            return names
    raise files.UserError(
        f"{path}: has {count} classes; expected the {len(CLASSES)} of FER2013, or {len(six)} without disgust"
    )


def bring(name, path):
    """Copy the model of a recipe, an experiment or an MLflow run to `path`."""
    from ferlab.tracking import artifacts, lookup

    commits = {experiment: commit for experiment, commit, _ in dvc_files.experiments()}
    if name in commits:
        dvc_files.fetch(name, {"models/model.keras": path}, revision=commits[name])
    elif name in recipes.with_result():
        if "train" not in recipes.raw_recipe(recipes.recipe_of(name)[0]):
            raise files.UserError(f"{name}: this recipe trains no network; name another")
        folder, fix = recipes.RECIPES, f"dvc --cd {recipes.RECIPES} repro predict@{name}"
        source = f"runs/{name}/model.keras"
        dvc_files.fetch(name, {source: path}, files.root() / folder, fix=fix)
    elif not artifacts.fetch_model(name, path):
        raise files.UserError(
            f"{name}: no model file, recipe, DVC experiment or MLflow run; "
            f"known: {', '.join(lookup.names())}"
        )


def predict(
    inputs, out=Path("predictions"), model="", detector=None, camera=None, json=False, seconds=None
):
    """Predict everything; returns how many inputs could not be read. Results of the others are kept whatever happens."""
    found, failed = gather(inputs, out), 0
    if not found and camera is None:
        raise files.UserError("nothing to predict; name photos, clips or folders, or --camera 0")
    predictor = Predictor(model, detector)
    print(
        f"model: {model or 'the one that ships'}; detector: {predictor.detector.name if predictor.detector else 'none'}"
    )
    rows = []

    def keep():
        table = _table(rows, predictor.classes)
        target = out / f"predictions.{'json' if json else 'csv'}"
        if json:
            files.write_json(target, table.astype(object).to_dict("records"))
        else:
            files.write_csv(target, table, "%.6g")
        print(f"{len(table)} faces, listed in {target}; pictures beside it")

    try:
        stills = [entry for entry in found if entry[0].suffix.lower() not in CLIPS]
        for start in _progress(range(0, len(stills), CHUNK), "photos", quiet=len(stills) <= CHUNK):
            failed += _stills(predictor, stills[start : start + CHUNK], out, rows)
        for path, name in found:
            if path.suffix.lower() in CLIPS:
                failed += _clip(predictor, str(path), name, out, rows)
        if camera is not None:
            _clip(predictor, camera, Path(f"camera-{camera}.mp4"), out, rows, seconds)
    except KeyboardInterrupt:
        print("stopped; what was found so far is kept")
    except Exception:  # no such camera, a full disk
        if rows:
            keep()
        raise
    keep()
    return failed


def gather(inputs, out):
    """[(path, name under `out`)] of files and of all pictures and clips below folders, in order; no two names are the same.

    Raises UserError where there is nothing, or where the result would replace its original.
    """
    found, taken = [], set()
    for given in map(Path, inputs):
        if given.is_dir():
            inside = [
                path
                for path in sorted(given.rglob("*"))
                if path.suffix.lower() in (*images.NAMES, *CLIPS)
                and out.resolve() not in path.resolve().parents
            ]
            if not inside:
                raise files.UserError(
                    f"{given}: holds no picture and no clip ({' '.join((*images.NAMES, *CLIPS))})"
                )
            entries = [(path, path.relative_to(given)) for path in inside]
        elif given.is_file():
            entries = [(given, Path(given.name))]
        else:
            raise files.UserError(f"{given}: not found; name photos, clips or folders of them")
        for path, name in entries:
            if (out / _named(name)).resolve() == path.resolve():
                raise files.UserError(
                    f"{path}: would be replaced by its own result; choose another --out"
                )
            free = (
                name.with_stem(f"{name.stem}-{number}") if number > 1 else name
                for number in itertools.count(1)
            )
            name = next(one for one in free if _named(one) not in taken)
            taken.add(_named(name))
            found.append((path, name))
    return found


def _named(name):
    """The name of a result: an ending is added to what has one that is not written here."""
    endings = (".mp4",) if name.suffix.lower() in CLIPS else (".png", ".jpg", ".jpeg")
    return name if name.suffix.lower() in endings else name.with_name(f"{name.name}{endings[0]}")


def _stills(predictor, entries, out, rows):
    """Predict some photos; returns how many could not be read."""
    pictures, names = [], []
    for path, name in entries:
        try:
            pictures.append(np.asarray(images.decode(path.read_bytes(), path).convert("RGB")))
            names.append(name)
        except (files.UserError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
    for name, picture, (squares, given) in zip(names, pictures, predictor(pictures), strict=True):
        words = predictor.words(given)
        rows += [(str(name), 0, *values) for values in zip(squares.tolist(), given, strict=True)]
        _write(out / _named(name), face_detection.draw(picture, squares, words))
        print(f"{name}: {', '.join(words) or 'no face found'}")
    return len(entries) - len(pictures)


def _write(path, picture):
    encoded = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    with files.replacing(path) as part:
        part.write_bytes(encoded.tobytes())


def _clip(predictor, source, name, out, rows, seconds=None):
    """Predict every frame of a file, or of a camera (a number) until Ctrl-C or for some seconds.

    Returns 1 where the file cannot be read, else 0; raises UserError where there is no such camera.
    """
    capture = cv2.VideoCapture(source)
    ok, frame = capture.read()
    if not ok:
        capture.release()
        said = (
            f"camera {source}: cannot be opened; see which there are: ls /dev/video*"
            if isinstance(source, int)
            else f"{source}: not a clip that OpenCV reads; convert it to mp4"
        )
        if isinstance(source, int):
            raise files.UserError(said)
        print(f"error: {said}", file=sys.stderr)
        return 1
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if isinstance(source, str) else 0
    rate = capture.get(cv2.CAP_PROP_FPS)
    rate = rate if 1 <= rate <= 240 else 25  # cameras and damaged files say anything
    target, number, last, began = out / _named(name), 0, "", time.monotonic()
    bar, stopped = _progress(None, str(name), total=total if total > 0 else None), False
    with files.replacing(target) as part:
        temporary = part.with_name(f"{part.name}.mp4")  # OpenCV insists on the ending
        writer = cv2.VideoWriter(
            str(temporary), cv2.VideoWriter_fourcc(*"mp4v"), rate, frame.shape[1::-1]
        )
        if not writer.isOpened():
            raise files.UserError(
                f"{name}: OpenCV cannot write a clip of {frame.shape[1]}x{frame.shape[0]} pixels here"
            )
        try:
            while ok and (seconds is None or time.monotonic() - began < seconds):
                picture = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
                ((squares, given),) = predictor([picture])
                words = predictor.words(given)
                rows += [
                    (str(name), number, *values)
                    for values in zip(squares.tolist(), given, strict=True)
                ]
                writer.write(
                    cv2.cvtColor(face_detection.draw(picture, squares, words), cv2.COLOR_RGB2BGR)
                )
                now = [predictor.classes[row.argmax()] for row in given]
                if isinstance(source, int) and now != last:
                    print(
                        f"{time.monotonic() - began:6.1f} s  {', '.join(words) or 'no face'}",
                        flush=True,
                    )
                last, number = now, number + 1
                bar.update(1)
                ok, frame = capture.read()
        except KeyboardInterrupt:
            stopped = True
        finally:
            writer.release()
            capture.release()
            bar.close()
        temporary.rename(part)
    print(f"{name}: {number} frames, {sum(row[0] == str(name) for row in rows)} faces")
    if stopped:
        raise KeyboardInterrupt
    return 0


def _table(rows, classes):
    table = pd.DataFrame(
        [
            (
                name,
                frame,
                x,
                y,
                side,
                side,
                classes[given.argmax()],
                float(given.max()),
                *map(float, given),
            )
            for name, frame, (x, y, side), given in rows
        ],
        columns=[
            "file",
            "frame",
            "x",
            "y",
            "width",
            "height",
            "expression",
            "probability",
            *(f"p_{name}" for name in classes),
        ],
    )
    table.insert(2, "face", table.groupby(["file", "frame"]).cumcount())
    return table


def _progress(iterable, text, quiet=False, **more):
    from tqdm import tqdm

    return tqdm(iterable, text, disable=True if quiet else None, leave=False, **more)
