"""`python -m benchmarks.peers [--install] [names]`: see benchmarks/peers/__init__.py.

Without names all four. What is not installed is left out with a line that says so; what a report
already holds of the same packages and the same faces is not asked again (--again: is).
"""

import argparse
import os
import shutil
import subprocess

import numpy as np

from benchmarks import FACES, read_faces, run, say
from benchmarks.peers import page, registry, scores
from ferlab import files
from ferlab.data import agreement, audit
from ferlab.data.classes import CLASSES
from ferlab.data.dataset import Dataset
from ferlab.data.readers import extra
from ferlab.tracking import provenance

OUT = files.root() / "reports/peers"
NEAR = 0.97  # correlation of near duplicates, as `eda.near_duplicate` in params.yaml
AUDIT = FACES.with_name("audit.csv")


def main(peers, install, again, trial):
    peers = peers or registry.PEERS
    if install:
        for peer in peers:
            if not peer.installed:
                say(f"{peer.name}: installing into {peer.folder.relative_to(files.root())}")
                registry.install(peer)
    private, posed = faces_of_both()
    for peer in peers:
        if not peer.installed:
            say(f"{peer.name}: not installed (python -m benchmarks.peers --install {peer.name})")
        elif trial:
            try_out(peer, private, trial)
        else:
            measure(peer, {"private": private, "ck48": posed}, again)
    if not trial:
        write(private, posed)


def faces_of_both():
    """(private split of FER2013 as a Dataset, CK+ as extra.Faces)."""
    posed = extra.read("ck48")  # first: it is read at once, or refused
    read_faces()
    return Dataset.load(FACES).split("private"), posed


def labels_of(faces):
    """list of class names, of either kind of set."""
    return list(faces.labels) if isinstance(faces, extra.Faces) else list(faces.table["label"])


def try_out(peer, private, count):
    """Show what a few faces cost, before all are asked; nothing is kept."""
    made = registry.ask(peer, "faces", private.faces[:count])
    right = (registry.named(made) == labels_of(private)[:count]).sum()
    say(f"{peer.name}: {right} of {count} right, {made['cpu_ms']:.1f} ms of CPU a face")


def measure(peer, sets, again):
    """Ask a peer what its report does not hold yet, and keep each set's answers at once."""
    path = OUT / f"{peer.name}.json"
    kept = files.read_json(path) if path.exists() and not again else {}
    if kept.get("pinned") != peer.digest:
        kept = {"name": peer.name, "pinned": peer.digest, "sets": {}}
    for name, faces in sets.items():
        identity = registry.identity(faces.faces, labels_of(faces))
        if kept["sets"].get(name, {}).get("identity") == identity:
            continue
        say(f"{peer.name}: {name}, {len(faces.faces):,} faces, one at a time")
        made = registry.ask(peer, "faces", faces.faces)
        answers = registry.packed(registry.named(made))
        kept["sets"][name] = {
            "identity": identity,
            "faces": len(answers),
            "cpu_ms": round(made["cpu_ms"], 2),
            "answers": answers,
        }
        keep(path, kept)
    if "photo" not in kept:
        import skimage.data

        made = registry.ask(peer, "photo", skimage.data.astronaut())
        kept["photo"] = {"cpu_ms": round(made["cpu_ms"], 1), "found": made["found"]}
        kept["megabytes"] = round(registry.megabytes(peer), 1)
        keep(path, kept)


def keep(path, report):
    """Write a report, with where it was measured and how busy that machine was."""
    machine = provenance.machine()
    kept = {key: machine[key] for key in ("cpu", "cores", "system", "python")}
    if shutil.which("node"):
        done = subprocess.run(["node", "--version"], capture_output=True, text=True)
        kept["node"] = done.stdout.strip().removeprefix("v")
    report["machine"] = kept | {"load": round(os.getloadavg()[0], 1)}
    files.write_json(path, report)


def write(private, posed):
    """Score what was answered, all peers together, and write the page."""
    wanted = {
        name: registry.identity(faces.faces, labels_of(faces))
        for name, faces in (("private", private), ("ck48", posed))
    }
    reports = {}
    for name, report in page.reports(OUT).items():
        if {key: of["identity"] for key, of in report["sets"].items()} == wanted:
            reports[name] = report
        else:
            say(f"{name}: left out, its answers are to other faces or another order of them")
    if registry.OURS.name not in reports:
        return say(
            f"no page: {OUT.name} has nothing of {registry.OURS.name}, beside which all stand"
        )
    seen = private.table["id"].isin(leaked(private.table)["private_unseen"]).to_numpy()
    named = agreement.named(private.table["official"], CLASSES)
    people = np.where(np.isin(named, CLASSES), named, "")  # a majority for one of the seven names
    found = scores.of_all(reports, labels_of(private), seen, people, posed)
    files.write_json(OUT / "scores.json", found)
    files.write_text(page.PATH, page.page(reports, found))
    say(f"wrote {OUT.relative_to(files.root())} and {page.PATH.relative_to(files.root())}")


def leaked(rows):
    """Those of `rows` that train has too, as audit.leaked: the audit is made once."""
    if not AUDIT.exists():
        files.write_csv(AUDIT, audit.audit(Dataset.load(FACES), NEAR))
    return audit.leaked(AUDIT, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "peers", nargs="*", type=registry.named_peer, help=", ".join(registry.NAMES)
    )
    parser.add_argument("--install", action="store_true", help="what is not installed yet")
    parser.add_argument("--again", action="store_true", help="ask also what is known")
    parser.add_argument("--trial", type=int, default=0, metavar="N", help="N faces, nothing kept")
    run(lambda: main(**vars(parser.parse_args())))
