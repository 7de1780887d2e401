"""eda: data/raw -> data/audit.csv and reports/eda (counts, duplicates, FER+ agreement, figures).

Reads the section `eda`. FER2013 takes 10 seconds.
"""

from pathlib import Path

from ferlab.data import agreement, audit
from ferlab.data.dataset import Dataset
from ferlab.files import replacing, write_csv, write_json
from ferlab.progress import counted
from ferlab.reporting.figures import data_figures, face_figures
from stages import run


def main(
    experiment, raw=Path("data/raw"), audit_csv=Path("data/audit.csv"), eda=Path("reports/eda")
):
    settings, dataset = experiment.settings.eda, Dataset.load(raw)
    table = audit.audit(dataset, settings.near_duplicate)
    summary = audit.summary(table, dataset)
    majority = agreement.named(table["official"], dataset.classes)
    write_csv(audit_csv, table)
    with replacing(eda) as folder:
        folder.mkdir()
        write_json(folder / "summary.json", summary)
        write_csv(folder / "counts.csv", dataset.counts().rename_axis("label").reset_index())
        duplicates = table[table["group"] >= 0].sort_values("group", kind="stable")
        write_csv(folder / "duplicates.csv", duplicates)
        write_csv(folder / "pixel_statistics.csv", audit.statistics(table))
        data_figures.class_counts(
            dataset.counts(), folder / "class_counts.png", f"Images per class: {dataset.name}"
        )
        face_figures.sample_grid(dataset, folder / "sample_grid.png", settings.grid)
        face_figures.mean_faces(dataset, folder / "mean_faces.png")
        data_figures.pixel_statistics(table, folder / "pixel_statistics.png")
        face_figures.duplicates(dataset, table, folder / "duplicates.png")
        votes = _ferplus(folder, dataset, table, majority) if (majority != "").any() else None

    print(
        f"{counted(summary['images'], 'image')}, {summary['blank']:,} blank; "
        f"{counted(summary['duplicate_groups'], 'group')} of exact duplicates, "
        f"{summary['groups_across_splits']} across splits, "
        f"{summary['groups_conflicting']} with contradicting labels"
    )
    if votes is not None:
        share = 100 * agreement.contradicted(votes)
        print(
            f"FER+: most of ten people contradict {share:.1f} % of {votes['images']:,} labels; "
            f"no majority names {votes['unclear']:,}"
        )


def _ferplus(folder, dataset, table, majority):
    """Write what FER+'s annotators say of these labels; returns the counts over all classes."""
    people = agreement.confusion(table["label"], majority, dataset.classes)
    counts = agreement.counts(people)
    write_csv(folder / "ferplus.csv", people.reset_index())
    write_csv(folder / "agreement.csv", agreement.by_split(table, majority, dataset.classes))
    title = f"How often do people agree with this label: {dataset.name}"
    data_figures.agreement(counts, folder / "agreement.png", title)
    return counts.sum()


if __name__ == "__main__":
    run(main)
