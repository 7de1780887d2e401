"""The training loop: stateless randomness, exact resume, equal bytes from equal input.

Order, augmentation and dropout of a step derive from (seed, epoch, index), never from what ran before. A checkpoint after
each epoch holds everything else, so a killed training continues to the very same weights. Works on any Keras backend.
"""

import hashlib
import io
import json
import math
import os
import re
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from ferlab import augment, backend, ferplus, models
from ferlab.dataset import SIZE
from ferlab.files import UserError, replacing
from ferlab.prepare import prepared

HISTORY = ["epoch", "learning_rate", "running_loss", "running_accuracy", "selection_loss", "selection_accuracy", "chosen"]
ABOUT = "ferlab.json"  # the member of a `.keras` file that says how to use the network
SMALL_SIDE = 32  # of the faces in the epochs that `low_resolution` names
ORDER, MIRROR, TRANSFORM, DROPOUT = range(4)  # what a random stream is for; part of its key


def rate(step, steps, params):
    """Learning rate at `step` of `steps` (0-based), before any plateau reduction: warm-up, then the schedule."""
    rise = params.warmup * steps
    if step < rise:
        return params.learning_rate * (step + 1) / (rise + 1)
    left = (steps - step) / max(steps - rise, 1)
    shape = {"one_cycle": left, "cosine": (1 - math.cos(math.pi * left)) / 2, "constant": 1.0}[params.schedule]
    return params.learning_rate * shape


def order(dataset, params, epoch):
    """Row numbers of one epoch, int64 (N,): a permutation, or with the balanced sampler N draws, classes equally often."""
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence((params.seed, epoch, ORDER))))
    if dataset.training.get("sampler") != "balanced":
        return random.permutation(len(dataset.faces))
    labels = dataset.labels
    share = 1 / np.bincount(labels, minlength=len(dataset.classes))[labels]
    return random.choice(len(labels), len(labels), p=share / share.sum())


def side_of(params, epoch):
    """Side in pixels of the faces of one epoch (0-based): in the first ones they may be shrunk, to save time."""
    return SMALL_SIDE if epoch < round(params.low_resolution * params.epochs) else SIZE


def targets_of(dataset, labels):
    """What a network is to learn, float32 (N, classes), each row of sum 1: `fer2013` is the class that the dataset names,
    `ferplus` the shares of FER+'s votes; there a row of zeros is an image without votes (see `supervised`)."""
    if labels == "ferplus":
        return ferplus.soft_targets(dataset.table["official"], dataset.classes)
    return np.eye(len(dataset.classes), dtype=np.float32)[dataset.labels]


def supervised(dataset, labels):
    """The rows of `dataset` that have a target. Raises UserError where FER+ knows none of them."""
    if labels != "ferplus" or not len(dataset.faces):
        return dataset
    known = targets_of(dataset, labels).any(axis=1)
    if not known.any():
        raise UserError(f"train.labels = 'ferplus': FER+ has votes on none of these images ({dataset.name} is not FER2013, or "
                        "not known for it); set train.labels: fer2013")
    return dataset.where(known)


def batches(dataset, params, epoch):
    """Yield (faces uint8 (n, side, side, 1), targets float32 (n, classes), weights float32 (n,)) of one epoch, augmented."""
    rows, labels, total = order(dataset, params, epoch), dataset.labels, len(dataset.faces)
    weights = np.asarray(dataset.training.get("class_weights", np.ones(len(dataset.classes))), np.float32)
    targets = targets_of(dataset, params.labels)
    # Alternating mirror: a random half of the images, the other half in the next epoch, so that none is seen twice alike
    # (Jordan 2024, arXiv:2404.00498).
    mirrored = (augment.parameters((params.seed, MIRROR), total)[:, 0] < 0.5) ^ bool(epoch % 2)
    uniforms = augment.parameters((params.seed, epoch, TRANSFORM), total)
    for start in range(0, total, params.batch_size):
        here = rows[start:start + params.batch_size]
        faces = augment.apply(prepared(dataset.faces[here], params.equalize), uniforms[start:start + params.batch_size],
                              flip=mirrored[here] & params.flip, rotation=params.rotation, shift=params.shift,
                              zoom=params.zoom, erase=params.erase, side=side_of(params, epoch))
        yield faces[..., None], targets[here], weights[labels[here]]


def fit(dataset, params, checkpoint=None, on_step=None, on_epoch=None, on_uneven=None):
    """Train on the split `train`, choose on `params.select_on`. Keras must have been started (ferlab.backend).

    checkpoint: file for the resume state, replaced after each epoch; when it exists, training goes on from it.
    on_step(epoch, step, steps), on_epoch(row, seconds): for progress and tracking; what they do changes no number.
    on_uneven(): called where this machine gives other bits for the same step, so that the training cannot be repeated exactly.
    Returns (Keras model with the chosen weights, history as DataFrame with the columns HISTORY, seconds of each epoch).
    """
    import keras

    train, selection = dataset.split("train"), dataset.split(params.select_on)
    if not len(selection.faces):
        present = [split for split in ("public", "validation") if (dataset.table["split"] == split).any()]
        fix = f"set train.select_on: {present[0]}" if present else "set balance.holdout: 0.1 and train.select_on: validation"
        raise UserError(f"train.select_on = {params.select_on!r}: this dataset has no {params.select_on} images; {fix}")
    train, selection = supervised(train, params.labels), supervised(selection, params.labels)

    model = models.build(params.model, len(dataset.classes), params.dropout)
    judge = keras.Model(model.input, model.get_layer("logits").output)  # faces of full size, whatever is trained on
    learner, optimizer = _compiled(keras, judge, params, side_of(params, 0))

    steps_per_epoch = math.ceil(len(train.faces) / params.batch_size)
    state = {"epoch": 0, "history": [], "seconds": [], "scale": 1.0, "best_accuracy": -1.0, "best_loss": math.inf,
             "since_loss": 0, "since_rate": 0}
    averaged = learner.get_weights() if params.averaging else []
    best = []
    if checkpoint:
        backend.agree(Path(checkpoint))
    if checkpoint and Path(checkpoint).exists():
        state, weights, slots, averaged, best = _restore(checkpoint)
        learner, optimizer = _compiled(keras, judge, params, side_of(params, state["epoch"] - 1))
        _put(learner, weights, optimizer, slots)
    tried = None  # the side of the faces for which the machine was seen to repeat itself, or not

    while state["epoch"] < params.epochs and not _stopped(state, params):
        epoch, began = state["epoch"], time.perf_counter()
        if epoch and side_of(params, epoch) != side_of(params, epoch - 1):
            weights, slots = learner.get_weights(), [np.asarray(v) for v in optimizer.variables]
            learner, optimizer = _compiled(keras, judge, params, side_of(params, epoch))
            _put(learner, weights, optimizer, slots)
        if on_uneven and tried != side_of(params, epoch):
            tried = side_of(params, epoch)
            if not _repeats(learner, optimizer, next(batches(train, params, epoch)), params.seed, epoch):
                on_uneven()
        _seed_dropout(learner, params.seed, epoch)
        sums = np.zeros(2)  # of loss and accuracy over the epoch's images; Keras' own start anew with every batch
        for step, (faces, targets, weights) in enumerate(batches(train, params, epoch)):
            done = epoch * steps_per_epoch + step
            optimizer.learning_rate = state["scale"] * rate(done, params.epochs * steps_per_epoch, params)
            logs = backend.step(learner, faces, targets, weights)
            sums += len(faces) * np.array([logs["loss"], logs["accuracy"]], np.float64)
            if params.averaging:
                momentum = min(params.averaging, (1 + done) / (10 + done))  # the first steps must not weigh for long
                averaged = [momentum * a + (1 - momentum) * w for a, w in zip(averaged, learner.get_weights(), strict=True)]
            if on_step:
                on_step(epoch, step, steps_per_epoch)
        loss, accuracy = (sums / len(train.faces)).tolist()
        if not math.isfinite(loss):
            raise UserError(f"epoch {epoch + 1}: the loss is {loss}; lower train.learning_rate ({params.learning_rate:g})")

        current = learner.get_weights()
        judge.set_weights(averaged if params.averaging else current)
        selection_loss, selection_accuracy = score(judge, selection, params)
        if params.keep == "last" or selection_accuracy > state["best_accuracy"]:
            state["best_accuracy"], best = selection_accuracy, judge.get_weights()
        learner.set_weights(current)
        row = {"epoch": epoch + 1, "learning_rate": float(keras.ops.convert_to_numpy(optimizer.learning_rate)),
               "running_loss": loss, "running_accuracy": accuracy, "selection_loss": selection_loss,
               "selection_accuracy": selection_accuracy}
        state["history"].append(row)
        state["epoch"] += 1
        state["seconds"].append(round(time.perf_counter() - began, 3))
        _watch(state, selection_loss, params)
        if checkpoint:
            _store(checkpoint, state, current, optimizer, averaged, best)
        if on_epoch:
            on_epoch(row, state["seconds"][-1])

    judge.set_weights(best)
    history = pd.DataFrame(state["history"])
    pick = history["selection_accuracy"].idxmax() if params.keep == "best" else len(history) - 1
    return model, history.assign(chosen=(history.index == pick).astype(int))[HISTORY], state["seconds"]


def score(learner, dataset, params, batch=512):
    """(mean cross-entropy without smoothing, accuracy) of a network that gives logits, on all rows of `dataset`: against
    its labels, or with `ferplus` against the class with the most votes."""
    logits = np.concatenate([
        np.asarray(learner.predict_on_batch(prepared(dataset.faces[i:i + batch], params.equalize)[..., None]), np.float64)
        for i in range(0, len(dataset.faces), batch)])
    labels = targets_of(dataset, params.labels).argmax(axis=1)
    logits -= logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    return float(losses.mean()), float((logits.argmax(axis=1) == labels).mean())


def data_key(dataset):
    """sha256 of all that a training takes from a dataset, the order of its rows included (which `Dataset.digest` does not count):
    with the same parameters and code, equal keys give equal weights."""
    key = hashlib.sha256(np.ascontiguousarray(dataset.faces))
    key.update(dataset.table.to_csv(index=False).encode())
    key.update(json.dumps([dataset.classes, dataset.training]).encode())
    return key.hexdigest()


def about(dataset, params):
    """What a model carries in its file, so that whoever uses it need not guess (ferlab.evaluation.About)."""
    return {"classes": list(dataset.classes), "equalize": params.equalize, "labels": params.labels, "dataset": dataset.name,
            "digest": dataset.source or dataset.digest}


def save(model, path, about=None):
    """Write a `.keras` file without dates, zip times or optimiser state: equal weights give equal bytes.

    about: as of the function of that name; it becomes the member ferlab.json, which Keras does not read.
    """
    with replacing(path) as part:
        temporary = part.with_name(f"{part.name}.keras")  # Keras insists on the ending
        try:
            model.save(temporary)
            with zipfile.ZipFile(temporary) as source, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as target:
                for name in sorted(source.namelist()):
                    content = source.read(name)
                    if name == "metadata.json":
                        content = json.dumps({**json.loads(content), "date_saved": "1980-01-01@00:00:00"}).encode()
                    if name == "config.json":
                        content = _renumbered(content.decode()).encode()
                    target.writestr(zipfile.ZipInfo(name), content)
                if about:
                    target.writestr(zipfile.ZipInfo(ABOUT), json.dumps(about))
        finally:
            temporary.unlink(missing_ok=True)


def _renumbered(config):
    """Keras numbers shared objects by their place in memory; here by their order of appearance, 1, 2, 3 ..."""
    numbers = {}
    return re.sub(r'("shared_object_id": )(\d+)', lambda m: m[1] + str(numbers.setdefault(m[2], len(numbers) + 1)), config)


def _compiled(keras, judge, params, side):
    """(learner, optimizer): the network from faces of this side to logits, with the weights of `judge`, ready to train."""
    learner = judge
    if side != SIZE:
        learner = keras.models.clone_model(judge, input_tensors=keras.Input((side, side, 1), dtype="uint8"))
        if [w.shape for w in learner.weights] != [w.shape for w in judge.weights]:
            raise UserError(f"train.low_resolution = {params.low_resolution:g}: the network {params.model} takes no faces of "
                            f"{side}x{side}; set it to 0")
        learner.set_weights(judge.get_weights())
    optimizer = _optimizer(keras, params)
    learner.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=params.label_smoothing),
                    metrics=["accuracy"],
                    jit_compile=keras.backend.backend() == "jax")  # TensorFlow's XLA is 4-8 times slower on a CPU here
    optimizer.build(learner.trainable_variables)
    return learner, optimizer


def _put(learner, weights, optimizer, slots):
    learner.set_weights(weights)
    for variable, value in zip(optimizer.variables, slots, strict=True):
        variable.assign(value)


def _repeats(learner, optimizer, batch, seed, epoch, times=4):
    """Whether the same step, taken several times, gives the same bits; leaves everything as it was.

    Deterministic operations do not ensure it: oneDNN's convolutions in float32 differ in the last bit from about 256 faces on,
    on some processors.
    """
    weights, slots, seen = learner.get_weights(), [np.array(v) for v in optimizer.variables], set()
    for _ in range(times):
        _seed_dropout(learner, seed, epoch)
        backend.step(learner, *batch)
        after = [*learner.get_weights(), *map(np.asarray, optimizer.variables)]
        seen.add(hashlib.sha256(b"".join(value.tobytes() for value in after)).digest())
        _put(learner, weights, optimizer, slots)
    return len(seen) == 1


def _optimizer(keras, params):
    if params.optimizer == "adam":
        return keras.optimizers.Adam(params.learning_rate)
    if params.optimizer == "muon":
        return _muon(keras, params)
    if params.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(params.learning_rate, weight_decay=params.weight_decay)
    else:
        optimizer = keras.optimizers.SGD(params.learning_rate, momentum=0.9, nesterov=True,
                                         weight_decay=params.weight_decay or None)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _muon(keras, params):
    """Keras' Muon (Jordan 2024) for the convolutions too: a kernel (h, w, in, out) is updated as a matrix (h w in, out).

    Its step is made as large as Adam's (Liu et al. 2025, arXiv:2502.16982); biases, batch normalisation and the last layer
    are left to AdamW.
    """
    from keras import ops

    class Muon(keras.optimizers.Muon):
        def _should_use_adamw(self, variable):
            return len(variable.shape) not in (2, 4) or "logits" in variable.path

        def zeropower_via_newtonschulz5(self, x, steps):
            matrix = ops.cast(ops.reshape(x, (-1, x.shape[-1])), params.precision)
            update = ops.cast(super().zeropower_via_newtonschulz5(matrix, steps), x.dtype)
            return ops.reshape(super().lr_adjust(update), x.shape)

        def lr_adjust(self, x):
            return x  # done above, where it still is a matrix

    optimizer = Muon(params.learning_rate, weight_decay=params.weight_decay, adam_weight_decay=params.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _seed_dropout(learner, seed, epoch):
    """Put every layer's random stream at the start of this epoch."""
    for index, layer in enumerate(learner._flatten_layers()):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            state = np.random.SeedSequence((seed, epoch, DROPOUT, index)).generate_state(2)
            generator.state.assign(state.astype(generator.state.dtype))


def _watch(state, loss, params):
    """Early stopping and plateau count the epochs since the selection loss was lowest; both live in the resume state."""
    if loss < state["best_loss"]:
        state.update(best_loss=loss, since_loss=0, since_rate=0)
        return
    state["since_loss"] += 1
    state["since_rate"] += 1
    if params.reduce_on_plateau and state["since_rate"] >= params.reduce_on_plateau:
        state.update(scale=state["scale"] / 2, since_rate=0)


def _stopped(state, params):
    return bool(params.early_stopping) and state["since_loss"] >= params.early_stopping


def _store(path, state, weights, optimizer, averaged, best):
    groups = {"weights": weights, "slots": [np.asarray(v) for v in optimizer.variables], "averaged": averaged, "best": best}
    arrays = {f"{name}-{i}": array for name, group in groups.items() for i, array in enumerate(group)}
    buffer = io.BytesIO()
    np.savez(buffer, state=np.frombuffer(json.dumps(state).encode(), np.uint8), **arrays)
    with replacing(path) as part, open(part, "wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())


def _restore(path):
    with np.load(path, allow_pickle=False) as file:
        state = json.loads(file["state"].tobytes())
        groups = []
        for name in ("weights", "slots", "averaged", "best"):
            count = sum(key.startswith(f"{name}-") for key in file.files)
            groups.append([file[f"{name}-{i}"] for i in range(count)])
    return state, *groups
