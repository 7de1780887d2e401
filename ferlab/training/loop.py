"""The training loop: stateless randomness, exact resume, equal bytes from equal input.

Order, augmentation and dropout of a step derive from (seed, epoch, index), never from what ran
before. A checkpoint after each epoch holds everything else, so a killed training goes on to the
very same weights. Works on any Keras backend.
"""

import math
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ferlab import models
from ferlab.data.prepare import prepared
from ferlab.files import UserError
from ferlab.training import backend, batches, checkpoint, network, schedule
from ferlab.training.callbacks import Callbacks

HISTORY = [
    "epoch",
    "learning_rate",
    "running_loss",
    "running_accuracy",
    "selection_loss",
    "selection_accuracy",
    "chosen",
]
EVALUATION_BATCH = 512
MIN_SELECTION = 1000  # images, where there are as many: fewer tell epochs apart badly


def fit(dataset, params, resume_state=None, callbacks=None):
    """Train on the split `train`, select on `params.select_on`; `backend.start` comes first.

    params: the train section. resume_state: a file, replaced after each epoch; where it exists, the
    training goes on from it. callbacks: a Callbacks, or any object with its three functions.
    Returns (Keras model with the selected weights, history as DataFrame with the columns HISTORY,
    seconds of each epoch). Raises UserError where there is nothing to select on, where the network
    cannot take the small faces of `low_resolution`, and where the loss is no longer finite.
    """
    callbacks = callbacks or Callbacks()
    train, selection = train_and_selection(dataset, params)
    selection = _affordable(selection, len(train.faces))
    result = models.build(params.model, len(dataset.classes), params.dropout)
    if params.initial != "random":
        models.set_pretrained(params.model, result)
    # on faces of full size, whatever is trained on
    evaluation_model = network.fused(network.to_logits(result))
    state = _start_or_resume(evaluation_model, params, resume_state)
    model = phase = None

    while state.epoch < params.epochs and not _stops_early(state, params):
        began = time.perf_counter()
        if phase != schedule.phase_of(params, state.epoch):
            phase = schedule.phase_of(params, state.epoch)
            model = _compiled_for(*phase, evaluation_model, train, state, params, callbacks)
        row = _train_epoch(model, train, params, state, callbacks)
        state.weights = model.get_weights()
        state.optimizer_state = network.optimizer_state(model)
        row |= _select(evaluation_model, selection, params, state)
        model.set_weights(state.weights)  # where both models are one, selecting has changed them
        _count_epochs_since_best(state, row["selection_loss"], params)
        state.epoch += 1
        state.history.append(row)
        state.seconds.append(round(time.perf_counter() - began, 3))
        if resume_state:
            checkpoint.save(resume_state, state)
        callbacks.on_epoch(row, state.seconds[-1])

    result.set_weights(state.best_weights)
    return result, _history(state, params), state.seconds


def evaluate(model, dataset, params):
    """(mean cross-entropy, accuracy) of a model that gives logits, on all rows of `dataset`.

    Measured without label smoothing against the dataset's labels, or with `labels: ferplus` against
    the class with the most votes.
    """
    logits = np.concatenate(
        [
            np.asarray(
                model.predict_on_batch(
                    prepared(dataset.faces[i : i + EVALUATION_BATCH], params.equalize)[..., None]
                ),
                np.float64,
            )
            for i in range(0, len(dataset.faces), EVALUATION_BATCH)
        ]
    )
    labels = batches.targets_of(dataset, params.labels).argmax(axis=1)
    logits -= logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    return float(losses.mean()), float((logits.argmax(axis=1) == labels).mean())


def train_and_selection(dataset, params):
    """The rows to train on and those to select on, each with a target.

    Raises UserError where there are none to select on.
    """
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
            f"train.select_on = {params.select_on!r}: this dataset has no {params.select_on} "
            f"images; {fix}"
        )
    return batches.supervised(train, params.labels), batches.supervised(selection, params.labels)


def _affordable(selection, training_images):
    """The rows on which epochs are compared: all, or evenly spaced ones where all cost too much.

    Scoring a face costs a third of training on it; half as many as there are to train on are
    scored, but no fewer than MIN_SELECTION. The full split is scored by the stage evaluate.
    """
    count = max(training_images // 2, MIN_SELECTION)
    if len(selection.faces) <= count:
        return selection
    return selection.where(np.linspace(0, len(selection.faces) - 1, count).round().astype(int))


def _start_or_resume(evaluation_model, params, resume_state):
    """The State of the file `resume_state`, or where there is none that of a fresh model."""
    if resume_state:
        backend.share_file(Path(resume_state))
        if Path(resume_state).exists():
            return checkpoint.load(resume_state)
    weights = evaluation_model.get_weights()
    return checkpoint.State(averaged_weights=weights if params.averaging else [])


def _compiled_for(side, frozen, evaluation_model, train, state, params, callbacks):
    """The model for the coming epochs, whose faces have this side, in the state of the training."""
    model = network.compiled(evaluation_model, params, side, frozen)
    if state.epoch and state.epoch == params.frozen:
        model.set_weights(state.weights)  # now all layers learn: the optimizer starts anew
    elif state.epoch:
        network.restore(model, state.weights, state.optimizer_state)
    if callbacks.on_nondeterministic and not _repeats(model, side, train, state, params, callbacks):
        callbacks.on_nondeterministic()
    return model


def _repeats(model, side, train, state, params, callbacks):
    """Whether this machine repeats a step of this model to the last bit; remembered, if known."""
    known = callbacks.known_repeats
    name = (
        f"{params.model}, {side}x{side}, batches of {params.batch_size}, {params.optimizer}, "
        f"{params.precision}, {params.backend}"
    )
    if name not in known:
        batch = next(batches.batches(train, params, state.epoch))
        known[name] = network.is_deterministic(model, batch, params.seed, state.epoch)
    return known[name]


def _train_epoch(model, train, params, state, callbacks):
    """One pass over the training images; returns the first four columns of HISTORY.

    Updates the model and, where there are any, the averaged weights.
    """
    steps = math.ceil(len(train.faces) / params.batch_size)
    # Loss and accuracy summed over the epoch's images: Keras' own start anew with every batch.
    sums = np.zeros(2)
    network.seed_dropout(model, params.seed, state.epoch)
    for step, batch in enumerate(batches.batches(train, params, state.epoch)):
        total = state.epoch * steps + step
        rate = state.rate_scale * schedule.rate(total, params.epochs * steps, params)
        model.optimizer.learning_rate = rate
        logs = backend.step(model, *batch)
        sums += len(batch[0]) * np.array([logs["loss"], logs["accuracy"]], np.float64)
        if params.averaging:
            state.averaged_weights = _averaged(state.averaged_weights, model, total, params)
        callbacks.on_step(state.epoch, step, steps)
    loss, accuracy = (sums / len(train.faces)).tolist()
    if not math.isfinite(loss):
        raise UserError(
            f"epoch {state.epoch + 1}: the loss is {loss}; "
            f"lower train.learning_rate ({params.learning_rate:g})"
        )
    return {
        "epoch": state.epoch + 1,
        "learning_rate": float(np.asarray(model.optimizer.learning_rate)),
        "running_loss": loss,
        "running_accuracy": accuracy,
    }


def _averaged(averaged, model, total_steps, params):
    """The exponential average of the weights, one step further."""
    # a lower momentum first, so that the first steps do not weigh for long
    momentum = min(params.averaging, (1 + total_steps) / (10 + total_steps))
    return [
        momentum * average + (1 - momentum) * weight
        for average, weight in zip(averaged, model.get_weights(), strict=True)
    ]


def _select(evaluation_model, selection, params, state):
    """Evaluate the epoch's weights, or their average, and keep them where they are the best.

    Returns the columns selection_loss and selection_accuracy of HISTORY. Changes the weights of
    `evaluation_model`.
    """
    evaluation_model.set_weights(state.averaged_weights if params.averaging else state.weights)
    loss, accuracy = evaluate(evaluation_model, selection, params)
    if params.keep == "last" or accuracy > state.best_accuracy:
        state.best_accuracy, state.best_weights = accuracy, evaluation_model.get_weights()
    return {"selection_loss": loss, "selection_accuracy": accuracy}


def _count_epochs_since_best(state, loss, params):
    """Count the epochs without a lower selection loss, and halve the rate on a plateau."""
    if loss < state.best_loss:
        state.best_loss, state.epochs_since_best, state.epochs_since_reduction = loss, 0, 0
        return
    state.epochs_since_best += 1
    state.epochs_since_reduction += 1
    if params.reduce_on_plateau and state.epochs_since_reduction >= params.reduce_on_plateau:
        state.rate_scale, state.epochs_since_reduction = state.rate_scale / 2, 0


def _stops_early(state, params):
    return bool(params.early_stopping) and state.epochs_since_best >= params.early_stopping


def _history(state, params):
    """The history as DataFrame; `chosen` is 1 in the row of the selected weights, else 0."""
    history = pd.DataFrame(state.history)
    best = history["selection_accuracy"].idxmax() if params.keep == "best" else len(history) - 1
    return history.assign(chosen=(history.index == best).astype(int))[HISTORY]
