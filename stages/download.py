"""download: the faces that params.yaml names -> data/raw, and data/source.json on where they came from."""

from pathlib import Path

from ferlab import params, sources
from ferlab.files import write_json
from stages import run


def main():
    data, source = sources.read(params.load().download.dataset)
    data.save(Path("data/raw"))
    write_json(Path("data/source.json"), source)  # nothing depends on it: equal content gives an equal pipeline
    splits = ", ".join(f"{split} {count}" for split, count in data.counts().sum().items())
    print(f"{data.name}: {len(data.faces)} images ({splits}), digest {data.digest[:12]}")


if __name__ == "__main__":
    run(main)
