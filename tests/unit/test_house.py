"""The order of the house: who may import whom, how large a module is, which words are given up."""

import ast
import io
import re
import tokenize
from collections import Counter

import pytest
from ruamel.yaml import YAML

from tests.repository import TOP

MAX_LINES = 250
MAX_MODULES = 10
# From the bottom up: each part may import what stands in its own row and in the rows above it.
LAYERS = (
    ("files", "progress", "secrets", "dvc_files"),
    ("data",),
    ("params", "params_errors", "recipes"),
    ("models",),
    ("training",),
    ("evaluation",),
    ("tracking",),
    ("reporting",),
    ("serving",),
    ("scaling",),
    ("stages", "__main__", "cli", "doctor", "workspace"),
)
LEVEL = {part: level for level, row in enumerate(LAYERS) for part in row}
GIVEN_UP = ("anchor", "bury", "cooled", "doubtful", "judge", "learner", "slots", "uneven")
LIBRARIES_OWN = ("__slots__", "bbox_to_anchor")  # names that Python and matplotlib gave
MODULES = [path for name in ("ferlab", "stages") for path in sorted((TOP / name).rglob("*.py"))]
NAMED = [
    *MODULES,
    *(path for name in ("benchmarks", "tests") for path in sorted((TOP / name).rglob("*.py"))),
]


def part_of(module):
    """The part that a dotted name belongs to: `data` of ferlab.data.audit, `stages` of stages."""
    top, *rest = module.split(".")
    return rest[0] if top == "ferlab" and rest else top


def imported(tree, package):
    """(line, dotted name) of every import in a module of `package`, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def upward(text, name):
    """The imports that the module of this dotted name may not do, each as "line: dotted name"."""
    level, package = LEVEL.get(part_of(name), 0), name.split(".")[:-1]
    return [
        f"{line}: {other}"
        for line, other in imported(ast.parse(text), package)
        if part_of(other) in ("benchmarks", "tests") or LEVEL.get(part_of(other), 0) > level
    ]


def words_of(text):
    """{word: line} of all words that a module's identifiers are made of, in lower case."""
    return {
        word.lower(): token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.NAME and token.string not in LIBRARIES_OWN
        for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", token.string)
    }


def given_up(words):
    return sorted(word for word in words if word.startswith(GIVEN_UP))


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("ferlab.data.audit", "from ferlab import files\nimport numpy", []),
        ("ferlab.data.audit", "from ferlab.data.dataset import Dataset", []),
        ("ferlab.data.audit", "from ferlab import training", ["1: ferlab.training"]),
        ("ferlab.data.audit", "def f():\n    import ferlab.models", ["2: ferlab.models"]),
        ("ferlab.data.audit", "from ..training import loop", ["1: ferlab.training.loop"]),
        ("ferlab.files", "from ferlab.data import audit", ["1: ferlab.data.audit"]),
        ("ferlab.doctor", "from ferlab.scaling import sweep\nfrom stages import train", []),
        ("ferlab.scaling.sweep", "import stages.train", ["1: stages.train"]),
        ("stages.train", "from tests import builders", ["1: tests.builders"]),
    ],
)
def test_an_upward_import_is_seen_wherever_it_stands(name, text, wrong):
    assert upward(text, name) == wrong


def test_imports_go_down_only():
    wrong = {}
    for path in MODULES:
        name = ".".join(path.relative_to(TOP).with_suffix("").parts)
        wrong[name] = upward(path.read_text(), name)
    assert {name: lines for name, lines in wrong.items() if lines} == {}


def test_every_part_has_its_place_in_the_order():
    parts = {
        path.stem if path.suffix else path.name
        for path in (TOP / "ferlab").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem != "__init__"
    }
    assert parts | {"stages"} == set(LEVEL)


def test_no_module_and_no_folder_is_too_large():
    lines = {str(path.relative_to(TOP)): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}
    modules = Counter(
        str(path.parent.relative_to(TOP))
        for path in MODULES
        if path.name != "__init__.py" and path.is_relative_to(TOP / "ferlab")
    )
    modules.pop("ferlab/models")  # a list: one file per network
    assert {name: count for name, count in modules.items() if count > MAX_MODULES} == {}


def keys(values):
    """All keys of nested mappings, as one text each."""
    for key, value in values.items() if isinstance(values, dict) else ():
        yield str(key)
        yield from keys(value)


def test_words_that_were_given_up_do_not_come_back_as_names():
    assert given_up(words_of("class JudgeOf: my_slots = learners\n__slots__ = prejudge = 1")) == [
        "judge",
        "learners",
        "slots",
    ]
    named = {}
    for path in NAMED:
        words = words_of(path.read_text()) | dict.fromkeys(re.findall("[a-z]+", path.stem), 0)
        named[str(path.relative_to(TOP))] = [
            f"{words[word]}: {word}" for word in given_up(words) if path.name != "test_house.py"
        ]
    for name in ("params.yaml", "dvc.yaml", "recipes/dvc.yaml", "recipes/keys.yaml"):
        text = "\n".join(keys(YAML(typ="safe").load((TOP / name).read_text())))
        named[name] = given_up(re.findall("[a-z]+", text))
    assert {name: words for name, words in named.items() if words} == {}
