"""The end points of TF-Slim's graphs at their own input size.

Name -> shape, without axes of size 1.
"""

import pytest

from inception_jax.models import get_architecture
from inception_jax.spec.measure import measure


def grid(size, channels, *names):
    return dict.fromkeys(names, (size, size, channels))


HEADS = {"Logits": (1001,), "Predictions": (1001,)}
SLIM = {
    ("googlenet", "tf_slim"): {
        **grid(112, 64, "Conv2d_1a_7x7"),
        **grid(56, 64, "MaxPool_2a_3x3", "Conv2d_2b_1x1"),
        **grid(56, 192, "Conv2d_2c_3x3"),
        **grid(28, 192, "MaxPool_3a_3x3"),
        **grid(28, 256, "Mixed_3b"),
        **grid(28, 480, "Mixed_3c"),
        **grid(14, 480, "MaxPool_4a_3x3"),
        **grid(14, 512, "Mixed_4b", "Mixed_4c", "Mixed_4d"),
        **grid(14, 528, "Mixed_4e"),
        **grid(14, 832, "Mixed_4f"),
        **grid(7, 832, "MaxPool_5a_2x2", "Mixed_5b"),
        **grid(7, 1024, "Mixed_5c"),
        "AvgPool_0a_7x7": (1024,),
        **HEADS,
    },
    ("bn_inception", "tf_slim"): {
        **grid(112, 64, "Conv2d_1a_7x7"),
        **grid(56, 64, "MaxPool_2a_3x3", "Conv2d_2b_1x1"),
        **grid(56, 192, "Conv2d_2c_3x3"),
        **grid(28, 192, "MaxPool_3a_3x3"),
        **grid(28, 256, "Mixed_3b"),
        **grid(28, 320, "Mixed_3c"),
        **grid(14, 576, "Mixed_4a", "Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e"),
        **grid(7, 1024, "Mixed_5a", "Mixed_5b", "Mixed_5c"),
        "AvgPool_1a": (1024,),
        **HEADS,
    },
    ("inception_v3", "tf_slim"): {
        **grid(149, 32, "Conv2d_1a_3x3"),
        **grid(147, 32, "Conv2d_2a_3x3"),
        **grid(147, 64, "Conv2d_2b_3x3"),
        **grid(73, 64, "MaxPool_3a_3x3"),
        **grid(73, 80, "Conv2d_3b_1x1"),
        **grid(71, 192, "Conv2d_4a_3x3"),
        **grid(35, 192, "MaxPool_5a_3x3"),
        **grid(35, 256, "Mixed_5b"),
        **grid(35, 288, "Mixed_5c", "Mixed_5d"),
        **grid(17, 768, "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
        **grid(8, 1280, "Mixed_7a"),
        **grid(8, 2048, "Mixed_7b", "Mixed_7c"),
        "AvgPool_1a": (2048,),
        "PreLogits": (2048,),
        "AuxLogits": (1001,),
        **HEADS,
    },
    ("inception_v4", "tf_slim"): {
        **grid(149, 32, "Conv2d_1a_3x3"),
        **grid(147, 32, "Conv2d_2a_3x3"),
        **grid(147, 64, "Conv2d_2b_3x3"),
        **grid(73, 160, "Mixed_3a"),
        **grid(71, 192, "Mixed_4a"),
        **grid(35, 384, "Mixed_5a", "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_5e"),
        **grid(17, 1024, *(f"Mixed_6{letter}" for letter in "abcdefgh")),
        **grid(8, 1536, "Mixed_7a", "Mixed_7b", "Mixed_7c", "Mixed_7d"),
        "global_pool": (1536,),
        "PreLogitsFlatten": (1536,),
        "AuxLogits": (1001,),
        **HEADS,
    },
    ("inception_resnet_v2", "tf_slim"): {
        **grid(149, 32, "Conv2d_1a_3x3"),
        **grid(147, 32, "Conv2d_2a_3x3"),
        **grid(147, 64, "Conv2d_2b_3x3"),
        **grid(73, 64, "MaxPool_3a_3x3"),
        **grid(73, 80, "Conv2d_3b_1x1"),
        **grid(71, 192, "Conv2d_4a_3x3"),
        **grid(35, 192, "MaxPool_5a_3x3"),
        **grid(35, 320, "Mixed_5b"),
        **grid(17, 1088, "Mixed_6a", "PreAuxLogits"),
        **grid(8, 2080, "Mixed_7a"),
        **grid(8, 1536, "Conv2d_7b_1x1"),
        "global_pool": (1536,),
        "PreLogitsFlatten": (1536,),
        "AuxLogits": (1001,),
        **HEADS,
    },
    ("inception_resnet_v1", "facenet"): {
        **grid(35, 256, "Conv2d_4b_3x3", "Mixed_5a"),
        **grid(17, 896, "Mixed_6a", "Mixed_6b"),
        **grid(8, 1792, "Mixed_7a", "Mixed_8a", "Mixed_8b", "PrePool"),
    },
    ("resnet50", "tf_slim"): {
        **grid(112, 64, "conv1"),
        **grid(56, 256, "block1_unit_1", "block1_unit_2"),
        **grid(28, 256, "block1_unit_3", "block1"),
        **grid(14, 512, "block2_unit_4", "block2"),
        **grid(7, 1024, "block3_unit_6", "block3"),
        **grid(7, 2048, "block4_unit_3", "block4"),
        "global_pool": (2048,),
        **HEADS,
    },
}


@pytest.mark.parametrize("key", SLIM, ids="-".join)
def test_end_points_have_the_shapes_of_tf_slims_graphs(key):
    measured = measure(get_architecture(*key), num_classes=1001)
    places = measured.end_points | measured.aux_end_points
    assert {name: places[name].shape for name in SLIM[key]} == SLIM[key]


def test_resnet_v2_has_tf_slims_shapes_at_299_pixels():
    places = measure(get_architecture("preact_resnet50", "tf_slim"), image_size=299).end_points
    expected = {
        "conv1": (150, 64),
        "block1": (38, 256),
        "block2": (19, 512),
        "block3": (10, 1024),
        "block4": (10, 2048),
    }
    assert {name: places[name].shape[1:] for name in expected} == expected
    assert (
        measure(
            get_architecture("preact_resnet50", "tf_slim"), image_size=299, num_classes=1001
        ).multiply_adds
        == 6_536_213_248
    )


def test_every_part_of_a_resnet_v1_unit_has_tf_slims_shape():
    """TF-Slim names them `block1/unit_1/bottleneck_v1/{conv1,conv2,conv3,shortcut}`."""
    shapes = {
        row.path: row.output.shape for row in measure(get_architecture("resnet50", "tf_slim")).rows
    }
    parts = {"conv_1x1": 64, "conv_3x3": 64, "conv_1x1_2": 256, "shortcut/conv_1x1": 256}
    assert {part: shapes[f"block1_unit_1/{part}"] for part in parts} == {
        part: (56, 56, depth) for part, depth in parts.items()
    }


def test_facenet_has_its_published_shape_and_cost_at_160_pixels():
    """The reference is davidsandberg/facenet at 160 px."""
    measured = measure(
        get_architecture("inception_resnet_v1", "facenet"), image_size=160, num_classes=0
    )
    assert measured.end_points["Mixed_8b"].shape == (3, 3, 1792)
    assert measured.multiply_adds == 1_416_744_800
