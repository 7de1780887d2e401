"""`make audit`: known vulnerabilities of the pinned packages, by pip-audit.

Those that audit-exceptions.toml names are let pass. Exits with 1 where one has no valid exception.
Where the service that knows them cannot be reached it says so in a line and succeeds: that is no
fault of the packages, but then nothing was audited.
"""

import datetime
import json
import subprocess
import sys
import tomllib
from pathlib import Path

TOP = Path(__file__).parent.parent
LOCKS = sorted(path.name for path in TOP.glob("requirements*.txt"))
LOCKS += ["benchmarks/peers/fer/requirements.txt"]


def exceptions(text, today):
    """({id: entry} of the exceptions that hold today, lines on what is wrong with the others)."""
    valid, invalid = {}, []
    for entry in tomllib.loads(text).get("exception", []):
        name = entry.get("id", "an exception without id")
        if set(entry) != {"id", "package", "reason", "until"} or not isinstance(
            entry["until"], datetime.date
        ):
            invalid.append(f"{name}: needs id, package, reason and until (a date)")
        elif len(entry["reason"].split()) < 4:
            invalid.append(f"{name}: the reason should be a sentence")
        elif entry["until"] < today:
            invalid.append(f"{name}: the exception ended on {entry['until']}; look again")
        else:
            valid[name] = entry
    return valid, invalid


def unexcused(report, allowed):
    """(a line for each vulnerability without exception, how many packages were audited).

    report: pip-audit's JSON; allowed: the exceptions by id.
    """
    audited = [package for package in report["dependencies"] if "skip_reason" not in package]
    lines = []
    for package in audited:
        for vulnerability in package.get("vulns", []):
            ids = {vulnerability["id"], *vulnerability.get("aliases", [])} & set(allowed)
            if not any(allowed[name]["package"] == package["name"] for name in ids):
                fixed = ", ".join(vulnerability.get("fix_versions", [])) or "no version yet"
                lines.append(
                    f"{package['name']} {package['version']}: {vulnerability['id']} "
                    f"(fixed in {fixed})"
                )
    return lines, len(audited)


def pip_audit(lock):
    """pip-audit's JSON on a lock file; None where the service cannot be reached."""
    options = "--no-deps --disable-pip --progress-spinner off --format json --timeout 15"
    command = [sys.executable, "-m", "pip_audit", "-r", TOP / lock, *options.split()]
    try:
        # offline it stops with a traceback; some mirrors make it skip every package
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if "No module named pip_audit" in done.stderr:
            sys.exit("error: pip-audit is not installed here; `make audit` installs it")
        return json.loads(done.stdout)
    except (ValueError, subprocess.TimeoutExpired):
        return None


def main():
    today = datetime.date.today()
    allowed, lines = exceptions((TOP / "audit-exceptions.toml").read_text(), today)
    total, silent = 0, []
    for lock in LOCKS:
        report = pip_audit(lock)
        vulnerable, count = unexcused(report, allowed) if report else ([], 0)
        lines, total = [*lines, *vulnerable], total + count
        silent += [] if count else [lock]
    if lines:
        heading = "error: known vulnerabilities, or exceptions that do not hold:"
        sys.exit("\n".join([heading, *lines]))
    print(f"{total} packages audited, {len(allowed)} exceptions")
    if silent:
        print(
            f"warning: not audited: {', '.join(silent)}; the service that knows vulnerabilities "
            "did not answer"
        )


if __name__ == "__main__":
    main()
