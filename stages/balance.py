"""balance: data/raw and data/audit.csv -> data/balanced and reports/balance."""

from ferlab.data import audit, balance
from ferlab.data.dataset import Dataset
from ferlab.files import replacing, write_csv
from ferlab.reporting.figures import data_figures
from stages import run


def main(here):
    settings = here.settings.balance
    before = Dataset.load(here.raw)
    after = balance.balance(before, settings, audit.read(here.audit))
    after.save(here.balanced)
    table = balance.counts_table(before, after)
    with replacing(here.balance) as folder:
        folder.mkdir()
        write_csv(folder / "counts.csv", table)
        data_figures.balance_counts(table, folder / "counts.png")
    train = table[table["split"] == "train"]
    print(
        f"strategy {settings.strategy}: {train['before'].sum()} training images before, {train['after'].sum()} after"
    )


if __name__ == "__main__":
    run(main)
