"""Work on many items in a few threads, in order, without holding them all."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

THREADS = 2


def in_threads(function, items):
    """Yield function(*item) of each item, in order; THREADS threads work, items are read meanwhile.

    The items are taken in this thread, and only a few ahead. The first error, in order, is raised.
    """
    waiting = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, *item))
                if len(waiting) == 3 * THREADS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
