"""params.yaml is typed and strict, and read as DVC reads it."""

import re

import pytest

import stages
from ferlab import params, recipes
from ferlab.files import UserError
from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "params.yaml").read_text()


def refused(tmp_path, text):
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        params.load(file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(old, new):
    assert len(re.findall(rf"^{re.escape(old)}$", TEXT, re.M)) == 1, old
    return re.sub(rf"^{re.escape(old)}$", new, TEXT, flags=re.M)


def test_the_committed_file_is_accepted():
    assert params.load(REPOSITORY / "params.yaml").train.model in params.models()


def test_every_key_has_a_comment_above_it():
    lines = TEXT.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("  ") and not line.strip().startswith("#"):
            assert lines[number - 1].strip().startswith("#"), line


@pytest.mark.parametrize("written", ["1e-05", "1e-5", "1.0e-5", "0.00001"])
def test_a_small_learning_rate_arrives_as_a_number_however_it_is_written(tmp_path, written):
    file = tmp_path / "params.yaml"
    file.write_text(re.sub("learning_rate: .*", f"learning_rate: {written}", TEXT))
    assert params.load(file).train.learning_rate == 1e-5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  epochs: 12", "  epoch: 12", "unknown key train.epoch, did you mean epochs?"),
        ("  epochs: 12", "  epochs: many", "train.epochs = 'many'"),
        ("  epochs: 12", "  epochs: '18'", "train.epochs = '18'"),
        ("  epochs: 12", "  epochs: 0", "train.epochs = 0"),
        ("  epochs: 12", "  epochs: 12.5", "train.epochs = 12.5"),
        ("  epochs: 12", "  epochs: true", "train.epochs = True"),
        ("  epochs: 12", "", "train.epochs is missing"),
        ("  dropout: 0.2", "  dropout: 1.0", "train.dropout = 1.0"),
        ("  dropout: 0.2", "  dropout: -0.1", "train.dropout = -0.1"),
        ("  dropout: 0.2", "  dropout: .nan", "train.dropout = nan"),
        ("  model: small", "  model: tiny", "train.model = 'tiny': unknown network, choose one of"),
        ("  strategy: none", "  strategy: off", "balance.strategy = 'off'"),
        (
            "  target: median",
            "  target: most",
            "balance.target = 'most': must be a whole number from 1, median or max",
        ),
        ("  classes: [disgust]", "  classes: [joy]", "unknown class joy, did you mean happy?"),
        ("  backend: tensorflow", "  backend: theano", "train.backend = 'theano'"),
        ("  epochs: 12", "  epochs: 12\n  5: 1", "unknown key train.5"),
        ("download:", "7: 1\ndownload:", "unknown key 7"),
        (
            "  model: small",
            "  model: small\n  seeds: 1",
            "unknown key train.seeds, did you mean seed?",
        ),
        ("evaluate:", "evaluation:", "evaluat"),
        ("evaluate:", "evaluate", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path, old, new, message):
    assert message in refused(tmp_path, changed(old, new))


def test_an_empty_or_missing_file_is_one_line(tmp_path):
    assert "expected the sections" in refused(tmp_path, "")
    with pytest.raises(UserError, match="not found"):
        params.load(tmp_path / "none.yaml")


def test_experiments_keep_every_comment(tmp_path):
    """`dvc exp run -S` rewrites the file; three times, as DVC drops some comments only later."""
    from dvc.utils.hydra import apply_overrides

    file = tmp_path / "params.yaml"
    file.write_text(TEXT)
    for epochs in (1, 2, 3):
        apply_overrides(file, [f"train.epochs={epochs}", "train.learning_rate=1e-5"])
    comments = [line.strip() for line in TEXT.splitlines() if line.strip().startswith("#")]
    assert [
        line.strip() for line in file.read_text().splitlines() if line.strip().startswith("#")
    ] == comments
    assert params.load(file).train.learning_rate == 1e-5


@pytest.mark.parametrize(
    ("entries", "name"),
    [
        (["a/faces.zip", "b/faces.zip"], "faces"),
        (["ck48", "x/ck48.csv"], "ck48"),
        (["public"], "public"),
    ],
)
def test_two_further_datasets_of_one_name_are_refused(entries, name):
    with pytest.raises(ValueError, match=f"{name} names a split or another set already"):
        params.Evaluate(flip=True, shift=2, mistakes=5, robustness=False, extra_datasets=entries)
    params.Evaluate(
        flip=True,
        shift=2,
        mistakes=5,
        robustness=False,
        extra_datasets=["a/faces.zip", "b/others.zip"],
    )


@pytest.mark.parametrize(
    ("key", "recipe", "seed"),
    [
        ("speedrun", "speedrun", 0),
        ("speedrun-s12", "speedrun", 12),
        ("my-small", "my-small", 0),
        ("my-small-s3", "my-small", 3),
    ],
)
def test_a_key_names_its_recipe_and_seed(key, recipe, seed):
    assert recipes.recipe_of(key) == (recipe, seed) and recipes.key(recipe, seed) == key


def test_an_empty_recipe_and_a_seed_of_what_trains_nothing_are_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(
        UserError, match="recipes/majority.yaml: trains nothing, so it has no seed 1"
    ):
        recipes.load_recipe("majority", 1)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/params.yaml").write_text((REPOSITORY / "recipes/params.yaml").read_text())
    (tmp_path / "recipes/mine.yaml").write_text("# nothing yet\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="recipes/mine.yaml: holds no sections"):
        recipes.load_recipe("mine")


def test_what_recipes_share_is_not_taken_for_the_workspace_s(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    shared = stages.experiment(stages.SHARED)
    assert shared.key == stages.SHARED
    assert shared.values()["download"] == {"dataset": "fer2013"}  # the workspace has the sample
