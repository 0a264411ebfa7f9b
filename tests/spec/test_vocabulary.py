import pytest

from inception_jax.models import REGISTRY, get_architecture
from inception_jax.spec.vocabulary import Unit, avg, concat, layer, max_, name_words, same, table


def test_the_second_convolution_of_a_shape_gets_a_number():
    steps = (same(8, 1), same(8, 3), avg(3), same(8, 3), same(8, (1, 7)))
    assert [name for name, _ in name_words(steps)] == [
        "conv_1x1",
        "conv_3x3",
        "pool",
        "conv_3x3_2",
        "conv_1x7",
    ]


def test_two_concats_in_one_end_point_are_refused():
    with pytest.raises(ValueError, match="an end point"):
        list(name_words((concat(same(8, 1)), concat(same(8, 3)))))


def test_architecture_words_compare_and_hash_by_value():
    assert concat(same(8, 1), (max_(3), same(4, 1))) == concat(same(8, 1), (max_(3), same(4, 1)))
    assert hash(layer("a.b:C", b=2, a=1)) == hash(layer("a.b:C", a=1, b=2))
    for name, variants in REGISTRY.items():
        for variant in variants:
            assert len({get_architecture(name, variant), get_architecture(name, variant)}) == 1


def test_an_architecture_table_keeps_the_order_of_its_rows():
    assert [name for name, _ in table(b=same(8, 1), a=same(8, 1))] == ["b", "a"]


def test_units_with_different_fields_are_unequal():
    assert Unit() != Unit(norm_scale=False)
