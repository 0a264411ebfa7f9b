from dataclasses import replace

import pytest

from inception_jax.config import (
    ConfigError,
    Data,
    Experiment,
    Model,
    Norm,
    Optimizer,
    Schedule,
    from_json,
    list_differences,
    to_json,
)

SOME = Experiment(
    model=Model("bn_inception_small", dropout_rate=0.2), schedule=Schedule("exponential"), steps=7
)


def test_a_configuration_survives_a_round_trip_through_json():
    assert from_json(to_json(SOME)) == SOME


def test_the_error_for_an_unknown_stored_field_suggests_the_nearest_name():
    stored = to_json(SOME)
    stored["optimizer"]["learning_rat"] = stored["optimizer"].pop("learning_rate")
    with pytest.raises(
        ConfigError, match=r"optimizer.learning_rat: .* did you mean 'learning_rate'"
    ):
        from_json(stored)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (replace(SOME, batch_size=128), "batch_size: 64 -> 128"),
        (replace(SOME, seed=1), "seed: 0 -> 1"),
        (
            replace(SOME, model=Model("bn_inception")),
            "model.name: 'bn_inception_small' -> 'bn_inception'",
        ),
        (replace(SOME, schedule=Schedule("cosine")), "schedule.name: 'exponential' -> 'cosine'"),
    ],
)
def test_differences_of_configurations_list_a_changed_field_of_the_identity(changed, line):
    assert line in list_differences(SOME, changed)


@pytest.mark.parametrize(
    "changed",
    [
        replace(SOME, log_every_steps=1, workdir="x", keep_checkpoints=9),
        replace(SOME, data=Data(threads=0)),
        replace(SOME, epochs=9),
    ],
)
def test_differences_of_configurations_ignore_fields_that_may_change(changed):
    assert list_differences(SOME, changed) == []


def test_the_length_of_a_run_is_part_of_its_identity_under_a_cosine_schedule():
    cosine = replace(SOME, schedule=Schedule("cosine"))
    assert list_differences(cosine, replace(cosine, steps=9)) == ["steps: 7 -> 9"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Experiment(batch_size=0), "batch_size is 0"),
        (Experiment(batch_size=-4), "it must be a number from 0"),
        (
            Experiment(batch_size=64, norm=Norm(examples_per_group=48)),
            "not a multiple of norm.examples_per_group 48",
        ),
        (Experiment(norm=Norm(decay=1.0)), "norm.decay is 1.0: it must be below 1"),
        (Experiment(model=Model(dropout_rate=1.0)), "dropout_rate"),
        (Experiment(optimizer=Optimizer(clip_norm=0.0)), "stops all learning"),
        (
            Experiment(optimizer=Optimizer("momentum", epsilon=0.1)),
            "optimizer.epsilon is set to 0.1, but optimizer.name is momentum",
        ),
        (Experiment(schedule=Schedule(decay_rate=0.5)), "schedule.decay_rate is set to 0.5"),
        (Experiment(schedule=Schedule("exponential", decay_epochs=0.0)), "decay_epochs is 0"),
    ],
)
def test_the_configuration_check_refuses_invalid_configurations(broken, message):
    with pytest.raises(ConfigError, match=message):
        broken.check()


def test_the_configuration_check_accepts_the_defaults_and_a_valid_configuration():
    Experiment().check()
    SOME.check()


def test_a_configuration_that_names_a_removed_rewrite_is_run_without_it_and_says_so():
    stored = to_json(Experiment(model=Model(rewrites=("project_before_pool", "slice_pools"))))
    found = from_json(stored)
    assert found.model.known_rewrites == ("project_before_pool",)
    assert "model.rewrites: slice_pools lost by measurement" in found.old_format_note
    assert Experiment(model=Model(rewrites=("project_before_pool",))).old_format_note == ""
    assert Model().known_rewrites is None
