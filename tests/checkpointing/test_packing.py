import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from inception_jax.checkpointing.packing import (
    SMALL_BYTES,
    flatten_with_names,
    pack_arrays,
    unpack_arrays,
)


def tree():
    return {
        "params": {
            "conv": {
                "kernel": jnp.arange(24.0).reshape(2, 3, 4),
                "mask": jnp.array([True, False, True]),
            },
            "half": jnp.arange(5, dtype=jnp.bfloat16),
            "empty": jnp.zeros((0, 3)),
        },
        "large": jnp.ones(SMALL_BYTES // 4),
        "step": jnp.int32(7),
    }


def test_small_arrays_are_packed_by_field_and_unpacked_bit_for_bit():
    arrays, layout = pack_arrays(tree())
    assert set(arrays) == {"params", "step", "large"}
    assert set(layout) == {"params", "step"}
    unpacked = unpack_arrays(arrays, layout)
    for name, leaf in flatten_with_names(tree()):
        assert (unpacked[name].shape, unpacked[name].dtype) == (leaf.shape, leaf.dtype)
        np.testing.assert_array_equal(unpacked.pop(name), leaf)
    assert not unpacked


def test_unpacking_leaves_out_a_field_that_was_not_read():
    arrays, layout = pack_arrays(tree())
    del arrays["params"]
    assert set(unpack_arrays(arrays, layout)) == {"step", "large"}


def test_packed_arrays_are_copies():
    given = {"a": {"kernel": jnp.ones(8)}}
    arrays, layout = pack_arrays(given)
    jax.tree.map(lambda leaf: leaf.delete(), given)
    np.testing.assert_array_equal(unpack_arrays(arrays, layout)["a.kernel"], 1)


PROGRAM = """
import chex; chex.set_n_cpu_devices(8)
import jax, jax.numpy as jnp, numpy as np, sys
from etils import epath
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding
from inception_jax.checkpointing.checkpoints import Checkpoints
from inception_jax.checkpointing.packing import pack_arrays
mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
sharded, replicated = [NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ())]
wide = jax.device_put(jnp.arange(16.0), sharded)
small = jax.device_put(jnp.arange(4.0), replicated)
state = {"a": {"wide": wide, "small": small}}
arrays, layout = pack_arrays(state)
print(sorted(arrays), [name for name, *_ in layout["a"]])
checkpoints = Checkpoints(epath.Path(sys.argv[1]), keep=1)
checkpoints.save(1, state)
checkpoints.close()
for sharding in (sharded, replicated, SingleDeviceSharding(jax.devices()[5])):
    wanted = {
        "wide": jax.ShapeDtypeStruct((16,), "float32", sharding=sharding),
        "small": jax.ShapeDtypeStruct((4,), "float32", sharding=replicated),
    }
    restored = Checkpoints(epath.Path(sys.argv[1]), keep=1).restore(1, {"a": wanted})["a"]
    print(restored["wide"].sharding == sharding, restored["small"].sharding == replicated)
    np.testing.assert_array_equal(np.asarray(restored["wide"]), np.arange(16.0))
    np.testing.assert_array_equal(np.asarray(restored["small"]), np.arange(4.0))
"""


def test_sharded_arrays_stay_unpacked_and_are_restored_in_any_sharding(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["['a', 'a.wide'] ['a.small']", *["True True"] * 3], (
        done.stderr
    )
