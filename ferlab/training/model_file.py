"""Writing `.keras` files: no date and no optimizer state, but how to use the network."""

import json
import re
import zipfile

from ferlab.files import replacing

MEMBER = "ferlab.json"  # the member of a `.keras` file that says how to use the network


def about(dataset, params):
    """What a model's file says of its use: classes, how faces are prepared, what it was trained on.

    Read back as ferlab.evaluation's About.
    """
    return {
        "classes": list(dataset.classes),
        "equalize": params.equalize,
        "labels": params.labels,
        "dataset": dataset.name,
        "digest": dataset.source or dataset.digest,
    }


def save(model, path, about=None):
    """Write a `.keras` file without dates, zip times or optimizer state.

    So equal weights give equal bytes. about: as the function of that name returns it; it becomes
    the member ferlab.json, which Keras ignores.
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
    """Number shared objects in order of appearance; Keras does by their address in memory."""
    numbers = {}
    return re.sub(
        r'("shared_object_id": )(\d+)',
        lambda m: m[1] + str(numbers.setdefault(m[2], len(numbers) + 1)),
        config,
    )
