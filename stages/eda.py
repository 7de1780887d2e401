"""eda: data/raw -> data/audit.csv and reports/eda."""

from ferlab import audit, figures
from ferlab.dataset import Dataset
from ferlab.files import replacing, write_csv, write_json
from stages import run


def main(here):
    settings = here.settings.eda
    dataset = Dataset.load(here.raw)
    table = audit.audit(dataset, settings.near_duplicate)
    found = audit.summary(table, dataset)
    write_csv(here.audit, table)
    with replacing(here.eda) as folder:
        folder.mkdir()
        write_json(folder / "summary.json", found)
        write_csv(folder / "counts.csv", dataset.counts().rename_axis("label").reset_index())
        write_csv(folder / "duplicates.csv", table[table["group"] >= 0].sort_values("group", kind="stable"))
        write_csv(folder / "pixel_statistics.csv", audit.statistics(table))
        figures.class_counts(dataset.counts(), folder / "class_counts.png", f"Images per class: {dataset.name}")
        figures.sample_grid(dataset, folder / "sample_grid.png", settings.grid)
        figures.mean_faces(dataset, folder / "mean_faces.png")
        figures.pixel_statistics(table, folder / "pixel_statistics.png")
        figures.duplicates(dataset, table, folder / "duplicates.png")
    print(f"{found['images']} images, {found['blank']} blank; {found['duplicate_groups']} groups of exact duplicates, "
          f"{found['groups_across_splits']} across splits, {found['groups_conflicting']} with contradicting labels")


if __name__ == "__main__":
    run(main)
