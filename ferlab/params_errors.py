"""What is wrong with parameters, in one line: all of it, each with what it may have been meant."""

import difflib
import re
import reprlib

from ferlab import secrets

# How a value is shown: a YAML file of a kilobyte can hold one that never ends.
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 80
MAX_LENGTH = 260  # characters, so that the file before it and the fix after it find room


def explain(errors, values, known):
    """pydantic's errors as one line. values: the nested dict. known: {section: its keys}.

    What does not find room is counted.
    """
    lines = _lines(errors, values, known)
    text, *others = lines
    for number, line in enumerate(others):
        if len(text) + len(line) > MAX_LENGTH:
            return f"{text}; and {len(others) - number} more"
        text = f"{text}; {line}"
    return text


def meant(word, known):
    """`, did you mean <the closest of the known>?`, or nothing."""
    close = difflib.get_close_matches(str(word), known, 1)
    return f", did you mean {close[0]}?" if close else ""


def _lines(errors, values, known):
    """One line for each key. A mistyped key is both unknown and missing: the first says more."""
    lines, missing = {}, {}
    for error in errors:
        where = tuple(str(part) for part in error["loc"] if part != "[key]")
        if error["type"] == "missing":
            missing[where] = f"{'.'.join(where)} is missing"
        elif error["type"] in ("extra_forbidden", "invalid_key"):
            lines[where] = _unknown(where, error["type"], known)
        else:  # the other types that a value may have give errors of their own
            lines.setdefault(where[:2], _not_allowed(where[:2], error, values))
    meant_keys = {
        (*where[:-1], line.removesuffix("?").rpartition("did you mean ")[2])
        for where, line in lines.items()
    }
    return [
        *lines.values(),
        *(line for where, line in missing.items() if where not in meant_keys),
    ]


def _unknown(where, kind, known):
    keys = known if len(where) == 1 else known.get(where[0], ())
    close = meant(where[-1], keys)
    listed = f"; known: {', '.join(keys)}" if keys and kind == "extra_forbidden" else ""
    return f"unknown key {'.'.join(where)}{close or listed}"


def _not_allowed(where, error, values):
    """The line of a value: key, value, what is allowed."""
    value = values[where[0]]
    if len(where) > 1:
        value = value[where[1]]
    value = secrets.masked(value) if isinstance(value, str) else value
    message = error["msg"].removeprefix("Value error, ")
    if where == ("balance", "target"):
        message = "must be a whole number from 1, median or max"
    words = re.findall(r"'([^']*)'", (error.get("ctx") or {}).get("expected", ""))
    close = meant(error["input"], words) if isinstance(error["input"], str) else ""
    return f"{'.'.join(where)} = {SHORT.repr(value)}: {message[0].lower() + message[1:]}{close}"
