"""Whatever a CSV, an archive or params.yaml holds: it is read, or refused in one line."""

import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from ferlab import params
from ferlab.data.dataset import Dataset
from ferlab.data.readers import sources
from ferlab.files import UserError
from tests.builders import csv_text, images, tiny, zipped
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.usefixtures("few_official")
DATA = tiny(train=1, splits=("private",))
CSV = csv_text(DATA).encode()
GOOD = YAML(typ="safe").load((REPOSITORY / "params.yaml").read_text())
relaxed = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,  # the same examples in every run
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def read_or_refused(path):
    try:
        data, _ = sources.read(str(path))
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(data, Dataset)


@relaxed
@given(
    place=st.integers(0, len(CSV) - 1),
    junk=st.binary(min_size=0, max_size=6),
    cut=st.integers(0, 40),
)
def test_a_damaged_csv_is_read_or_refused(tmp_path, place, junk, cut):
    path = tmp_path / "x.csv"
    path.write_bytes(CSV[:place] + junk + CSV[place + cut :])
    read_or_refused(path)


@relaxed
@given(place=st.floats(0, 1), junk=st.binary(min_size=1, max_size=8))
def test_a_damaged_zip_is_read_or_refused(tmp_path, place, junk):
    path = zipped(tmp_path / "x.zip", images(DATA))
    content = bytearray(path.read_bytes())
    start = int(place * (len(content) - len(junk)))
    content[start : start + len(junk)] = junk
    path.write_bytes(content)
    read_or_refused(path)


@relaxed
@given(
    names=st.lists(
        st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
            min_size=1,
            max_size=12,
        ),
        max_size=4,
        unique=True,
    )
)
def test_an_archive_with_any_names_is_read_or_refused(tmp_path, names):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    read_or_refused(path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
)


@relaxed
@given(section=st.sampled_from(sorted(GOOD)), data=st.data(), value=values)
def test_any_value_of_any_key_is_accepted_as_its_type_or_refused(section, data, value):
    key = data.draw(st.sampled_from(sorted(GOOD[section])))
    changed = {name: dict(inner) for name, inner in GOOD.items()}
    changed[section][key] = value
    try:
        found = getattr(getattr(params.parse(changed), section), key)
    except UserError as error:
        assert "\n" not in str(error)
        assert f"{section}.{key}" in str(error)
    else:
        assert found == value
        assert isinstance(found, bool) == isinstance(GOOD[section][key], bool)
