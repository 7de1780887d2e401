"""train: data/balanced -> models/model.keras, models/history.csv. Section `train`.

The resume state and the run's seconds are no outputs: they stand under .ferlab in the main repository. With FERLAB_RAY the
training itself happens on a Ray cluster (ferlab/scaling/cluster.py); all else stays here.
"""

import contextlib
import fcntl
import functools
import os
import sys
from pathlib import Path

from ferlab import files, progress
from ferlab.data.dataset import Dataset
from ferlab.scaling import cluster
from ferlab.tracking import epoch_logger, provenance
from ferlab.training import backend, batches, fingerprint, loop, model_file, schedule
from stages import run


def main(
    experiment,
    balanced=Path("data/balanced"),
    model=Path("models/model.keras"),
    history=Path("models/history.csv"),
):
    settings, dataset = experiment.settings.train, Dataset.load(balanced)
    training_key = fingerprint.fingerprint(settings, dataset)
    with lock(model.parent / ".lock") as mine, resume_folder(training_key) as folder:
        if not mine:
            raise files.UserError(
                f"{model}: another training is writing here; wait for it or stop it"
            )
        far = bool(os.environ.get("FERLAB_RAY"))
        if os.environ.get("FERLAB_PROCESSES") and settings.devices < 2:
            raise files.UserError(
                "FERLAB_PROCESSES: needs train.backend: jax, and train.devices: as many as all processes have"
            )
        if not far:
            backend.start(settings.backend, settings.precision, settings.seed, settings.devices)
        left_out = sum(
            len(part.faces) - len(batches.supervised(part, settings.labels).faces)
            for part in (dataset.split("train"), dataset.split(settings.select_on))
        )
        if left_out:
            print(
                f"FER+ labels: {left_out} images have no vote for one of the classes and are left out"
            )
        checkpoint = folder / "checkpoint.npz"
        if checkpoint.exists():
            print("resuming an interrupted training")
        elif not far and settings.precision == "float32" and backend.fast_bfloat16():
            print("this processor has bfloat16: train.precision=bfloat16 is 1.5 to 2 times faster")
        live = epoch_logger.EpochLogger(
            experiment.values(), dataset.name, training_key, folder / "live.json", experiment.key
        )
        costs = [schedule.side_of(settings, epoch) ** 2 for epoch in range(settings.epochs)]
        shown = progress.Progress(settings.epochs, settings.select_on, costs)
        parent = os.getppid()

        def watch():
            if "DVC_STAGE" in os.environ and os.getppid() != parent:
                raise files.UserError(
                    "dvc has ended, so this training stops; the finished epochs are kept: run dvc again"
                )

        def step(*position):
            watch()
            shown.step(*position)

        def epoch(row, seconds):
            shown.epoch(row, seconds)
            live.epoch(row)

        def uneven():
            print(
                f"train.batch_size={settings.batch_size} in {settings.precision}: this machine does not repeat such a step to "
                "the last bit, so the same training again only comes near; smaller batches may repeat"
            )

        try:
            if far:
                done, forget = cluster.fit(dataset, settings, folder, epoch, uneven, watch)
            else:
                network, epochs, seconds = loop.fit(
                    dataset, settings, checkpoint, step, epoch, uneven
                )
                done = {
                    "history": epochs,
                    "seconds": seconds,
                    "parameters": network.count_params(),
                    "machine": provenance.machine(),
                }
                forget = functools.partial(checkpoint.unlink, missing_ok=True)
        except KeyboardInterrupt:
            shown.close()
            live.close("KILLED")
            sys.exit("stopped; the finished epochs are kept: the same command goes on from there")
        except BaseException:
            shown.close()
            live.close("FAILED")
            raise
        shown.close()
        if far:
            with files.replacing(model) as part:
                part.write_bytes(done["model"])
        else:
            model_file.save(network, model, model_file.about(dataset, settings))
        files.write_csv(history, done["history"], "%.8g")
        live.close()
        record = live.record(dataset.name, done["parameters"], done["seconds"])
        provenance.write_run(model, record | {"machine": done["machine"]})
        # the checkpoint last: killed in between, the next call finds the training finished
        (folder / "live.json").unlink(missing_ok=True)
        forget()


@contextlib.contextmanager
def lock(path):
    """Yield whether this process holds the file; the system lets go of it however the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = True
        except BlockingIOError:
            mine = False
        yield mine


@contextlib.contextmanager
def resume_folder(key):
    """The folder of the resume state: of twins training at the same time (a queue), each takes its own."""
    parent = files.root() / ".ferlab" / "resume"
    for twin in range(1000):
        folder = parent / (f"{key}-{twin}" if twin else key)
        with lock(folder.with_suffix(".lock")) as mine:
            if mine:
                folder.mkdir(exist_ok=True)
                try:
                    yield folder
                finally:
                    with contextlib.suppress(OSError):  # not empty: an unfinished training
                        folder.rmdir()
                        folder.with_suffix(".lock").unlink()
                return
    raise files.UserError(f"{parent}: no free resume folder; remove it")


if __name__ == "__main__":
    run(main)
