"""How good answers are, and two signs that a model was trained on what it is tested on.

Pure functions over arrays of class names, object (N,).
"""

import numpy as np
from scipy.stats import fisher_exact

from benchmarks.peers.registry import unpacked
from ferlab.data.classes import CLASSES
from ferlab.evaluation import scoring


def score(labels, answers, groups=None):
    """{n, accuracy, low, high, f1_macro, recall: {class: share}} of a set of faces.

    groups: N names of groups of nearly equal images: the interval then counts groups (there are
    `groups` of them). Macro F1 is the mean over the classes that the labels have: CK+ has no
    neutral faces, and who calls one neutral loses recall where the face belongs.
    """
    all_of = scoring.scores(labels, answers, CLASSES, groups)
    present = [name for name in CLASSES if all_of["per_class"][name]["support"]]
    return {
        **{key: all_of[key] for key in ("n", "groups", "accuracy") if key in all_of},
        "low": all_of["accuracy_low"],
        "high": all_of["accuracy_high"],
        "f1_macro": float(np.mean([all_of["per_class"][name]["f1"] for name in present])),
        "recall": {name: all_of["per_class"][name]["recall"] for name in present},
    }


def share(hits):
    """{n, share, low, high}: how many of bool (n,) are true, with Wilson's 95 % interval."""
    hits = np.asarray(hits, bool)
    low, high = scoring.interval(hits.sum(), len(hits))
    return {"n": len(hits), "share": float(hits.mean()) if len(hits) else 0.0} | {
        "low": low,
        "high": high,
    }


def seen_in_train(right, seen):
    """Accuracy on images that also stand in train beside that on the rest: {seen, rest, p}.

    right, seen: bool (N,). Who learned from train, and from nothing else of this dataset, has the
    copies right more often than the rest; who learned from these very images too, both alike. p: of
    Fisher's exact test that both are alike.
    """
    right, seen = np.asarray(right, bool), np.asarray(seen, bool)
    table = [[int((right & part).sum()), int((~right & part).sum())] for part in (seen, ~seen)]
    return {
        "seen": share(right[seen]),
        "rest": share(right[~seen]),
        "p": float(fisher_exact(table).pvalue),
    }


def label_against(labels, answers, others):
    """How often a model gives the label where others agree on another name: {n, share, low, high}.

    others: rows of what each other gives, (k, N), an empty name where it says nothing. A label that
    nobody would guess is given by who has learned it by heart.
    """
    others = np.asarray(others, object)
    agreed = (others == others[0]).all(axis=0) & (others[0] != "")
    against = agreed & (others[0] != np.asarray(labels, object))
    return share((np.asarray(answers, object) == labels)[against])


def of_all(reports, labels, seen, people, posed):
    """The content of scores.json: {name: {private, ck48, seen_in_train, peers_against,
    people_against}}, of reports by name.

    labels, people: of private images, the second of FER+'s majority, "" where there is none. seen:
    bool (N,), which also stand in train. posed: extra.Faces of CK+. What asks the other models
    stands only where there are two at least.
    """
    labels = np.asarray(labels, object)
    answers = {
        name: unpacked(report["sets"]["private"]["answers"]) for name, report in reports.items()
    }
    found = {}
    for name, report in reports.items():
        others = [given for other, given in answers.items() if other != name]
        found[name] = {
            "private": score(labels, answers[name]),
            "ck48": score(posed.labels, unpacked(report["sets"]["ck48"]["answers"]), posed.groups),
            "seen_in_train": seen_in_train(answers[name] == labels, seen),
            "people_against": label_against(labels, answers[name], [people]),
        }
        if len(others) > 1:
            found[name]["peers_against"] = label_against(labels, answers[name], others)
    return found
