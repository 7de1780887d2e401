"""What DVC and Git know of results: dvc.lock and dvc.yaml, experiments, and files in DVC's cache.

The one place that reads DVC's formats. Needs no DVC but for `fetch`.
"""

import functools
import subprocess

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
    if not isinstance(content, dict) or not all(
        isinstance(stage, dict) for stage in content.values()
    ):
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
    """The text of a file at a Git revision; `./` before its name counts from `folder`.

    Raises UserError where the revision has no such file.
    """
    shown = subprocess.run(
        ["git", "show", f"{revision}:{file}"], cwd=folder, capture_output=True, text=True
    )
    if shown.returncode:
        raise files.UserError(f"{file}: not in Git's {revision} ({files.one_line(shown.stderr)})")
    return shown.stdout


def experiments():
    """(name, commit, baseline commit) of every DVC experiment of the main repository.

    DVC keeps them as refs/exps/<2 digits>/<38 digits of the baseline>/<name>.
    """
    refs = subprocess.run(
        ["git", "for-each-ref", "refs/exps", "--format=%(refname) %(objectname)"],
        cwd=files.root(),
        capture_output=True,
        text=True,
    )
    rows = [(*line.split()[0].split("/"), line.split()[1]) for line in refs.stdout.splitlines()]
    return [
        (row[4], row[5], row[2] + row[3]) for row in rows if len(row) == 6 and len(row[3]) == 38
    ]


def fetch(name, sources, folder=None, revision=None, fix=""):
    """Bring files and folders of a result from Git and DVC's cache.

    sources: {path in the repository: where to put it}. folder: of the DVC repository, by default
    the main one. revision: of an experiment, else the working directory's. Raises UserError, which
    begins with `name` and ends in `fix`, where one of them is not at hand.
    """
    from dvc.api import DVCFileSystem

    source = next(iter(sources), "")
    try:
        system = DVCFileSystem(str(folder or files.root()), rev=revision)
        for source, target in sources.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            system.get(source, str(target), recursive=system.isdir(source))
    except Exception as error:  # DVC raises many kinds
        reason = secrets.one_line(error)
        raise files.UserError(
            f"{name}: {source} is not in DVC's cache ({reason}); "
            + (fix or f"dvc exp apply {name} && dvc repro")
        ) from None
