import re

from inception_jax.models import get_architecture
from inception_jax.report.tables import (
    format_family,
    format_layers,
    format_paper_table,
    make_record,
)
from inception_jax.spec.measure import measure


def test_a_network_is_printed_layer_by_layer():
    lines = format_layers(measure(get_architecture("bn_inception"))).splitlines()
    row = next(line for line in lines if line.startswith("Mixed_3c/branch_1/conv_3x3"))
    assert row.split() == [
        "Mixed_3c/branch_1/conv_3x3",
        "conv",
        "3x3",
        "1x1",
        "28x28x64",
        "28x28x96",
        "55,488",
        "43,352,064",
    ]
    assert lines[-1] == (
        "bn_inception (paper): 11,194,984 parameters, 19,904 statistics, "
        "2,018,851,840 multiply-adds; source: arXiv:1502.03167, figure 5"
    )


def test_the_table_of_the_family_has_one_line_for_each_network():
    lines = format_family(
        [measure(get_architecture("bn_inception", variant)) for variant in ("paper", "cadene")]
    ).splitlines()
    assert lines[2].split()[:6] == [
        "bn_inception",
        "cadene",
        "224",
        "11,295,240",
        "2,032,600,064",
        "699",
    ]


# Table 1 of arXiv:1512.00567: type, patch size/stride or remarks, input size.
TABLE_1 = """
conv | 3x3/2 | 299x299x3
conv | 3x3/1 | 149x149x32
conv padded | 3x3/1 | 147x147x32
pool | 3x3/2 | 147x147x64
conv | 3x3/1 | 73x73x64
conv | 3x3/2 | 71x71x80
conv | 3x3/1 | 35x35x192
3 x Inception | as in figure 5 | 35x35x288
5 x Inception | as in figure 6 | 17x17x768
2 x Inception | as in figure 7 | 8x8x1280
pool | 8x8 | 8x8x2048
linear | logits | 1x1x2048
softmax | classifier | 1x1x1000
"""


def test_table_1_of_the_rethinking_paper_is_printed_with_notes_on_rows_that_differ():
    def rows(variant):
        lines = format_paper_table(
            measure(get_architecture("inception_v2_rethinking", variant))
        ).splitlines()[1:]
        return [[cell.strip() for cell in re.split(r"  +", line.strip())] for line in lines]

    expected = [line.split(" | ") for line in TABLE_1.strip().splitlines()]
    # The table leaves out two modules, which its caption mentions.
    unlisted = [
        ["Inception", "as in figure 10, stride 2", size] for size in ("35x35x288", "17x17x768")
    ]
    listed = [row for row in rows("paper") if row not in unlisted]
    assert len(listed) == len(expected) == len(rows("paper")) - 2
    differ = [(want, got) for want, got in zip(expected, listed, strict=True) if want != got]
    assert [(want[0], got[0], len(got)) for want, got in differ] == [
        ("conv", "conv padded", 4),
        ("5 x Inception", "4 x Inception", 4),
    ]
    assert ["5 x Inception", "as in figure 6", "17x17x768"] in rows("five_17x17")


def test_figure_5_of_the_batch_normalisation_paper_is_printed_module_by_module():
    lines = [
        line
        for line in format_paper_table(measure(get_architecture("bn_inception"))).splitlines()
        if "Inception" in line
    ]
    assert [line.split()[-1] for line in lines if "stride 2" in line] == [
        "28x28x320",
        "14x14x576",
    ]  # 3c, 4e
    assert [line.split("Inception")[0] for line in lines] == ["", "", "", "4 x ", "", "2 x "]
    assert lines[3].endswith("14x14x576")


def test_the_json_record_of_a_network_has_its_counts_and_end_points():
    record = make_record(measure(get_architecture("inception_v3", "tf_slim")))
    expected = {
        "name": "inception_v3",
        "variant": "tf_slim",
        "input_size": 299,
        "parameters": 23_817_352,
        "batch_stats": 34_432,
        "aux_parameters": 3_325_800,
        "multiply_adds": 5_713_216_096,
    }
    assert {key: record[key] for key in expected} == expected
    assert record["end_points"][0] == {
        "name": "Conv2d_1a_3x3",
        "shape": (149, 149, 32),
        "stride": (2, 2),
        "receptive_field": (3, 3),
        "activations": 149 * 149 * 32,
    }
    assert "inception_v3.py" in record["source"]
