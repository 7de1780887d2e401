"""download: the faces that params.yaml names -> data/raw, and data/source.json on where they came from."""

from ferlab.data.readers import sources
from ferlab.files import write_json
from stages import run


def main(here):
    data, source = sources.read(here.settings.download.dataset)
    data.save(here.raw)
    write_json(
        here.raw.with_name("source.json"), source
    )  # nothing depends on it: equal content gives an equal pipeline
    splits = ", ".join(f"{split} {count}" for split, count in data.counts().sum().items())
    print(f"{data.name}: {len(data.faces)} images ({splits}), digest {data.digest[:12]}")
    print(*data.identity.get("summary", ()), sep="\n", end="\n" * bool(data.identity))
    if data.name == "fer2013-jpeg":
        print(
            "these are Kaggle's class folders: the official faces saved as JPEG, 1.3 gray levels apart on average; results are "
            "named fer2013-jpeg and compare with those of fer2013 only with that said"
        )


if __name__ == "__main__":
    run(main)
