"""Files that are never half written, their hashes, and the one kind of error a user reads."""

import hashlib
import json
import os
import re
import shutil
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

MAX_LENGTH = 400  # characters of an error


class UserError(Exception):
    """Something the user can fix. Its text is one line: file, place, value, fix.

    Unprintable characters, which a hostile file may hold, are escaped; a long text is cut in the
    middle, since the fix stands at the end.
    """

    def __init__(self, text):
        if len(text) > MAX_LENGTH:
            text = f"{text[: MAX_LENGTH // 2]} ... {text[-MAX_LENGTH // 4 :]}"
        super().__init__(
            "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
        )


def one_line(error, limit=120):
    """The text of another program's error on one line of at most `limit` characters.

    An error without a text gives the name of its kind. A UserError stays whole: its end says what
    to do.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, UserError) else text[:limit]


def environment():
    """The variables of this process, with this Python first on the path: DVC starts stages as
    `python`, which is another one, or none, where no environment is activated.
    """
    here = str(Path(sys.executable).parent)
    return os.environ | {"PATH": os.pathsep.join([here, os.environ.get("PATH", os.defpath)])}


def printable(name):
    """A file's name as text that can be printed and written, bytes that are no UTF-8 escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@contextmanager
def replacing(path):
    """Yield a temporary path beside `path`; on success it replaces `path`, else it is removed.

    Of a file this is one step. An old folder is moved aside just before; killed in between, the
    next call for `path` moves it back first. What a killed process left beside `path` is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _tidy(path)
    temporary = path.parent / f".{path.name}.{os.getpid()}.part"
    old = path.parent / f"{temporary.name}-old"
    try:
        yield temporary
        if temporary.is_dir() and os.path.lexists(path):
            os.replace(path, old)
        os.replace(temporary, path)
        _remove(old)
    except BaseException:
        _tidy(path)
        raise


def _tidy(path):
    """Leave nothing beside `path` that this process, or one that has ended, was writing there.

    `path` itself, if it was moved aside and nothing has come into its place, is moved back.
    """
    name = re.compile(rf"\.{re.escape(path.name)}\.(\d{{1,9}})\.part(.*)", re.DOTALL)
    for file in sorted(path.parent.iterdir()):
        left = name.fullmatch(file.name)
        if not left or (int(left[1]) != os.getpid() and alive(int(left[1]))):
            continue
        if left[2] == "-old" and not os.path.lexists(path):
            os.replace(file, path)
        else:
            _remove(file)


def write_text(path, text):
    """UTF-8 with LF line ends; on the disk before `path` is replaced."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path, value):
    """Indented, in the order of the keys, so that equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path):
    """The value of a UTF-8 JSON file. Raises FileNotFoundError, or ValueError for damaged JSON."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_csv(path, frame, float_format="%.6f"):
    """A pandas frame as CSV: LF line ends, fixed decimals; equal values give equal bytes."""
    write_text(path, frame.to_csv(index=False, lineterminator="\n", float_format=float_format))


def root():
    """The main repository: `DVC_ROOT` in a stage, else the working directory.

    `DVC_ROOT` is the same in the temporary workspaces of experiments. recipes/ is a DVC repository
    of its own; its root is the folder above it.
    """
    top = Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()
    in_recipes = top.name == "recipes" and (top.parent / "stages").is_dir()
    return top.parent if in_recipes else top


def md5(path):
    """The md5 of a file as hexadecimal text, as DVC writes it into dvc.lock."""
    return _digest(path, partial(hashlib.md5, usedforsecurity=False))


def sha256(path):
    """The sha256 of a file as hexadecimal text."""
    return _digest(path, "sha256")


def _digest(path, kind):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def alive(pid):
    """True where a process with this id is running on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
