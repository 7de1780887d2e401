"""The pipeline, one file per DVC stage: params -> inputs -> ferlab -> outputs. Run by `dvc repro` from the top folder."""

import errno
import sys

from ferlab.files import UserError


def run(main):
    """Call a stage's main; what the user can mend becomes one line on stderr and exit code 1, never a traceback."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EPERM):
            raise
        sys.exit(f"error: {error.filename or 'a file'}: {error.strerror.lower()}; make room or allow writing, then run again")
