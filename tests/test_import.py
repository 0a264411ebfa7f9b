"""The cost of imports, and the libraries that they load."""

import ast
import os
import re
import subprocess
import sys
import tomllib

import pytest

from tests.conftest import ROOT


def modules(code):
    program = f"{code}\nimport sys; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


HEAVY = {"tensorflow", "tensorflow_datasets", "grain", "matplotlib", "torch", "cv2"}


def test_importing_inception_jax_loads_no_heavy_packages():
    assert not modules("import inception_jax; inception_jax.list_models()") & (
        HEAVY | {"jax", "orbax", "platformdirs", "pooch", "huggingface_hub", "pyarrow"}
    )


def test_creating_a_network_loads_no_heavy_packages_beyond_jax_and_flax():
    assert not modules("import inception_jax; inception_jax.create('bn_inception')") & (
        HEAVY | {"tyro", "PIL", "tqdm"}
    )


CORE = """
import importlib.abc, sys
MISSING = "grain array_record tensorflow_datasets "\
    "tensorflow tyro tqdm tensorboardX simplejpeg cv2 PIL matplotlib "\
    "platformdirs pooch huggingface_hub pyarrow".split()
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in MISSING:
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Missing())
import inception_jax.nn.network, inception_jax.training.steps, inception_jax.training.objective
import inception_jax.training.optimizer, inception_jax.training.state, inception_jax.data.order
import inception_jax.data.digits, inception_jax.data.augment, inception_jax.config
"""


def test_the_core_needs_jax_flax_optax_chex_and_numpy_alone():
    modules(CORE)


def test_imports_follow_the_layer_contracts():
    """import-linter's contracts in pyproject.toml: imports point down the floors of the design,
    never up.
    """
    done = subprocess.run(
        ["lint-imports"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
        },
    )
    assert done.returncode == 0, done.stdout


WITHOUT_EXTRAS = """
import importlib.abc, sys
MISSING = "grain array_record tensorflow_datasets "\
    "tensorboardX simplejpeg cv2 PIL matplotlib google_crc32c flatbuffers onnx".split()
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from inception_jax.cli import main
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "extra"),
    [
        (["models", "inception_v3"], None),
        (["recipes"], None),
        (["train", "digits", "--workdir", "none"], "data"),
        (["plan", "digits"], "data"),
        (["predict", "tests/old_runs/format_1/weights.safetensors", "none.png"], "data"),
        (["report", "tests/old_runs/format_1/workdir"], "report"),
    ],
)
def test_without_extras_a_command_runs_or_names_the_extra_that_it_needs(line, extra):
    done = subprocess.run(
        [sys.executable, "-c", f"{WITHOUT_EXTRAS}sys.exit(main({line}))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == (78 if extra else 0), done.stderr
    assert not extra or f"pip install 'inception-jax[{extra}]'" in done.stderr
    assert not (ROOT / "none").exists()


IMPORTED_AS = {
    "pillow": "PIL", "opencv-python-headless": "cv2", "orbax-checkpoint": "orbax",
    "protobuf": "google", "google-crc32c": "google_crc32c",
    "tensorflow-datasets": "tensorflow_datasets", "array-record": "array_record",
    "facenet-pytorch": "facenet_pytorch", "pytorch-fid": "pytorch_fid",
}  # fmt: skip


def test_everything_that_the_package_imports_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    names = {re.match(r"[\w-]+", line)[0] for line in lines}
    declared = {IMPORTED_AS.get(name, name) for name in names} | {
        "inception_jax",
        *sys.stdlib_module_names,
    }
    imported = set()
    for file in (ROOT / "inception_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.partition(".")[0])
    assert imported <= declared, imported - declared
