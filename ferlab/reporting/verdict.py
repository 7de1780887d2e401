"""Whether the result in a folder is the pinned one: that of the last commit's dvc.lock.

reports/run.json, committed beside it, says on which machine that one was made.
"""

import json

from ferlab import dvc_files, files, params
from ferlab.evaluation import tables
from ferlab.tracking import provenance

SHOWN = 3  # changed parameters that are named
FACES = ("data/raw", "data/audit.csv", "data/balanced")  # of equal bits on every machine
PIN = 'to pin yours: git commit -m "my result" dvc.lock reports'


def lines(folder, details, paths=False):
    """One or two lines; with `paths` also one for each output whose bits differ.

    details: of the result, the content of details.json.
    """
    try:
        committed = dvc_files.stages(dvc_files.show(folder, "HEAD", "dvc.lock"))
    except files.UserError:
        return ["Nothing is pinned yet: commit dvc.lock to pin this result."]
    working = dvc_files.stages((folder / "dvc.lock").read_text(encoding="utf-8"))
    old, new = dvc_files.outputs(committed), dvc_files.outputs(working)
    different = [path for path, md5 in new.items() if old.get(path) != md5]
    changed = changes(committed, working)
    if changed:
        said = [_other_experiment(folder, details, changed)]
    elif different:
        said = [
            _likeness(folder, details, different, _other_code(committed, working)),
            _why(folder, old.get("models/model.keras"), _other_code(committed, working)),
        ]
    else:
        said = [f"Reproduced to the last bit: {_accuracies(folder, details, True)}, as pinned."]
    return said + [f"  {path}: {old.get(path)} -> {new[path]}" for path in different if paths]


def changes(committed, working):
    """["section.key old -> new"] of the parameters that differ between the stages of two locks."""
    old, new = dvc_files.parameters(committed), dvc_files.parameters(working)
    return [
        f"{section}.{key} {before.get(key)} -> {after.get(key)}"
        for section in params.SECTIONS
        for before, after in [(old.get(section, {}), new.get(section, {}))]
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    ]


def _other_experiment(folder, details, changed):
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    line = f"Another experiment than the pinned one: {', '.join(changed[:SHOWN])}{more}."
    if any(change.startswith("download.") for change in changed):
        return line  # other faces: the accuracies say nothing about each other
    return f"{line} {_accuracies(folder, details).capitalize()}."


def _likeness(folder, details, different, code):
    """Whether the faces are the pinned ones, and the accuracy is as near as other bits allow."""
    faces = [path for path in different if path in FACES]
    if faces and not code:
        return (
            f"NOT reproduced: {', '.join(faces)} differ, which no other machine explains; was "
            "the data changed?"
        )
    final, pinned = tables.final(details["splits"]), _pinned_accuracy(folder, details)
    row = details["splits"][final]
    if pinned is None or row["accuracy_low"] <= pinned <= row["accuracy_high"]:
        return f"Reproduced: {_accuracies(folder, details)}."
    return f"NOT reproduced: {_accuracies(folder, details)}, more than luck explains."


def _why(folder, pinned_model, code):
    """Why bits differ: other code, another machine, other versions."""
    if code:
        named = ", ".join(code[:SHOWN]) + (", ..." if len(code) > SHOWN else "")
        return f"Bits differ: the code does ({named}); {PIN}"
    own = provenance.read_run(folder / "models/model.keras")
    pinned = _committed(folder, "reports/run.json")
    if not own or not pinned or pinned.get("model") != pinned_model:
        return f"Bits differ, as expected on another kind of processor; {PIN}"
    here, there = (f"{run['machine']['cpu']} ({run['precision']})" for run in (own, pinned))
    if here != there:
        return f"Bits differ, as expected: pinned on {there}, this is {here}; {PIN}"
    other = [
        f"{name} {pinned['machine'][name]} -> {value}"
        for name, value in own["machine"].items()
        if pinned["machine"].get(name, value) != value
    ]
    if other:
        return f"Bits differ: {', '.join(other)} since it was pinned; {PIN}"
    return (
        f"Bits differ, though it was pinned on the same {here}: does this machine repeat itself? "
        "make verify"
    )


def _accuracies(folder, details, same=False):
    """`private 83.8 % (pinned 83.6 %)`."""
    final, pinned = tables.final(details["splits"]), _pinned_accuracy(folder, details)
    beside = "" if same or pinned is None else f" (pinned {100 * pinned:.1f} %)"
    return f"{final} {100 * details['splits'][final]['accuracy']:.1f} %{beside}"


def _pinned_accuracy(folder, details):
    """Of the final split, from the committed metrics.json; None without."""
    final = tables.final(details["splits"])
    return _committed(folder, "reports/metrics.json").get(f"{final}_accuracy")


def _committed(folder, name):
    """The JSON of a file in the last commit, {} without."""
    try:
        return json.loads(dvc_files.show(folder, "HEAD", name))
    except (files.UserError, ValueError):
        return {}


def _other_code(committed, working):
    """Files of code that stages of both locks depend on, and that differ."""

    def of(stages):
        return {
            entry["path"]: entry["md5"]
            for stage in stages.values()
            for entry in stage.get("deps", [])
            if entry["path"].startswith(("ferlab/", "stages/"))
        }

    old, new = of(committed), of(working)
    return sorted(path for path, md5 in new.items() if old.get(path, md5) != md5)
