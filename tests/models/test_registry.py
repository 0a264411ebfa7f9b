"""Every registered network against its reference row: a model without a row fails, and a row without a model."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from inception_jax.models import REGISTRY, UnknownModelError, architecture, list_models, register
from inception_jax.nn.network import create
from inception_jax.spec.measure import measure

REFERENCE = {
    # (name, variant): trainable parameters, statistics, multiply-adds; 1000 classes, own input size, no auxiliary heads.
    # lim0606/caffe-googlenet-bn, deploy.prototxt:
    ("bn_inception", "paper"): (11_194_984, 19_904, 2_018_851_840),
    # Cadene/pretrained-models.pytorch, bninception.py:
    ("bn_inception", "cadene"): (11_295_240, 20_032, 2_032_600_064),
    # Our own; summed once by hand from figure 5 at a quarter of its width (tests/models/test_bn_inception.py):
    ("bn_inception_small", "paper"): (896_200, 4_976, 10_059_520),
}
ENTRIES = [(name, variant) for name, variants in REGISTRY.items() for variant in variants]


def test_every_entry_has_a_row_and_every_row_an_entry():
    assert set(ENTRIES) == set(REFERENCE)


@pytest.mark.parametrize(("name", "variant"), ENTRIES)
def test_counts_from_the_table(name, variant):
    measured = measure(architecture(name, variant))
    assert (measured.parameters, measured.batch_stats, measured.multiply_adds) == REFERENCE[name, variant]


@pytest.mark.parametrize(("name", "variant"), ENTRIES)
def test_counts_from_the_variables(name, variant):
    table = architecture(name, variant)
    image = jax.ShapeDtypeStruct((1, table.input_size, table.input_size, 3), jnp.float32)
    for aux in (False, True):
        variables = jax.eval_shape(create(name, variant=variant, aux=aux).init, jax.random.key(0), image)
        assert set(variables) == {"params", "batch_stats"}
        measured = measure(table)
        count = {kind: sum(leaf.size for leaf in jax.tree.leaves(tree)) for kind, tree in variables.items()}
        assert count["params"] == measured.parameters + aux * measured.aux_parameters
        assert count["batch_stats"] == measured.batch_stats + aux * measured.aux_batch_stats


def paths():
    """All parameter paths of all registered models, auxiliary heads included, a line each."""
    for name, variant in ENTRIES:
        table = architecture(name, variant)
        image = jax.ShapeDtypeStruct((1, table.input_size, table.input_size, 3), jnp.float32)
        variables = jax.eval_shape(create(name, variant=variant, aux=True).init, jax.random.key(0), image)
        for path, leaf in sorted(jax.tree_util.tree_flatten_with_path(variables)[0], key=str):
            shape = "x".join(map(str, leaf.shape))
            yield f"{name} {variant} {'/'.join(key.key for key in path)} {shape}"


def test_parameter_paths_are_those_committed():
    """A renamed parameter breaks every checkpoint: it needs a map from the old name, and then this list may change.

    To write it: python -m tests.models.test_registry
    """
    assert list(paths()) == PATHS.read_text().splitlines()


PATHS = Path(__file__).parent / "paths.txt"


def test_the_nearest_names_are_offered():
    with pytest.raises(UnknownModelError, match="did you mean bn_inception"):
        architecture("bn_incepton")
    with pytest.raises(UnknownModelError, match="no variant 'caden'; did you mean cadene"):
        architecture("bn_inception", "caden")


def test_an_ambiguous_alias_says_what_it_is():
    with pytest.warns(UserWarning, match="this is 'bn_inception'"):
        assert architecture("inception_v2") == architecture("bn_inception")
    assert "inception_v2" in list_models()


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="exists already"):
        register("bn_inception", paper=lambda: architecture("bn_inception"))


if __name__ == "__main__":
    PATHS.write_text("".join(line + "\n" for line in paths()))
