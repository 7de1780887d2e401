"""What runs here: pinned and hashed packages, known weaknesses only by dated exceptions, no pickle, no server beyond loopback."""

import ast
import datetime
import re
import subprocess

import pytest
from packaging.markers import Marker

from tests import audit
from tests.conftest import REPOSITORY

PLATFORMS = {
    "Linux x86-64": ("linux", "Linux", "x86_64"),
    "Linux arm64": ("linux", "Linux", "aarch64"),
    "macOS arm64": ("darwin", "Darwin", "arm64"),
}
SOURCES = [*(REPOSITORY / "ferlab").rglob("*.py"), *(REPOSITORY / "stages").glob("*.py")]


def pins(lock):
    """[(name, version, marker or None, hashes)] of a lock file."""
    entries = re.split(r"(?m)^(?=\S)", (REPOSITORY / lock).read_text().replace("\\\n", ""))
    found = []
    for entry in filter(None, (entry.partition("#")[0].strip() for entry in entries)):
        pinned = re.match(r"([\w.\[\]-]+)==(\S+?)(?:\s*;\s*(.+?))?(?=\s+--hash|$)", entry)
        assert pinned, entry
        found.append(
            (
                pinned[1],
                pinned[2],
                pinned[3] and Marker(pinned[3]),
                re.findall(r"--hash=(\S+)", entry),
            )
        )
    return found


@pytest.mark.parametrize("lock", audit.LOCKS)
def test_every_package_is_pinned_and_hashed_and_no_registry_is_named(lock):
    assert len(pins(lock)) > 10
    for name, _, _, hashes in pins(lock):
        assert hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), name
    assert not re.search(
        r"(?m)^(-i|--index|--extra|--find)|https?://|file:", (REPOSITORY / lock).read_text()
    )


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_lock_covers_every_platform_once(platform, python):
    """Each direct requirement has exactly one version there, and no other package has two."""
    system, named, machine = PLATFORMS[platform]
    about = {
        "sys_platform": system,
        "platform_system": named,
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.5",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }
    here = [
        name
        for name, _, marker, _ in pins("requirements.txt")
        if marker is None or marker.evaluate(about)
    ]
    assert len(here) == len(set(here))
    wanted = [
        re.match(r"[\w.-]+", line)[0]
        for line in (REPOSITORY / "requirements.in").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert {re.sub("[._]", "-", name.lower()) for name in wanted} <= set(here)


def test_git_ignores_every_page_that_may_show_real_faces():
    pages = [
        "reports/compare.html",
        "reports/report.html",
        "reports/explain/explain.html",
        "reports/leaderboard.html",
        "recipes/runs/speedrun/explain/explain.html",
        ".ferlab/bench/faces/faces.npy",
    ]
    ignored = subprocess.run(
        ["git", "check-ignore", *pages], cwd=REPOSITORY, capture_output=True, text=True
    ).stdout.split()
    assert ignored == pages


def test_no_module_of_ours_uses_pickle():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {
                "pickle",
                "cPickle",
                "_pickle",
                "dill",
                "cloudpickle",
                "joblib",
                "shelve",
                "marshal",
            }, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                given = {
                    keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords
                }
                if node.func.attr == "load" and getattr(node.func.value, "id", "") in (
                    "np",
                    "numpy",
                ):
                    assert given.get("allow_pickle") is False, f"{path}, line {node.lineno}"
                if node.func.attr == "load_model":
                    assert given.get("safe_mode") is True, f"{path}, line {node.lineno}"
                assert node.func.attr not in (
                    "read_pickle",
                    "to_pickle",
                    "unsafe_load",
                    "enable_unsafe_deserialization",
                ), path


def test_commands_refuse_pickled_models_and_servers_listen_on_loopback():
    makefile = (REPOSITORY / "Makefile").read_text()
    assert "export MLFLOW_ALLOW_PICKLE_DESERIALIZATION := false" in makefile
    assert re.findall(r"mlflow (?:ui|server).*", makefile) == ["mlflow ui --host 127.0.0.1"]
    tracking = (REPOSITORY / "ferlab/tracking/runs.py").read_text()
    assert 'os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")' in tracking
    assert not [path for path in SOURCES if "0.0.0.0" in path.read_text()]


def entry(**changes):
    values = {
        "id": '"X-1"',
        "package": '"numpy"',
        "reason": '"we never call that function"',
        "until": "2026-12-31",
    } | changes
    return (
        "[[exception]]\n"
        + "\n".join(f"{key} = {value}" for key, value in values.items() if value)
        + "\n"
    )


def test_the_exceptions_of_the_audit_are_dated_and_reasoned():
    assert (
        audit.exceptions((REPOSITORY / "audit-exceptions.toml").read_text(), datetime.date.today())[
            1
        ]
        == []
    )
    today = datetime.date(2026, 11, 1)
    assert set(audit.exceptions(entry(), today)[0]) == {"X-1"}
    for changes, said in (
        ({"until": "2026-10-31"}, "ended on 2026-10-31"),
        ({"until": '"soon"'}, "a date"),
        ({"reason": '"no"'}, "a sentence"),
        ({"reason": None}, "needs id"),
    ):
        valid, wrong = audit.exceptions(entry(**changes), today)
        assert valid == {} and len(wrong) == 1 and said in wrong[0]


def test_a_weakness_needs_an_exception_for_its_package():
    found = {
        "dependencies": [
            {
                "name": "numpy",
                "version": "1.0",
                "vulns": [{"id": "X-0", "aliases": ["X-1"], "fix_versions": ["1.1"]}],
            },
            {"name": "pandas", "version": "1.0", "vulns": []},
            {"name": "other", "skip_reason": "not found"},
        ]
    }
    assert audit.judge(found, {}) == (["numpy 1.0: X-0 (mended in 1.1)"], 2)
    assert audit.judge(found, {"X-1": {"package": "numpy"}}) == ([], 2)
    assert audit.judge(found, {"X-1": {"package": "pandas"}})[0]
