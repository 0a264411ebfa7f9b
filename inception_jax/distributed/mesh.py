"""The room: which devices and processes there are, and what lies on which. No other module counts them.

Batches are split over all devices. Parameters, and what follows them (the optimizer's state, averages), lie on each of them whole, or
are spread over an axis of the mesh (ZeRO stage 3, Rajbhandari et al. 2019, arXiv:1910.02054): the compiler then gathers a kernel where a
convolution needs it, and scatters its gradient.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import gcd
from typing import Any

import chex
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from inception_jax.config import ConfigError
from inception_jax.data.batches import Batch


@dataclass(frozen=True)
class Placement:
    """A mesh. All of its axes together split batches; over the one called `parameters`, where there is one, state is spread."""

    mesh: Mesh

    @property
    def platform(self) -> str:
        """Of its devices: cpu, gpu or tpu."""
        return self.mesh.devices.flat[0].platform

    @cached_property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    @cached_property
    def batch_sharding(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(self.mesh.axis_names))

    def state_sharding(self, tree: Any) -> Any:
        """The sharding of each array of a state: along the longest of its axes that the mesh's `parameters` divide, or whole."""
        return jax.tree.map(self._shard_array, tree)

    def _shard_array(self, leaf: Any) -> NamedSharding:
        parts = self.mesh.shape.get("parameters", 1)
        fitting = [axis for axis, size in enumerate(leaf.shape) if size % parts == 0]
        if parts == 1 or not fitting:
            return self.replicated
        longest = max(fitting, key=lambda axis: leaf.shape[axis])
        return NamedSharding(
            self.mesh, PartitionSpec(*(None for _ in range(longest)), "parameters")
        )

    def gather_params(self, tree: Any) -> Any:
        """Arrays that are spread, whole on each device, to be computed with; what flows back is summed, and spread as they were.

        For a step a device then holds the parameters once whole, and a part alone of all else that follows them. Left to itself the
        compiler gathers in pieces: 121 times in a step of the digits' network on 8 v5e, and so 70.
        """
        return jax.tree.map(
            lambda x: (
                x
                if self._shard_array(x) == self.replicated
                else _gather(x, self.replicated, self._shard_array(x))
            ),
            tree,
        )

    def local_rows(self, batch_size: int) -> np.ndarray:
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
        slices = self.batch_sharding.addressable_devices_indices_map((batch_size,)).values()
        return np.unique(np.concatenate([np.arange(batch_size)[part] for part in slices])).astype(
            np.int64
        )

    def count_microbatches(self, batch_size: int, limit: int | None, group: int) -> int:
        """In how many parts a batch passes, so that no device has more than `limit` examples at once, and each part whole groups.

        Raises:
          ConfigError: there is no such number.
        """
        share = batch_size // self.devices
        if limit is None or share <= limit:
            return 1
        if not group:
            raise ConfigError(
                f"a device's share of batch_size {batch_size} is {share}, above examples_per_device {limit}, and in parts it has no "
                "statistics over all of it: set norm.examples_per_group, or leave examples_per_device out"
            )
        for parts in range(2, share + 1):
            if share % parts == 0 and share // parts <= limit and batch_size // parts % group == 0:
                return parts
        raise ConfigError(
            f"a device's share of batch_size {batch_size} is {share}: it has no parts of at most examples_per_device {limit} that make "
            f"whole groups of {group}; raise examples_per_device, or lower norm.examples_per_group"
        )

    def make_global_batch(self, batch: Batch, batch_size: int) -> Batch:
        """This process's rows of a batch -> the global batch, split over the devices."""
        chex.assert_rank([batch.image, batch.label, batch.weight, batch.position], [4, 1, 1, 1])
        chex.assert_type(list(batch), [np.uint8, np.int32, np.float32, np.int64])
        chex.assert_tree_shape_prefix(batch, (len(self.local_rows(batch_size)),))
        # Positions key the augmentation; in 32 bits the keys repeat after 4.3e9 examples, 3,352 epochs of ImageNet.
        batch = batch._replace(position=batch.position.astype(np.uint32))
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(
                self.batch_sharding, x, (batch_size, *x.shape[1:])
            ),
            batch,
        )

    def initialize_sharded(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs `function` once, compiled, its results spread: nothing is made on one host and then copied.

        Little is optimised, since it runs once: 70 random kernels took 40 s to compile on two CPU cores, and now 10 s.
        """
        shardings = self.state_sharding(jax.eval_shape(function, *arguments))
        return jax.jit(
            function,
            out_shardings=shardings,
            compiler_options={"xla_backend_optimization_level": 0},
        )(*arguments)

    def compile(self, function: Callable[..., Any], *, state: Any = None) -> Callable[..., Any]:
        """`jit` with replicated results; or, of a function from such a `state` and more to the next and more, one that uses it up."""
        if state is None:
            return jax.jit(function, out_shardings=self.replicated)
        return jax.jit(
            function, out_shardings=(self.state_sharding(state), self.replicated), donate_argnums=0
        )

    @cached_property
    def gather(self) -> Callable[[Any], Any]:
        """Brings split arrays whole to every device, and so to every process."""
        return self.compile(lambda tree: tree)

    @property
    def devices(self) -> int:
        return self.mesh.devices.size

    def make_abstract(self, tree: Any) -> Any:
        """Shapes, dtypes and shardings of a state, for restoring into."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._shard_array(x)), tree
        )

    @property
    def is_primary(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return jax.process_index() == 0

    def broadcast_from_primary(self, number: int) -> int:
        """The number that the leading process gives, in all of them."""
        return (
            int(multihost_utils.broadcast_one_to_all(np.int32(number)))
            if jax.process_count() > 1
            else number
        )

    def collect_device_facts(self) -> dict[str, Any]:
        """For `run.json`: bit for bit holds on the same of these."""
        device = self.mesh.devices.flat[0]
        return {
            "backend": device.platform,
            "device_kind": device.device_kind,
            "devices": self.devices,
            "processes": jax.process_count(),
        }


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(x: jax.Array, whole: NamedSharding, spread: NamedSharding) -> jax.Array:
    return jax.lax.with_sharding_constraint(x, whole)


_gather.defvjp(
    lambda x, whole, spread: (_gather(x, whole, spread), None),
    lambda whole, spread, _, cotangent: (jax.lax.with_sharding_constraint(cotangent, spread),),
)


def all_devices_placement(parameter_shards: int = 1, require: str | None = None) -> Placement:
    """All devices of all processes.

    Args:
      parameter_shards: over so many of them, neighbours, state is spread.
      require: what there must be, `tpu` or `tpu:32`: JAX goes on with the CPU where it finds no accelerator.

    Raises:
      ConfigError: there are others, or `parameter_shards` does not divide them.
    """
    devices = jax.devices()
    of_each = Counter(device.process_index for device in devices)
    if len(set(of_each.values())) > 1:
        told = ", ".join(
            f"process {number} has {count}" for number, count in sorted(of_each.items())[:8]
        )
        raise ConfigError(
            f"the processes of this run have not as many devices each: {told}; see to the hosts of those with fewer"
        )
    found = f"{devices[0].platform}:{len(devices)}"
    kind, _, number = (require or found).partition(":")
    if kind != devices[0].platform or (number and number != str(len(devices))):
        raise ConfigError(
            f"required are {require}, and there are {found} ({devices[0].device_kind}): see to the devices, or to --require"
        )
    return make_placement(devices, parameter_shards)


def make_placement(devices: Sequence[Any], parameter_shards: int = 1) -> Placement:
    """These devices, neighbours beside each other. State is spread within a slice of a TPU; between slices, which only the data centre's
    network joins, gradients are summed and no kernels are gathered.

    Raises:
      ConfigError: `parameter_shards` does not divide them, or those of a slice.
    """
    slices: dict[int, list[Any]] = {}
    for device in devices:
        slices.setdefault(
            (device.platform == "tpu" and getattr(device, "slice_index", None)) or 0, []
        ).append(device)
    least = gcd(*map(len, slices.values()))
    if least % parameter_shards:
        where = f"{len(devices)} devices" + (f" in {len(slices)} slices" if len(slices) > 1 else "")
        raise ConfigError(
            f"parameter_shards {parameter_shards} do not divide {where}: take a divisor of {least}"
        )
    names = ("data", "parameters")
    # The default axis type, Explicit, breaks Linen and Optax in jax 0.11.
    kinds = (AxisType.Auto, AxisType.Auto)
    meshes = [
        jax.make_mesh(
            (len(part) // parameter_shards, parameter_shards), names, axis_types=kinds, devices=part
        )
        for _, part in sorted(slices.items())
    ]
    return Placement(
        Mesh(np.concatenate([mesh.devices for mesh in meshes]), names, axis_types=kinds)
    )
