"""Whether DVC or a stage is at work here: what it has in hand is then neither missing nor left."""

from pathlib import Path

from ferlab import files


def commands():
    """[(process id, command)] of the living `dvc` and `python -m stages.<name>` of this repository.

    Also those in the temporary folders of experiments. Processes whose folder this user may not
    ask for are not seen.
    """
    import psutil

    top, found = files.root(), []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if _is_ours(words) and Path(process.cwd()).is_relative_to(top):
                found.append((process.pid, _short(words)))
        except psutil.Error:
            continue
    return sorted(found)


def _is_ours(words):
    """`dvc ...`, `python .../dvc ...`, `python -m dvc ...` or `python -m stages.train ...`."""
    program = [Path(word).name for word in words[:2]]
    module = words[words.index("-m") + 1 :][:1] if "-m" in words[:4] else []
    return "dvc" in program or module == ["dvc"] or "".join(module).startswith("stages.")


def _short(words):
    """The command without the interpreter and its options, at most 60 characters."""
    first = next(
        (
            place
            for place, word in enumerate(words)
            if Path(word).name == "dvc" or "stages." in word
        ),
        0,
    )
    return files.one_line(" ".join([Path(words[first]).name, *words[first + 1 :]]), 60)
