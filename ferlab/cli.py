"""The frame of `python -m ferlab <verb>`: how verbs are declared, and how errors are shown."""

import argparse
import errno
import os
import sys

from ferlab.files import UserError
from ferlab.secrets import masked

_VERBS = {}  # name: (function, text, arguments), in the order in which --help lists them
_CLUSTER = {"address": "local", "nodes": 1, "storage": None}  # defaults of --engine ray
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # these errors name no file


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
    if not text.isdecimal() or text == "0":
        raise argparse.ArgumentTypeError(f"{text} is no number from 1")
    return int(text)


def cluster_arguments(threads):
    """The arguments of --engine. threads: of a training, where none are named."""
    return (
        argument(
            "--engine",
            default="local",
            choices=("local", "ray"),
            help="ray: trainings side by side, on a cluster or on this machine's cores "
            "(needs requirements-scale.txt)",
        ),
        argument(
            "--address",
            default=_CLUSTER["address"],
            help="of Ray: local, auto, or <host>:<port> of the head node",
        ),
        argument(
            "--threads", default=threads, type=count, help="processor threads of each training"
        ),
        argument(
            "--nodes",
            default=_CLUSTER["nodes"],
            type=count,
            help="how many nodes must have joined",
        ),
        argument(
            "--storage",
            help="for checkpoints: a folder or address (s3://...) that every node reaches",
        ),
    )


def cluster(arguments):
    """A function that, given a folder for checkpoints, connects to the cluster; None for --engine
    local.
    """
    if arguments.engine == "local":
        for name, default in _CLUSTER.items():
            if getattr(arguments, name) != default:
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


def run():
    """Call the verb of the command line; what a user can fix becomes one line and exit code 1."""
    arguments = _parser().parse_args()
    try:
        arguments.call(arguments)
    except UserError as error:
        sys.exit(f"error: {masked(error)}")
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # a full disk, a read-only folder, a file in a folder's place
        if error.errno == errno.EPIPE:  # `| head`: the reader has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        if not error.filename and error.errno not in _FULL:
            raise
        sys.exit(f"error: {error.filename or 'a file'}: {(error.strerror or str(error)).lower()}")


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m ferlab", description="The reproducible laboratory for FER2013."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    for name, (function, text, arguments) in _VERBS.items():
        of_verb = verbs.add_parser(name, help=text, description=text)
        for names, options in arguments:
            of_verb.add_argument(*names, **options)
        of_verb.set_defaults(call=function)
    return parser
