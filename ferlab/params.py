"""params.yaml, typed and strict: what a key may hold stands here, what it means in that file.

Read with the same YAML 1.2 parser as DVC, so that `1e-05` is a number and `off` is a word for both.
"""

import difflib
import functools
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ferlab import params_errors, secrets
from ferlab.data.classes import CLASSES
from ferlab.files import UserError

Share = Annotated[float, Field(ge=0, lt=1)]
Degrees = Annotated[float, Field(ge=0, le=180)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A part of params.yaml: frozen; unknown keys and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Download(Section):
    """Which faces: `sample`, `fer2013`, a path, or an https address."""

    dataset: Annotated[str, Field(min_length=1)]
    without_secret = field_validator("dataset")(secrets.refused)


class Eda(Section):
    """The look at the data. near_duplicate: correlation of two thumbnails; grid: faces a class."""

    near_duplicate: Annotated[float, Field(gt=0.5, le=1)]
    grid: Annotated[int, Field(ge=1, le=40)]


class Balance(Section):
    """What training sees of each class, and what is held out of it for validation.

    target: images per grown class. rotation in degrees, shift and zoom as shares, of the new images
    of `augment`. holdout: share of each class that becomes the split `validation`.
    """

    strategy: Literal["none", "augment", "merge", "weights", "sampler"]
    classes: list[Annotated[str, Field(min_length=1)]]
    target: Positive | Literal["median", "max"]
    flip: bool
    rotation: Degrees
    shift: Share
    zoom: Share
    holdout: Annotated[float, Field(ge=0, le=0.5)]
    drop_seen: bool
    seed: Seed

    @field_validator("classes")
    @classmethod
    def well_spelled(cls, names):
        """Data may have classes of their own; what is nearly one of FER2013's is misspelled."""
        for name in set(names) - set(CLASSES):
            from ferlab.data.readers.spellings import CLASS_OF  # only here: stages declare it

            if close := difflib.get_close_matches(name.lower(), CLASS_OF, 1, 0.75):
                raise ValueError(f"unknown class {name}, did you mean {CLASS_OF[close[0]]}?")
        return names


class Train(Section):
    """A training: network, optimisation, augmentation, selection, machine. All of it decides bits.

    Rates, shares and momenta are plain numbers, rotation is in degrees, shift, zoom and erase are
    shares of the image's side, light is one of contrast; early_stopping and reduce_on_plateau count
    epochs, 0 is off; so does frozen: in the first ones only the last layer learns.
    """

    model: str
    dropout: Share
    epochs: Positive
    batch_size: Positive
    optimizer: Literal["adamw", "adam", "sgd", "muon"]
    learning_rate: Annotated[float, Field(gt=0, le=10)]
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    schedule: Literal["one_cycle", "cosine", "constant"]
    warmup: Share
    label_smoothing: Share
    averaging: Share
    flip: bool
    rotation: Degrees
    shift: Share
    zoom: Share
    erase: Share
    low_resolution: Annotated[float, Field(ge=0, le=1)]
    labels: Literal["fer2013", "ferplus"] = "fer2013"  # recipes need not name these six
    equalize: bool = False
    light: Annotated[float, Field(ge=0, le=2)] = 0.0
    mixup: Annotated[float, Field(ge=0, le=1)] = 0.0
    initial: Literal["random", "imagenet"] = "random"
    frozen: Count = 0
    select_on: Literal["public", "validation"]
    keep: Literal["best", "last"]
    early_stopping: Count
    reduce_on_plateau: Count
    backend: Literal["tensorflow", "jax", "torch"]
    devices: Positive = 1  # recipes need not name it
    precision: Literal["auto", "float32", "bfloat16"]
    seed: Seed

    @field_validator("model")
    @classmethod
    def known_model(cls, name):
        if name not in models():
            close = params_errors.meant(name, models())
            raise ValueError(f"unknown network{close or ', choose one of ' + ', '.join(models())}")
        return name


class Evaluate(Section):
    """How a model is evaluated: views of a face (`flip`, `shift` in pixels), further datasets."""

    flip: bool
    shift: Annotated[int, Field(ge=0, le=8)]
    mistakes: Annotated[int, Field(ge=1, le=100)]
    robustness: bool
    extra_datasets: list[Annotated[str, Field(min_length=1)] | dict[str, str]]

    @field_validator("extra_datasets")
    @classmethod
    def names_differ(cls, entries):
        """Scores are kept by the file's name: equal names would be evaluated as one dataset."""
        names = [Path(e if isinstance(e, str) else _path_of(e)).stem for e in entries]
        taken = ("train", "validation", "public", "private", "test")
        taken += ("private_unseen", "private_unseen_near")
        clash = next((name for name in names if names.count(name) > 1 or name in taken), None)
        if clash:
            raise ValueError(f"{clash} names a split or another set already, rename the file")
        return entries


def _path_of(entry):
    from ferlab.data.readers import extra  # only here: it loads OpenCV

    return extra.checked(entry)["path"]


class Explain(Section):
    """How a model is explained: temperature scaling, and the feature maps that are shown."""

    temperature: bool
    maps: Annotated[int, Field(ge=1, le=64)]
    layers: Literal["pools"] | Annotated[list[str], Field(min_length=1)]


class Baseline(Section):
    """Of recipes without a network: what every table of results is read against."""

    kind: Literal["majority", "handcrafted"]
    regularisation: Annotated[float, Field(gt=0)]  # C of the support vector machine


class Ensemble(Section):
    """Of recipes that average the probabilities of other results."""

    candidates: Annotated[list[str], Field(min_length=1)]  # keys with a result
    selection: Literal["all", "greedy"]  # greedy: add what raises public accuracy most, until none

    @field_validator("candidates")
    @classmethod
    def candidates_differ(cls, keys):
        """A candidate is taken once: its weight is no parameter."""
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise ValueError(f"{twice[0]} is named more than once")
        return keys


SECTIONS = {
    "download": Download,
    "eda": Eda,
    "balance": Balance,
    "train": Train,
    "evaluate": Evaluate,
    "explain": Explain,
}
ALL_SECTIONS = SECTIONS | {"baseline": Baseline, "ensemble": Ensemble}  # those of recipes, too


def models():
    """Names of the networks: one file each in ferlab/models."""
    return sorted(file.stem for file in (Path(__file__).parent / "models").glob("[!_]*.py"))


def load(path="params.yaml"):
    """The whole file as frozen sections, as in `load().train.epochs`.

    Raises UserError with one line that names every wrong key and the way back: a failed `dvc exp
    run -S` leaves its values in the file.
    """
    try:
        return parse(raw(path), path)
    except UserError as error:
        if not Path(path).exists():
            raise
        raise UserError(f"{error}; correct it, or undo all changes: git checkout {path}") from None


def raw(path="params.yaml"):
    """The whole file as a nested dict, unchecked; raises UserError where it is not YAML."""
    path = Path(path)
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run from the repository's top folder") from None
    except (YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise UserError(
            f"{path}{place}: not valid YAML ({getattr(error, 'problem', None) or error})"
        ) from None


def write(values, path):
    """Write nested dicts as YAML, as `raw` reads them."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        YAML().dump(values, file)


def parse(values, path="params.yaml", sections=tuple(SECTIONS)):
    """Check a nested dict against the sections; `path` is only named in errors."""
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected the sections {', '.join(sections)}")
    try:
        return _model(tuple(sections)).model_validate(values)
    except ValidationError as error:
        known = {name: list(ALL_SECTIONS[name].model_fields) for name in sections}
        reasons = params_errors.explain(error.errors(), values, known)
        raise UserError(f"{path}: {reasons}") from None


@functools.cache
def _model(sections):
    fields = {name: (ALL_SECTIONS[name], ...) for name in sections}
    return create_model("Params", __base__=Section, **fields)
