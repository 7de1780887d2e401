"""Where a result comes from: the names of processors."""

import pytest

from ferlab.tracking import provenance


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (
            "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n"
            "\nprocessor\t: 1\ncpu family\t: 99\nmodel\t\t: 9\nmodel name\t: another\n",
            "AMD EPYC (family 26, model 2)",
        ),
        (
            "cpu family\t: 6\nmodel\t\t: 143\nmodel name\t: Intel(R) Xeon(R) Platinum 8488C\n",
            "Intel(R) Xeon(R) Platinum 8488C",
        ),
        ("processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd\n", "aarch64"),
    ],
)
def test_processors_of_different_generations_have_different_names(monkeypatch, cpuinfo, expected):
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: cpuinfo)
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert provenance._cpu() == expected


def test_a_machine_names_its_gpus_as_the_driver_does(tmp_path):
    assert provenance._gpus(tmp_path) == {}
    for slot in ("0000:00:06.0", "0000:00:07.0"):
        (tmp_path / slot).mkdir()
        (tmp_path / slot / "information").write_text(
            "Model: \t\t NVIDIA H100 80GB HBM3 \nIRQ: 30\n"
        )
    assert provenance._gpus(tmp_path) == {"gpu": "NVIDIA H100 80GB HBM3, NVIDIA H100 80GB HBM3"}
