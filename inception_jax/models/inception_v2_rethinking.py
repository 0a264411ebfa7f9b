"""Inception-v2 of "Rethinking the Inception Architecture" (arXiv:1512.00567): tables 1 and 3.

The network is a reconstruction: the filter sizes were in a file that is lost, so the modules have
the widths of the released Inception-v3. The other network called Inception-v2 is `bn_inception`.
"""

from collections.abc import Callable

from inception_jax.models.inception_v3 import (  # isort: skip
    FIGURE_5, auxiliary_head, classifier, first_rows, mixed_8, mixed_17, mixed_35, reduction_17,
    reduction_35, stem,
)  # fmt: skip
from inception_jax.spec.vocabulary import Architecture, Steps, Table, max_, same, table, valid

PADDED = ("Conv2d_4b_3x3", "table 1 does not mark it padded, but 35x35 stays 35x35 only if it is")
FIVE = (
    "Mixed_6b",
    "table 1 prints 5 of these; "
    "the 42 layers that the paper counts, and the released network, have 4",
)


def stem_of_table_1() -> Table:
    """Returns rows 1 to 7 of table 1."""
    return first_rows() + table(
        MaxPool_3a_3x3=max_(3, 2, "valid"),  # 73 x 73 x 64
        Conv2d_3b_3x3=valid(80, 3),  # 71 x 71 x 80
        Conv2d_4a_3x3=valid(192, 3, 2),  # 35 x 35 x 192
        Conv2d_4b_3x3=same(288, 3),  # 35 x 35 x 288
    )


def stem_7x7() -> Table:
    """Returns the stem of the networks above "factorized 7x7" in table 3, which is GoogLeNet's."""
    first_row = table(
        Conv2d_1a_7x7=valid(64, 7, 2),  # 147 x 147 x 64
    )
    return first_row + stem()[3:]


def four_modules() -> Table:
    """Returns the four modules at 17x17 of the released network."""
    return table(
        Mixed_6b=mixed_17(128),  # 17 x 17 x 768
        Mixed_6c=mixed_17(160),  # 17 x 17 x 768
        Mixed_6d=mixed_17(160),  # 17 x 17 x 768
        Mixed_6e=mixed_17(192),  # 17 x 17 x 768
    )


def five_modules() -> Table:
    """Returns the five modules at 17x17 that table 1 prints."""
    return table(
        Mixed_6b=mixed_17(128),  # 17 x 17 x 768
        Mixed_6c=mixed_17(160),  # 17 x 17 x 768
        Mixed_6d=mixed_17(160),  # 17 x 17 x 768
        Mixed_6e=mixed_17(160),  # 17 x 17 x 768
        Mixed_6f=mixed_17(192),  # 17 x 17 x 768
    )


def build_architecture(
    variant: str,
    stem: Table,
    *,
    projection: int = 64,
    large_branch: Steps = FIGURE_5,
    modules_17: Callable[[], Table] = four_modules,
    bn_auxiliary: bool = False,
) -> Architecture:
    """Builds rows 8 to 13 of table 1 after a stem.

    Args:
      variant: Name of the variant.
      stem: The rows before the modules.
      projection: Channels of the pool projection of the first module.
      large_branch: The branch with the larger kernel of the modules at 35x35.
      modules_17: The modules at 17x17.
      bn_auxiliary: Whether the fully connected layer of the auxiliary head is normalised too.
    """
    rows_35 = table(
        Mixed_5b=mixed_35(projection, large_branch),  # 35 x 35 x 288
        Mixed_5c=mixed_35(64, large_branch),  # 35 x 35 x 288
        Mixed_5d=mixed_35(64, large_branch),  # 35 x 35 x 288
        Mixed_6a=reduction_35(),  # 17 x 17 x 768
    )
    rows_17 = modules_17()
    rows_8 = table(
        Mixed_7a=reduction_17(),  # 8 x 8 x 1280
        Mixed_7b=mixed_8(),  # 8 x 8 x 2048
        Mixed_7c=mixed_8(),  # 8 x 8 x 2048
    )
    layers = stem + rows_35 + rows_17 + rows_8 + classifier()
    notes = (PADDED, FIVE) if len(rows_17) == 4 else (PADDED,)
    return Architecture(
        "inception_v2_rethinking", variant, layers,
        "arXiv:1512.00567, table 1; widths as released in Inception-v3", 299, dropout_rate=0.2,
        aux=auxiliary_head(rows_17[-1][0], norm=bn_auxiliary, bias=not bn_auxiliary),
        notes=tuple(note for note in notes if note[0] in dict(layers)), paper="arXiv:1512.00567",
    )  # fmt: skip


def paper() -> Architecture:
    """Builds table 1 with four modules at 17x17: the networks from "factorized 7x7" on."""
    return build_architecture("paper", stem_of_table_1())


def bn_auxiliary() -> Architecture:
    """Builds the last network of table 3, which the paper calls Inception-v3."""
    return build_architecture("bn_auxiliary", stem_of_table_1(), bn_auxiliary=True)


def unfactorized_7x7() -> Architecture:
    """Builds the networks above "factorized 7x7" in table 3."""
    return build_architecture("stem_7x7", stem_7x7(), projection=32)


def five_17x17() -> Architecture:
    """Builds the network with the five modules at 17x17 that table 1 prints."""
    return build_architecture("five_17x17", stem_of_table_1(), modules_17=five_modules)


def double_3x3() -> Architecture:
    """Builds the network with two 3x3 for the 5x5 of both large branches."""
    large_branch = (same(48, 1), same(64, 3), same(64, 3))
    return build_architecture("double_3x3", stem_of_table_1(), large_branch=large_branch)


def released_stem() -> Architecture:
    """Builds the network with the stem of the released Inception-v3."""
    return build_architecture("released_stem", stem(), projection=32)
