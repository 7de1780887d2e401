"""How `make bench` shows its results: two figures, and a table for the terminal.

results: the content of reports/bench.json.
"""

from benchmarks.ways import TEXTS
from ferlab.progress import duration
from ferlab.reporting.figures.style import ACCENT, INK, MUTED, figure


def draw(path, results):
    """Images a second of each way, and its share of the machine's peak."""
    ways, machine = results["ways"], results["machine"]
    speeds = [way["images_per_second"] for way in ways.values()]
    whiskers = [
        [way["images_per_second"] - way["slowest"] for way in ways.values()],
        [way["fastest"] - way["images_per_second"] for way in ways.values()],
    ]
    labels = [
        f"{way['images_per_second']:,.0f}   {100 * way['share_of_peak']:.0f} % of peak"
        for way in ways.values()
    ]
    names = ["silva_2025, as the texts train" if name == TEXTS else name for name in ways]
    colours = [MUTED] + [INK] * (len(ways) - 1)
    with figure(path, 8, 3.8) as (_, axes):
        bars = axes.barh(range(len(ways)), speeds, xerr=whiskers, color=colours, ecolor=ACCENT)
        axes.bar_label(bars, labels, padding=8, fontsize=8.5)
        axes.set_yticks(range(len(ways)), names)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(
            title="Training: images per second",
            xlim=(0, 1.35 * max(speeds)),
            xlabel=f"{machine['cores']} cores, {machine['cpu']}; "
            "whiskers: slowest and fastest turn",
        )


def draw_scale(path, scale):
    """Images a second and the process's own memory against the size of the training set."""
    with figure(path, 8, 2.8, columns=2) as (_, panels):
        _draw_line(panels[0], scale, "images_per_second", "Images per second", ACCENT)
        _draw_line(panels[1], scale, "anonymous_mb", "Memory of the process's own, MB", INK)


def _draw_line(axes, scale, key, title, colour):
    times, values = [int(name) for name in scale], [way[key] or 0 for way in scale.values()]
    axes.plot(times, values, color=colour, marker="o")
    style = {"textcoords": "offset points", "ha": "center", "fontsize": 8.5}
    for x, value in zip(times, values, strict=True):
        axes.annotate(f"{value:,.0f}", (x, value), (0, 7), **style)
    axes.set_xscale("log", base=4)
    axes.set_xticks(times, [f"{x}x" for x in times])
    axes.set(
        title=title,
        xlabel="size of the training set, FER2013 = 1",
        ylim=(0, 1.25 * max(*values, 1)),
        xlim=(min(times) / 1.6, max(times) * 1.6),
    )


def table(results):
    """What the terminal shows."""
    lines = [
        f"{'way':<36}{'images/s':>9}{'s/epoch':>9}{'of peak':>9}{'feed':>8}{'memory':>11}",
        *(_way_line(name, way) for name, way in results["ways"].items()),
        "",
        f"seconds of training: {_listed(results['seconds'])}",
        f"milliseconds to move 128 faces: {_listed(results['feed_ms'])}",
        f"seconds of the stages on FER2013: {_listed(results['pipeline_seconds'])}",
        f"seconds of `dvc repro` with nothing to do: {_listed(results['no_op_seconds'])}",
    ]
    for times, way in results.get("scale", {}).items():
        memory = way["anonymous_mb"] or 0  # known on Linux only
        lines.append(
            f"{times:>2} x the data: {way['images_per_second']:,.0f} images/s, "
            f"{memory:,} MB of its own"
        )
    lines += [_until_line(name, levels) for name, levels in results.get("until", {}).items()]
    return "\n".join([*lines, "", f"took {duration(results['took_seconds'])}"])


def _way_line(name, way):
    feed = f"{100 * way['feed_share']:.1f} %" if "feed_share" in way else ""
    return (
        f"{name:<36}{way['images_per_second']:>9,.0f}{way['epoch_seconds']:>9.1f}"
        f"{100 * way['share_of_peak']:>7.0f} %{feed:>8}{way['peak_mb']:>8,} MB"
    )


def _until_line(name, levels):
    reached = [
        f"{level} of public after {seconds} s" if seconds else f"{level} not reached"
        for level, seconds in levels.items()
    ]
    return f"{name}: {', '.join(reached)}"


def _listed(values):
    if not values:
        return "not measured, as the workspace is not up to date (make repro)"
    return ", ".join(f"{name} {value:,}" for name, value in values.items())
