"""`python -m ferlab verify`: the sample pipeline four times from scratch, and whether every output has the same bits.

Each time in a clone of its own with an empty DVC cache: twice plainly, once as a `--temp` experiment, once through the queue.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ferlab import dvc_files
from ferlab.files import UserError

WAYS = {
    "once": ["exp", "run"],
    "again": ["exp", "run"],
    "temp": ["exp", "run", "--temp"],
    "queue": ["exp", "run", "--queue"],
}


def verify(changes=(), report=print):
    """Run all and compare; `changes` are further `key=value` for `dvc exp run -S`. Raises UserError where an output differs."""
    with tempfile.TemporaryDirectory(
        prefix="ferlab-verify-", ignore_cleanup_errors=True
    ) as temporary:
        found = {}
        for way in WAYS:
            began = time.monotonic()
            folder = Path(temporary) / way / "repository"
            lock = run(folder, way, ["download.dataset=sample", *changes])
            found[way] = dvc_files.outputs(dvc_files.stages(lock))
            report(f"{way}: {len(found[way])} outputs in {time.monotonic() - began:.0f} s")
        compare(found, report)


def compare(found, report=print):
    """Print each output with its md5, from {way: {path: md5}}; UserError that names those that differ."""
    different = []
    for path in sorted(set().union(*found.values())):
        hashes = list(dict.fromkeys(str(one.get(path)) for one in found.values()))
        report(f"  {path:<26}{' and '.join(hashes)}" + (": DIFFERENT" if len(hashes) > 1 else ""))
        different += [path] if len(hashes) > 1 else []
    if different:
        raise UserError(f"not the same bits: {', '.join(different)}")
    report(
        f"all equal: {len(next(iter(found.values())))} outputs of {len(found)} runs from scratch"
    )


def run(folder, way, changes):
    """The dvc.lock of one run, as text."""
    clone(folder)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DVC_", "MLFLOW_TRACKING"))
    }
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        **{
            f"GIT_{who}_{what}": "ferlab@localhost"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }

    def call(*command):
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            reason = [
                line for line in done.stdout.splitlines() + done.stderr.splitlines() if line.strip()
            ][-3:]
            raise UserError(f"{way}: `{' '.join(command[:4])}` failed: {' / '.join(reason)}")
        return done.stdout

    call("git", "init", "-q")
    call("git", "add", "-A")
    call("git", "commit", "-qm", "verify")
    call("dvc", *WAYS[way], *[part for change in changes for part in ("-S", change)])
    if way == "queue":
        call("dvc", "queue", "start")
        while re.search("Queued|Running", call("dvc", "queue", "status")):
            time.sleep(2)
    refs = call("git", "for-each-ref", "refs/exps", "--format=%(refname)").split()
    made = [
        ref for ref in refs if len(ref.split("/")) == 5
    ]  # refs/exps/<2 digits>/<38 digits>/<name>
    if not made:
        raise UserError(
            f"{way}: the experiment failed: {' / '.join(call('dvc', 'queue', 'status').splitlines()[:2])}"
        )
    return call("git", "show", f"{made[0]}:dvc.lock")


def clone(folder):
    """Copy what Git tracks here, as it is in the working tree, but neither results nor the cache."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True)
    if listed.returncode:
        raise UserError("no Git repository here; run from the repository's top folder")
    for name in filter(None, listed.stdout.split("\0")):
        if Path(name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, folder / name)
