"""The resume state of a training: one file, replaced after each epoch."""

import io
import json
import os

import numpy as np

from ferlab.files import replacing


def save(path, state, weights, optimizer, averaged, best):
    groups = {
        "weights": weights,
        "slots": [np.asarray(v) for v in optimizer.variables],
        "averaged": averaged,
        "best": best,
    }
    arrays = {
        f"{name}-{i}": array for name, group in groups.items() for i, array in enumerate(group)
    }
    buffer = io.BytesIO()
    np.savez(buffer, state=np.frombuffer(json.dumps(state).encode(), np.uint8), **arrays)
    with replacing(path) as part, open(part, "wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())


def load(path):
    with np.load(path, allow_pickle=False) as file:
        state = json.loads(file["state"].tobytes())
        groups = []
        for name in ("weights", "slots", "averaged", "best"):
            count = sum(key.startswith(f"{name}-") for key in file.files)
            groups.append([file[f"{name}-{i}"] for i in range(count)])
    return state, *groups
