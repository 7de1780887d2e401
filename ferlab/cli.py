"""The frame of `python -m ferlab <verb>`: how verbs are declared, and how errors are shown."""

import argparse
import contextlib
import difflib
import errno
import os
import re
import sys
import time

from ferlab.files import UserError
from ferlab.secrets import masked

_VERBS = {}  # name: (function, text, arguments), in the order in which --help lists them
_OF_RAY = ("address", "threads", "nodes", "storage")  # arguments of --engine ray
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # these errors name no file
_NO_MEMORY = "out of memory; close other programs, or lower train.batch_size where it was training"
_INSTALL = {  # what `pip install` is told for a package that is not in requirements.txt
    "skimage": "--require-hashes -r requirements-dev.txt",
    "moto": "--require-hashes -r requirements-dev.txt",
    "jax": "--require-hashes -r requirements-gpu.txt",
    "torch": "torch",
}
_OUT_OF_REACH = (*_FULL, errno.EACCES, errno.EROFS, errno.EPERM)


def verb(text, *arguments, name=None):
    """Declare a function of the parsed arguments as a verb, by the function's name.

    text: for --help. arguments: of `argument`. name: another than the function's.
    """

    def declare(function):
        _VERBS[name or function.__name__] = (function, text, arguments)
        return function

    return declare


def argument(*names, **options):
    """An argument of a verb, as of argparse's add_argument."""
    return names, options


def count(text):
    """For `type=`: a number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number from 1")
    return int(text)


def number(text):
    """For `type=`: a number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no number from 0")
    return int(text)


def seconds(text):
    """For `type=`: a number from 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return value


def names(text):
    """For `type=`: two or more different names, between commas."""
    given = tuple(name.strip() for name in text.split(","))
    if len(given) < 2 or len(set(given)) < len(given) or not all(given):
        raise argparse.ArgumentTypeError(f"{text} is no list of names: <name>,<name>,...")
    return given


def detector_arguments():
    """The arguments that say how faces are found."""
    return (
        argument(
            "--detector",
            choices=("haar", "mtcnn", "none"),
            help="mtcnn is the default where it is installed; none: the pictures are faces",
        ),
        argument(
            "--min-face",
            type=count,
            metavar="PIXELS",
            help="side of the smallest face; without it 1/36 of a large photo's, and nothing tiny "
            "beside a large face",
        ),
    )


def foreign_arguments():
    """The arguments that say how to use a model file which does not say it itself."""
    return (
        argument(
            "--classes",
            type=names,
            metavar="NAME,...",
            help="of a model file that does not name them: in the order of its outputs",
        ),
        argument(
            "--scaling",
            choices=("raw", "unit", "signed"),
            help="of such a file: it takes gray levels from 0 to 255, from 0 to 1, or from -1 to 1",
        ),
    )


def foreign(arguments):
    """The About of the arguments above; None without them."""
    if not arguments.classes and not arguments.scaling:
        return None
    if not arguments.classes or not arguments.scaling:
        raise UserError("--classes, --scaling: one without the other says too little; give both")
    from ferlab.evaluation.network.about import About

    return About(classes=arguments.classes, scaling=arguments.scaling)


def cluster_arguments(threads):
    """The arguments of --engine. threads: for --help, of a training where none are named."""
    return (
        argument(
            "--engine",
            default="local",
            choices=("local", "ray"),
            help="ray: trainings side by side, on a cluster or on this machine's cores "
            "(needs requirements-scale.txt)",
        ),
        argument("--address", help="of Ray: local, auto, or <host>:<port> of the head node"),
        argument(
            "--threads",
            type=count,
            help=f"processor threads of each training; without it {threads}",
        ),
        argument("--nodes", type=count, help="how many nodes must have joined"),
        argument(
            "--storage",
            help="for checkpoints: a folder or address (s3://...) that every node reaches",
        ),
    )


def cluster(arguments, threads):
    """A function that, given a folder for checkpoints, connects to the cluster; None for --engine
    local. threads: of a training, where the arguments name none.
    """
    if arguments.engine == "local":
        for name in _OF_RAY:
            if getattr(arguments, name) is not None:
                raise UserError(f"--{name}: means something with --engine ray only")
        return None
    from ferlab.scaling.cluster import Cluster

    address, nodes = arguments.address or "local", arguments.nodes or 1
    threads, storage = arguments.threads or threads, arguments.storage
    return lambda folder: Cluster(address, threads, nodes, folder=folder, storage=storage)


@contextlib.contextmanager
def errors_in_one_line():
    """The frame of every verb and stage: what a user can fix becomes one line and exit code 1.

    A wrong clock is such a thing, and is told before anything is begun: no zip, so no model and no
    checkpoint, can bear another year than these.
    """
    try:
        now = time.localtime()
        if not 1980 <= now.tm_year <= 2107:
            raise UserError(f"this machine's clock says {time.strftime('%Y-%m-%d', now)}: set it")
        yield
        sys.stdout.flush()  # here, where it can still be told in a line
    except UserError as error:
        sys.exit(f"error: {masked(error)}")
    except KeyboardInterrupt:
        sys.exit(130)
    except MemoryError:
        sys.exit(f"error: {_NO_MEMORY}")
    except ModuleNotFoundError as error:  # of what the light way leaves out
        package = (error.name or "ferlab").partition(".")[0]
        if package in ("ferlab", "stages"):
            raise
        source = _INSTALL.get(package, "--require-hashes -r requirements.txt")
        sys.exit(f"error: this needs {package}, which is not installed: pip install {source}")
    except OSError as error:  # a full disk, a read-only folder, a file in a folder's place
        _drop_output()
        if error.errno == errno.EPIPE:  # `| head`: the reader has had enough
            sys.exit(1)
        if error.errno == errno.ENOMEM:
            sys.exit(f"error: {_NO_MEMORY}")
        if not error.filename and error.errno not in _FULL:
            raise
        where, why = error.filename or "a file", (error.strerror or str(error)).lower()
        hidden = os.path.exists(where) and not os.access(where, os.R_OK)
        fix = f"; {'allow reading it' if hidden else 'make room or allow writing'}, then run again"
        sys.exit(f"error: {where}: {why}{fix if error.errno in _OUT_OF_REACH else ''}")
    except Exception as error:
        if not _is_of_memory(error):
            raise
        sys.exit(f"error: {_NO_MEMORY}")


def _is_of_memory(error):
    """Whether it is TensorFlow's, JAX' or PyTorch's own of too little memory; none is imported."""
    kinds = ("ResourceExhaustedError", "OutOfMemoryError")
    return type(error).__name__ in kinds or "RESOURCE_EXHAUSTED" in str(error)


def _drop_output():
    """Forget what was printed and cannot be written, which Python would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run():
    """Call the verb of the command line."""
    arguments = _parser().parse_args()
    with errors_in_one_line():
        arguments.call(arguments)


class _Parser(argparse.ArgumentParser):
    """Says the nearest choice, too, of a value that is none."""

    def error(self, message):
        found = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if found:
            close = difflib.get_close_matches(found[1], re.findall(r"[\w-]+", found[2]), 1)
            message += f", did you mean {close[0]}?" if close else ""
        super().error(message)


def _parser():
    parser = _Parser(
        prog="python -m ferlab", description="The reproducible laboratory for FER2013."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    for name, (function, text, arguments) in _VERBS.items():
        of_verb = verbs.add_parser(name, help=text, description=text)
        for names, options in arguments:
            of_verb.add_argument(*names, **options)
        of_verb.set_defaults(call=function)
    return parser
