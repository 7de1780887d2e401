"""What is not a stage: `python -m ferlab <verb>`."""

import contextlib
import os
import sys
from pathlib import Path

from ferlab import cli
from ferlab.cli import argument, verb
from ferlab.progress import counted
from ferlab.workspace import verbs  # noqa: F401 declares those of the workspace

RESUMABLE = "stopped; the finished epochs are kept: the same command goes on from there"
MODEL = argument("--model", default="", help="as in predict")


@verb("print what a bug report needs, and check for the usual troubles")
def doctor(arguments):
    from ferlab import doctor

    about, troubles = doctor.report()
    print("\n".join(about))
    for what, fix in troubles:
        print(f"\n! {what}\n  {fix}")
    if troubles:
        sys.exit(1)
    print("\nno trouble found")


@verb("give every finished result (workspace, DVC experiments, recipes) its MLflow run")
def sync(arguments):
    from ferlab.tracking import sync

    lines = []
    count = sync.sync(lambda line: lines.append(line) or print(line))
    print(f"{counted(count, 'result')} {'has' if count == 1 else 'have'} their run in MLflow")
    if lines and not count:
        sys.exit(1)


@verb(
    "serve MLflow's page over all runs on this machine, and print the address that shows them",
    argument("--port", type=int, default=5000),
)
def ui(arguments):
    from ferlab.tracking import ui

    ui.serve(arguments.port)


@verb(
    "put a recipe into the workspace: its parameters into params.yaml",
    argument("recipe", help="a file of recipes/, without its ending"),
)
def use(arguments):
    from ferlab import recipes

    for key, (old, new) in recipes.use(arguments.recipe).items():
        print(f"  {key:<24} {old} -> {new}")
    dataset = recipes.load_recipe(arguments.recipe).download.dataset
    print(
        f"params.yaml holds {arguments.recipe}, the data are still those of download.dataset\n"
        f"next: make repro DATA={dataset}    back: git checkout params.yaml"
    )


@verb(
    "show two or more results side by side: recipes, DVC experiments, MLflow runs, or workspace",
    argument(
        "result", nargs="+", help="a recipe's key, an experiment, an MLflow run, or workspace"
    ),
)
def compare(arguments):
    from ferlab.reporting import compare_page

    compare_page.write(arguments.result)


@verb("write reports/leaderboard.html: every result, accuracy against training time")
def leaderboard(arguments):
    from ferlab.reporting import leaderboard

    for path in leaderboard.write():
        print(f"wrote {path}")


@verb("write reports/papers.md and its figure: published numbers beside ours")
def papers(arguments):
    from ferlab.reporting import papers

    for path in papers.write():
        print(f"wrote {path}")


@verb(
    "search the ranges that sweep.yaml declares, around params.yaml, on the workspace's data "
    "(needs requirements-sweep.txt)",
    argument("file", nargs="?", default="sweep.yaml", type=Path),
    *cli.cluster_arguments("one"),
)
def sweep(arguments):
    from ferlab.scaling import sweep

    try:
        sweep.sweep(arguments.file, cluster=cli.cluster(arguments, 1))
    except KeyboardInterrupt:
        sys.exit(RESUMABLE)


@verb(
    "train and evaluate what is stale of some recipes: as `dvc --cd recipes repro` does, "
    "or side by side on a Ray cluster",
    argument("key", nargs="+", help="of recipes/keys.yaml: a recipe, or <recipe>-s<seed>"),
    *cli.cluster_arguments("all of this machine"),
    name="run-recipes",
)
def run_recipes(arguments):
    from ferlab.scaling.run_recipes import run

    try:
        failed = run(list(dict.fromkeys(arguments.key)), cli.cluster(arguments, os.cpu_count()))
    except KeyboardInterrupt:
        sys.exit(RESUMABLE)
    if failed:
        sys.exit(f"failed: {' '.join(failed)}")


@verb(
    "report what a copy of FER2013 is: which official images it holds, how they were altered, "
    "re-split, relabelled, leaked",
    argument("path", help="a folder, zip, tar or CSV"),
    argument("--json", action="store_true", help="as JSON, for programs"),
)
def identify(arguments):
    import json

    from ferlab.data.identity import copies, description

    known = copies.copy(arguments.path)
    print(json.dumps(known, indent=1) if arguments.json else description.table(known))


@verb(
    "put a recipe's model into pretrained/, for Keras and as ONNX, with its card: "
    "the model that predict takes where no other is named",
    argument(
        "key",
        nargs="?",
        default="",
        help="of a recipe with a result; without it model.onnx is made anew from model.keras",
    ),
)
def release(arguments):
    from ferlab.serving.release import release

    release(arguments.key)
    print("pretrained/ holds it, with its card; commit it")


@verb(
    "find the faces in photos, folders, clips or a camera's picture, and name their expressions",
    argument("input", nargs="*", help="photos, clips, or folders of them"),
    argument(
        "--camera", type=cli.number, metavar="N", help="a camera, by its number, until Ctrl-C"
    ),
    argument("--seconds", type=cli.seconds, help="how long to watch the camera"),
    argument(
        "--model",
        default="",
        help="a .keras or .onnx file, workspace, a recipe, a DVC experiment or an MLflow run; "
        "without it the released model",
    ),
    *cli.detector_arguments(),
    argument("--every", type=cli.count, default=1, metavar="N", help="look at each Nth frame only"),
    argument(
        "--smooth",
        type=cli.seconds,
        default=0.5,
        metavar="SECONDS",
        help="over which a clip's probabilities are smoothed (0.5; 0: not at all)",
    ),
    argument("--out", default="predictions", type=Path, metavar="FOLDER"),
    argument("--json", action="store_true", help="predictions.json instead of predictions.csv"),
    *cli.foreign_arguments(),
)
def predict(arguments):
    from ferlab.serving.predict import predict

    names = ("model", "detector", "camera", "json", "seconds", "min_face", "every", "smooth")
    options = {name: getattr(arguments, name) for name in names}
    if predict(arguments.input, arguments.out, said=cli.foreign(arguments), **options):
        sys.exit(1)


@verb(
    "write a model as ONNX, as LiteRT, or as a folder for `mlflow models serve`, "
    "and compare it with Keras",
    MODEL,
    argument("--format", default="onnx", choices=("onnx", "litert", "mlflow")),
    argument("--out", type=Path, metavar="PATH", help="without it: in exports/"),
    *cli.foreign_arguments(),
)
def export(arguments):
    from ferlab.serving.export import export

    export(arguments.model, arguments.format, arguments.out, cli.foreign(arguments))


@verb(
    "a page on this machine: faces and their expressions in a photo or in the webcam's picture",
    argument("--port", type=int, default=7860),
    argument(
        "--host",
        default="127.0.0.1",
        help="another address than this machine's own opens the page to others",
    ),
    argument(
        "--model",
        default="",
        help="as in predict; the page also offers the workspace's and the recipes' models",
    ),
    *cli.detector_arguments(),
    *cli.foreign_arguments(),
)
def demo(arguments):
    from ferlab.serving import page

    more = arguments.detector, cli.foreign(arguments), arguments.min_face
    with contextlib.suppress(KeyboardInterrupt):
        page.serve(arguments.host, arguments.port, arguments.model, *more)


@verb(
    "write that page as files for any web server, with the released network in the browser",
    argument("--out", default="exports/demo", type=Path, metavar="FOLDER"),
    name="demo-static",
)
def demo_static(arguments):
    from ferlab.serving.light import static_page

    static_page.write(arguments.out)


main = cli.run

if __name__ == "__main__":
    main()
