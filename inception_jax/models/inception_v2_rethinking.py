"""Inception-v2 of "Rethinking the Inception Architecture" (Szegedy et al. 2015, arXiv:1512.00567): table 1 and its ladder.

A reconstruction: the filter sizes were in a file that is lost, so the modules have the widths of the released
Inception-v3. `bn_inception` is the other network that is called Inception-v2.
"""

from inception_jax.models.inception_v3 import (  # isort: skip
    FIGURE_5, auxiliary_head, classifier, first_rows, mixed_8, mixed_17, mixed_35, reduction_17, reduction_35, stem,
)  # fmt: skip
from inception_jax.spec.vocabulary import Architecture, Steps, Table, max_, same, table, valid

PADDED = ("Conv2d_4b_3x3", "table 1 does not mark it padded, but 35x35 stays 35x35 only if it is")
FIVE = (
    "Mixed_6b",
    "table 1 prints 5 of these; the 42 layers that the paper counts, and the released network, have 4",
)


def stem_of_table_1() -> Table:
    """Rows 1 to 7: to 35x35x288."""
    return first_rows() + table(
        MaxPool_3a_3x3=max_(3, 2, "valid"),
        Conv2d_3b_3x3=valid(80, 3),
        Conv2d_4a_3x3=valid(192, 3, 2),
        Conv2d_4b_3x3=same(288, 3),
    )


def stem_7x7() -> Table:
    """The rungs below "factorized 7x7" begin as GoogLeNet does."""
    return table(Conv2d_1a_7x7=valid(64, 7, 2)) + stem()[3:]


def build_architecture(
    variant: str, rows: Table, *, projection: int = 64, large: Steps = FIGURE_5, grid_17: tuple[int, ...] = (128, 160, 160, 192),
    bn_auxiliary: bool = False,
) -> Architecture:  # fmt: skip
    """Rows 8 to 13 of table 1. `bn_auxiliary` normalises the fully connected layer of the side head too."""
    rows += table(
        Mixed_5b=mixed_35(projection, large),
        Mixed_5c=mixed_35(64, large),
        Mixed_5d=mixed_35(64, large),
        Mixed_6a=reduction_35(),
    )
    rows += tuple(
        (f"Mixed_6{letter}", mixed_17(f)) for letter, f in zip("bcdef", grid_17, strict=False)
    )
    head = auxiliary_head(rows[-1][0], norm=bn_auxiliary, bias=not bn_auxiliary)
    rows += table(Mixed_7a=reduction_17(), Mixed_7b=mixed_8(), Mixed_7c=mixed_8())
    notes = tuple(
        note
        for note in (PADDED, FIVE)
        if note[0] in dict(rows) and (note is PADDED or len(grid_17) == 4)
    )
    return Architecture(
        "inception_v2_rethinking", variant, rows + classifier(), "arXiv:1512.00567, table 1; widths as released in Inception-v3", 299,
        dropout_rate=0.2, aux=head, notes=notes, paper="arXiv:1512.00567",
    )  # fmt: skip


def paper() -> Architecture:
    """Table 1 with four modules at 17x17: the rungs from "factorized 7x7" on."""
    return build_architecture("paper", stem_of_table_1())


def bn_auxiliary() -> Architecture:
    """The last rung, which the paper calls Inception-v3."""
    return build_architecture("bn_auxiliary", stem_of_table_1(), bn_auxiliary=True)


def first_rung() -> Architecture:
    """The rungs below "factorized 7x7"."""
    return build_architecture("stem_7x7", stem_7x7(), projection=32)


def five_modules() -> Architecture:
    """With the five modules at 17x17 that table 1 prints."""
    return build_architecture("five_17x17", stem_of_table_1(), grid_17=(128, 160, 160, 160, 192))


def double_3x3() -> Architecture:
    """With two 3x3 for the 5x5 of both large branches."""
    return build_architecture(
        "double_3x3", stem_of_table_1(), large=(same(48, 1), same(64, 3), same(64, 3))
    )


def released_stem() -> Architecture:
    """With the stem of the released Inception-v3."""
    return build_architecture("released_stem", stem(), projection=32)
