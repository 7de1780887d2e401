"""The verbs of the workspace: show, check, try, experiments, reset, verify.

Each imports what it needs when called."""

from ferlab.cli import argument, verb


@verb(
    "print the current result, what to try next, and whether it is the pinned one",
    argument(
        "--paths", action="store_true", help="also name the outputs whose bits are not the pinned"
    ),
)
def show(arguments):
    from ferlab.reporting import summary

    print(summary.text(paths=arguments.paths))


@verb(
    "whether params.yaml is allowed, with these changes; names every wrong key, writes nothing",
    argument("change", nargs="*", metavar="key=value", help="as of `dvc exp run -S`"),
)
def check(arguments):
    from ferlab.workspace import attempt, memory

    attempt.check(arguments.change)
    warning = memory.warning()
    if warning:
        print(warning)


@verb(
    "run an experiment as `dvc exp run -S` does, but check it first, "
    "and put params.yaml back where it fails",
    argument("change", nargs="*", metavar="key=value", help="as of `dvc exp run -S`"),
    argument("--data", metavar="PLACE", help="what download.dataset is to name"),
    argument("--name", help="of the experiment, else DVC invents one"),
    name="try",
)
def attempt(arguments):
    from ferlab.workspace import attempt

    data = [attempt.dataset(arguments.data)] if arguments.data else []
    attempt.attempt([*data, *arguments.change], arguments.name)


@verb("the results that DVC knows here, side by side: pinned, workspace, experiments")
def experiments(arguments):
    from ferlab.workspace import experiments

    print(experiments.text())


@verb(
    "params.yaml and the result back to the last commit, from this machine's own cache",
)
def reset(arguments):
    from ferlab.workspace import reset

    reset.reset()


@verb(
    "run the sample pipeline four times from scratch (plainly twice, --temp, the queue) "
    "and compare every bit",
    argument(
        "-S",
        dest="changes",
        action="append",
        default=[],
        metavar="key=value",
        help="as of `dvc exp run`",
    ),
)
def verify(arguments):
    from ferlab.workspace import verify

    verify.verify(arguments.changes)
