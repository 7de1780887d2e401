"""What all tests share: parameters, real data where it is, and an environment that cannot reach the user's stores."""

import os
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME"):
    os.environ.pop(name, None)
END = float(os.environ.get("FERLAB_TESTS_END", "inf"))  # seconds since 1970


def pytest_runtest_setup(item):
    """Where the time for all tests is limited (.ci/run), a machine ten times slower says what it left out, and does not fail."""
    if time.time() > END:
        pytest.skip("not run: the time given to the tests is over (FERLAB_TESTS_END)")


@pytest.fixture
def settings():
    """A function: the committed parameters with changes, `settings(**{"train.epochs": 2})`, checked as always."""
    from ruamel.yaml import YAML

    from ferlab import params

    def change(**changes):
        values = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text())
        for key, value in changes.items():
            section, name = key.split(".")
            values[section][name] = value
        return params.parse(values)

    return change
