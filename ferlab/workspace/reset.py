"""`python -m ferlab reset`: params.yaml and the result back to the last commit.

The commit's dvc.lock names the outputs of whoever committed it: on another kind of processor, or
where nothing was pulled, their files are nowhere. DVC would then train again even where this
machine's cache holds its own result of the very same parameters, code and data: that one is taken.
"""

import contextlib

from ferlab import dvc_files, files
from ferlab.workspace import running

BACK = ("params.yaml", "dvc.lock", "reports/metrics.json", "reports/run.json")


def reset(report=print):
    """Restore, and report what came from where. Nothing is trained, and no cache is changed.

    Raises UserError while DVC is at work here, and where Git cannot give the files back.
    """
    if at_work := running.commands():
        pid, command = at_work[0]
        raise files.UserError(f"{command} is at work here (process {pid}): wait for it, or end it")
    # whoever pinned a result without its run.json has none to go back to
    known = dvc_files.git("ls-tree", "--name-only", "HEAD", BACK[-1]).stdout.strip()
    done = dvc_files.git("checkout", "HEAD", "--", *(BACK if known else BACK[:-1]))
    if done.returncode:
        raise files.UserError(f"git checkout HEAD: {dvc_files.complaint(done)}")
    report("params.yaml is that of the last commit")
    pinned, own, missing = _restored()
    if pinned:
        report(f"as committed: {', '.join(pinned)}")
    if own:
        report(f"this machine's own, from its cache: {', '.join(own)}")
    if missing:
        report(f"not in this machine's cache: {', '.join(missing)}; make repro makes them")


def _restored():
    """As _restore; UserError where DVC cannot open this repository, or another DVC is at work."""
    from dvc.exceptions import DvcException

    try:
        return _restore()
    except DvcException as error:
        raise files.UserError(
            f"DVC: {files.one_line(error)}; make doctor says what is in the way"
        ) from None


def _restore():
    """Check out every stage's outputs; returns the names of the stages that are as committed, those
    that are this machine's own, and those that are in no cache.
    """
    from dvc.exceptions import ConfirmRemoveError, DvcException
    from dvc.repo import Repo, lock_repo

    pinned, own, missing = [], [], []
    with _quiet(), Repo() as repo, lock_repo(repo):
        for stage in _stages(repo):
            try:
                if not own and not missing and _is_pinned(stage):
                    stage.checkout()
                    pinned.append(stage.name)
                else:
                    _restore_own(repo, stage)
                    own.append(stage.name)
            except ConfirmRemoveError as error:
                raise files.UserError(
                    f"{files.one_line(error).split(' without')[0]}: what it holds is in no cache; "
                    "move it away, then make reset again"
                ) from None
            except DvcException:
                missing.append(stage.name)
    return pinned, own, missing


def _restore_own(repo, stage):
    """Take this machine's result of the stage's parameters, code and inputs into the workspace and
    into dvc.lock. Raises DvcException where it has none.
    """
    from dvc_data.hashfile.hash_info import HashInfo

    for out in stage.outs:  # else DVC takes dvc.lock's word and does not look any further
        out.hash_info = HashInfo()
    stage.save_deps()
    repo.stage_cache.restore(stage, dry=True)
    for out in stage.outs:
        if not out.use_cache:  # metrics.json, which Git keeps
            out.remove()
    repo.stage_cache.restore(stage)
    stage.save()
    stage.commit()
    stage.dump(update_pipeline=False)


def _stages(repo):
    """The pipeline's, in the order of dvc.yaml, which is that in which they run."""
    from dvc.exceptions import DvcException

    try:
        return repo.stage.load_all()
    except DvcException as error:
        raise files.UserError(f"dvc.yaml or dvc.lock: {files.one_line(error)}") from None


def _is_pinned(stage):
    """Whether this machine has every output that dvc.lock names for the stage."""
    return all(out.hash_info and not out.changed_cache() for out in stage.outs if out.use_cache)


@contextlib.contextmanager
def _quiet():
    """DVC's own lines about each file would say the same twice."""
    import logging

    logger = logging.getLogger("dvc")
    level, logger.level = logger.level, logging.CRITICAL
    try:
        yield
    finally:
        logger.level = level
