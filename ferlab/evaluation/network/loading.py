"""Loading a trained network: none that is damaged, holds code, was exchanged, would be misused."""

import zipfile

import numpy as np

from ferlab import dvc_files
from ferlab.data.dataset import SIZE
from ferlab.evaluation.network.about import SCALINGS, prepare, read_about
from ferlab.files import UserError, md5, one_line, root

MAX_BYTES = 2 << 30  # of an unpacked model
FACE = (SIZE, SIZE, 1)


def load(path, backend_name, classes=None, said=None, shown=None):
    """The Keras model at `path`, with an attribute `about` (About) that `predict` goes by.

    classes: names of the data's. said: the About of a file that has none. shown: what errors call
    the file. Raises UserError where the file is missing or damaged, holds code, is not the one that
    dvc.lock names, does not say how to use it, takes no faces or gives no probabilities, or has
    other classes.
    """
    from ferlab.training import backend

    shown = shown or path
    if not path.exists():
        raise UserError(f"{shown}: not found; `dvc repro` makes it")
    _check_hash(path)
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_BYTES:
            raise ValueError(f"it unpacks to {unpacked >> 20} MiB")
        about = _usable(read_about(path), said, shown, classes)
        keras = backend.start(backend_name)
        network = keras.models.load_model(path, compile=False, safe_mode=True)
    except UserError:
        raise
    except Exception as error:  # damaged files raise nearly anything in Keras
        raise UserError(
            f"{shown}: not a usable Keras model ({one_line(error)}); `dvc repro` trains one"
        ) from None
    network.about = about
    _check_network(network, shown)
    return network


def _usable(about, said, shown, classes):
    """The About to go by: the file's own, or the one said of it; UserError without either."""
    own = about.classes, about.scaling
    if about.classes and said and own != (said.classes, said.scaling):
        raise UserError(
            f"{shown}: says itself that its classes are {', '.join(about.classes)}, and its "
            f"scaling {about.scaling}; leave out --classes and --scaling"
        )
    if not about.classes and not said:
        ways = ", ".join(SCALINGS)
        fix = "`dvc repro` trains one that does"
        if not classes:
            fix = f"say both: --classes <name>,<name>,... --scaling <one of {ways}>"
        raise UserError(f"{shown}: says neither its classes nor how it wants gray levels; {fix}")
    about = about if about.classes else said
    if classes and about.classes != tuple(classes):
        raise UserError(
            f"{shown}: has the classes {', '.join(about.classes)}; the data have "
            f"{', '.join(classes)}; run `dvc repro`"
        )
    return about


def _check_network(network, shown):
    """UserError unless the network makes probabilities of its classes from gray faces of 48x48."""
    import keras

    takes, gives = network.input_shape, network.output_shape
    fits = isinstance(takes, tuple) and len(takes) == 4
    if not fits or any(size not in (None, own) for size, own in zip(takes[1:], FACE, strict=True)):
        raise UserError(
            f"{shown}: takes {_sizes(takes)}, expected gray faces of {_sizes((None, *FACE))}; "
            "name another model"
        )
    count = len(network.about.classes)
    if gives != (None, count):
        raise UserError(
            f"{shown}: gives {_sizes(gives)} numbers a face, {count} classes are named: "
            f"{', '.join(network.about.classes)}"
        )
    faces = np.random.default_rng(0).integers(0, 256, (2, *FACE[:2]), dtype=np.uint8)
    given = network(prepare(network, faces)[..., None], training=False)
    given = keras.ops.convert_to_numpy(keras.ops.cast(given, "float32"))
    if not (given.min() >= 0 and np.abs(given.sum(axis=1) - 1).max() < 0.02):
        raise UserError(
            f"{shown}: its {count} numbers are no probabilities (of one face they sum to "
            f"{given[0].sum():.4g}); end the network in a softmax and save it again"
        )


def _sizes(shape):
    """Text of a Keras shape, without the batch: 48x48x1."""
    if not isinstance(shape, tuple):
        return "several arrays"
    return "x".join("any" if size is None else str(size) for size in shape[1:])


def _check_hash(path):
    """UserError where the dvc.lock above `path` pins another md5 and it was not trained here."""
    actual = md5(path)
    folders = path.absolute().parents
    top = next((folder for folder in folders if (folder / "dvc.lock").exists()), None)
    if not top or (root() / f".ferlab/runs/{actual}.json").exists():
        return
    pinned = dvc_files.locked(top).get(path.absolute().relative_to(top).as_posix())
    if pinned not in (None, "", actual):
        raise UserError(
            f"{path}: its md5 is {actual}, dvc.lock says {pinned}, and it was not trained here; "
            "`dvc repro` makes the right one"
        )
