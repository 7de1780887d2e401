"""Results without a network, against which every table is read.

Each function takes (Dataset, params.Baseline) and returns (probabilities float32 (N, C), number of
weights).
"""

import cv2
import numpy as np

from ferlab.data.dataset import SIZE


def majority(dataset, settings):
    """Always the commonest class: the classes' shares of the training images, for every image."""
    train = dataset.labels[(dataset.table["split"] == "train").to_numpy()]
    shares = np.bincount(train, minlength=len(dataset.classes)) / len(train)
    return np.tile(shares.astype(np.float32), (len(dataset.faces), 1)), len(dataset.classes)


def handcrafted(dataset, settings):
    """Histograms of oriented gradients (Dalal & Triggs 2005) and a linear support vector machine.

    One against the rest; probabilities are the softmax of its decision values: their order means
    something, their size does not.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    features = hog(dataset.faces)
    train = (dataset.table["split"] == "train").to_numpy()
    machine = make_pipeline(StandardScaler(), LinearSVC(C=settings.regularisation, dual=False))
    machine.fit(features[train], dataset.labels[train])
    decisions = machine.decision_function(features)
    odds = np.exp(decisions - decisions.max(axis=1, keepdims=True))
    weights = machine[-1].coef_.size + machine[-1].intercept_.size
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32), weights


def hog(faces):
    """float32 (N, 900): nine orientations in cells of 8x8 pixels, normalised in 2x2 cells."""
    descriptor = cv2.HOGDescriptor((SIZE, SIZE), (16, 16), (8, 8), (8, 8), 9)
    return np.stack([descriptor.compute(face).ravel() for face in faces])


KINDS = {"majority": majority, "handcrafted": handcrafted}
