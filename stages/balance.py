"""balance: data/raw, data/audit.csv -> data/balanced and reports/balance (counts and figure).

Reads the section `balance`. Seconds.
"""

from pathlib import Path

from ferlab.data import audit, balance
from ferlab.data.dataset import Dataset
from ferlab.files import replacing, write_csv
from ferlab.progress import counted
from ferlab.reporting.figures import data_figures
from stages import run


def main(
    experiment,
    raw=Path("data/raw"),
    audit_csv=Path("data/audit.csv"),
    balanced=Path("data/balanced"),
    counts=Path("reports/balance"),
):
    settings, before = experiment.settings.balance, Dataset.load(raw)
    after = balance.balance(before, settings, audit.of(audit_csv, before))
    after.save(balanced)
    table = balance.counts_table(before, after)
    with replacing(counts) as folder:
        folder.mkdir()
        write_csv(folder / "counts.csv", table)
        data_figures.balance_counts(table, folder / "counts.png")

    train = table[table["split"] == "train"]
    print(
        f"strategy {settings.strategy}: {counted(train['before'].sum(), 'training image')} before, "
        f"{train['after'].sum()} after"
    )
    if settings.holdout:
        print(f"holdout {settings.holdout}: {balance.held_out(before, after)}")


if __name__ == "__main__":
    run(main)
