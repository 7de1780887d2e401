"""Writing files so that nothing is ever half written, and the one kind of error a user is meant to read."""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

MAX_LENGTH = 400  # characters of an error


class UserError(Exception):
    """Something the user can mend. Its text is one line: file, place, value, fix.

    What a hostile file puts into it is shown escaped, and left out in the middle where it is long: the fix stands at the end.
    """

    def __init__(self, text):
        if len(text) > MAX_LENGTH:
            text = f"{text[: MAX_LENGTH // 2]} ... {text[-MAX_LENGTH // 4 :]}"
        super().__init__(
            "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
        )


@contextmanager
def replacing(path):
    """Yield a temporary path beside `path`; on success it replaces `path` atomically, on failure it is removed.

    Works for files and for folders (an old folder is moved aside just before, and back if that fails). What a killed process
    left beside `path` is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}.*.part*"):
        if not alive(int(left.name.removeprefix(f".{path.name}.").split(".")[0])):
            _remove(left)
    temporary = path.parent / f".{path.name}.{os.getpid()}.part"
    _remove(temporary)
    try:
        yield temporary
        if temporary.is_dir() and path.exists():
            old = path.parent / f".{path.name}.{os.getpid()}.part-old"
            os.replace(path, old)
            try:
                os.replace(temporary, path)
            except OSError:
                os.replace(old, path)
                raise
            _remove(old)
        else:
            os.replace(temporary, path)
    finally:
        _remove(temporary)


def write_text(path, text):
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path, value):
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_csv(path, frame, float_format="%.6f"):
    """A pandas frame as CSV: LF line ends and fixed decimals, so that equal values give equal bytes."""
    write_text(path, frame.to_csv(index=False, lineterminator="\n", float_format=float_format))


def root():
    """The main repository: above `DVC_ROOT` in a stage (the same from temporary workspaces), else the working directory."""
    found = Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()
    recipes = (
        found.name == "recipes" and (found.parent / "stages").is_dir()
    )  # a DVC repository of its own
    return found.parent if recipes else found


def alive(pid):
    """True where a process with this id lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
