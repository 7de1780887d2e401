"""The part of `python -m ferlab doctor` that looks for what killed experiments left behind.

Each check yields its troubles as (what, fix). Meant while nothing of DVC's is at work here.
"""

import json
import shlex
from pathlib import Path

from ferlab import dvc_files, files, recipes
from ferlab.progress import counted
from ferlab.workspace import running

EXPERIMENTS = ".dvc/tmp/exps"  # of DVC: the queue, and the folders that experiments run in


def queue():
    """Experiments that `dvc queue status` shows as running for ever, since their workers died."""
    if not (files.root() / EXPERIMENTS / "celery").exists():
        return
    names = _running()
    if names:
        yield (
            f"dvc queue shows {counted(len(names), 'experiment')} as running whose workers have "
            f"ended ({', '.join(names[:3])})",
            f"dvc queue kill {' '.join(names)} && dvc queue remove {' '.join(names)}; "
            "then queue them again, with the same -S: a training goes on from its last epoch",
        )


def _running():
    """The names of the experiments that DVC's queue takes for running."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(files.root())) as repo:
            entries = list(repo.experiments.celery_queue.iter_active())
    except DvcException:  # other checks say what is wrong with dvc.yaml, Git or the configuration
        return []
    return sorted(entry.name or entry.stash_rev[:7] for entry in entries)


def git_locks():
    """A killed git leaves its lock, and every later `git commit` or `dvc exp run` fails."""
    folder = Path(dvc_files.git("rev-parse", "--absolute-git-dir").stdout.strip() or "none")
    left = [folder / f"{name}.lock" for name in ("index", "HEAD", "config", "packed-refs")]
    left += (folder / "refs").rglob("*.lock")
    if (left := [lock for lock in left if lock.exists()]) and not running.git():
        yield (
            "Git is locked by a process that has ended",
            f"rm {' '.join(shlex.quote(str(lock)) for lock in left)}",
        )


def folders():
    """Folders of experiments (`--temp`, the queue) that DVC did not come to remove."""
    left = sorted((files.root() / EXPERIMENTS).glob("tmp*"))
    if left:
        yield (
            f"{counted(len(left), 'folder')} of killed experiments, with copies of all they had "
            f"({', '.join(folder.name for folder in left[:3])})",
            f"rm -r {shlex.quote(str(files.root() / EXPERIMENTS))}/tmp*",
        )


def locks():
    """rwlock names the processes that read and write each path; dead ones are left by a kill."""
    for repository in (files.root(), files.root() / recipes.RECIPES):
        yield from _lock(repository / ".dvc/tmp/rwlock")


def _lock(path):
    try:
        entries = json.loads(path.read_text() or "{}")
    except OSError:
        return
    except ValueError:
        yield (
            f"{path} is half written: a killed DVC left it so, and none runs with it",
            f"rm {shlex.quote(str(path))}",
        )
        return
    kinds = [kind for path in entries.values() for kind in path.values()]
    holders = [holder for kind in kinds for holder in (kind if isinstance(kind, list) else [kind])]
    dead = {holder["pid"] for holder in holders if not files.alive(holder["pid"])}
    if dead:
        yield (
            f"{path.name} is held by processes that have ended "
            f"({', '.join(map(str, sorted(dead)))})",
            f"rm {shlex.quote(str(path))}",
        )
