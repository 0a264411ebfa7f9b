"""Changes of a recipe by the command line, and values of the recipe that they make inapplicable."""

import pytest

from inception_jax.commands.cli_utils import (
    check_trained,
    format_scores,
    list_given_fields,
    parse_config,
)
from inception_jax.config import ConfigError
from inception_jax.recipes import load_recipe


def test_the_given_fields_of_a_line_are_known_in_every_spelling():
    line = [
        "--schedule.decay-rate",
        "0.9",
        "--data.no-flip",
        "--epochs=3",
        "--model.name",
        "resnet18",
        "value",
    ]
    assert list_given_fields(line) == {"schedule.decay_rate", "data.flip", "epochs", "model.name"}


@pytest.mark.parametrize("name", ["constant", "cosine", "polynomial", "piecewise"])
def test_fields_without_meaning_under_another_schedule_fall_back_to_their_default(name):
    """`inception_v3` has a staircase of 0.94 in two epochs, which its user never gave."""
    more = ["--schedule.at-epochs", "30", "60"] if name == "piecewise" else []
    rule = parse_config("train", ["inception_v3", "--schedule.name", name, *more]).schedule
    assert (rule.name, rule.decay_epochs, rule.staircase) == (name, 2.0, True)
    assert parse_config("train", ["resnet50", "--optimizer.name", "rmsprop"]).optimizer.decay == 0.9
    assert (
        parse_config("train", ["inception_v3", "--optimizer.name", "momentum"]).optimizer.epsilon
        == 1.0
    )


def test_a_field_that_the_line_gives_without_meaning_is_still_refused():
    with pytest.raises(
        ConfigError, match=r"schedule\.decay_epochs is set to 3\.0, but schedule\.name is cosine"
    ):
        parse_config(
            "train", ["inception_v3", "--schedule.name", "cosine", "--schedule.decay-epochs", "3.0"]
        )


def test_epochs_on_the_line_replace_the_steps_of_a_recipe_and_the_reverse(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from inception_jax.config import Experiment\nconfig = Experiment(steps=9, epochs=2.0)\n"
    )
    name = str(tmp_path / "mine.py")
    assert (
        parse_config("train", [name, "--epochs", "3"]).steps,
        parse_config("train", [name, "--epochs", "3"]).epochs,
    ) == (None, 3.0)
    assert parse_config("train", ["digits", "--steps", "5"]).steps == 5
    assert parse_config("train", [name]).steps == 9
    for line in (["--epochs", "3", "--steps", "5"], ["--steps=5", "--epochs=3"]):
        with pytest.raises(
            ConfigError,
            match="--epochs and --steps are both the length of the run: give one of them",
        ):
            parse_config("train", [name, *line])


def test_images_in_folders_are_turned_and_those_of_imagenet_are_not():
    assert load_recipe("inception_v3").config.data.orientation == "ignore"
    assert load_recipe("resnet50").config.data.orientation == "ignore"
    assert (
        parse_config("train", ["inception_v3", "--data.name", "folder"]).data.orientation == "apply"
    )
    assert parse_config("train", ["digits", "--data.name", "folder"]).data.orientation == "apply"
    assert (
        parse_config("train", ["inception_v3", "--data.name", "records"]).data.orientation
        == "ignore"
    )
    line = ["inception_v3", "--data.name", "folder", "--data.orientation", "ignore"]
    assert parse_config("train", line).data.orientation == "ignore"


def test_top_5_of_five_classes_or_fewer_is_not_printed():
    results = {"top1": 0.5, "top5": 1.0, "loss": 0.7, "count": 10}
    assert "top-5" not in format_scores(results, 2)
    assert "top-5" not in format_scores(results, 5)
    assert "top-5 100.00%" in format_scores(results, 6)


@pytest.mark.parametrize("path", ["nothing", "nothing@3", "folder", "nothing/w.pth"])
def test_what_is_neither_run_nor_weights_is_refused_at_once(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=f"{path} is no workdir: it has no experiment.json"):
        check_trained(path)
