"""The counts of every registered network against its reference row.

A model without a row fails, and so does a row without a model.
"""

import gzip
from difflib import unified_diff
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from inception_jax.models import (
    ALIASES,
    REGISTRY,
    UnknownModelError,
    cifar,
    get_architecture,
    list_models,
    register,
)
from inception_jax.nn.create import create
from inception_jax.spec.measure import measure
from tests.conftest import ROOT
from tests.models.reference import AUX, BY_CLASSES, OTHER_DEPTHS, REFERENCE
from tests.tiers import sweep

ENTRIES = [(name, variant) for name, variants in REGISTRY.items() for variant in variants]
TRACED = [
    ("googlenet", "caffe"), ("bn_inception", "tf_slim"), ("bn_inception_small", "paper"),
    ("inception_v2_rethinking", "paper"), ("inception_v3", "tf_slim"), ("inception_v4", "timm"),
    ("inception_resnet_v1", "facenet_pytorch"), ("resnet50", "torchvision"),
    ("preact_resnet50", "tf_slim"), ("wrn_28_10", "paper"), ("mnist_bn", "paper"),
]  # fmt: skip
"""Entries whose variables the default tier traces: every kind of row and of name."""


def test_every_registered_model_has_a_reference_row_and_every_row_a_model():
    assert set(ENTRIES) == set(REFERENCE)


@pytest.mark.parametrize(("name", "variant"), ENTRIES)
def test_the_measured_counts_of_every_model_match_its_reference(name, variant):
    table = get_architecture(name, variant)
    measured = measure(table)
    assert (table.name, table.variant) == (name, variant)
    assert (
        measured.parameters,
        measured.batch_stats,
        measured.multiply_adds,
        measured.aux_parameters,
    ) == REFERENCE[name, variant]


@cache
def variables(name, variant):
    """Returns the shapes of the variables, auxiliary heads included."""
    table = get_architecture(name, variant)
    image = jax.ShapeDtypeStruct(
        (1, table.input_size, table.input_size, table.channels), jnp.float32
    )
    return jax.eval_shape(create(name, variant=variant, aux=True).init, jax.random.key(0), image)


def test_the_documentation_explains_every_model_variant():
    page = (ROOT / "docs" / "which_inception.md").read_text()
    assert [
        variant
        for variant in dict.fromkeys(variant for _, variant in ENTRIES)
        if f"`{variant}`" not in page
    ] == []
    for name in (
        "googlenet",
        "inception",
        "bn_inception",
        "inception_v2_rethinking",
        "inception_v3",
        "inception_v4",
        "resnet50",
    ):
        assert f"`{name}`" in page


@pytest.mark.parametrize(("name", "variant"), sweep(ENTRIES, TRACED))
def test_the_variables_of_every_model_match_its_reference_counts(name, variant):
    tree, table = variables(name, variant), get_architecture(name, variant)
    heads = {head.name for head in table.aux}
    count = {
        (kind, of_heads): sum(
            leaf.size
            for top, branch in tree.get(kind, {}).items()
            if (top in heads) is of_heads
            for leaf in jax.tree.leaves(branch)
        )
        for kind in ("params", "batch_stats")
        for of_heads in (False, True)
    }
    parameters, statistics, _, auxiliary = REFERENCE[name, variant]
    assert (count["params", False], count["batch_stats", False], count["params", True]) == (
        parameters,
        statistics,
        auxiliary,
    )
    assert count["batch_stats", True] == measure(table).aux_batch_stats


@pytest.mark.parametrize("key", OTHER_DEPTHS, ids=str)
def test_cifar_networks_of_other_depths_match_their_reference_counts(key):
    family, *numbers = key
    measured = measure(getattr(cifar, f"{family}_variants")(*numbers)["paper"]())
    assert (measured.parameters, measured.batch_stats, measured.multiply_adds) == OTHER_DEPTHS[key]


@pytest.mark.parametrize("key", BY_CLASSES, ids=str)
def test_counts_for_other_numbers_of_classes_match_their_reference(key):
    name, variant, classes = key
    measured = measure(get_architecture(name, variant), num_classes=classes)
    (parameters, multiply_adds), (all_parameters, all_statistics) = BY_CLASSES[key]
    assert (measured.parameters, measured.multiply_adds) == (parameters, multiply_adds)
    assert measured.parameters + measured.aux_parameters == all_parameters
    assert measured.batch_stats + measured.aux_batch_stats == all_statistics


@pytest.mark.parametrize("key", AUX, ids="-".join)
def test_the_cost_of_auxiliary_heads_matches_its_reference(key):
    measured = measure(get_architecture(*key))
    assert (measured.aux_multiply_adds, measured.aux_batch_stats) == AUX[key]


def paths(entries=ENTRIES):
    """Yields a line for each parameter path of these models, auxiliary heads included."""
    for name, variant in entries:
        for path, leaf in sorted(
            jax.tree_util.tree_flatten_with_path(variables(name, variant))[0], key=str
        ):
            shape = "x".join(map(str, leaf.shape))
            yield f"{name} {variant} {'/'.join(key.key for key in path)} {shape}"


@pytest.mark.parametrize(("name", "variant"), sweep(ENTRIES, TRACED))
def test_parameter_paths_equal_the_committed_list(name, variant):
    """A renamed parameter breaks every checkpoint.

    The list may change only together with a map from the old name. This command writes it:
    python -m tests.models.test_registry
    """
    lines = [
        line
        for line in gzip.decompress(PATHS.read_bytes()).decode().splitlines()
        if line.startswith(f"{name} {variant} ")
    ]
    changed = list(
        unified_diff(lines, list(paths([(name, variant)])), "committed", "found", n=0, lineterm="")
    )
    assert not changed, "\n".join(changed[:40])


PATHS = Path(__file__).parent / "paths.txt.gz"


def test_the_error_for_an_unknown_model_or_variant_suggests_the_nearest_name():
    with pytest.raises(UnknownModelError, match="did you mean bn_inception"):
        get_architecture("bn_incepton")
    with pytest.raises(UnknownModelError, match="no variant 'caden'; did you mean cadene"):
        get_architecture("bn_inception", "caden")


def test_the_ambiguous_alias_inception_v2_warns_that_it_is_bn_inception():
    with pytest.warns(UserWarning, match="this is 'bn_inception'.*'inception_v2_rethinking'"):
        assert get_architecture("inception_v2") == get_architecture("bn_inception")


def test_list_models_matches_wildcards_and_includes_aliases():
    assert list_models()[: len(REGISTRY)] == list(REGISTRY)
    assert {
        "inception_resnet_v1",
        "resnet18",
        "preact_resnet200",
        "wide_resnet50_2",
        "resnet_v2_50",
    } <= set(list_models("*resnet*"))
    assert not any("resnet" in name for name in list_models("inception_v?"))
    for alias, name in ALIASES.items():
        assert alias not in REGISTRY
        assert name in REGISTRY


def test_register_refuses_an_existing_model_name():
    with pytest.raises(ValueError, match="exists already"):
        register("bn_inception", paper=lambda: get_architecture("bn_inception"))


if __name__ == "__main__":
    PATHS.write_bytes(gzip.compress("".join(line + "\n" for line in paths()).encode(), mtime=0))
