"""Python runs this at every start that has this folder on PYTHONPATH.

For a stage (`python -m stages.<name>`) it writes <name>.json into $RECORDS: `modules` of ferlab
that were imported, `heavy` packages that were, and `params`, each `section.key` of the parameters
that was read, or the section that was read as a whole; what ferlab.tracking reads does not count.
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

    class Section:
        """A section of the parameters that notes what is read of it."""

        def __init__(self, name, values):
            self.name, self.values = name, values

        def __getattr__(self, key):
            if not for_tracking():
                single = key in type(self.values).model_fields
                read.add(f"{self.name}.{key}" if single else self.name)
            return getattr(self.values, key)

    class Recorder:
        """Parameters that note what is read, or that all are."""

        def __init__(self, settings):
            self.settings = settings

        def __getattr__(self, name):
            found = getattr(self.settings, name)
            if for_tracking():
                return found
            if name in params.SECTIONS:
                return Section(name, found)
            read.update(params.SECTIONS)
            return found

    def recorded(*arguments):
        return load(*arguments) if for_tracking() else Recorder(load(*arguments))

    @atexit.register
    def write():
        record = {
            "modules": sorted(name for name in sys.modules if name.split(".")[0] == "ferlab"),
            "heavy": sorted({"tensorflow", "keras", "mlflow"} & set(sys.modules)),
            "params": sorted(read),
        }
        with open(f"{os.environ['RECORDS']}/{stage}.json", "w") as file:
            json.dump(record, file)

    params.load = recorded
