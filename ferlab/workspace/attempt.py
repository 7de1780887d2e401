"""`python -m ferlab try key=value`: `dvc exp run`, but nothing that is wrong stays in params.yaml.

DVC writes the values first and leaves them there when the experiment fails: every later command
then fails, too. Here they are checked first, and params.yaml is put back after a failure.
"""

import contextlib
import fcntl
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ferlab import files, params

PARAMS = Path("params.yaml")


def dataset(place):
    """The change that makes `download.dataset` this place, whatever characters are in it."""
    # Hydra takes a backslash for itself, but before a quote
    quoted = re.sub(r"(\\*)'", r"\1\1\\'", place)
    ending = re.search(r"\\*$", quoted)[0]
    return f"download.dataset='{quoted}{ending}'"


def check(changes=()):
    """The checked parameters of params.yaml with these changes, `key=value` as of `dvc exp run -S`.

    Writes nothing. Raises UserError that names every wrong key.
    """
    settings = params.load(PARAMS)
    if not changes:
        return settings
    return params.parse(_with(changes), "nothing was run or changed")


def attempt(changes, name=None):
    """Check, then run the experiment in the workspace; name: of it, else DVC invents one.

    Raises UserError where it fails, with params.yaml as it was before.
    """
    check(changes)
    options = [part for change in changes for part in ("-S", change)]
    options += ["--name", name] if name else []
    with _alone():
        before, known = PARAMS.read_bytes(), (params.raw(PARAMS), _with(changes))
        if not _dvc("exp", "run", *options):
            return
        edited = _values(PARAMS) not in known  # meanwhile, by somebody else
        if not edited and PARAMS.read_bytes() != before:
            with files.replacing(PARAMS) as part:
                part.write_bytes(before)
    now = "was edited meanwhile and is left so" if edited else "is as it was before"
    raise files.UserError(
        f"the experiment ended as said above; {PARAMS} {now}, and the same command "
        "goes on from what is finished; where it ends alike, make doctor says what is in the way"
    )


def _with(changes):
    """The values of params.yaml with these changes, unchecked."""
    with tempfile.TemporaryDirectory() as folder:
        changed = shutil.copy(PARAMS, folder)
        _apply(changes, changed)
        return params.raw(changed)


def _values(path):
    """The values in a parameter file, None where it cannot be read."""
    try:
        return params.raw(path)
    except files.UserError:
        return None


@contextlib.contextmanager
def _alone():
    """UserError where another `try` is at work here: the loser would put params.yaml back under
    it.
    """
    guard = files.root() / ".ferlab/try.lock"
    guard.parent.mkdir(parents=True, exist_ok=True)
    with open(guard, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise files.UserError(
                "another `python -m ferlab try` (or make repro DATA=...) is at work here: wait for "
                "it, or queue this one: dvc exp run --queue -S ..."
            ) from None
        yield


def _apply(changes, path):
    """Write the changes into a copy of params.yaml, as DVC does; a key need not be known yet."""
    from dvc.exceptions import InvalidArgumentError
    from dvc.utils.hydra import apply_overrides

    for change in changes:
        forced = change if change[:1] in "+~" else f"++{change}"
        try:
            apply_overrides(path, [forced])
        except (InvalidArgumentError, ValueError, AttributeError) as error:
            reason = files.one_line(error.__cause__ or error)
            raise files.UserError(f"{change}: is no key=value ({reason})") from None


def _dvc(*arguments):
    """The exit code of dvc. A Ctrl-C reaches it too: it is waited for. Git needs a name for it."""
    environment = files.environment()
    if subprocess.run(["git", "config", "user.email"], capture_output=True).returncode:
        for person in ("AUTHOR", "COMMITTER"):
            environment |= {
                f"GIT_{person}_NAME": "ferlab",
                f"GIT_{person}_EMAIL": "ferlab@localhost",
            }
    process = subprocess.Popen([sys.executable, "-m", "dvc", *arguments], env=environment)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue
