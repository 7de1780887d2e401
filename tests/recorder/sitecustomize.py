"""Python runs this at every start that has this folder on PYTHONPATH.

For a stage (`python -m stages.<name>`) it writes <name>.json into $RECORDS: `modules` of ferlab
that were imported, `heavy` packages that were, and `sections` of the parameters that were read;
what ferlab.tracking reads does not count.
"""

import atexit
import json
import os
import sys

stage = sys.orig_argv[2].removeprefix("stages.") if sys.orig_argv[1:2] == ["-m"] else ""
if stage and sys.orig_argv[2] != stage:
    sys.path.insert(0, os.getcwd())
    from ferlab import params

    read, load = set(), params.load

    def for_tracking():
        """Whether ferlab.tracking called the caller of this function."""
        return sys._getframe(2).f_globals["__name__"].startswith("ferlab.tracking")

    class Recorder:
        """Parameters that note which section is read, or that all are."""

        def __init__(self, settings):
            self.settings = settings

        def __getattr__(self, name):
            if not for_tracking():
                read.update([name] if name in params.SECTIONS else params.SECTIONS)
            return getattr(self.settings, name)

    def recorded(*arguments):
        return load(*arguments) if for_tracking() else Recorder(load(*arguments))

    @atexit.register
    def write():
        record = {
            "modules": sorted(name for name in sys.modules if name.split(".")[0] == "ferlab"),
            "heavy": sorted({"tensorflow", "keras", "mlflow"} & set(sys.modules)),
            "sections": sorted(read),
        }
        with open(f"{os.environ['RECORDS']}/{stage}.json", "w") as file:
            json.dump(record, file)

    params.load = recorded
