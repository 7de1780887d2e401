"""The training loop: stateless randomness, exact resume, equal bytes from equal input.

Order, augmentation and dropout of a step derive from (seed, epoch, index), never from what ran before. A checkpoint after
each epoch holds everything else, so a killed training continues to the very same weights. Works on any Keras backend.
"""

import hashlib
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ferlab import models
from ferlab.data.dataset import SIZE
from ferlab.data.prepare import prepared
from ferlab.files import UserError
from ferlab.training import backend, batches, checkpoint, optimizers, schedule

HISTORY = [
    "epoch",
    "learning_rate",
    "running_loss",
    "running_accuracy",
    "selection_loss",
    "selection_accuracy",
    "chosen",
]


def fit(dataset, params, resume_state=None, on_step=None, on_epoch=None, on_uneven=None):
    """Train on the split `train`, choose on `params.select_on`. Keras must have been started (ferlab.backend).

    resume_state: file for it, replaced after each epoch; when it exists, training goes on from it.
    on_step(epoch, step, steps), on_epoch(row, seconds): for progress and tracking; what they do changes no number.
    on_uneven(): called where this machine gives other bits for the same step, so that the training cannot be repeated exactly.
    Returns (Keras model with the chosen weights, history as DataFrame with the columns HISTORY, seconds of each epoch).
    """
    import keras

    train, selection = dataset.split("train"), dataset.split(params.select_on)
    if not len(selection.faces):
        present = [
            split for split in ("public", "validation") if (dataset.table["split"] == split).any()
        ]
        fix = (
            f"set train.select_on: {present[0]}"
            if present
            else "set balance.holdout: 0.1 and train.select_on: validation"
        )
        raise UserError(
            f"train.select_on = {params.select_on!r}: this dataset has no {params.select_on} images; {fix}"
        )
    train, selection = (
        batches.supervised(train, params.labels),
        batches.supervised(selection, params.labels),
    )

    model = models.build(params.model, len(dataset.classes), params.dropout)
    judge = keras.Model(
        model.input, model.get_layer("logits").output
    )  # faces of full size, whatever is trained on
    learner, optimizer = _compiled(keras, judge, params, schedule.side_of(params, 0))

    steps_per_epoch = math.ceil(len(train.faces) / params.batch_size)
    state = {
        "epoch": 0,
        "history": [],
        "seconds": [],
        "scale": 1.0,
        "best_accuracy": -1.0,
        "best_loss": math.inf,
        "since_loss": 0,
        "since_rate": 0,
    }
    averaged = learner.get_weights() if params.averaging else []
    best = []
    if resume_state:
        backend.agree(Path(resume_state))
    if resume_state and Path(resume_state).exists():
        state, weights, slots, averaged, best = checkpoint.load(resume_state)
        learner, optimizer = _compiled(
            keras, judge, params, schedule.side_of(params, state["epoch"] - 1)
        )
        _restore(learner, weights, optimizer, slots)
    tried = None  # the side of the faces for which the machine was seen to repeat itself, or not

    while state["epoch"] < params.epochs and not _stopped(state, params):
        epoch, began = state["epoch"], time.perf_counter()
        if epoch and schedule.side_of(params, epoch) != schedule.side_of(params, epoch - 1):
            weights, slots = learner.get_weights(), [np.asarray(v) for v in optimizer.variables]
            learner, optimizer = _compiled(keras, judge, params, schedule.side_of(params, epoch))
            _restore(learner, weights, optimizer, slots)
        if on_uneven and tried != schedule.side_of(params, epoch):
            tried = schedule.side_of(params, epoch)
            if not _repeats(
                learner, optimizer, next(batches.batches(train, params, epoch)), params.seed, epoch
            ):
                on_uneven()
        _seed_dropout(learner, params.seed, epoch)
        sums = np.zeros(
            2
        )  # of loss and accuracy over the epoch's images; Keras' own start anew with every batch
        for step, (faces, targets, weights) in enumerate(batches.batches(train, params, epoch)):
            done = epoch * steps_per_epoch + step
            optimizer.learning_rate = state["scale"] * schedule.rate(
                done, params.epochs * steps_per_epoch, params
            )
            logs = backend.step(learner, faces, targets, weights)
            sums += len(faces) * np.array([logs["loss"], logs["accuracy"]], np.float64)
            if params.averaging:
                momentum = min(
                    params.averaging, (1 + done) / (10 + done)
                )  # the first steps must not weigh for long
                averaged = [
                    momentum * a + (1 - momentum) * w
                    for a, w in zip(averaged, learner.get_weights(), strict=True)
                ]
            if on_step:
                on_step(epoch, step, steps_per_epoch)
        loss, accuracy = (sums / len(train.faces)).tolist()
        if not math.isfinite(loss):
            raise UserError(
                f"epoch {epoch + 1}: the loss is {loss}; lower train.learning_rate ({params.learning_rate:g})"
            )

        current = learner.get_weights()
        judge.set_weights(averaged if params.averaging else current)
        selection_loss, selection_accuracy = score(judge, selection, params)
        if params.keep == "last" or selection_accuracy > state["best_accuracy"]:
            state["best_accuracy"], best = selection_accuracy, judge.get_weights()
        learner.set_weights(current)
        row = {
            "epoch": epoch + 1,
            "learning_rate": float(keras.ops.convert_to_numpy(optimizer.learning_rate)),
            "running_loss": loss,
            "running_accuracy": accuracy,
            "selection_loss": selection_loss,
            "selection_accuracy": selection_accuracy,
        }
        state["history"].append(row)
        state["epoch"] += 1
        state["seconds"].append(round(time.perf_counter() - began, 3))
        _count_epochs_since_best(state, selection_loss, params)
        if resume_state:
            checkpoint.save(resume_state, state, current, optimizer, averaged, best)
        if on_epoch:
            on_epoch(row, state["seconds"][-1])

    judge.set_weights(best)
    history = pd.DataFrame(state["history"])
    pick = history["selection_accuracy"].idxmax() if params.keep == "best" else len(history) - 1
    return (
        model,
        history.assign(chosen=(history.index == pick).astype(int))[HISTORY],
        state["seconds"],
    )


def score(learner, dataset, params, batch=512):
    """(mean cross-entropy without smoothing, accuracy) of a network that gives logits, on all rows of `dataset`: against
    its labels, or with `ferplus` against the class with the most votes."""
    logits = np.concatenate(
        [
            np.asarray(
                learner.predict_on_batch(
                    prepared(dataset.faces[i : i + batch], params.equalize)[..., None]
                ),
                np.float64,
            )
            for i in range(0, len(dataset.faces), batch)
        ]
    )
    labels = batches.targets_of(dataset, params.labels).argmax(axis=1)
    logits -= logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    return float(losses.mean()), float((logits.argmax(axis=1) == labels).mean())


def _compiled(keras, judge, params, side):
    """(learner, optimizer): the network from faces of this side to logits, with the weights of `judge`, ready to train."""
    learner = judge
    if side != SIZE:
        learner = keras.models.clone_model(
            judge, input_tensors=keras.Input((side, side, 1), dtype="uint8")
        )
        if [w.shape for w in learner.weights] != [w.shape for w in judge.weights]:
            raise UserError(
                f"train.low_resolution = {params.low_resolution:g}: the network {params.model} takes no faces of "
                f"{side}x{side}; set it to 0"
            )
        learner.set_weights(judge.get_weights())
    optimizer = optimizers.build(keras, params)
    learner.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=params.label_smoothing
        ),
        metrics=["accuracy"],
        jit_compile=keras.backend.backend() == "jax",
    )  # TensorFlow's XLA is 4-8 times slower on a CPU here
    optimizer.build(learner.trainable_variables)
    return learner, optimizer


def _restore(learner, weights, optimizer, slots):
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
        _restore(learner, weights, optimizer, slots)
    return len(seen) == 1


def _seed_dropout(learner, seed, epoch):
    """Put every layer's random stream at the start of this epoch."""
    for index, layer in enumerate(learner._flatten_layers()):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            state = np.random.SeedSequence((seed, epoch, batches.DROPOUT, index)).generate_state(2)
            generator.state.assign(state.astype(generator.state.dtype))


def _count_epochs_since_best(state, loss, params):
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
