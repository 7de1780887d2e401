"""eda: data/raw -> data/audit.csv and reports/eda."""

from ferlab.data import audit
from ferlab.data.dataset import Dataset
from ferlab.evaluation import agreement
from ferlab.files import replacing, write_csv, write_json
from ferlab.reporting.figures import data_figures, face_figures
from stages import run


def main(here):
    settings = here.settings.eda
    dataset = Dataset.load(here.raw)
    table = audit.audit(dataset, settings.near_duplicate)
    found = audit.summary(table, dataset)
    names = agreement.named(table["official"], dataset.classes)
    people = agreement.confusion(table["label"], names, dataset.classes)
    known = (names != "").any()
    write_csv(here.audit, table)
    with replacing(here.eda) as folder:
        folder.mkdir()
        write_json(folder / "summary.json", found)
        write_csv(folder / "counts.csv", dataset.counts().rename_axis("label").reset_index())
        write_csv(
            folder / "duplicates.csv",
            table[table["group"] >= 0].sort_values("group", kind="stable"),
        )
        write_csv(folder / "pixel_statistics.csv", audit.statistics(table))
        data_figures.class_counts(
            dataset.counts(), folder / "class_counts.png", f"Images per class: {dataset.name}"
        )
        face_figures.sample_grid(dataset, folder / "sample_grid.png", settings.grid)
        face_figures.mean_faces(dataset, folder / "mean_faces.png")
        data_figures.pixel_statistics(table, folder / "pixel_statistics.png")
        face_figures.duplicates(dataset, table, folder / "duplicates.png")
        if known:
            write_csv(folder / "ferplus.csv", people.reset_index())
            write_csv(folder / "agreement.csv", agreement.by_split(table, names, dataset.classes))
            data_figures.agreement(
                agreement.counts(people),
                folder / "agreement.png",
                f"How often do people agree with this label: {dataset.name}",
            )
    print(
        f"{found['images']} images, {found['blank']} blank; {found['duplicate_groups']} groups of exact duplicates, "
        f"{found['groups_across_splits']} across splits, {found['groups_conflicting']} with contradicting labels"
    )
    if known:
        all_labels = agreement.counts(people).sum()
        share = 100 * agreement.contradicted(all_labels)
        print(
            f"FER+: most of ten people contradict {share:.1f} % of {all_labels['images']:,} labels; "
            f"no majority names {all_labels['unclear']:,}"
        )


if __name__ == "__main__":
    run(main)
