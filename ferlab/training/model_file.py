"""Writing `.keras` files that hold neither a date nor optimizer state, and say how to use the network."""

import json
import re
import zipfile

from ferlab.files import replacing

MEMBER = "ferlab.json"  # the member of a `.keras` file that says how to use the network


def about(dataset, params):
    """What a model carries in its file, so that whoever uses it need not guess (ferlab.evaluation.About)."""
    return {
        "classes": list(dataset.classes),
        "equalize": params.equalize,
        "labels": params.labels,
        "dataset": dataset.name,
        "digest": dataset.source or dataset.digest,
    }


def save(model, path, about=None):
    """Write a `.keras` file without dates, zip times or optimiser state: equal weights give equal bytes.

    about: as of the function of that name; it becomes the member ferlab.json, which Keras does not read.
    """
    with replacing(path) as part:
        temporary = part.with_name(f"{part.name}.keras")  # Keras insists on the ending
        try:
            model.save(temporary)
            with (
                zipfile.ZipFile(temporary) as source,
                zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as target,
            ):
                for name in sorted(source.namelist()):
                    content = source.read(name)
                    if name == "metadata.json":
                        content = json.dumps(
                            {**json.loads(content), "date_saved": "1980-01-01@00:00:00"}
                        ).encode()
                    if name == "config.json":
                        content = _renumbered(content.decode()).encode()
                    target.writestr(zipfile.ZipInfo(name), content)
                if about:
                    target.writestr(zipfile.ZipInfo(MEMBER), json.dumps(about))
        finally:
            temporary.unlink(missing_ok=True)


def _renumbered(config):
    """Keras numbers shared objects by their place in memory; here by their order of appearance, 1, 2, 3 ..."""
    numbers = {}
    return re.sub(
        r'("shared_object_id": )(\d+)',
        lambda m: m[1] + str(numbers.setdefault(m[2], len(numbers) + 1)),
        config,
    )
