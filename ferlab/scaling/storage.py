"""Where trainings on a cluster keep their checkpoints: a folder that all nodes see, or any address
that fsspec knows.
"""

import threading
import uuid
from pathlib import Path

from ferlab.files import UserError
from ferlab.secrets import masked, one_line

STORAGE_TIMEOUT = 8  # seconds that a storage may take to answer; its library would try for minutes


def address(storage):
    """The address of a storage that may also be named as a local folder."""
    return storage if "://" in str(storage) else f"file://{Path(storage).resolve()}"


def opened(storage):
    """(pyarrow's file system, the path in it) of an address.

    By fsspec, as DVC opens it: the keys come from each node's own environment.
    """
    import fsspec
    import pyarrow.fs

    files, path = fsspec.url_to_fs(storage)
    if storage.startswith("file:"):
        return pyarrow.fs.LocalFileSystem(), path
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(files)), path


def check(storage):
    """Raise UserError where nothing can be written to `storage`, after STORAGE_TIMEOUT at the
    latest.
    """
    outcome = [f"no answer within {STORAGE_TIMEOUT} seconds"]  # in the end None after a success

    def attempt():
        try:
            files, path = opened(storage)
            probe = f"{path}/probe-{uuid.uuid4().hex}"
            files.create_dir(path)
            with files.open_output_stream(probe) as stream:
                stream.write(b"probe")
            files.delete_file(probe)
            outcome.append(None)
        except Exception as error:  # each library raises its own kinds
            outcome.append(one_line(error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(STORAGE_TIMEOUT)
    if outcome[-1]:
        raise UserError(
            f"--storage {masked(storage)}: {outcome[-1]}; "
            "name a storage in which checkpoints can be written"
        )
