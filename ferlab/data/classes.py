"""The seven expressions of FER2013, in alphabetical order: a label's index is its place here."""

CLASSES = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
