"""What an import costs, and what it may bring along."""

import os
import subprocess
import sys

from tests.conftest import ROOT


def modules(code):
    program = f"{code}\nimport sys; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


HEAVY = {"tensorflow", "tensorflow_datasets", "grain", "matplotlib", "torch", "cv2"}


def test_importing_inception_jax_loads_no_heavy_packages():
    assert not modules("import inception_jax; inception_jax.list_models()") & (HEAVY | {"jax", "orbax"})


def test_creating_a_network_loads_no_heavy_packages_beyond_jax_and_flax():
    assert not modules("import inception_jax; inception_jax.create('bn_inception')") & (HEAVY | {"tyro", "PIL", "tqdm"})


CORE = """
import importlib.abc, sys
MISSING = "grain array_record tensorflow_datasets tensorflow tyro tqdm tensorboardX simplejpeg cv2 PIL matplotlib".split()
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in MISSING:
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Missing())
import inception_jax.nn.network, inception_jax.training.steps, inception_jax.training.objective, inception_jax.training.optimizer
import inception_jax.training.state, inception_jax.data.order, inception_jax.data.digits, inception_jax.data.augment, inception_jax.config
"""


def test_the_core_needs_jax_flax_optax_chex_and_numpy_alone():
    modules(CORE)


def test_imports_follow_the_layer_contracts():
    """import-linter's contracts in pyproject.toml: imports point down the floors of the design, never up."""
    done = subprocess.run(
        ["lint-imports"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"], "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout
