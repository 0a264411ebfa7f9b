"""The input of a converted network, and where its facts are from.

They are from the command line, from a `config.json` in the folder of the file, from the table of
releases, or assumed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inception_jax.atomic_io import wrap_read_errors
from inception_jax.config import ConfigError, Data
from inception_jax.data.augment import SCALINGS
from inception_jax.data.source import DataError
from inception_jax.weights.releases import KnownRelease

CONFIG = "config.json"
TIMM_FILTERS = {"bicubic": "bicubic_antialias", "bilinear": "antialias", "nearest": "nearest"}
"""Timm's names of Pillow's filters, and ours."""


class Preprocessing(NamedTuple):
    """The input of a network.

    Attributes:
      data: Its fields.
      sources: Texts about where each is from, for people.
    """

    data: Data
    sources: tuple[str, ...]


class TimmConfig(NamedTuple):
    """The contents of timm's `config.json`.

    Attributes:
      data: Fields of `Data`.
      class_names: Names of the classes, if it has any.
    """

    data: dict[str, Any]
    class_names: tuple[str, ...]


def resolve_preprocessing(
    assumed: Data,
    project: str,
    release: KnownRelease | None,
    config: TimmConfig | None,
    given: Mapping[str, Any],
) -> Preprocessing:
    """Returns the input of a network.

    Args:
      assumed: The input of the project's networks.
      project: Name of the project.
      release: The release that the file is, if known.
      config: The contents of its `config.json`, if any.
      given: Fields of `Data` on the command line, which override all others.

    Raises:
      ConfigError: A given field is out of range.
    """
    if config is not None:
        known = f"{CONFIG} beside the file"
    elif release is not None:
        known = f"the release {release.release.id}, known by {release.by}"
    else:
        known = f"release not known: assumed what {project} feeds such networks"
    sources = (
        *([f"{', '.join(name.replace('_', '-') for name in given)} as given"] if given else []),
        known,
    )
    data = replace(
        release.release.get_input(assumed) if release else assumed,
        **{**(config.data if config else {}), **given},
    )
    if "test_crop_fraction" in given and data.test_crop == "none":
        data = replace(data, test_crop="square")
    if data.image_size < 1 or not 0 < data.test_crop_fraction <= 1:
        raise ConfigError(
            f"--image-size {data.image_size}, --crop-fraction {data.test_crop_fraction}: wanted "
            "are a size of 1 or more, and a fraction above 0 and at most 1"
        )
    return Preprocessing(data, sources)


def read_timm_config(file: Path) -> TimmConfig | None:
    """Returns the contents of a `config.json` in the folder of `file`; None without timm's.

    Raises:
      DataError: It cannot be read, or has a value without an equivalent here.
    """
    path = file.parent / CONFIG
    if not path.is_file():
        return None
    with wrap_read_errors(
        path, DataError, "mend it, or take it away and say what is fed on the line"
    ):
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise TypeError("wanted is an object")
        fields = found.get("pretrained_cfg", found)
        if "input_size" not in fields:
            return None
        names = found.get("label_names", fields.get("label_names")) or ()
        return TimmConfig(
            _fields(fields, path),
            tuple(map(str, names)) if len(names) == found.get("num_classes", len(names)) else (),
        )


def _fields(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Returns timm's fields as fields of `Data`.

    Timm crops the middle of the image whose shorter side is resized to input_size / crop_pct.
    """
    size, crop, filter = (
        config["input_size"],
        config.get("crop_mode") or "center",
        config.get("interpolation") or "bicubic",
    )
    if size[-1] != size[-2] or crop not in ("center", "squash"):
        raise DataError(
            f"{path}: input_size {size} and crop_mode {crop!r} have no equivalent here: take it "
            "away, and say what is fed"
        )
    if filter not in TIMM_FILTERS:
        raise DataError(
            f"{path}: interpolation {filter!r} has no equivalent here; there are "
            f"{', '.join(TIMM_FILTERS)}"
        )
    fraction = config.get("crop_pct", 0.875)
    if not (
        type(size[-1]) is int
        and size[-1] > 0
        and isinstance(fraction, int | float)
        and 0 < fraction <= 1
    ):
        raise TypeError(f"input_size {size} and crop_pct {fraction}")
    if crop == "squash" and fraction != 1:
        raise DataError(
            f"{path}: crop_mode squash with crop_pct {fraction} has no equivalent here: take it "
            "away, and say what is fed"
        )
    where = (
        {"test_crop": "none"}
        if crop == "squash"
        else {"test_crop": "square", "test_crop_fraction": float(fraction)}
    )
    scaling = find_scaling(config["mean"], config["std"])
    if scaling is None:
        raise DataError(
            f"{path}: mean {config['mean']} and std {config['std']} are those of no scaling here; "
            f"there are {', '.join(SCALINGS)}"
        )
    return {
        "image_size": int(size[-1]),
        "resize": TIMM_FILTERS[filter],
        "scaling": scaling,
        **where,
    }


def find_scaling(mean: Sequence[float], deviation: Sequence[float]) -> str | None:
    """Returns the name in `SCALINGS` of a mean and a deviation; None for none.

    Both are for pixels in [0, 1], of each channel.
    """
    return next(
        (name for name, own in SCALINGS.items() if np.allclose(own, (mean, deviation), atol=1e-4)),
        None,
    )


def format_preprocessing(data: Data) -> str:
    """Returns the input as text.

    For example: `224 x 224 pixels, of the middle square of 95.0 % of the shorter side, by
    bicubic_antialias; ...`.
    """
    part = {
        "none": "of the whole image",
        "square": "of the middle square of {} of the shorter side",
        "central": "of the middle {} of each side",
    }
    crop = part[data.test_crop].format(f"{data.test_crop_fraction:.1%}")
    mean, deviation = (
        [round(255 * value, 2) for value in values] for values in SCALINGS[data.scaling]
    )
    return (
        f"{data.image_size} x {data.image_size} pixels, {crop}, by {data.resize}; scaling "
        f"{data.scaling}: less {mean}, over {deviation}"
    )
