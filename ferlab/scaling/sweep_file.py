"""sweep.yaml, typed and strict: which parameters of the train section are searched, and over which
ranges.
"""

import itertools
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ferlab import params
from ferlab.files import UserError


class Range(BaseModel):
    """Numbers between two bounds, both included; log: drawn evenly on a logarithmic scale."""

    model_config = ConfigDict(extra="forbid")

    low: float = Field(alias="from")
    high: float = Field(alias="to")
    log: bool = False


class Sweep(BaseModel):
    """What sweep.yaml holds. ranges: {train.<name>: a Range, or a list of choices}."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[\w-]+$")]
    trials: Annotated[int, Field(ge=1)]
    seed: params.Seed
    ranges: Annotated[
        dict[str, Range | Annotated[list[Any], Field(min_length=1)]], Field(min_length=1)
    ]


def load(path):
    """The Sweep of a file, both bounds of every range tried on the train section; UserError naming
    file and key.
    """
    values = params.raw(path)
    try:
        sweep = Sweep.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {_first_error(error)}") from None
    params.load()  # params.yaml itself must be in order
    workspace = params.raw()
    for key, choices in sweep.ranges.items():
        _check_key(f"{path}: ranges.{key}", key)
        if isinstance(choices, Range):
            _check_bounds(f"{path}: ranges.{key}", choices, takes_integers(key))
        for value in bounds(key, choices) if isinstance(choices, Range) else choices:
            train = workspace["train"] | {key.partition(".")[2]: value}
            params.parse(workspace | {"train": train}, f"{path}: ranges")
    return sweep


def suggest(sweep, trial):
    """{key of `ranges`: the value that Optuna suggests to a trial}."""
    return {key: _suggested(trial, key, choices) for key, choices in sweep.ranges.items()}


def _suggested(trial, key, choices):
    if isinstance(choices, list):
        return trial.suggest_categorical(key, choices)
    suggest_number = trial.suggest_int if takes_integers(key) else trial.suggest_float
    return suggest_number(key, *bounds(key, choices), log=choices.log)


def variants(sweep, settings):
    """Train sections that together run all code and packages that a trial of the sweep may run.

    One for each network and backend that is searched. Whatever is searched has its first value
    there, so that only the fixed parameters tell two sweeps apart. settings: the train section.
    """
    first = {
        key.partition(".")[2]: bounds(key, choices)[0] if isinstance(choices, Range) else choices[0]
        for key, choices in sweep.ranges.items()
    }
    deciding = [
        [(name, value) for value in sweep.ranges.get(f"train.{name}", [])]
        for name in ("model", "backend")
        if f"train.{name}" in sweep.ranges
    ]
    return [
        params.Train.model_validate(settings.model_dump() | first | dict(changes))
        for changes in itertools.product(*deciding)
    ]


def most_epochs(sweep, settings):
    """Epochs of the longest training that the sweep may try. settings: the train section."""
    choices = sweep.ranges.get("train.epochs", [settings.epochs])
    return max(choices if isinstance(choices, list) else bounds("train.epochs", choices))


def takes_integers(key):
    """Whether a key of `ranges` takes integers only."""
    return params.Train.model_fields[key.partition(".")[2]].annotation is int


def bounds(key, numbers):
    """(low, high) of a Range, in the type that the key takes."""
    kind = int if takes_integers(key) else float
    return kind(numbers.low), kind(numbers.high)


def _first_error(error):
    first = error.errors()[0]
    # pydantic also names the alternatives that it tried
    place = [str(part) for part in first["loc"] if not str(part).startswith(("Range", "list["))]
    return f"{'.'.join(place) or 'the file'}: {first['msg'][0].lower() + first['msg'][1:]}"


def _check_key(place, key):
    section, _, name = key.partition(".")
    if section != "train" or name not in params.Train.model_fields:
        raise UserError(f"{place}: only parameters of the train section can be swept")
    if name in ("labels", "select_on"):
        others = "against other labels" if name == "labels" else "on other images"
        raise UserError(f"{place}: accuracies {others} cannot be compared; sweep each alone")


def _check_bounds(place, numbers, integers):
    if not numbers.low < numbers.high or (numbers.log and numbers.low <= 0):
        above_zero = ", and above 0" if numbers.log else ""
        raise UserError(f"{place}: `from` must be below `to`{above_zero}")
    if integers and not (numbers.low.is_integer() and numbers.high.is_integer()):
        raise UserError(f"{place}: takes whole numbers only")
