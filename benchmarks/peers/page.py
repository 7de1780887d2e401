"""docs/peers.md, from reports/peers: what was measured, as tables and plain words."""

from benchmarks.peers import registry
from ferlab import files
from ferlab.data.classes import CLASSES

PATH = files.root() / "docs/peers.md"
COMMAND = "python -m benchmarks.peers"
HEAD = f"""# Beside what people use instead

`{COMMAND}` wrote this page from [reports/peers](../reports/peers): our released model
and three packages that name expressions, asked about the same faces. These are the private split of
FER2013 (official pixels, {{private:,}} faces) and CK+ ({{posed}} faces, posed in a laboratory,
{{groups}} sequences). Every face is given as it is cut out there. On public nothing is compared: it
chose the epoch of ours.
"""
TABLE = """
Intervals are of 95 %: on private Wilson's, on CK+ by sequences, of which each has three nearly
equal frames. Macro F1 is the mean over the classes that a set has (CK+ has no neutral faces). A
photo is scikit-image's astronaut, 512×512, searched for faces by what each brings with it.
"""
OPEN = """
What the packages were trained on is not published image by image; of face-api its tutorial says
"publicly available datasets", and CK+ may be one of them. Ours saw nothing of CK+ but the few of
its faces that stand in FER2013 too, two at least ([data](data.md))."""
SIGNS = """
## Were they trained on what they are tested on?

Two signs, on private. None is a proof.

- **Copies in train.** Some private images stand in train too, pixel for pixel. Who learned from
  train has these right more often than the rest; who learned from private as well has both nearly
  alike, for then the rest is known by heart too. p is of Fisher's test that both are alike. The
  copies may also be easier faces than others.
- **The label against others.** Where all other models here agree on another name than the label,
  or most of FER+'s ten annotators do, the label is not what the face suggests. Who still gives it
  often may have seen it.

Ours was trained on train alone, so its line is what to expect of a model without private.
"""
HOW = f"""
## How it was measured

```
FER2013=<file> CK48=<file> {COMMAND} --install
```

It needs `requirements-dev.txt`, Python 3.11 or 3.12 for fer, and Node with npm for two.
`--install` puts each package into a folder of its own, `.ferlab/peers/<name>`, pinned with hashes
in [benchmarks/peers](../benchmarks/peers); none is needed for anything else here. Without it only
what is installed is measured, and what a report holds already is not asked again, unless with
`--again`.

- Milliseconds are CPU time of the process, all its threads, after some calls that are not counted;
  one face a call. Reading the packages and the pictures is not in them.
- Installed size: the packages and all that they need, without Python or Node, pip and bytecode.
- **ours**: `requirements-predict.txt` and `pretrained/model.onnx`; each face and its mirror image.
  The Haar cascade finds faces.
- **fer**: `from fer.fer import FER`, `FER(offsets=(0, 0))`, the face named as the rectangle of its
  picture; its time a face is that of 100 faces, its answers come from sheets of 64 faces, which it
  cuts and names alike (the same scores for 50 of 50). It finds faces with the same cascade. Its
  dependencies bring PyTorch with CUDA, for a detector that is off by default; TensorFlow comes on
  top.
- **face-api**: `faceExpressionNet.predictExpressions`, SSD MobileNet on photos, in Node with
  TensorFlow.js on WASM.
- **human**: its emotion model, prepared as in its own source, for it has no call for a face that is
  cut out; on photos `detect` with nothing on but faces and emotion. Node and WASM as above.
"""


def reports(folder):
    """{name: report} of those that are complete, in the order of the registry."""
    paths = {name: folder / f"{name}.json" for name in registry.NAMES}
    found = {name: files.read_json(path) for name, path in paths.items() if path.exists()}
    return {name: report for name, report in found.items() if "photo" in report}


def page(reports, found):
    """The text of docs/peers.md. found: the content of scores.json."""
    ours = found[registry.OURS.name]
    head = HEAD.format(
        private=ours["private"]["n"], posed=ours["ck48"]["n"], groups=ours["ck48"]["groups"]
    )
    parts = [head, _accuracies(reports, found), TABLE, posed(found), _recalls(found), OPEN]
    return "\n".join(
        [*parts, SIGNS, _signs(found), verdict(found), HOW + "\n" + _machines(reports)]
    )


def percent(entry, key="accuracy"):
    """ "68.3 % (66.7–69.8)", of a share with its interval."""
    return f"{100 * entry[key]:.1f} % ({100 * entry['low']:.1f}–{100 * entry['high']:.1f})"


def table(head, rows):
    """Lines of a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _title(name):
    return registry.named_peer(name).title


def _accuracies(reports, found):
    rows = []
    for name, entry in found.items():
        report = reports[name]
        rows.append(
            [
                _title(name),
                percent(entry["private"]),
                f"{entry['private']['f1_macro']:.3f}",
                percent(entry["ck48"]),
                f"{entry['ck48']['f1_macro']:.3f}",
                f"{report['sets']['private']['cpu_ms']:.1f} ms",
                f"{report['photo']['cpu_ms']:.0f} ms",
                f"{report['megabytes']:,.0f} MB",
            ]
        )
    head = ["", "private", "macro F1", "CK+", "macro F1", "CPU a face", "CPU a photo", "installed"]
    return table(head, rows)


def posed(found):
    """Where ours stands on posed faces, in plain words."""
    ours = found[registry.OURS.name]["ck48"]
    better = {
        name: entry["ck48"]
        for name, entry in found.items()
        if entry["ck48"]["accuracy"] > ours["accuracy"]
    }
    if better:
        names = ", ".join(f"{_title(name)} {percent(entry)}" for name, entry in better.items())
        line = f"On posed faces ours is behind: {percent(ours)}, against {names}."
    else:
        line = f"On posed faces no package here is better than ours: {percent(ours)}."
    weak = [
        f"{100 * share:.0f} % of {name}" for name, share in ours["recall"].items() if share < 0.5
    ]
    if weak:
        line += f" Of CK+'s classes it finds only {', '.join(weak)}."
    return f"## Posed faces\n\n{line}\n"


def _recalls(found):
    present = [name for name in CLASSES if name in found[registry.OURS.name]["ck48"]["recall"]]
    rows = [
        [_title(name), *(f"{100 * entry['ck48']['recall'][each]:.0f} %" for each in present)]
        for name, entry in found.items()
    ]
    return table(["CK+, found of the class", *present], rows)


def _signs(found):
    rows = []
    for name, entry in found.items():
        both = entry["seen_in_train"]
        sides = [percent(both[side], "share") for side in ("seen", "rest")]
        given = [entry.get(key) for key in ("peers_against", "people_against")]
        rows.append(
            [
                _title(name),
                *sides,
                f"{both['p']:.1g}",
                *(f"{percent(side, 'share')} of {side['n']:,}" if side else "" for side in given),
            ]
        )
    both = found[registry.OURS.name]["seen_in_train"]
    head = ["", f"the {both['seen']['n']} copies", f"the other {both['rest']['n']:,}", "p"]
    return table([*head, "label, models against it", "label, FER+ against it"], rows)


def verdict(found):
    """Whom one of the two signs points at, in plain words: who has the copies right no more often
    than the rest, or gives labels against the other models clearly more often than ours does."""
    expected = found[registry.OURS.name].get("peers_against", {}).get("high", 1.0)
    pointed = [
        _title(name)
        for name, entry in found.items()
        if entry["seen_in_train"]["p"] >= 0.05
        or entry.get("peers_against", {}).get("low", 0.0) > expected
    ]
    names = "at " + ", ".join(pointed) if pointed else "at none of them"
    return f"\nThe signs of training on private point {names}."


def _machines(reports):
    """Where it was measured, and how busy that machine was."""
    places = {}
    for name, report in reports.items():
        machine = f"{report['machine']['cpu']}, {report['machine']['cores']} cores"
        places.setdefault(machine, []).append(_title(name))
    loads = [report["machine"]["load"] for report in reports.values()]
    text = f"Processor: {next(iter(places))}."
    if len(places) > 1:
        which = "; ".join(f"{machine}: {', '.join(names)}" for machine, names in places.items())
        text = f"Processors, so that times compare only within one of them: {which}."
    if max(loads) > 1.5:
        text += (
            f" There was other work at the same time ({min(loads):.0f} to {max(loads):.0f} "
            "processes wanted it), which makes CPU time longer: on an idle one expect less."
        )
    return text + "\n"
