"""Each recipe in `configs/` says what its source says, builds, and can be stepped."""

import re
from dataclasses import fields, is_dataclass, replace
from operator import attrgetter

import jax
import numpy as np
import pytest
from PIL import Image

from benchmarks.small_networks import each_row_once
from inception_jax.config import ConfigError, Model, from_json, to_json
from inception_jax.data.source import ArraySource
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.experiment import Run
from inception_jax.models import REGISTRY, register
from inception_jax.plan.outline import format_outline, make_placeholder_source
from inception_jax.recipes import list_recipe_members, list_recipes, load_recipe
from inception_jax.spec.vocabulary import (
    Architecture,
    AuxHead,
    Dropout,
    Linear,
    global_avg,
    same,
    table,
)
from tests.tiers import sweep

# optimizer, rate, its decay | batch | length | L2 | smoothing | auxiliary weight | average | BN
# decay, group | clipping
PUBLISHED = """
digits rmsprop 0.1 x0.85/2ep warm-up 1ep | 64 | 30 ep | 5e-4 | 0.1 | - | 0.99 | 0.9, 8 | 2
googlenet momentum 0.01 x0.96/8ep | 32 | 250 ep | 2e-4 | 0 | 0.3 | 0.9999 | none | -
googlenet_caffe momentum 0.01 polynomial 0.5 | 32 | 2400000 | 2e-4 | 0 | 0.3 | 0 | none | -
inception momentum 0.0015 x0.96/8ep | 32 | 31000000 | 2e-4 | 0 | - | 0 | none | -
bn_baseline momentum 0.0015 x0.96/8ep | 32 | 31000000 | 2e-4 | 0 | - | 0 | 0.9997, 32 | -
bn_x5 momentum 0.0075 x0.96/1.3333ep | 32 | 6000000 | 4e-5 | 0 | - | 0 | 0.9997, 32 | -
bn_x30 momentum 0.045 x0.96/1.3333ep | 32 | 6000000 | 4e-5 | 0 | - | 0 | 0.9997, 32 | -
bn_x5_sigmoid momentum 0.0075 x0.96/1.3333ep | 32 | 6000000 | 4e-5 | 0 | - | 0 | 0.9997, 32 | -
inception_v2_rethinking momentum 0.045 x0.94/2ep|1600|100 ep|4e-5|0|0.4|0.9999|0.9997, 32|2
inception_v2_rmsprop rmsprop 0.045 x0.94/2ep|1600|100 ep|4e-5|0|0.4|0.9999|0.9997, 32|2
inception_v2_label_smoothing rmsprop 0.045 x0.94/2ep|1600|100 ep|4e-5|0.1|0.4|0.9999|0.9997, 32|2
inception_v2_factorized_7x7 rmsprop 0.045 x0.94/2ep|1600|100 ep|4e-5|0.1|0.4|0.9999|0.9997, 32|2
inception_v2_bn_auxiliary rmsprop 0.045 x0.94/2ep|1600|100 ep|4e-5|0.1|0.4|0.9999|0.9997, 32|2
inception_v3 rmsprop 0.045 x0.94/2ep | 1600 | 100 ep | 4e-5 | 0.1 | 0.4 | 0.9999 | 0.9997, 32 | 2
inception_v3_tpu rmsprop 0.66 x0.94/3ep floor 0.0001|1024|213000|4e-5|0.1|0.4|0.995|0.996, 128|-
inception_v3_large_batch momentum 0.4 cosine warm-up 5ep|1024|200 ep|1e-4|0.1|-|0|0.9, 128|-
inception_v4 rmsprop 0.045 x0.94/2ep | 640 | 160 ep | 4e-5 | 0.1 | 0.4 | 0.9999 | 0.9997, 32 | 2
inception_resnet_v1 rmsprop 0.045 x0.94/2ep|640|160 ep|4e-5|0.1|-|0.9999|0.9997, 32|2
inception_resnet_v2 rmsprop 0.045 x0.94/2ep|640|160 ep|4e-5|0.1|0.4|0.9999|0.9997, 32|2
resnet50 nesterov 0.1 x0.1 at 30 60 | 256 | 90 ep | 1e-4 | 0 | - | 0 | 0.9, 32 | -
resnet101 nesterov 0.1 x0.1 at 30 60 | 256 | 90 ep | 1e-4 | 0 | - | 0 | 0.9, 32 | -
resnet152 nesterov 0.1 x0.1 at 30 60 | 256 | 90 ep | 1e-4 | 0 | - | 0 | 0.9, 32 | -
preact_resnet200 nesterov 0.1 x0.1 at 30 60 | 256 | 90 ep | 1e-4 | 0 | - | 0 | 0.9, 32 | -
wrn_28_10 nesterov 0.1 x0.2 at 60 120 160 | 128 | 200 ep | 5e-4 | 0 | - | 0 | 0.9, 128 | -
wrn_28_10_cifar100 nesterov 0.1 x0.2 at 60 120 160 | 128 | 200 ep | 5e-4 | 0 | - | 0 | 0.9, 128 | -
cifar_resnet110 momentum 0.1 x0.1 at 81.92 122.88 warm-up 1ep|128|64000|1e-4|0|-|0|0.9, 128|-
bn_inception_ensemble momentum 0.045 x0.96/1.3333ep|32|6000000|4e-5|0|-|0|0.9997, 32|-
inception_v3_ensemble rmsprop 0.045 x0.94/2ep|1600|100 ep|4e-5|0.1|0.4|0.9999|0.9997, 32|2
inception_v4_ensemble rmsprop 0.045 x0.94/2ep|640|160 ep|4e-5|0.1|0.4|0.9999|0.9997, 32|2
resnet_ensemble nesterov 0.1 x0.1 at 30 60 | 256 | 90 ep | 1e-4 | 0 | - | 0 | 0.9, 32 | -
photos nesterov 0.1 cosine warm-up 5ep | 64 | 60 ep | 1e-4 | 0.1 | - | 0 | 0.9, 32 | -
mnist momentum 0.1 constant | 60 | 50000 | 0 | 0 | - | 0 | none | -
mnist_bn momentum 0.1 constant | 60 | 50000 | 0 | 0 | - | 0 | 0.99, 60 | -
"""
ROWS = {line.split()[0]: line.partition(" ")[2].strip() for line in PUBLISHED.strip().splitlines()}
MEMBERS = [member for name in ROWS for member in list_recipe_members(name)]


def described(run):
    config = run.config
    rule, schedule = config.optimizer, config.schedule
    words = ["nesterov" if rule.nesterov else rule.name, f"{rule.learning_rate:.8g}"]
    words += {
        "exponential": [f"x{schedule.decay_rate}/{schedule.decay_epochs:.5g}ep"],
        "piecewise": [
            f"x{schedule.decay_rate} at",
            *(f"{epochs:.5g}" for epochs in schedule.at_epochs),
        ],
        "polynomial": [f"polynomial {schedule.power}"],
    }.get(schedule.name, [schedule.name])
    words += [f"floor {schedule.floor}"] if schedule.floor else []
    words += [f"warm-up {schedule.warmup_epochs:.5g}ep"] if schedule.warmup_epochs else []
    length = f"{config.steps}" if config.steps else f"{config.epochs:.5g} ep"
    norm = (
        f"{config.norm.decay}, {config.norm.examples_per_group or config.batch_size}"
        if run.measurement.batch_stats
        else "none"
    )
    aux = f"{config.objective.aux_weight}" if config.model.aux else "-"
    rest = [
        f"{rule.l2:g}",
        f"{config.objective.label_smoothing:g}",
        aux,
        f"{rule.average_decay:g}",
        norm,
        f"{rule.clip_norm or '-':}",
    ]
    return [" ".join(words), str(config.batch_size), length, *rest]


def run_of(name):
    found = load_recipe(name)
    run = Run(found.config, all_devices_placement())
    if name == "digits":
        return found, run
    data = found.config.data
    source = (
        ArraySource(np.empty((0,)), np.arange(4000) % 10, tuple("abcdefghij"))
        if name == "photos"
        else make_placeholder_source(data.name, data.train_split)
    )
    return found, replace(run, given_source=source)


def numbers(cell):
    return re.sub(r"\d+\.?\d*(e-?\d+)?", lambda found: f"{float(found[0]):g}", cell.strip())


def test_the_table_of_published_settings_lists_every_recipe():
    assert list_recipes() == sorted(ROWS)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_recipe_has_the_hyperparameters_of_its_source(name):
    found, run = run_of(name)
    found.config.check()
    assert from_json(to_json(found.config)) == found.config
    wanted = [
        re.sub(r"-(\d)", r"-\1", numbers(cell)) for cell in ROWS[name.partition(":")[0]].split("|")
    ]
    assert [numbers(cell) for cell in described(run)] == wanted
    for field, reason in found.assumptions.items():
        attrgetter(field)(found.config)  # exists
        assert len(reason) > 10
    if name != "digits":
        for heading in (
            "Source:",
            "Data:",
            "Hardware:",
            "Published:",
            "Measured here:",
            f"inception-jax train {name.partition(':')[0]}",
        ):
            assert heading in found.description


@pytest.mark.parametrize("name", MEMBERS)
def test_the_plan_of_a_recipe_shows_its_steps_learning_rate_and_assumed_defaults(name):
    found, run = run_of(name)
    lines = list(format_outline(run, found.assumptions))
    text = "\n".join(lines)
    assert f"{run.steps:,} of {found.config.batch_size:,}" in text
    assert "learning rate" in text
    assert text.count("assumed default: ") == len(found.assumptions)


@pytest.mark.nightly
@pytest.mark.parametrize(
    "name", [*(name for name in MEMBERS if ":" not in name), "bn_inception_ensemble:3"]
)
def test_the_training_step_of_a_recipe_can_be_traced_and_keeps_the_state_shapes(name):
    """Traced, not run, and without repeated rows: every network is stepped elsewhere.

    Shapes go in and come out the same.
    """
    found, run = run_of(name)
    small = replace(
        run,
        config=replace(
            found.config, batch_size=4, norm=replace(found.config.norm, examples_per_group=2)
        ),
    )
    vars(small)["network"] = small.network.clone(
        architecture=each_row_once(small.network.architecture)
    )
    state = small.abstract_state()
    size = found.config.data.image_size
    from inception_jax.data.batches import Batch

    spec = jax.ShapeDtypeStruct
    batch = Batch(
        spec((4, size, size, 3), np.uint8),
        spec((4,), np.int32),
        spec((4,), np.float32),
        spec((4,), np.uint32),
    )
    after, sums = jax.eval_shape(small.train_step, state, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert sums["loss"].shape == ()


def tiny():
    layers = table(Stem=same(8, 3, 2), Pool=global_avg(), Dropout=Dropout(), Logits=Linear())
    aux = (AuxHead("AuxLogits", "Stem", (global_avg(), Linear())),)
    return Architecture("tiny_recipes", "paper", layers, source="a test", input_size=32, aux=aux)


def kinds(config):
    """Returns the facts that a step's program depends on.

    They are each name and flag of a configuration, and for each number whether it is set.
    """
    for section in (
        config,
        config.model,
        config.norm,
        config.data,
        config.optimizer,
        config.schedule,
        config.objective,
    ):
        for field in fields(section):
            value = getattr(section, field.name)
            if (
                not is_dataclass(value)
                and field.name not in ("variant", "workdir")
                and (section, field.name) != (config.model, "name")
            ):
                yield field.name, value if isinstance(value, str) else bool(value)


def covering():
    """Returns recipes that have every kind between them, chosen greedily."""
    left = {name: set(kinds(config_of(name))) for name in ROWS}
    wanted, chosen = set().union(*left.values()), []
    while wanted:
        chosen.append(max(left, key=lambda name: len(left[name] & wanted)))
        wanted -= left[chosen[-1]]
    return chosen


def config_of(name):
    """The configuration of a recipe; of the ensemble of BN-Inceptions the third, which has norms
    per activation.
    """
    return load_recipe(
        list_recipe_members(name)[2 if name == "bn_inception_ensemble" else 0]
    ).config


@pytest.mark.parametrize("name", sweep(ROWS, covering()))
def test_a_recipe_trains_a_tiny_network_for_two_steps(name):
    """On a network of one convolution, since every network of the family is stepped elsewhere: all
    that a recipe is beside it.

    By default the recipes that have every kind of step between them; all of them nightly.
    """
    if "tiny_recipes" not in REGISTRY:
        register("tiny_recipes", paper=tiny)
    config = config_of(name)
    data = replace(
        config.data,
        name="synthetic",
        train_split="train[:40]",
        test_split="test[:8]",
        image_size=32,
        directory=None,
        threads=0,
    )
    model = Model(
        "tiny_recipes",
        aux=config.model.aux,
        dropout_rate=config.model.dropout_rate,
        init_scale=config.model.init_scale,
    )
    per_activation = ("Stem",) if config.norm.per_activation_in else ()
    norm = replace(
        config.norm,
        examples_per_group=min(config.norm.examples_per_group, 2),
        per_activation_in=per_activation,
    )
    config = replace(config, model=model, norm=norm, data=data, batch_size=4, steps=2)
    config.check()
    run = Run(config, all_devices_placement())
    state, seen = run.initial_state(), []
    for batch in run.train_batches(0):
        before = jax.device_get(state.params)
        state, sums = run.train_step(state, batch)
        seen.append(float(sums["loss"]))
    assert ("AuxLogits" in state.params) == config.model.aux
    assert (state.params["Stem"]["conv_3x3"]["norm"]["bias"].ndim == 3) == bool(
        config.norm.per_activation_in
    )
    assert int(state.step) == 2
    assert int(state.skipped) == 0
    assert np.isfinite(seen).all()
    after = jax.device_get(state.params)
    assert any(
        (a != b).any() for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("holdout", [False, True])
def test_photographs_in_folders_are_all_that_the_recipe_photos_needs(command, tmp_path, holdout):
    """Pictures of several sizes, red or blue, with the recipe's own augmentation."""
    rng = np.random.default_rng(0)
    for folder in ("all",) if holdout else ("train", "test"):
        for label, name in enumerate(("red", "blue")):
            (tmp_path / "own" / folder / name).mkdir(parents=True)
            for i in range(10):
                height, width = rng.integers(20, 50, 2)
                pixels = rng.integers(0, 60, (height, width, 3), np.uint8)
                pixels[..., 2 * label] += 180
                Image.fromarray(pixels).save(tmp_path / "own" / folder / name / f"{i}.jpg")
    data = ("own/all", "--data.holdout", "0.2") if holdout else ("own",)
    small = (
        "--model.name", "one", "--data.image-size", "16", "--batch-size", "8",
        "--norm.examples-per-group", "8", "--epochs", "6", "--schedule.warmup-epochs", "1",
    )  # fmt: skip
    done = command("train", "photos", "--data.directory", *data, *small)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("held-out top-1 100.00%")
    example = tmp_path / "own" / ("all" if holdout else "test") / "blue" / "0.jpg"
    assert ": blue " in command("predict", "runs/photos", example).stdout
    without = command("train", "photos", "--workdir", "another")
    assert (without.returncode, "set data.directory" in without.stderr) == (65, True)


def test_bn_x5_differs_from_bn_baseline_in_exactly_the_seven_published_changes():
    """arXiv:1502.03167, section 4.2.1: bn_x5 with one field of bn_baseline is another
    configuration by that field alone.
    """
    changed, baseline = load_recipe("bn_x5").config, load_recipe("bn_baseline").config
    fields = {
        "optimizer.learning_rate": 5.0,
        "model.dropout_rate": None,
        "optimizer.l2": 1 / 5,
        "schedule.decay_epochs": 1 / 6,
        "model.local_response_norm": None,
        "data.shuffle_block": None,
        "data.colour": None,
    }
    different = {
        name for name, found in changed.identity().items() if baseline.identity()[name] != found
    }
    assert different == fields.keys()
    for name, ratio in fields.items():
        if ratio:
            assert attrgetter(name)(changed) / attrgetter(name)(baseline) == pytest.approx(ratio)
    # And the network that results is the registry's bn_x5.
    from inception_jax.models import get_architecture

    run = run_of("bn_x5")[1]
    wanted = get_architecture("bn_x5")
    assert run.measurement.parameters == 11_194_984
    assert [name for name, _ in run.network.architecture.layers] == [
        name for name, _ in wanted.layers
    ]
    assert run.network.architecture.dropout_rate == wanted.dropout_rate == 0


def test_ensemble_recipes_have_the_published_members():
    """Six BN-x30, four Inception-v3, v4 with three Inception-ResNet-v2, six ResNets; no two
    members are the same run.
    """
    networks = {
        name: [load_recipe(member).config for member in list_recipe_members(name)]
        for name in list_recipes()
        if len(list_recipe_members(name)) > 1
    }
    counts = {name: len(configs) for name, configs in networks.items()}
    assert counts == {
        "bn_inception_ensemble": 6,
        "inception_v3_ensemble": 4,
        "inception_v4_ensemble": 4,
        "resnet_ensemble": 6,
    }
    for configs in networks.values():
        assert len(set(configs)) == len(configs)
    assert [config.model.name for config in networks["inception_v4_ensemble"]] == [
        "inception_v4",
        *["inception_resnet_v2"] * 3,
    ]
    assert sum(config.model.name == "resnet152" for config in networks["resnet_ensemble"]) == 2
    batch_norm = networks["bn_inception_ensemble"]
    assert {config.model.dropout_rate for config in batch_norm} <= {0.0, 0.05, 0.1}
    assert (
        {config.model.init_scale > 1 for config in batch_norm}
        == {bool(config.norm.per_activation_in) for config in batch_norm}
        == {True, False}
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [("inception_v3_ensemble:5", "of 4; name a member"), ("bn_x5:1", "has no members")],
)
def test_ensemble_members_that_do_not_exist_are_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(name)
