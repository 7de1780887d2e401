"""`make audit`: known weaknesses of the pinned packages, by pip-audit, less the exceptions in audit-exceptions.toml.

Exits with 1 where a weakness has no valid exception. Where the service that knows them cannot be reached it says so in a
line and succeeds: that is no fault of the packages, but then nothing was audited.
"""

import datetime
import json
import subprocess
import sys
import tomllib
from pathlib import Path

TOP = Path(__file__).parent.parent
LOCKS = (
    "requirements.txt",
    "requirements-dev.txt",
    "requirements-sweep.txt",
    "requirements-use.txt",
    "requirements-scale.txt",
)


def exceptions(text, today):
    """({id: entry} of the exceptions that hold today, lines on what is wrong with the others)."""
    valid, wrong = {}, []
    for entry in tomllib.loads(text).get("exception", []):
        name = entry.get("id", "an exception without id")
        if set(entry) != {"id", "package", "reason", "until"} or not isinstance(
            entry["until"], datetime.date
        ):
            wrong.append(f"{name}: needs id, package, reason and until (a date)")
        elif len(entry["reason"].split()) < 4:
            wrong.append(f"{name}: the reason should be a sentence")
        elif entry["until"] < today:
            wrong.append(f"{name}: the exception ended on {entry['until']}; look anew")
        else:
            valid[name] = entry
    return valid, wrong


def judge(found, allowed):
    """(lines on weaknesses without exception, how many packages were audited) of pip-audit's JSON."""
    audited = [package for package in found["dependencies"] if "skip_reason" not in package]
    lines = []
    for package in audited:
        for weakness in package.get("vulns", []):
            names = {weakness["id"], *weakness.get("aliases", [])}
            if not any(
                allowed[name]["package"] == package["name"] for name in names & set(allowed)
            ):
                fixed = ", ".join(weakness.get("fix_versions", [])) or "no version yet"
                lines.append(
                    f"{package['name']} {package['version']}: {weakness['id']} (mended in {fixed})"
                )
    return lines, len(audited)


def main():
    allowed, wrong = exceptions((TOP / "audit-exceptions.toml").read_text(), datetime.date.today())
    total = 0
    for lock in LOCKS:
        command = [
            sys.executable,
            "-m",
            "pip_audit",
            "-r",
            TOP / lock,
            "--no-deps",
            "--disable-pip",
            "--progress-spinner",
            "off",
            "--format",
            "json",
            "--timeout",
            "15",
        ]
        try:
            # offline, pip-audit stops with a traceback; a mirror without the service makes it skip every package and succeed
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            if "No module named pip_audit" in done.stderr:
                sys.exit("error: pip-audit is not installed here; `make audit` installs it")
            lines, count = judge(json.loads(done.stdout), allowed)
        except (ValueError, subprocess.TimeoutExpired):
            lines, count = [], 0
        wrong, total = [*wrong, *lines], total + count
    if wrong:
        sys.exit("\n".join(["error: known weaknesses, or exceptions that do not hold:", *wrong]))
    print(
        f"{total} packages audited, {len(allowed)} exceptions"
        if total
        else "warning: the service that knows weaknesses cannot be reached; nothing was audited"
    )


if __name__ == "__main__":
    main()
