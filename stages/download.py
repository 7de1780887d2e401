"""download: the faces that `download.dataset` names -> data/raw, data/source.json.

Reads the section `download`. The built-in sample takes 10 seconds, fer2013.zip 3.
"""

from pathlib import Path

from ferlab.data.readers import sources
from ferlab.files import write_json
from ferlab.progress import counted
from stages import run

JPEG = (
    "these are Kaggle's class folders: the official faces saved as JPEG, 1.3 gray levels apart on "
    "average; results are named fer2013-jpeg and compare with those of fer2013 only with that said"
)


def main(experiment, raw=Path("data/raw")):
    dataset, source = sources.read(experiment.settings.download.dataset)
    dataset.save(raw)
    # nothing depends on the source: equal faces give an equal pipeline wherever they came from
    write_json(raw.with_name("source.json"), source)

    counts = ", ".join(f"{split} {count}" for split, count in dataset.counts().sum().items())
    images = counted(len(dataset.faces), "image")
    print(f"{dataset.name}: {images} ({counts}), digest {dataset.digest[:12]}")
    if "notes" in source:
        print(source["notes"])
    for line in (*dataset.identity.get("notes", ()), *dataset.identity.get("summary", ())):
        print(line)
    if dataset.name == "fer2013-jpeg":
        print(JPEG)


if __name__ == "__main__":
    run(main)
