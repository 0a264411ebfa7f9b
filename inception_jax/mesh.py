"""The room: which devices and processes there are, and what lies on which. No other module counts them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import chex
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from inception_jax.config import ConfigError
from inception_jax.data.batches import Batch


@dataclass(frozen=True)
class Placement:
    """A mesh whose `data` axis splits batches; state is on every device whole."""

    mesh: jax.sharding.Mesh

    @cached_property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    @cached_property
    def split(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec("data"))

    def rows(self, batch_size: int) -> np.ndarray:
        """The rows of a global batch that this process's devices hold, in order.

        Raises:
          ConfigError: the devices do not divide the batch.
        """
        devices = self.devices
        if batch_size % devices:
            below = batch_size // devices * devices
            raise ConfigError(
                f"batch_size {batch_size} cannot be split over {devices} devices: take {below or devices} or {below + devices}"
            )
        slices = self.split.addressable_devices_indices_map((batch_size,)).values()
        return np.unique(np.concatenate([np.arange(batch_size)[part] for part in slices])).astype(np.int64)

    def lay_out(self, batch: Batch, batch_size: int) -> Batch:
        """This process's rows of a batch -> the global batch, split over the devices."""
        chex.assert_rank([batch.image, batch.label, batch.weight, batch.position], [4, 1, 1, 1])
        chex.assert_type(list(batch), [np.uint8, np.int32, np.float32, np.int64])
        chex.assert_tree_shape_prefix(batch, (len(self.rows(batch_size)),))
        # Positions key the augmentation; in 32 bits the keys repeat after 4.3e9 examples, 3,352 epochs of ImageNet.
        batch = batch._replace(position=batch.position.astype(np.uint32))
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self.split, x, (batch_size, *x.shape[1:])), batch)

    def build(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs `function` once, compiled, its results replicated: nothing is made on one host and then copied.

        Little is optimised, since it runs once: 70 random kernels took 40 s to compile on two CPU cores, and now 10 s.
        """
        return jax.jit(function, out_shardings=self.replicated, compiler_options={"xla_backend_optimization_level": 0})(*arguments)

    def compile(self, function: Callable[..., Any], *, donate: tuple[int, ...] = ()) -> Callable[..., Any]:
        """`jit` with replicated results."""
        return jax.jit(function, out_shardings=self.replicated, donate_argnums=donate)

    @cached_property
    def gather(self) -> Callable[[Any], Any]:
        """Brings split arrays whole to every device, and so to every process."""
        return self.compile(lambda tree: tree)

    @property
    def devices(self) -> int:
        return self.mesh.devices.size

    def abstract(self, tree: Any) -> Any:
        """Shapes, dtypes and shardings of a replicated tree, for restoring into."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.replicated), tree)

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return jax.process_index() == 0

    def agreed(self, number: int) -> int:
        """The number that the leading process gives, in all of them."""
        return int(multihost_utils.broadcast_one_to_all(np.int32(number))) if jax.process_count() > 1 else number

    def describe(self) -> dict[str, Any]:
        """For `run.json`: bit for bit holds on the same of these."""
        device = self.mesh.devices.flat[0]
        return {
            "backend": device.platform,
            "device_kind": device.device_kind,
            "devices": self.devices,
            "processes": jax.process_count(),
        }


def everything() -> Placement:
    """All devices of all processes along one `data` axis."""
    # The default axis type, Explicit, breaks Linen and Optax in jax 0.11.
    return Placement(jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,)))
