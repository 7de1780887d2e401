"""The embedded sample: 10,051 drawn faces in FER2013's class proportions, computed from a seed.

As in FER2013, an audit has something to find: 36 private (1 %) and 12 public images repeat a
training image bit for bit, 8 of these 48 under another label, and 3 training images are blank (all
zero).
"""

from types import SimpleNamespace

import numpy as np

from ferlab.data.classes import CLASSES
from ferlab.data.dataset import SIZE, assemble
from ferlab.data.sample.people import people
from ferlab.data.sample.portraits import paint, photograph

# Images per split, classes in CLASSES' order: a tenth of FER2013's training images, all of its test
# images.
COUNTS = {
    "train": ("Training", (400, 44, 410, 722, 497, 483, 317)),
    "public": ("PublicTest", (467, 56, 496, 895, 607, 653, 415)),
    "private": ("PrivateTest", (491, 55, 528, 879, 626, 594, 416)),
}
BLANK = 3
REPEATED = {"public": 12, "private": 36}
RELABELLED = {"public": 2, "private": 6}
BLOCK = 32  # faces painted at a time, to fit the processor's cache; the result is the same for any


def draw(seed=0):
    """The sample as a Dataset named "sample"; equal seeds give equal bytes on every machine."""
    random = np.random.Generator(np.random.PCG64(seed))
    labels, splits, ids = [], [], []
    for split, (prefix, counts) in COUNTS.items():
        mixed = np.repeat(np.arange(len(CLASSES)), counts)[_shuffle(random, sum(counts))]
        labels.append(mixed)
        splits += [split] * len(mixed)
        ids += [f"{prefix}_{number:05d}" for number in range(len(mixed))]
    labels, splits = np.concatenate(labels), np.array(splits)
    everybody = people(random, labels)
    faces = np.empty((len(labels), SIZE, SIZE), np.uint8)
    for start in range(0, len(labels), BLOCK):
        block = slice(start, start + BLOCK)
        some = SimpleNamespace(**{key: value[block] for key, value in everybody.items()})
        faces[block] = photograph(random, some, paint(some))
    _spoil(random, faces, labels, splits)
    return assemble("sample", CLASSES, faces, ids, [CLASSES[label] for label in labels], splits)


def _spoil(random, faces, labels, splits):
    """FER2013's blemishes, in place: blank training images, test images repeating training
    images."""
    train = np.flatnonzero(splits == "train")
    train = train[_shuffle(random, len(train))]
    faces[train[:BLANK]] = 0
    sources = list(train[BLANK:])
    for split, count in REPEATED.items():
        rows = np.flatnonzero(splits == split)
        for place, row in enumerate(rows[_shuffle(random, len(rows))][:count]):
            relabelled = place < RELABELLED[split]
            source = next(s for s in sources if (labels[s] != labels[row]) == relabelled)
            sources.remove(source)
            faces[row] = faces[source]


def _shuffle(random, count):
    """A random order of `count` things, from integers alone."""
    return np.argsort(random.integers(0, 1 << 62, count), kind="stable")
