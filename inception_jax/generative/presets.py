"""The settings by which other programs compute their scores, so that numbers can be compared.

A preset never changes: a program that changes its settings gets a preset of another version.
Sources: pytorch-fid 0.3.0, torch-fidelity 0.4.0, torchmetrics 1.9.0, clean-fid 0.1.35,
guided-diffusion 22e0df8 (ADM), stylegan3 c233a91 and edm 008a4e5.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from inception_jax.config import ConfigError
from inception_jax.generative.inception_score import Splits
from inception_jax.generative.kernel_distance import Subsets
from inception_jax.generative.resizing import ResizeRule, round_product

Rounding = Literal["nearest", "truncate_255", "stylegan", "adm"]
IMAGE_SIZE = 299
"""Pixels of each side of the images that the graph of 2015-12-05 takes."""


class Neighbourhood(NamedTuple):
    """Settings of precision and recall.

    Attributes:
      k: Neighbours.
      reference: Reference images that are used, the first; 0 for all.
    """

    k: int = 3
    reference: int = 0


@dataclass(frozen=True)
class Preset:
    """The settings of a score.

    Attributes:
      name: Name on the command line.
      version: Version of these settings.
      program: The program, with its version, that has them.
      resize: ResizeRule by which images become 299 x 299.
      scaling: `graph` for (x - 128) / 128, `symmetric` for 2 x / 255 - 1.
      rounding: How floats of a generator become bytes; see `QUANTISATIONS`.
      ddof: 1 for covariances over N - 1, 0 for those over N.
      kid: Estimator of the Kernel Inception Distance: random subsets, or `blocks` or `all` pairs,
        the latter where the program has no such metric.
      splits: Splits of the Inception Score.
      neighbourhood: Settings of precision and recall.
      recurses: Whether the program reads folders below the folder.
      network: `graph` for the network of 2015-12-05, `own` for whatever network the weights are
        of.
    """

    name: str
    version: int
    program: str
    resize: ResizeRule
    scaling: Literal["graph", "symmetric"] = "graph"
    rounding: Rounding = "nearest"
    ddof: int = 1
    kid: Subsets | Literal["blocks", "all"] = "all"
    splits: Splits = Splits()
    neighbourhood: Neighbourhood = Neighbourhood()
    recurses: bool = False
    network: Literal["graph", "own"] = "graph"

    @property
    def id(self) -> str:
        """Returns name and version, `pytorch-fid/1`."""
        return f"{self.name}/{self.version}"

    def scale(self, pixels: Any) -> Any:
        """Returns pixels of 0..255 as the network takes them, about -1..1."""
        return (pixels - 128) / 128 if self.scaling == "graph" else 2 * (pixels / 255) - 1


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("pytorch-fid", 1, "pytorch-fid 0.3.0", "half_pixel", "symmetric"),
        Preset(
            "torch-fidelity", 1, "torch-fidelity 0.4.0", "tf1",
            kid=Subsets(), splits=Splits(10, seed=2020),
        ),
        Preset(
            "torchmetrics", 1, "torchmetrics 1.9.0", "antialias", rounding="truncate_255",
            kid=Subsets(fake_first=False), splits=Splits(10, ddof=1, is_chunked=True),
        ),
        Preset(
            "clean-fid", 1, "clean-fid 0.1.35", "bicubic",
            kid=Subsets(seed=0, shrinks=True), recurses=True,
        ),
        Preset(
            "adm", 1, "guided-diffusion 22e0df8", "tf1", rounding="adm",
            splits=Splits(run=5000), neighbourhood=Neighbourhood(reference=10_000),
        ),
        Preset(
            "stylegan", 1, "stylegan3 c233a91", "tf1", rounding="stylegan", ddof=0,
            kid=Subsets(seed=0, shrinks=True), splits=Splits(10), recurses=True,
        ),
        Preset("edm", 1, "edm 008a4e5", "tf1", rounding="stylegan", recurses=True),
    )
}  # fmt: skip
"""The presets by name."""
DEFAULT_PRESET = "torch-fidelity"
"""The graph's own resize, as the numbers of most papers have it, with KID and IS from seeds."""
OWN_NETWORK = Preset("own", 1, "this package", "antialias", network="own")
"""For features of any other network, in the scaling of its card; such a distance is no FID."""


def get_preset(name: str) -> Preset:
    """Returns the preset of a name, `pytorch-fid` or `pytorch-fid/1`.

    Raises:
      ConfigError: There is none, or not of that version.
    """
    plain = name.partition("/")[0]
    found = OWN_NETWORK if plain == OWN_NETWORK.name else PRESETS.get(plain)
    if found is None or name not in (found.name, found.id):
        known = ", ".join([*(preset.id for preset in PRESETS.values()), OWN_NETWORK.id])
        raise ConfigError(f"there is no preset {name!r}: there are {known}")
    return found


class Range(NamedTuple):
    """The range of a generator's floats, black and white."""

    low: float
    high: float


RANGES = {"0..1": Range(0, 1), "-1..1": Range(-1, 1), "0..255": Range(0, 255)}
"""The ranges by name."""


class Quantisation(NamedTuple):
    """A rule that makes bytes of floats: floor((x + before) * factor + after), clamped.

    Attributes:
      unit: The range of x.
    """

    unit: Range
    before: float
    factor: float
    after: float


QUANTISATIONS: dict[Rounding, Quantisation] = {
    "nearest": Quantisation(RANGES["0..1"], 0, 255, 0.5),
    "truncate_255": Quantisation(RANGES["0..1"], 0, 255, 0),
    "stylegan": Quantisation(RANGES["-1..1"], 0, 127.5, 128),
    "adm": Quantisation(RANGES["-1..1"], 1, 127.5, 0),
}
"""The rules of torchvision's `save_image`, of torchmetrics with `normalize=True`, of StyleGAN and
EDM, and of ADM's samplers, whose images are half a level darker.
"""


def get_range(name: str) -> Range:
    """Returns the range of a name.

    Raises:
      ConfigError: There is none.
    """
    if name not in RANGES:
        raise ConfigError(
            f"a range of floats is {name!r}: name that of the generator, {', '.join(RANGES)}"
        )
    return RANGES[name]


def quantise(images: Any, value_range: Range, rounding: Rounding) -> Any:
    """Returns floats [B, H, W, C] as whole numbers 0..255, as if they had been saved as images.

    Args:
      images: Floats within `value_range`; those outside are clamped.
      value_range: Black and white.
      rounding: A name of `QUANTISATIONS`.
    """
    unit, before, factor, after = QUANTISATIONS[rounding]
    values = images.astype(jnp.float32)
    if value_range != unit:
        share = (values - value_range.low) / (value_range.high - value_range.low)
        values = share * (unit.high - unit.low) + unit.low
    scaled = round_product((values + before) * factor) + after
    return jnp.clip(jnp.floor(scaled), 0, 255)
