"""Where the checkpoints of trainings on a cluster lie: a folder that all nodes see, or any address
that fsspec knows.
"""

import contextlib
import os
import socket
import tempfile
import threading
from pathlib import Path

from ferlab.files import UserError
from ferlab.secrets import masked, one_line

STORAGE_TIMEOUT = 8  # seconds that a storage may take to answer; its library would try for minutes


class Checkpoint:
    """A training's checkpoint in a storage; always replaced as a whole."""

    def __init__(self, storage, name):
        """storage: an address, file:///folder or s3://bucket/folder. name: of the training."""
        import fsspec

        options = {"auto_mkdir": True} if storage.startswith("file:") else {}
        self.files, self.path = fsspec.url_to_fs(f"{storage}/{name}.npz", **options)

    def get(self, path):
        """Copy it to a local file; no file is written where there is no checkpoint."""
        self.files.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            self.files.get_file(self.path, str(path))

    def put(self, path):
        """Replace it by a local file; where that fails, nothing stays beside it."""
        part = f"{self.path}.part"
        try:
            self.files.put_file(str(path), part)
            self.files.mv(part, self.path)
        except Exception:
            with contextlib.suppress(Exception):
                self.files.rm_file(part)
            raise

    def remove(self):
        """Remove it; whatever the storage's library raises where there is none."""
        self.files.rm_file(self.path)


def address(storage):
    """The address of a storage that may also be named as a local folder."""
    return storage if "://" in str(storage) else f"file://{Path(storage).resolve()}"


def check(storage):
    """Raise UserError where nothing can be written to `storage`, after STORAGE_TIMEOUT at the
    latest.
    """
    outcome = []  # None after a success, else the reason; empty while there is no answer

    def attempt():
        try:
            with tempfile.NamedTemporaryFile() as probe:
                checkpoint = Checkpoint(storage, f"probe-{socket.gethostname()}-{os.getpid()}")
                checkpoint.put(probe.name)
                checkpoint.remove()
            outcome.append(None)
        except Exception as error:  # each library raises its own kinds
            outcome.append(one_line(error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(STORAGE_TIMEOUT)
    if outcome == [None]:
        return
    reason = outcome[0] if outcome else f"no answer within {STORAGE_TIMEOUT} seconds"
    raise UserError(
        f"--storage {masked(storage)}: {reason}; name a storage in which checkpoints can be written"
    )
