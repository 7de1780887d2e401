"""`python -m ferlab predict`: the expressions in photos, folders, clips and a camera, by any
trained model.

Written are a copy with a square around each face for each photo (a clip for each clip), and one
table, a line per face.
"""

import errno
import itertools
import os
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from ferlab import files
from ferlab.data.readers import images
from ferlab.data.readers.archives import is_junk
from ferlab.progress import counted
from ferlab.serving import face_detection
from ferlab.serving.clips import frames
from ferlab.serving.clips.tracks import SMOOTH
from ferlab.serving.predictor import Predictor

BATCH = 16  # photos whose faces are classified together
PIXELS = 50_000_000  # of the photos that are held at a time; a single one may have more
COLUMNS = [
    "file",
    "frame",
    "seconds",
    "face",
    "x",
    "y",
    "width",
    "height",
    "expression",
    "probability",
]


def predict(
    inputs,
    out=Path("predictions"),
    model="",
    detector=None,
    camera=None,
    json=False,
    seconds=None,
    said=None,
    min_face=None,
    every=1,
    smooth=SMOOTH,
):
    """Predict all inputs; returns how many could not be read. What the others gave is kept whatever
    happens.

    inputs: paths of photos, clips and folders. out: the folder to write. model, detector, said,
    min_face: as in Predictor. every, smooth: of clips, as in frames.predict_clip. camera: its
    number, watched for some seconds or until Ctrl-C. json: the table as JSON. Raises UserError, and
    KeyboardInterrupt, with everything written, after a Ctrl-C that broke off photos or clips.
    """
    entries, rows, failed, broken_off = gather(inputs, out), [], 0, False
    if not entries and camera is None:
        raise files.UserError("nothing to predict; name photos, clips or folders, or --camera 0")
    predictor = Predictor(model, detector, said, min_face)
    detector = predictor.detector.name if predictor.detector else "none"
    print(f"model: {model or 'the released one'}; detector: {detector}")
    try:
        photos = [entry for entry in entries if not _is_clip(entry[0])]
        failed += _predict_photos(predictor, photos, out, rows)
        for path, name in filter(lambda entry: _is_clip(entry[0]), entries):
            target = out / result_name(name)
            failed += frames.predict_clip(
                predictor, str(path), name, target, rows, every=every, smooth=smooth
            )
        if camera is not None:
            name = f"camera-{camera}.mp4"
            frames.predict_clip(predictor, camera, name, out / name, rows, seconds, every, smooth)
    except KeyboardInterrupt:
        print("stopped; what was found so far is kept")
        broken_off = camera is None  # which has no other end
    except Exception:  # no such camera, a full disk
        if rows:
            _write_table(rows, predictor.classes, out, json)
        raise
    _write_table(rows, predictor.classes, out, json)
    if broken_off:
        raise KeyboardInterrupt
    return failed


def gather(inputs, out):
    """[(path, name under `out`)] of files and of all pictures and clips below folders, in order.

    No two results have the same name. Raises UserError where there is nothing, or where a result
    would replace its original, or another picture that is no result.
    """
    entries, results = [], set()
    is_ours = any((out / f"predictions.{kind}").exists() for kind in ("csv", "json"))
    for path, name in itertools.chain.from_iterable(_listed(Path(path), out) for path in inputs):
        if (out / result_name(name)).resolve() == path.resolve():
            raise files.UserError(
                f"{path}: would be replaced by its own result; choose another --out"
            )
        numbered = (name.with_stem(f"{name.stem}-{number}") for number in itertools.count(2))
        candidates = itertools.chain([name], numbered)
        name = next(name for name in candidates if result_name(name) not in results)
        if not is_ours and (out / result_name(name)).exists():
            raise files.UserError(
                f"{out / result_name(name)}: is there already, and no predictions.csv beside it "
                "that would make it a result of predict; choose another --out"
            )
        results.add(result_name(name))
        entries.append((path, name))
    return entries


def result_name(name):
    """The name of a result: an ending is added to what has one that is not written here."""
    endings = (".mp4",) if _is_clip(name) else (".png", ".jpg", ".jpeg")
    return name if name.suffix.lower() in endings else name.with_name(f"{name.name}{endings[0]}")


def _listed(path, out):
    """[(path, name)] of a file, or of the pictures and clips below a folder but not `out`."""
    if path.is_file():
        return [(path, Path(path.name))]
    if not path.is_dir():
        raise files.UserError(f"{path}: not found; name photos, clips or folders of them")
    endings = (*images.NAMES, *frames.NAMES)
    listed, left_out = [], Counter()
    out_is_below = path.resolve() in out.resolve().parents
    for file in _files_below(path):
        name = file.relative_to(path)
        if not file.is_file() or out_is_below and out.resolve() in file.resolve().parents:
            continue
        if any(map(is_junk, name.parts)):
            continue  # such as ._x.jpg, which macOS puts beside x.jpg: no picture
        if file.suffix.lower() in endings:
            listed.append((file, name))
        else:
            left_out[file.suffix.lower() or "no ending"] += 1
    kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(left_out.items()))
    kinds += "; save HEIC as JPEG" if {".heic", ".heif"} & set(left_out) else ""
    if not listed:
        only = f"; it holds {kinds}" if kinds else ""
        raise files.UserError(f"{path}: holds no picture and no clip ({' '.join(endings)}){only}")
    if left_out:
        print(files.printable(f"{path}: left out what is no picture or clip that is read: {kinds}"))
    return listed


def _files_below(path):
    """The files in a folder and in those below, links followed, each folder once; one that may not
    be read raises its error, so that no picture is left out in silence.
    """
    found, known = [], set()

    def refuse(error):
        raise error

    for folder, below, names in os.walk(path, onerror=refuse, followlinks=True):
        below.sort(key=lambda name: (Path(folder, name).is_symlink(), name))
        below[:] = [name for name in below if not _is_known(Path(folder, name), known)]
        found += [Path(folder, name) for name in names]
    return sorted(found)


def _is_known(folder, known):
    """Whether a folder was met before; remembered from now on."""
    place = folder.resolve()
    before = place in known
    known.add(place)
    return before


def _is_clip(path):
    return path.suffix.lower() in frames.NAMES


def _predict_photos(predictor, entries, out, rows):
    """Predict photos, some at a time; returns how many could not be read."""
    held, failed = [], 0
    for path, name in frames.progress(entries, "photos", quiet=len(entries) <= BATCH):
        try:
            picture = np.asarray(images.decode(path.read_bytes(), path).convert("RGB"))
        except (files.UserError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
            continue
        pixels = sum(other.size for _, other in held) // 3
        if len(held) == BATCH or held and pixels + picture.size // 3 > PIXELS:
            failed += _predict_batch(predictor, held, out, rows)
            held = []
        held.append((name, picture))
    if held:
        failed += _predict_batch(predictor, held, out, rows)
    return failed


def _predict_batch(predictor, held, out, rows):
    """Predict [(name, picture)]; returns how many results have too long a name to be written."""
    results, failed = predictor([picture for _, picture in held]), 0
    for (name, picture), result in zip(held, results, strict=True):
        faces, probabilities = result
        words, squares = predictor.words(probabilities), faces.squares
        shown, found = files.printable(name), zip(squares.tolist(), probabilities, strict=True)
        try:
            _write_picture(out / result_name(name), face_detection.draw(picture, squares, words))
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            print(f"error: {shown}: the name is too long for a result; shorten it", file=sys.stderr)
            failed += 1
            continue
        rows += [(shown, 0, 0, number, *face) for number, face in enumerate(found)]
        remark = f" ({faces.remark()})" if faces.remark() else ""
        print(f"{shown}: {', '.join(words) or 'no face found'}{remark}")
    return failed


def _write_picture(path, picture):
    encoded = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    with files.replacing(path) as part:
        part.write_bytes(encoded.tobytes())


def _write_table(rows, classes, out, json):
    table = _table(rows, classes)
    path = out / f"predictions.{'json' if json else 'csv'}"
    if json:
        files.write_json(path, table.astype(object).to_dict("records"))
    else:
        files.write_csv(path, table, "%.6g")
    faces = counted(len(table), "face")
    print(files.printable(f"{faces}, listed in {path}; pictures beside it"))


def _table(rows, classes):
    """A frame of (file, frame, seconds, face, square, probabilities) rows; face: its number in the
    photo, the largest first, or through the clip.
    """
    lines = []
    for *at, (x, y, side), row in rows:
        expression = (classes[row.argmax()], float(row.max()))
        lines.append((*at, x, y, side, side, *expression, *map(float, row)))
    return pd.DataFrame(lines, columns=[*COLUMNS, *(f"p_{name}" for name in classes)])
