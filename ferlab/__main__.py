"""What is not a stage: `python -m ferlab <verb>`."""

import argparse
import sys

from ferlab.files import UserError


def show(arguments):
    from ferlab import summary

    print(summary.text())


def sync(arguments):
    from ferlab import tracking

    print(f"{tracking.sync()} results have their run in MLflow")


def doctor(arguments):
    from ferlab import doctor

    about, troubles = doctor.report()
    print("\n".join(about))
    for what, fix in troubles:
        print(f"\n! {what}\n  {fix}")
    if troubles:
        sys.exit(1)
    print("\nno trouble found")


def main():
    parser = argparse.ArgumentParser(prog="python -m ferlab", description="The reproducible laboratory for FER2013.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    for verb, text in ((show, "print the current result, whether it is the pinned one, and what to try next"),
                       (doctor, "print what a bug report needs, and check for the usual troubles"),
                       (sync, "give every finished result (workspace and DVC experiments) its MLflow run")):
        verbs.add_parser(verb.__name__, help=text, description=text).set_defaults(call=verb)
    arguments = parser.parse_args()
    try:
        arguments.call(arguments)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
