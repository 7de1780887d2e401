"""What is not a stage: `python -m ferlab <verb>`."""

import argparse
import contextlib
import errno
import os
import sys
from pathlib import Path

from ferlab.files import UserError


def show(arguments):
    from ferlab.reporting import summary

    print(summary.text())


def identify(arguments):
    import json

    from ferlab.data.identity import copies, description

    identity = copies.copy(arguments.path)
    print(json.dumps(identity, indent=1) if arguments.json else description.table(identity))


def sync(arguments):
    from ferlab.tracking import sync

    print(f"{sync.sync()} results have their run in MLflow")


def use(arguments):
    from ferlab.recipes import use

    for key, (old, new) in use(arguments.recipe).items():
        print(f"  {key:<24} {old} -> {new}")
    print(
        f"params.yaml holds {arguments.recipe}, the data are still those of download.dataset\n"
        "next: make repro DATA=fer2013    back: git checkout params.yaml"
    )


def papers(arguments):
    from ferlab.reporting import papers

    for path in papers.write():
        print(f"wrote {path}")


def leaderboard(arguments):
    from ferlab.reporting import leaderboard

    for path in leaderboard.write():
        print(f"wrote {path}")


def compare(arguments):
    from ferlab.reporting import compare_page

    compare_page.write(arguments.result)


def sweep(arguments):
    from ferlab.scaling import sweep

    try:
        sweep.sweep(arguments.file, cluster=_cluster(arguments))
    except KeyboardInterrupt:
        sys.exit("stopped; the finished epochs are kept: the same command goes on from there")


def run_recipes(arguments):
    from ferlab.scaling.run_recipes import run

    try:
        failed = run(list(dict.fromkeys(arguments.key)), _cluster(arguments))
    except KeyboardInterrupt:
        sys.exit("stopped; the finished epochs are kept: the same command goes on from there")
    if failed:
        sys.exit(f"failed: {' '.join(failed)}")


def _cluster(arguments):
    """A function that connects to the cluster that the command line names, given a folder for checkpoints; None for local."""
    if arguments.engine == "local":
        for name in ("address", "nodes", "storage"):
            if getattr(arguments, name) != _ENGINE[name]:
                raise UserError(f"--{name}: means something with --engine ray only")
        return None
    from ferlab.scaling.cluster import Cluster

    return lambda folder: Cluster(
        arguments.address,
        arguments.threads,
        arguments.nodes,
        folder=folder,
        storage=arguments.storage,
    )


_ENGINE = {"address": "local", "nodes": 1, "storage": None}


def _add_engine(verb, threads):
    verb.add_argument(
        "--engine",
        default="local",
        choices=("local", "ray"),
        help="ray: trainings side by side, on a cluster or "
        "on this machine's cores (needs requirements-scale.txt)",
    )
    verb.add_argument(
        "--address",
        default=_ENGINE["address"],
        help="of Ray: local, auto, or <host>:<port> of the head node",
    )
    verb.add_argument(
        "--threads", default=threads, type=_count, help="processor threads of each training"
    )
    verb.add_argument(
        "--nodes", default=_ENGINE["nodes"], type=_count, help="how many nodes must have joined"
    )
    verb.add_argument(
        "--storage", help="for checkpoints: a folder or address (s3://...) that every node reaches"
    )


def _count(text):
    if not text.isdecimal() or text == "0":
        raise argparse.ArgumentTypeError(f"{text} is no number from 1")
    return int(text)


def doctor(arguments):
    from ferlab import doctor

    about, troubles = doctor.report()
    print("\n".join(about))
    for what, fix in troubles:
        print(f"\n! {what}\n  {fix}")
    if troubles:
        sys.exit(1)
    print("\nno trouble found")


def predict(arguments):
    from ferlab.serving.predict import predict

    if predict(
        arguments.input,
        arguments.out,
        arguments.model,
        arguments.detector,
        arguments.camera,
        arguments.json,
        arguments.seconds,
    ):
        sys.exit(1)


def ship(arguments):
    from ferlab.serving.release import release

    release(arguments.key)
    print("pretrained/ holds it, with its card; commit it")


def export(arguments):
    from ferlab.serving.export import export

    export(arguments.model, arguments.format, arguments.out)


def demo(arguments):
    from ferlab.serving import page

    with contextlib.suppress(KeyboardInterrupt):
        page.serve(arguments.host, arguments.port, arguments.model, arguments.detector)


def verify(arguments):
    from ferlab import verify

    verify.verify(arguments.changes)


def main():
    parser = argparse.ArgumentParser(
        prog="python -m ferlab", description="The reproducible laboratory for FER2013."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    for verb, text in (
        (show, "print the current result, whether it is the pinned one, and what to try next"),
        (doctor, "print what a bug report needs, and check for the usual troubles"),
        (sync, "give every finished result (workspace, DVC experiments, recipes) its MLflow run"),
        (use, "put a recipe on the bench: its parameters into params.yaml"),
        (
            compare,
            "lay two or more results side by side: recipes, DVC experiments, MLflow runs, or bench",
        ),
        (
            leaderboard,
            "write reports/leaderboard.html: every result, accuracy against training time",
        ),
        (papers, "write reports/papers.md and its figure: published numbers beside ours"),
    ):
        verbs.add_parser(verb.__name__, help=text, description=text).set_defaults(call=verb)
    verbs.choices["use"].add_argument("recipe", help="a file of recipes/, without its ending")
    text = "run the sample pipeline four times from scratch (plainly twice, --temp, the queue) and compare every bit"
    verifying = verbs.add_parser("verify", help=text, description=text)
    verifying.add_argument(
        "-S",
        dest="changes",
        action="append",
        default=[],
        metavar="key=value",
        help="as of `dvc exp run`",
    )
    verifying.set_defaults(call=verify)
    verbs.choices["compare"].add_argument(
        "result", nargs="+", help="a recipe's key, an experiment, an MLflow run, or bench"
    )
    text = "search the ranges that sweep.yaml declares, around params.yaml, on the bench's data (needs requirements-sweep.txt)"
    sweeping = verbs.add_parser("sweep", help=text, description=text)
    sweeping.add_argument("file", nargs="?", default="sweep.yaml", type=Path)
    _add_engine(sweeping, 1)
    sweeping.set_defaults(call=sweep)
    text = "train and judge what is stale of some recipes: as `dvc --cd recipes repro` does, or side by side on a Ray cluster"
    running = verbs.add_parser("run-recipes", help=text, description=text)
    running.add_argument(
        "key", nargs="+", help="of recipes/dvc.yaml: a recipe, or <recipe>-s<seed>"
    )
    _add_engine(running, os.cpu_count())
    running.set_defaults(call=run_recipes)
    text = "tell what a copy of FER2013 is: which official images it holds, how they were altered, re-split, relabelled, leaked"
    identifying = verbs.add_parser("identify", help=text, description=text)
    identifying.add_argument("path", help="a folder, zip, tar or CSV")
    identifying.add_argument("--json", action="store_true", help="as JSON, for programs")
    identifying.set_defaults(call=identify)
    text = "put a recipe's model into pretrained/, with its card: what predict takes where no other is named"
    shipping = verbs.add_parser("ship", help=text, description=text)
    shipping.add_argument("key", help="of a recipe with a result")
    shipping.set_defaults(call=ship)
    text = (
        "find the faces in photos, folders, clips or a camera's picture, and say their expressions"
    )
    predicting = verbs.add_parser("predict", help=text, description=text)
    predicting.add_argument("input", nargs="*", help="photos, clips, or folders of them")
    predicting.add_argument(
        "--camera", type=int, metavar="N", help="a camera, by its number, until Ctrl-C"
    )
    predicting.add_argument("--seconds", type=float, help="how long to look into the camera")
    predicting.add_argument(
        "--model",
        default="",
        help="a .keras file, bench, a recipe, a DVC experiment or an MLflow run; "
        "without it the one that ships",
    )
    predicting.add_argument(
        "--detector",
        help="haar, mtcnn (the default where it is installed), or none: the pictures are faces",
    )
    predicting.add_argument("--out", default="predictions", type=Path, metavar="FOLDER")
    predicting.add_argument(
        "--json", action="store_true", help="predictions.json instead of predictions.csv"
    )
    predicting.set_defaults(call=predict)
    text = "write a model as ONNX, as LiteRT, or as a folder for `mlflow models serve`, and compare it with Keras"
    exporting = verbs.add_parser("export", help=text, description=text)
    exporting.add_argument("--model", default="", help="as of predict")
    exporting.add_argument("--format", default="onnx", choices=("onnx", "litert", "mlflow"))
    exporting.add_argument("--out", type=Path, metavar="PATH", help="without it: in exports/")
    exporting.set_defaults(call=export)
    text = (
        "a page on this machine: faces and their expressions in a photo or in the webcam's picture"
    )
    showing = verbs.add_parser("demo", help=text, description=text)
    showing.add_argument("--port", type=int, default=7860)
    showing.add_argument(
        "--host",
        default="127.0.0.1",
        help="another address than this machine's own opens the page to others",
    )
    showing.add_argument(
        "--model",
        default="",
        help="as of predict; the page also offers the bench's and the recipes' models",
    )
    showing.add_argument("--detector", help="as of predict")
    showing.set_defaults(call=demo)
    arguments = parser.parse_args()
    try:
        arguments.call(arguments)
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except (
        OSError
    ) as error:  # a full disk, a folder that may not be written, a file in a folder's place
        if error.errno == errno.EPIPE:  # `| head`: who reads has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        if not error.filename and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        sys.exit(f"error: {error.filename or 'a file'}: {(error.strerror or str(error)).lower()}")


if __name__ == "__main__":
    main()
