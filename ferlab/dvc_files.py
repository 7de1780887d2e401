"""What DVC and Git know of results: dvc.lock and dvc.yaml, experiments, and files in DVC's cache.

The one place that reads DVC's formats. Needs no DVC but for `fetch` and `stray_lists`.

`python -m ferlab.dvc_files` fails, with a line each, where a list in DVC's caches would write
outside the checkout: make asks it before DVC checks anything out.
"""

import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

from ruamel.yaml import YAML, YAMLError

from ferlab import files, secrets


def stages(text, name="dvc.lock"):
    """The stages in the text of a dvc.lock or dvc.yaml, as {stage: nested dicts}.

    Raises UserError, with `name`, where the text is not that of such a file.
    """
    try:
        content = YAML(typ="safe").load(text)["stages"]
    except (YAMLError, TypeError, KeyError) as error:
        reason = files.one_line(error)
        raise files.UserError(f"{name}: names no stages ({reason}); git checkout {name}") from None
    if not isinstance(content, dict) or not all(isinstance(one, dict) for one in content.values()):
        raise files.UserError(f"{name}: its stages are damaged; git checkout {name}")
    return content


def outputs(stages):
    """{path: md5} of every output and metrics file of `stages`; the md5 is "" in a dvc.yaml."""
    entries = [
        entry
        for stage in stages.values()
        for kind in ("outs", "metrics")
        for entry in stage.get(kind, [])
    ]
    hashes = {}
    for entry in entries:
        about = entry if isinstance(entry, dict) else {"path": entry}
        hashes[about.get("path") or next(iter(about))] = about.get("md5", "")
    return hashes


def parameters(stages):
    """The parameters of params.yaml with which the stages of a dvc.lock ran.

    A section that a stage declares as a whole is a dict, a single one stands as `section.key`.
    """
    merged = {}
    for stage in stages.values():
        merged |= stage.get("params", {}).get("params.yaml", {})
    return merged


def locked(folder):
    """{path: md5} of every output that the dvc.lock in `folder` names; raises as locked_stages."""
    return outputs(locked_stages(folder))


def locked_stages(folder):
    """The stages of the dvc.lock in `folder`, as {stage: nested dicts}; not to be changed.

    Raises FileNotFoundError where there is none, UserError where it is damaged.
    """
    path = folder / "dvc.lock"
    return _parsed(path.read_text(encoding="utf-8"), path)


@functools.lru_cache(maxsize=4)  # the record's takes a second, and is asked for each result
def _parsed(text, path):
    return stages(text, path)


def show(folder, revision, file):
    """The text of a file of `folder` at a Git revision. Raises UserError where there is none."""
    # Git would count from the top of its repository, of which `folder` may be a part
    shown = git("show", f"{revision}:./{file}", folder=folder)
    if shown.returncode:
        raise files.UserError(f"{file}: not in Git's {revision} ({complaint(shown, 120)})")
    return shown.stdout


def hashes(folder, revisions, file):
    """Git's hashes of a file of `folder` at many revisions, by one process; a set."""
    asked = "".join(f"{revision}:./{file}\n" for revision in revisions)
    answered = git("cat-file", "--batch-check=%(objectname)", folder=folder, given=asked)
    return set(answered.stdout.split("\n"))


def git(*arguments, folder=None, given=None):
    """The finished process of a Git command in `folder` or that of root(); given: its input."""
    return subprocess.run(
        ["git", *arguments],
        cwd=folder or files.root(),
        input=given,
        capture_output=True,
        text=True,
        env=os.environ | {"LC_ALL": "C"},  # its messages are read below, and in doctor
    )


def complaint(done, limit=300):
    """Why a Git command failed, in one line; one that was killed does not say it itself."""
    lock = re.search(r"Unable to create '(.+\.lock)': File exists", done.stderr)
    if lock:
        return f"another git is at work, or a killed one left its lock: rm {shlex.quote(lock[1])}"
    return files.one_line(done.stderr or f"it ended with {done.returncode}", limit)


def experiments():
    """(name, commit, baseline commit) of every DVC experiment of the main repository.

    DVC keeps them as refs/exps/<2 digits>/<38 digits of the baseline>/<name>.
    """
    refs = git("for-each-ref", "refs/exps", "--format=%(refname) %(objectname)")
    rows = [(*line.split()[0].split("/"), line.split()[1]) for line in refs.stdout.splitlines()]
    return [
        (row[4], row[5], row[2] + row[3]) for row in rows if len(row) == 6 and len(row[3]) == 38
    ]


def fetch(name, sources, folder=None, revision=None, fix=""):
    """Bring files and folders of a result from Git and DVC's cache.

    sources: {path in the repository: where to put it}. folder: of the DVC repository, by default
    the main one. revision: of an experiment, else the working directory's. Raises UserError, which
    begins with `name`, where one of them is not at hand (it ends in `fix`), or is not what dvc.lock
    says: whoever may write to a remote can put anything under a pinned name.
    """
    from dvc.api import DVCFileSystem

    folder, source = folder or files.root(), next(iter(sources), "")
    # at a revision, DVC too counts from the top of Git's repository
    above = git("rev-parse", "--show-prefix", folder=folder).stdout.strip() if revision else ""
    try:
        system = DVCFileSystem(str(folder), rev=revision, subrepos=bool(above))
        locked = system.read_text(f"{above}dvc.lock", encoding="utf-8")
        pinned, cache = outputs(stages(locked)), _cache(Path(folder))
        for source, target in sources.items():
            listed = _object(cache, pinned.get(source, ""))
            reason = listed.suffix == ".dir" and listed.exists() and _stray(listed)
            if reason:
                raise files.UserError(f"{name}: {listed}: DVC's list of {source} {reason}")
            target.parent.mkdir(parents=True, exist_ok=True)
            path = f"{above}{source}"
            system.get(path, str(target), recursive=system.isdir(path))
            _check_content(name, source, target, pinned.get(source, ""))
    except files.UserError:
        raise
    except Exception as error:  # DVC raises many kinds
        reason = secrets.one_line(error)
        raise files.UserError(
            f"{name}: {source} is not in DVC's cache ({reason}); "
            + (fix or f"dvc exp apply {name} && dvc repro")
        ) from None


def _check_content(name, source, target, pinned):
    """Remove `target` and raise UserError where its md5 is not the pinned one."""
    if not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", pinned):
        return
    actual = _md5_of_folder(target) if target.is_dir() else files.md5(target)
    if actual != pinned:
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        raise files.UserError(
            f"{name}: {source} has the md5 {actual}, dvc.lock says {pinned}: it was changed in "
            "DVC's cache or remote; dvc cache dir says where, remove it there"
        )


def _md5_of_folder(folder):
    """As DVC reckons it: of the list of its files."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    listed = [
        {"md5": files.md5(path), "relpath": name}
        for name, path in sorted(paths.items())
        if path.is_file()
    ]
    text = json.dumps(listed, sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def stray_lists():
    """Yield (what, fix) of each list of a folder in DVC's caches that leaves that folder, or is
    not the one that its name says. DVC itself follows such a list wherever it leads.
    """
    for cache in dict.fromkeys(map(_cache, (files.root(), files.root() / "recipes"))):
        for path in sorted(cache.glob("*/*.dir")):
            reason = _stray(path)
            if reason:
                yield (
                    f"{path}: DVC's list of a folder {reason}; do not check it out",
                    f"rm {shlex.quote(str(path))}, and pull only from remotes that you trust",
                )


def _cache(folder):
    """Where the DVC repository in `folder` keeps its objects."""
    from dvc.config import Config, ConfigError

    try:
        place = Config(str(folder / ".dvc")).get("cache", {}).get("dir") if folder.exists() else ""
    except ConfigError:
        place = ""  # `doctor` says what is wrong with it
    return Path(place or folder / ".dvc/cache") / "files/md5"


def is_cached(md5):
    """Whether the main repository's cache holds the object of this md5; None without a cache."""
    cache = _cache(files.root())
    return _object(cache, md5).exists() if cache.exists() else None


def _object(cache, md5):
    """Where a cache keeps the object of this md5, which for a folder's list ends in .dir."""
    return cache / md5[:2] / md5[2:]


def _stray(path):
    """Why a list of a folder is not to be followed, or ""."""
    content = path.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != path.parent.name + path.stem:
        return "was changed"
    try:
        entries = [(entry["relpath"], entry["md5"]) for entry in json.loads(content)]
    except (ValueError, TypeError, KeyError):
        return "is damaged"
    for name, md5 in entries:
        parts = PurePosixPath(str(name)).parts
        if not parts or ".." in parts or parts[0] == "/" or re.search(r"[\\\0]|^\w:", str(name)):
            return f"leads outside it ({name})"
        if not re.fullmatch("[0-9a-f]{32}", str(md5)):
            return f"names no md5 ({md5})"
    return ""


if __name__ == "__main__":
    found = [f"error: {what}\n  {fix}" for what, fix in stray_lists()]
    sys.exit("\n".join(found) or None)
