"""No password of an address is shown or written: in errors, in what is printed, in any file."""

import json

import pytest

from ferlab import doctor, params, secrets
from ferlab.data.readers import extra, sources
from ferlab.doctor import services
from ferlab.files import UserError
from ferlab.scaling import storage
from ferlab.tracking import store, sync
from tests.conftest import REPOSITORY

PASSWORD = "pa55@w/ord"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:pa55@host/x.zip", "https://me:***@host/x.zip"),
        ("https://me:pa@5/5@host/x.zip", "https://me:***@host/x.zip"),
        (
            "postgresql+psycopg2://me:pa/55@host:5432/db",
            "postgresql+psycopg2://me:***@host:5432/db",
        ),
        ("https://ghp_abc@host/x", "https://***@host/x"),
        (
            "https://host/x?v=1&X-Amz-Signature=abc: no",
            "https://host/x?v=1&X-Amz-Signature=***: no",
        ),
        ("sftp://me:pa55@host/folder", "sftp://me:***@host/folder"),
        ("postgresql://me@srv:pa55@srv:5432/db", "postgresql://me@srv:***@srv:5432/db"),
        ("https://me@work:pa55@host/x.zip", "https://***@work:***@host/x.zip"),
        ("http://me@host:5000/a@b", "http://***@host:5000/a@b"),
        # what holds none stays as it is
        ("ssh://git@host/x", "ssh://git@host/x"),
        ("http://127.0.0.1:5000/a@b?page=2", "http://127.0.0.1:5000/a@b?page=2"),
        ("http://127.0.0.1:abc", "http://127.0.0.1:abc"),
        ("git config user.email <you@example.org>", "git config user.email <you@example.org>"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
    ],
)
def test_the_secret_of_an_address_is_masked_and_nothing_else(address, shown):
    assert secrets.masked(f"cannot read {address} now") == f"cannot read {shown} now"


def test_what_is_cut_off_is_masked_before():
    long = f"{'x' * 100} https://me:pa55word{'y' * 40}@host"
    assert "pa55" not in secrets.one_line(ValueError(long))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # MLflow's password is put there; as before after the test
        monkeypatch.delenv(name)
    return tmp_path


@pytest.mark.parametrize(
    "address",
    [
        f"http://me:{PASSWORD}@127.0.0.1:9",
        "http://me:pa55w%2Ford@127.0.0.1:9",
        "http://pa55word@127.0.0.1:9",
        f"postgresql+psycopg2://me:{PASSWORD}@127.0.0.1:9/x",
        f"postgresql://me:{PASSWORD}@127.0.0.1:9/x",
        f"mongodb://me:{PASSWORD}@host",
    ],
)
def test_mlflow_s_password_is_in_no_error_and_not_in_doctor(place, monkeypatch, capfd, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    said = []
    with pytest.raises(UserError) as caught:
        sync.sync()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with sync.best_effort(report=said.append), store.store() as client:
        client.search_experiments()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setattr(doctor, "CHECKS", (services.tracking,))
    monkeypatch.setattr(doctor, "machine", dict)
    said += [str(caught.value), str(doctor.report()), *capfd.readouterr()]
    assert len(said) == 5 and "MLFLOW_TRACKING_URI=" in said[2]
    assert "pa55" not in "".join(said) and "w/ord" not in "".join(said)


def test_mlflow_still_gets_the_password_of_a_server_s_address(place, monkeypatch):
    from mlflow.utils.credentials import get_default_host_creds

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:pa%2055@127.0.0.1:9/mlflow")
    where = store.address()
    assert where == "http://127.0.0.1:9/mlflow"
    creds = get_default_host_creds(where)
    assert (creds.username, creds.password) == ("me", "pa 55")


def test_the_password_of_the_data_s_address_is_neither_printed_nor_written(
    place, monkeypatch, capsys
):
    address = "https://me:pa55word@example.invalid/fer2013.zip?token=pa55"
    monkeypatch.setenv("FER2013", address)
    monkeypatch.setattr("ferlab.data.readers.fetch.time.sleep", lambda seconds: None)
    with pytest.raises(
        UserError, match="https://me:\\*\\*\\*@example.invalid/fer2013.zip"
    ) as caught:
        sources.read("fer2013")
    printed = capsys.readouterr().out
    assert "downloading https://me:***@example.invalid" in printed
    assert "pa55" not in printed + str(caught.value)
    assert list(doctor.real_data()) == []  # an address is no missing file
    monkeypatch.setenv("CK48", "https://me:pa55word@example.invalid/ck48.zip")
    with pytest.raises(UserError) as caught:
        extra.read("ck48")
    assert "pa55" not in str(caught.value)


def test_source_json_names_the_address_without_its_password(place, monkeypatch):
    data = object()
    monkeypatch.setattr(sources, "download", lambda address: place / "got")
    monkeypatch.setattr(sources, "read_path", lambda path, shown: (data, {"form": shown}))
    monkeypatch.setattr(sources, "NAMES", {})
    _, source = sources.read("https://me:pa55word@host/faces.zip")
    assert source["url"] == "https://me:***@host/faces.zip" and "pa55" not in json.dumps(source)


def test_a_password_in_params_yaml_is_refused_without_showing_it():
    values = params.raw(REPOSITORY / "params.yaml")
    values["download"]["dataset"] = f"https://me:pa55word{'x' * 80}@host/x.zip"
    with pytest.raises(
        UserError, match="download.dataset = .*would be committed.*~/.netrc"
    ) as caught:
        params.parse(values)
    assert "pa55" not in str(caught.value)


def test_a_storage_s_password_is_masked(monkeypatch):
    monkeypatch.setattr(storage, "STORAGE_TIMEOUT", 0.5)
    with pytest.raises(UserError, match="--storage ftp://me:\\*\\*\\*@127.0.0.1:9/x: ") as caught:
        storage.check("ftp://me:pa55word@127.0.0.1:9/x")
    assert "pa55" not in str(caught.value)
