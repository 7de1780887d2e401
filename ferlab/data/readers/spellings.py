"""How FER2013 and its copies write classes and splits: codes, column values, folder and file
names."""

# The code of a class in the CSV is its place here; not the alphabetical order of CLASSES.
CSV_CODES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_CLASS_SPELLINGS = {
    "angry": "angry anger",
    "disgust": "disgust disgusted",
    "fear": "fear fearful feared scared afraid",
    "happy": "happy happiness joy",
    "neutral": "neutral neutrality contentless",
    "sad": "sad sadness",
    "surprise": "surprise surprised",
}
_SPLIT_SPELLINGS = {
    "train": "train training",
    "validation": "validation valid val",
    "test": "test testing",
    "public": "public publictest",
    "private": "private privatetest",
}


def _by_spelling(spellings):
    return {word: name for name, words in spellings.items() for word in words.split()}


CLASS_OF = _by_spelling(_CLASS_SPELLINGS)  # in lower case
SPLIT_OF = _by_spelling(_SPLIT_SPELLINGS)
# Of the official CSV's Usage and of the file names made from it, such as PublicTest_00012.png.
OFFICIAL = {"Training": "train", "PublicTest": "public", "PrivateTest": "private"}
PREFIX_OF = {
    **{split: prefix for prefix, split in OFFICIAL.items()},
    "validation": "Validation",
    "test": "Test",
}
