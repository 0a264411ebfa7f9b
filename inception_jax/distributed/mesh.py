"""The device mesh of a run and the shardings on it.

Batches are sharded over all devices. Parameters, optimizer state and averages are replicated, or
sharded over an axis of the mesh (ZeRO stage 3, Rajbhandari et al. 2019, arXiv:1910.02054): XLA
then gathers a kernel where a convolution needs it, and scatters its gradient. Other modules get
numbers of devices and shardings from here.
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
from jax.experimental.layout import Format, Layout
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from inception_jax.config import ConfigError
from inception_jax.data.batches import Batch

KERNEL_LAYOUTS = {"gpu": Layout((3, 0, 1, 2))}
"""Platform -> layout of kernels [h, w, in, out] and of all state of their shape.

cuDNN reads kernels as [out, h, w, in]. It is the layout that XLA chooses by itself for an H100, in
float32 and bfloat16 (`Layout.AUTO`). In the default layout, each step of Inception-v3 transposes
every kernel, and cannot update it in place: 284 copies.
"""
COMPILER_OPTIONS = {"gpu": {"xla_allow_excess_precision": False}}
"""Platform -> options of XLA.

Excess precision removes casts to bfloat16 and back, and XLA then keeps float32 maps at the end of
residual blocks: 25.03 GB instead of 23.90 GB in a step of ResNet-50 for an H100, at batch 64.
"""


@dataclass(frozen=True)
class Placement:
    """A mesh, with the shardings of batches (over all axes) and of state (over `parameters`)."""

    mesh: Mesh

    @property
    def platform(self) -> str:
        """Returns the platform of the devices: cpu, gpu or tpu."""
        return self.mesh.devices.flat[0].platform

    @cached_property
    def replicated(self) -> NamedSharding:
        """Returns the sharding of an array that every device holds."""
        return NamedSharding(self.mesh, PartitionSpec())

    @cached_property
    def batch_sharding(self) -> NamedSharding:
        """Returns the sharding of the first axis of a batch over all devices."""
        return NamedSharding(self.mesh, PartitionSpec(self.mesh.axis_names))

    def state_format(self, tree: Any) -> Any:
        """Returns the sharding of each array of a state, with the layout where it is not XLA's.

        An array is sharded along its longest axis that `parameters` divides, or else replicated.
        """
        return jax.tree.map(self._format_array, tree)

    def _shard_array(self, leaf: Any) -> NamedSharding:
        shards = self.mesh.shape.get("parameters", 1)
        fitting = [axis for axis, size in enumerate(leaf.shape) if size % shards == 0]
        if shards == 1 or not fitting:
            return self.replicated
        longest = max(fitting, key=lambda axis: leaf.shape[axis])
        return NamedSharding(
            self.mesh, PartitionSpec(*(None for _ in range(longest)), "parameters")
        )

    def _format_array(self, leaf: Any) -> NamedSharding | Format:
        layout = KERNEL_LAYOUTS.get(self.platform) if leaf.ndim == 4 else None
        sharding = self._shard_array(leaf)
        return Format(layout, sharding) if layout else sharding

    def arrange_state(self, state: Any) -> Any:
        """Returns a state in the layouts of this platform; it consumes the one that is given.

        Only the devices see the layouts: shapes, values and checkpoints stay as they are.
        """
        if self.platform not in KERNEL_LAYOUTS:
            return state
        arrange = jax.jit(lambda x: x, out_shardings=self.state_format(state), donate_argnums=0)
        return arrange(state)

    def gather_params(self, tree: Any) -> Any:
        """Returns replicated copies of sharded arrays; gradients are summed and sharded again.

        During a step a device holds the parameters once in full, and one shard of all other state.

        Note: Without the constraint XLA gathers in pieces: 121 all-gathers instead of 70 in a step
        of the digits network on 8 v5e chips.
        """

        def gather(x: jax.Array) -> jax.Array:
            sharding = self._shard_array(x)
            return x if sharding == self.replicated else _gather(x, self.replicated, sharding)

        return jax.tree.map(gather, tree)

    def local_rows(self, batch_size: int) -> np.ndarray:
        """Returns the rows of a global batch on this process's devices, in order, as int64.

        Raises:
          ConfigError: The number of devices does not divide the batch.
        """
        devices = self.devices
        if batch_size % devices:
            below = batch_size // devices * devices
            raise ConfigError(
                f"batch_size {batch_size} cannot be split over {devices} devices: take "
                f"{below or devices} or {below + devices}"
            )
        slices = self.batch_sharding.addressable_devices_indices_map((batch_size,)).values()
        rows = np.concatenate([np.arange(batch_size)[part] for part in slices])
        return np.unique(rows).astype(np.int64)

    def count_microbatches(self, batch_size: int, limit: int | None, group: int) -> int:
        """Returns the number of microbatches with at most `limit` examples on each device.

        Args:
          limit: The most examples on a device at once; None for no limit.
          group: Examples that share batch statistics. Each microbatch has whole groups. 0 for the
            whole batch.

        Raises:
          ConfigError: There is no such number.
        """
        share = batch_size // self.devices
        if limit is None or share <= limit:
            return 1
        if not group:
            raise ConfigError(
                f"a device's share of batch_size {batch_size} is {share}, above "
                f"examples_per_device {limit}, and in parts it has no statistics over all of it: "
                "set norm.examples_per_group, or leave examples_per_device out"
            )
        for parts in range(2, share + 1):
            if share % parts == 0 and share // parts <= limit and batch_size // parts % group == 0:
                return parts
        raise ConfigError(
            f"a device's share of batch_size {batch_size} is {share}: it has no parts of at most "
            f"examples_per_device {limit} that make whole groups of {group}; raise "
            "examples_per_device, or lower norm.examples_per_group"
        )

    def make_global_batch(self, batch: Batch, batch_size: int) -> Batch:
        """Returns the global batch, sharded over the devices, from this process's rows."""
        chex.assert_rank([batch.image, batch.label, batch.weight, batch.position], [4, 1, 1, 1])
        chex.assert_type(list(batch), [np.uint8, np.int32, np.float32, np.int64])
        chex.assert_tree_shape_prefix(batch, (len(self.local_rows(batch_size)),))
        # Positions key the augmentation; 32 bits repeat after 4.3e9 examples (3,352 epochs of
        # ImageNet).
        batch = batch._replace(position=batch.position.astype(np.uint32))

        def make_global(x: np.ndarray) -> jax.Array:
            shape = (batch_size, *x.shape[1:])
            return jax.make_array_from_process_local_data(self.batch_sharding, x, shape)

        return jax.tree.map(make_global, batch)

    def initialize_sharded(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs `function` once, compiled, with sharded results that no host copies.

        Note: At optimisation level 0, since it runs once: 70 random kernels compile in 10 s instead
        of 40 s on two CPU cores.
        """
        shardings = self.state_format(jax.eval_shape(function, *arguments))
        options = {"xla_backend_optimization_level": 0}
        return jax.jit(function, out_shardings=shardings, compiler_options=options)(*arguments)

    def compile(self, function: Callable[..., Any], *, state: Any = None) -> Callable[..., Any]:
        """Returns `function` under `jit`.

        Args:
          function: With `state`, a function (state, ...) -> (state, ...); it consumes its state.
            Otherwise any function; its results are replicated.
          state: An abstract state. On the devices it has the layouts of `arrange_state`.
        """
        options = COMPILER_OPTIONS.get(self.platform)
        if state is None:
            return jax.jit(function, out_shardings=self.replicated, compiler_options=options)
        shardings = (self.state_format(state), self.replicated)
        return jax.jit(
            function, out_shardings=shardings, donate_argnums=0, compiler_options=options
        )

    @cached_property
    def gather(self) -> Callable[[Any], Any]:
        """Returns a function that replicates arrays on every device, and so in every process."""
        return self.compile(lambda tree: tree)

    @property
    def devices(self) -> int:
        """Returns the number of devices."""
        return self.mesh.devices.size

    def make_abstract(self, tree: Any) -> Any:
        """Returns the shapes, dtypes and shardings of a state, to restore it into."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._format_array(x)), tree
        )

    @property
    def is_primary(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return jax.process_index() == 0

    def broadcast_from_primary(self, number: int) -> int:
        """Returns the number of the primary process, in all processes."""
        return (
            int(multihost_utils.broadcast_one_to_all(np.int32(number)))
            if jax.process_count() > 1
            else number
        )

    def collect_device_facts(self) -> dict[str, Any]:
        """Returns the facts of the devices for `run.json`; equal facts give equal bits."""
        device = self.mesh.devices.flat[0]
        return {
            "backend": device.platform,
            "device_kind": device.device_kind,
            "devices": self.devices,
            "processes": jax.process_count(),
        }


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(x: jax.Array, replicated: NamedSharding, sharding: NamedSharding) -> jax.Array:
    return jax.lax.with_sharding_constraint(x, replicated)


def _gather_forward(x: jax.Array, replicated: NamedSharding, sharding: NamedSharding):
    return _gather(x, replicated, sharding), None


def _gather_backward(replicated: NamedSharding, sharding: NamedSharding, _, cotangent: jax.Array):
    return (jax.lax.with_sharding_constraint(cotangent, sharding),)


_gather.defvjp(_gather_forward, _gather_backward)


def all_devices_placement(parameter_shards: int = 1, require: str | None = None) -> Placement:
    """Returns the placement on all devices of all processes.

    Args:
      parameter_shards: The number of neighbouring devices over which state is sharded.
      require: The devices that there must be, `tpu` or `tpu:32`. JAX falls back to the CPU where it
        finds no accelerator.

    Raises:
      ConfigError: There are other devices, or `parameter_shards` does not divide them.
    """
    devices = jax.devices()
    counts = Counter(device.process_index for device in devices)
    if len(set(counts.values())) > 1:
        listed = [f"process {number} has {count}" for number, count in sorted(counts.items())[:8]]
        raise ConfigError(
            f"the processes of this run have not as many devices each: {', '.join(listed)}; see to "
            "the hosts of those with fewer"
        )
    found = f"{devices[0].platform}:{len(devices)}"
    kind, _, number = (require or found).partition(":")
    if kind != devices[0].platform or (number and number != str(len(devices))):
        raise ConfigError(
            f"required are {require}, and there are {found} ({devices[0].device_kind}): see to the "
            "devices, or to --require"
        )
    return make_placement(devices, parameter_shards)


def make_placement(devices: Sequence[Any], parameter_shards: int = 1) -> Placement:
    """Returns the placement on these devices, in an order that keeps neighbours together.

    State is sharded within a slice of a TPU. Between slices, which the data centre's network joins,
    gradients are summed and no kernels are gathered.

    Raises:
      ConfigError: `parameter_shards` does not divide the devices, or those of a slice.
    """
    slices: dict[int, list[Any]] = {}
    for device in devices:
        index = getattr(device, "slice_index", None) if device.platform == "tpu" else None
        slices.setdefault(index or 0, []).append(device)
    divisor = gcd(*map(len, slices.values()))
    if divisor % parameter_shards:
        where = f"{len(devices)} devices"
        if len(slices) > 1:
            where += f" in {len(slices)} slices"
        raise ConfigError(
            f"parameter_shards {parameter_shards} do not divide {where}: take a divisor of "
            f"{divisor}"
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
    arrays = np.concatenate([mesh.devices for mesh in meshes])
    return Placement(Mesh(arrays, names, axis_types=kinds))
