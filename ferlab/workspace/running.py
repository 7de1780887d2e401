"""Whether DVC or a stage is at work here: what it has in hand is then neither missing nor left."""

from pathlib import Path

from ferlab import files


def commands(top=None):
    """[(process id, command)] of the living `dvc` and `python -m stages.<name>` of a repository.

    top: its folder, by default that of this one. Those in the temporary folders of its experiments
    count as well. Processes whose folder this user may not ask for are not seen.
    """
    return [(pid, _short(words)) for pid, words in _processes(_is_ours, top)]


def git():
    """Whether a Git command is at work in this repository, as `git commit` while one writes."""
    return bool(_processes(lambda words: words[:1] and Path(words[0]).name == "git"))


def _processes(is_wanted, top=None):
    """[(process id, its words)] of the living processes in a repository that are wanted."""
    import psutil

    top, found = top or files.root(), []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if is_wanted(words) and Path(process.cwd()).is_relative_to(top):
                found.append((process.pid, words))
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
