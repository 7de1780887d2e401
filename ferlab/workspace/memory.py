"""Whether there is memory enough for a training; where there is not, the system kills it."""

from pathlib import Path

import psutil

NEEDED = 1.5e9  # bytes; `make bench`: the process of a training on FER2013 holds up to 1.3 GB
CONTAINER = Path("/sys/fs/cgroup")  # its limit and what is in use, of a container's processes


def warning():
    """A line that says what may happen, or None where there is memory enough."""
    free = psutil.virtual_memory().available
    try:
        limit, used = ((CONTAINER / f"memory.{name}").read_text() for name in ("max", "current"))
        kept = dict(map(str.split, (CONTAINER / "memory.stat").read_text().splitlines()))
        # of what is used, the pages of files not read lately are given back on demand
        free = min(free, int(limit) - int(used) + int(kept["inactive_file"]))
    except (OSError, ValueError, KeyError):
        pass  # no container, or one without a limit ("max")
    if free >= NEEDED:
        return None
    return (
        f"memory: {max(free, 0) / 1e9:.1f} GB are free, a training takes about "
        f"{NEEDED / 1e9:.1f}; where it does not fit, the system kills it (DVC then says "
        '"exited with -9"), and the same command goes on from the last whole epoch'
    )
