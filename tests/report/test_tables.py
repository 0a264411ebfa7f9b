from inception_jax.models import architecture
from inception_jax.report.tables import family, layers
from inception_jax.spec.measure import measure


def test_a_network_is_printed_layer_by_layer():
    lines = layers(measure(architecture("bn_inception"))).splitlines()
    row = next(line for line in lines if line.startswith("Mixed_3c/branch_1/conv_3x3"))
    assert row.split() == ["Mixed_3c/branch_1/conv_3x3", "conv", "3x3", "1x1", "28x28x64", "28x28x96", "55,488", "43,352,064"]
    assert lines[-1] == (
        "bn_inception (paper): 11,194,984 parameters, 19,904 statistics, 2,018,851,840 multiply-adds; source: arXiv:1502.03167, figure 5"
    )


def test_the_family_is_a_line_each():
    lines = family([measure(architecture("bn_inception", variant)) for variant in ("paper", "cadene")]).splitlines()
    assert lines[2].split()[:6] == ["bn_inception", "cadene", "224", "11,295,240", "2,032,600,064", "699"]
