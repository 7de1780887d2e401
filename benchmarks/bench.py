"""`make bench`: what training costs on this machine, the texts' way and ours.

Writes reports/bench/<processor>.json and .png, and reports/bench.md, a table of all processors that
were measured. Every way of training is a process of its own; they take turns, a few seconds
each, so that a machine whose speed drifts treats them alike. `make bench LONG=1` also trains until
59.53, 62.08 and 65 % of public are reached, and measures the data at 1, 4 and 16 times their size
(<processor>-scale.png). Needs FER2013; takes less than four minutes, the long form an hour.
"""

import argparse
import contextlib
import os
import platform
import re
import time
from pathlib import Path

from benchmarks import FACES, bench_parts, bench_report, fit, read_faces, run, say, training_images
from benchmarks.ways import WAYS, Way, train_settings
from ferlab import files
from ferlab.data.dataset import Dataset
from ferlab.tracking import provenance

FOLDER, PAGE = Path("reports/bench"), Path("reports/bench.md")
# the fastest of these matrix products that the processor has decides its speed: by its flag
KINDS = {
    "amx_bf16": "amx",
    "avx512_bf16": "avx512-bf16",
    "avx512f": "avx512",
    "avx2": "avx2",
}
ROUNDS, SECONDS = 3, 2.0  # turns of each way, and of each turn
SILVA_IMAGES = 35 * 22_968  # training images that silva_2025 goes through
# silva_2025's and fourlayer_2025's published accuracies, and people's
LEVELS = (0.5953, 0.6208, 0.65)
SCALES = (1, 4, 16)  # times the training data


def bench(long):
    """Measure everything, and write what is there after each part, as the later ones take long."""
    began = time.perf_counter()
    if not os.environ.get("FER2013"):
        raise files.UserError(
            "bench: FER2013 names no copy of the real dataset; export FER2013=~/fer2013.zip"
        )
    say("FER2013 and the machine's matrix products")
    read_faces()
    results = {
        "machine": provenance.machine(),
        "kind": kind(),
        "dataset": Dataset.load(FACES).name,
        "peak_gflops": bench_parts.alone(bench_parts.peak),
    }
    say(f"{len(WAYS)} ways of training, {ROUNDS} turns each")
    results["ways"] = race({way: (way, 1) for way in WAYS})
    add_shares(results["ways"], results["peak_gflops"])
    results["seconds"] = totals(results["ways"])
    _write(results, began)  # what was measured is kept, whatever happens now
    say("the feed, and the stages that do not train")
    results["feed_ms"] = bench_parts.alone(bench_parts.feeds)
    results["pipeline_seconds"] = bench_parts.pipeline()
    results["no_op_seconds"] = bench_parts.no_op()
    _write(results, began)
    if long:
        _measure_long(results, began)
    return results


def _measure_long(results, began):
    say(f"{', '.join(map(str, SCALES))} times the data")
    results["scale"] = race({str(times): ("speedrun", times) for times in SCALES})
    results["until"] = {}
    levels = ", ".join(f"{100 * level:.2f}" for level in LEVELS)
    for recipe in (None, "speedrun", "silva_2025"):
        _write(results, began)
        say(f"training {recipe or 'the default'} until {levels} % of public")
        results["until"][recipe or "default"] = bench_parts.alone(until, recipe)
    _write(results, began)


def _write(results, began):
    """Write numbers and figures as far as they are known, and the table of all processors."""
    results["took_seconds"] = round(time.perf_counter() - began)
    FOLDER.mkdir(parents=True, exist_ok=True)
    name = file_name(results["machine"]["cpu"])
    files.write_json(FOLDER / f"{name}.json", results)
    with files.replacing(FOLDER / f"{name}.png") as part, open(part, "wb") as file:
        bench_report.draw(file, results)
    if "scale" in results:
        scale = FOLDER / f"{name}-scale.png"
        with files.replacing(scale) as part, open(part, "wb") as file:
            bench_report.draw_scale(file, results["scale"])
    files.write_text(PAGE, bench_report.page([files.read_json(p) for p in FOLDER.glob("*.json")]))


def file_name(cpu):
    """A processor's name as that of a file: `AMD EPYC (family 26, model 2)` has
    amd-epyc-family-26-model-2.
    """
    return "-".join(re.findall("[a-z0-9]+", cpu.lower()))


def kind():
    """The kind of this machine's processor: its fastest matrix products, or without any known flag
    the name of its architecture.
    """
    flags = []
    with contextlib.suppress(OSError):
        for line in (
            Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
        ):
            if line.startswith("flags"):
                flags = line.split()
    return next((name for flag, name in KINDS.items() if flag in flags), platform.machine())


def race(entries):
    """{name: result} of ways that take turns; entries: {name: (way, times the data)}."""
    ways = {name: Way(*entry) for name, entry in entries.items()}
    try:
        for _ in range(ROUNDS):
            for way in ways.values():
                way.turn(SECONDS)
        return {name: way.result() for name, way in ways.items()}
    finally:
        for way in ways.values():
            way.close()


def add_shares(ways, peak):
    """Add to each result the seconds of an epoch, and the shares of the machine's peak and of the
    feed.
    """
    faces = training_images()
    for result in ways.values():
        speed = result["images_per_second"]
        # forward once, backward twice, two operations each
        work = 6 * result["multiply_adds"] * speed / 1e9
        result["epoch_seconds"] = round(faces / speed, 1)
        result["share_of_peak"] = round(work / peak[result["precision"]], 3)
        if "feed_ms" in result:
            batch_ms = 1000 * result["batch_size"] / speed
            result["feed_share"] = round(result["feed_ms"] / batch_ms, 4)


def totals(ways):
    """Seconds of training, from the speeds of this run: silva_2025's 35 epochs in three ways, and
    the speedrun.
    """
    epochs = train_settings("speedrun", {}).epochs
    speeds = {name: result["images_per_second"] for name, result in ways.items()}
    seconds = {
        name: round(SILVA_IMAGES / speeds[name])
        for name in WAYS
        if ways[name]["model"] == "silva_2025"
    }
    return seconds | {"speedrun": round(training_images() * epochs / speeds["speedrun"])}


def until(recipe):
    """{level: seconds or None} until the public split first reaches each level, in whole epochs, in
    this process.
    """
    settings = train_settings(recipe, {"select_on": "public"})
    passed, reached = 0.0, dict.fromkeys(LEVELS)

    class Reached(Exception):
        pass

    def epoch(row, seconds):
        nonlocal passed
        passed += seconds
        for level in LEVELS:
            if reached[level] is None and row["selection_accuracy"] >= level:
                reached[level] = round(passed)
        if reached[LEVELS[-1]] is not None:
            raise Reached

    with contextlib.suppress(Reached):
        fit(Dataset.load(FACES), settings, epoch)
    return {f"{100 * level:.2f} %": seconds for level, seconds in reached.items()}


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--long",
        action="store_true",
        help="also 4 and 16 times the data, and seconds to published accuracies",
    )
    say(bench_report.table(bench(parser.parse_args().long)))
    say(f"wrote {PAGE}, and numbers and figures in {FOLDER}")


if __name__ == "__main__":
    run(main)
