"""`python -m ferlab verify`: the sample pipeline four times from scratch, and whether every output
has the same bits.

Each time in a clone of its own with an empty DVC cache: twice plainly, once as a `--temp`
experiment, once through the queue.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from ferlab import dvc_files, files
from ferlab.files import UserError
from ferlab.progress import counted
from ferlab.workspace import running

WAYS = {
    "once": ["exp", "run"],
    "again": ["exp", "run"],
    "temp": ["exp", "run", "--temp"],
    "queue": ["exp", "run", "--queue"],
}
IDLE = 10  # looks at the queue, two seconds apart, without a process at work: it has died


def verify(changes=(), report=print):
    """Run all and compare. changes: further `key=value` for `dvc exp run -S`.

    Raises UserError where an output differs, or a run fails.
    """
    with tempfile.TemporaryDirectory(
        prefix="ferlab-verify-", ignore_cleanup_errors=True
    ) as temporary:
        outputs = {}
        for way in WAYS:
            began, folder = time.monotonic(), Path(temporary) / way / "repository"
            lock = run(folder, way, ["download.dataset=sample", *changes])
            outputs[way] = dvc_files.outputs(dvc_files.stages(lock))
            seconds = time.monotonic() - began
            report(f"{way}: {counted(len(outputs[way]), 'output')} in {seconds:.0f} s")
        compare(outputs, report)


def compare(outputs, report=print):
    """Report each output with its md5; UserError that names those that differ.

    outputs: {way: {path: md5}}.
    """
    different = []
    for path in sorted(set().union(*outputs.values())):
        hashes = list(dict.fromkeys(str(of_way.get(path)) for of_way in outputs.values()))
        mark = ": DIFFERENT" if len(hashes) > 1 else ""
        report(f"  {path:<26}{' and '.join(hashes)}{mark}")
        different += [path] if len(hashes) > 1 else []
    if different:
        raise UserError(f"not the same bits: {', '.join(different)}")
    count = len(next(iter(outputs.values())))
    report(f"all equal: {count} outputs of {len(outputs)} runs from scratch")


def run(folder, way, changes):
    """The dvc.lock of one run, as text."""
    clone(folder)
    environment = _environment()

    def call(*command):
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            lines = done.stdout.splitlines() + done.stderr.splitlines()
            reason = " / ".join([line for line in lines if line.strip()][-3:])
            raise UserError(f"{way}: `{' '.join(command[:4])}` failed: {reason}")
        return done.stdout

    call("git", "init", "-q")
    call("git", "add", "-A")
    call("git", "commit", "-qm", "verify")
    call("dvc", *WAYS[way], *[part for change in changes for part in ("-S", change)])
    if way == "queue":
        try:
            _work_queue_off(call, folder)
        except BaseException:  # its worker, in a session of its own, hears no Ctrl-C
            for pid, _ in running.commands(folder.resolve()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise
    refs = call("git", "for-each-ref", "refs/exps", "--format=%(refname)").split()
    # refs/exps/<2 digits>/<38 digits>/<name>
    experiments = [ref for ref in refs if len(ref.split("/")) == 5]
    if not experiments:
        status = " / ".join(call("dvc", "queue", "status").splitlines()[:2])
        raise UserError(f"{way}: the experiment failed: {status}")
    return call("git", "show", f"{experiments[0]}:dvc.lock")


def _work_queue_off(call, folder):
    """Have DVC's worker run what is queued in `folder`, and wait for it."""
    call("dvc", "queue", "start")
    idle = 0  # looks in a row at which no process of DVC's or of a stage worked in the folder
    while re.search("Queued|Running", call("dvc", "queue", "status")):
        time.sleep(2)
        idle = 0 if running.commands(folder.resolve()) else idle + 1
        if idle > IDLE:
            raise UserError("queue: its worker has died; run make verify again")


def _environment():
    """This one without DVC's and MLflow's settings, with a Git identity and this Python first."""
    environment = {
        name: value
        for name, value in files.environment().items()
        if not name.startswith(("DVC_", "MLFLOW_TRACKING"))
    }
    for person in ("AUTHOR", "COMMITTER"):
        environment |= dict.fromkeys(
            (f"GIT_{person}_NAME", f"GIT_{person}_EMAIL"), "ferlab@localhost"
        )
    return environment | {"DVC_NO_ANALYTICS": "1"}


def clone(folder):
    """Copy the working tree's files that Git tracks, but neither results nor the cache."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True)
    if listed.returncode:
        raise UserError(f"git ls-files: {dvc_files.complaint(listed)}")
    for name in filter(None, listed.stdout.split("\0")):
        if Path(name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, folder / name)
