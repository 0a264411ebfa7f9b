"""The features of images under a preset: one compiled step from pixels to sums."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from inception_jax.config import ConfigError
from inception_jax.data.augment import scale_pixels
from inception_jax.generative import statistics
from inception_jax.generative.presets import IMAGE_SIZE, Preset, Range, quantise
from inception_jax.generative.resizing import resize_images
from inception_jax.generative.statistics import HIGHEST, Statistics
from inception_jax.nn.network import Network
from inception_jax.weights.export.onnx import to_onnx
from inception_jax.weights.library import load_library
from inception_jax.weights.trained_network import TrainedNetwork, get_digest

SPATIAL_END_POINT, SPATIAL_CHANNELS = "Mixed_6d", 7
"""The features of sFID: the first 7 channels of 17 x 17 positions, row, column, channel. Source:
ADM's evaluator, `mixed_6/conv:0`.
"""
Engine = Literal["xla", "onnx"]


class ImageFeatures(NamedTuple):
    """The features of a batch.

    Attributes:
      pooled: [B, d] float32, `pool3`.
      logits: [B, K], without the bias of the last layer; None where the network has no such layer.
      spatial: [B, 2023]; None where they were not asked for.
    """

    pooled: Any
    logits: Any
    spatial: Any


class SetState(NamedTuple):
    """The sums of a set of images on the devices.

    Attributes:
      pooled: Sums of the pooled features.
      spatial: Sums of the spatial features; None where they were not asked for.
      outside: [] int32, images with floats outside of their range.
    """

    pooled: Statistics
    spatial: Statistics | None
    outside: Any


class Extractor:
    """A network on the devices that adds the features of images to sums.

    Attributes:
      preset: The settings.
      placement: The devices.
      card: The card of the weights.
      image_size: Pixels of each side that the network gets.
      size: Number of pooled features, d.
      spatial_size: Number of spatial features; 0 where they were not asked for.
      engine: `xla`, or `onnx` for ONNX Runtime, which computes the network alone.
    """

    def __init__(
        self,
        trained: TrainedNetwork,
        preset: Preset,
        *,
        spatial: bool = False,
        engine: Engine = "xla",
    ):
        """Prepares the network of some weights.

        Raises:
          ConfigError: The weights are not those of the preset's network, or ONNX Runtime is asked
            for and not installed.
        """
        self.preset, self.engine = preset, engine
        self.card, self.placement = trained.card, trained.run.placement
        self._config, self._digest = trained.run.config, get_digest(trained)
        check_network(trained, preset)
        self.image_size = (
            IMAGE_SIZE if preset.network == "graph" else trained.run.config.data.image_size
        )
        network = trained.run.network
        self._channels = network.architecture.channels
        self._network = network.clone(num_classes=0)
        if spatial and SPATIAL_END_POINT not in dict(network.architecture.layers):
            raise ConfigError(
                f"{trained.name} has no end point {SPATIAL_END_POINT}, of which sfid is: leave "
                "sfid out, or give --weights fid/2015-12-05"
            )
        if engine == "onnx" and jax.process_count() > 1:
            raise ConfigError("ONNX Runtime computes in one process: give --engine xla")
        self._end_points = (SPATIAL_END_POINT,) if spatial else ()
        self._variables = trained.variables
        self._classifier = _find_classifier(network, trained.variables)
        self._session = self._open_session() if engine == "onnx" else None
        shapes = jax.eval_shape(self._compute, self._variables, self._example())
        self.size = int(shapes.pooled.shape[-1])
        self.spatial_size = int(shapes.spatial.shape[-1]) if spatial else 0
        self._step: Callable[..., tuple[SetState, ImageFeatures]] = jax.jit(
            self._update,
            static_argnames="value_range",
            donate_argnums=1,
            out_shardings=(self._shard_state(), self.placement.batch_sharding),
        )
        self._prepare = jax.jit(self._prepare_images, static_argnames="value_range")
        self._add = jax.jit(_add_features, donate_argnums=0, out_shardings=self._shard_state())

    @property
    def has_logits(self) -> bool:
        """Whether the network ends in one linear layer, whose outputs the Inception Score takes."""
        return self._classifier is not None

    def make_state(self, blocks: int = 0) -> SetState:
        """Returns the state of an empty set, with so many blocks for the jackknife."""
        make = partial(statistics.make_statistics, placement=self.placement, blocks=blocks)
        spatial = make(self.spatial_size) if self.spatial_size else None
        zero = jax.device_put(np.int32(0), self.placement.replicated)
        return SetState(make(self.size), spatial, zero)

    def step(
        self, state: SetState, images: Any, weights: Any, value_range: Range | None = None
    ) -> tuple[SetState, ImageFeatures]:
        """Adds a batch to the state, which is consumed; returns it and the features.

        Args:
          state: Of `make_state`.
          images: [B, H, W, 3] uint8, or floats: of 0..255 and resized, where H and W are those of
            the network and `value_range` is None, or of `value_range`.
          weights: [B] float32, 1 for an image and 0 for padding.
          value_range: Range of floats that are to become bytes first.
        """
        if self._session is None:
            return self._step(self._variables, state, images, weights, value_range=value_range)
        prepared, outside = self._prepare(images, weights, value_range=value_range)
        found = dict(
            zip(
                [output.name for output in self._session.get_outputs()],
                self._session.run(None, {"images": np.asarray(prepared)}),
                strict=True,
            )
        )
        spatial = _flatten_spatial(found[SPATIAL_END_POINT]) if self._end_points else None
        pooled = found["logits"]
        logits = pooled @ np.asarray(self._classifier) if self._classifier is not None else None
        outputs = ImageFeatures(pooled, logits, spatial)
        return self._add(state, outputs, weights, outside), outputs

    def collect_facts(self) -> dict[str, Any]:
        """Returns preset, weights, platform and precision, for a file of statistics."""
        device = self.placement.mesh.devices.flat[0]
        return {
            "preset": self.preset.id,
            "weights": self._digest,
            "weights_source": self.card.source,
            "weights_release": self.card.release,
            "network": f"{self.card.model.name} ({self._network.architecture.variant})",
            "resize": self.preset.resize,
            "platform": device.platform,
            "device": device.device_kind,
            "devices": self.placement.devices,
            "engine": self.engine,
            "precision": "float32, products at the highest precision",
        }

    def _example(self) -> jax.ShapeDtypeStruct:
        batch = self.placement.devices
        size = self.image_size
        return jax.ShapeDtypeStruct((batch, size, size, self._channels), np.float32)

    def _shard_state(self) -> SetState:
        shardings = statistics.shard_statistics(self.placement)
        spatial = shardings if self.spatial_size else None
        return SetState(shardings, spatial, self.placement.replicated)

    def _prepare_images(
        self, images: jax.Array, weights: jax.Array, value_range: Range | None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the network's input, and the number of images outside of their range."""
        outside = jnp.zeros((), jnp.int32)
        if value_range is not None:
            # NaN is not inside. A minimum would lose it: XLA's on CPUs does not propagate NaN.
            is_inside = (images >= value_range.low) & (images <= value_range.high)
            outside = (~is_inside.all((1, 2, 3)) & (weights > 0)).sum(dtype=jnp.int32)
            images = quantise(images, value_range, self.preset.rounding)
        if images.shape[1:3] != (self.image_size, self.image_size):
            images = resize_images(images, self.preset.resize, self.image_size)
        if self.preset.network == "graph":
            scaled = self.preset.scale(images.astype(jnp.float32))
        else:
            scaled = scale_pixels(images, self._config.data.scaling)[..., : self._channels]
        return scaled, outside

    def _compute(self, variables: Mapping[str, Any], prepared: jax.Array) -> ImageFeatures:
        """Returns the features of prepared images.

        Products and convolutions have the highest precision: a TPU's default is bfloat16, which
        moves features by 8 % of their largest value.
        """
        with jax.default_matmul_precision("highest"):
            found: Any = self._network.apply(variables, prepared, end_points=self._end_points)
            pooled = found.logits.astype(jnp.float32)
            logits = None
            if self._classifier is not None:
                logits = jnp.matmul(pooled, self._classifier, precision=HIGHEST)
        spatial = None
        if self._end_points:
            spatial = _flatten_spatial(found.end_points[SPATIAL_END_POINT])
        return ImageFeatures(pooled, logits, spatial)

    def _update(
        self,
        variables: Mapping[str, Any],
        state: SetState,
        images: jax.Array,
        weights: jax.Array,
        value_range: Range | None,
    ) -> tuple[SetState, ImageFeatures]:
        prepared, outside = self._prepare_images(images, weights, value_range)
        outputs = self._compute(variables, prepared)
        return _add_features(state, outputs, weights, outside), outputs

    def _open_session(self) -> Any:
        runtime = load_library("onnxruntime", "export")
        model = to_onnx(
            self._network.clone(rewrites=()),
            jax.tree.map(np.asarray, dict(self._variables)),
            image_size=self.image_size,
            end_points=self._end_points,
        )
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _add_features(
    state: SetState, outputs: ImageFeatures, weights: jax.Array, outside: jax.Array
) -> SetState:
    spatial = state.spatial
    if spatial is not None:
        spatial = statistics.update(spatial, outputs.spatial, weights)
    pooled = statistics.update(state.pooled, outputs.pooled, weights)
    return SetState(pooled, spatial, state.outside + outside)


def _flatten_spatial(activations: Any) -> Any:
    """Returns activations [B, H, W, C] as sFID takes them, [B, H * W * 7]."""
    return activations[..., :SPATIAL_CHANNELS].reshape(len(activations), -1)


def _find_classifier(network: Network, variables: Mapping[str, Any]) -> Any:
    """Returns the kernel [d, K] of the last layer; None where it is not one linear layer."""
    row = network.architecture.logits_row
    kernels = [
        leaf
        for path, leaf in flatten_dict(variables["params"], sep="/").items()
        if path.startswith(f"{row}/") and path.endswith("/kernel")
    ]
    return kernels[0] if len(kernels) == 1 and kernels[0].ndim == 2 else None


def check_network(trained: TrainedNetwork, preset: Preset) -> None:
    """Raises an error for weights of another network than a preset's scores are defined on.

    Raises:
      ConfigError: They are not of the graph of 2015-12-05.
    """
    table, classes = trained.run.network.architecture, trained.run.network.num_classes
    if preset.network == "graph" and (table.name, table.variant, classes) != (
        "inception_v3", "fid", 1008,
    ):  # fmt: skip
        raise ConfigError(
            f"{trained.name} has weights of {table.name} ({table.variant}), {classes} classes; the "
            f"preset {preset.id} is defined on the network of 2015-12-05, inception_v3 (fid) with "
            "1008: give --weights fid/2015-12-05, or --preset own for the features of this "
            "network, whose distances are no FID"
        )
    if preset.network == "own" and table.logits_row is None:
        raise ConfigError(f"{trained.name} has no layer of pooled features")
