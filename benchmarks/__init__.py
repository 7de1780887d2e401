"""What training, serving and many trials cost. Here: what the benchmarks share.

All may use everything in ferlab and stages; nothing there uses them.
"""

import sys
from pathlib import Path

from ferlab import cli
from ferlab.data.dataset import Dataset
from ferlab.files import UserError

FACES = Path(".ferlab/bench/faces")  # FER2013, read once


def read_faces():
    """Keep FER2013 as a Dataset in FACES, where it is not yet there; UserError where $FER2013 has
    none, or only Kaggle's JPEGs: the numbers on the pages are of the official pixels.
    """
    from ferlab.data.readers import sources

    if (FACES / "dataset.json").exists() and Dataset.load(FACES).name == "fer2013":
        return
    dataset, about = sources.read("fer2013")
    if dataset.name != "fer2013":
        raise UserError(
            f"FER2013: {about[about['kind']]} is {dataset.name}; let it name the official CSV"
        )
    FACES.parent.mkdir(parents=True, exist_ok=True)
    dataset.save(FACES)


def training_images():
    """How many images the training split of FACES has."""
    return len(Dataset.load(FACES).split("train").faces)


def fit(dataset, settings, on_epoch=None):
    """A whole training in this process, shown as the train stage shows it.

    settings: a train section. on_epoch(row, seconds): called after each epoch. Returns what
    ferlab.training.loop.fit returns.
    """
    from ferlab.progress import Progress
    from ferlab.training import backend, loop, schedule
    from ferlab.training.callbacks import Callbacks

    backend.start(settings.backend, settings.precision, settings.seed, settings.devices)
    costs = schedule.step_costs(settings)
    shown = Progress(settings.epochs, settings.select_on, costs)

    def epoch(row, seconds):
        shown.epoch(row, seconds)
        if on_epoch:
            on_epoch(row, seconds)

    try:
        return loop.fit(dataset, settings, callbacks=Callbacks(shown.step, epoch))
    finally:
        shown.close()


def say(line):
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def run(main):
    """Call a benchmark; what the user can fix becomes one line and exit code 1."""
    with cli.errors_in_one_line():
        try:
            main()
        except KeyboardInterrupt:
            sys.exit("stopped; what was finished and written is kept")
