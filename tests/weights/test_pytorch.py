"""Checkpoints of PyTorch, read without PyTorch: equal to its own reading, or refused."""

import builtins
import io
import json
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from inception_jax.data.source import DataError
from inception_jax.weights.convert.pytorch import read_pytorch
from inception_jax.weights.convert.readers import read_arrays
from tests.conftest import ROOT
from tests.tiers import sweep
from tests.weights.pytorch_files import (
    FOLDER,
    describe_all,
    list_files,
    load_with_torch,
    make_contents,
)

BUILT_IN = tuple(f"__builtin__.{name}" for name in ("bytearray", "complex", "set"))
LEFT_OUT = {"arguments": ("argparse.Namespace",), "containers": BUILT_IN}
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_is_read_as_pytorch_read_it(name):
    tree, left_out = read_pytorch(FOLDER / name)
    assert describe_all(tree) == EXPECTED[name]
    assert left_out == LEFT_OUT.get(name.partition(".")[0].removesuffix("_old"), ())


@pytest.mark.parity
def test_every_kind_of_file_is_read_as_pytorch_reads_it(tmp_path):
    import torch

    files = list(list_files(make_contents()))
    assert len(files) >= 36
    for has_checksums in (True, False):
        torch.serialization.set_crc32_options(has_checksums)
        for name, content, options in files:
            torch.save(content, tmp_path / name, **options)
            theirs = describe_all(load_with_torch(tmp_path / name))
            assert describe_all(read_pytorch(tmp_path / name).tree) == theirs, name
    torch.serialization.set_crc32_options(True)


def test_arrays_of_an_archive_are_views_of_the_mapped_file():
    array = read_pytorch(FOLDER / "float32.pth").tree["a"]
    assert not array.flags.owndata
    assert not array.flags.writeable


class Planted:
    """An object whose pickle calls a function."""

    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


def write_archive(file, pickled):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")


def make_payloads(marker):
    """Returns pickles that would write a file, by each way that a pickle has to call something."""
    text = f"open({str(marker)!r}, 'w')"
    by_protocol = {
        f"{function.__name__}, protocol {protocol}": pickle.dumps(
            {"a": Planted(function, argument)}, protocol
        )
        for function, argument in (
            (os.system, f"touch {marker}"), (builtins.eval, text), (builtins.exec, text),
            (open, str(marker)), (subprocess.getoutput, f"touch {marker}"),
        )
        for protocol in (0, 2, 4)
    }  # fmt: skip
    command = f"touch {marker}".encode()
    return {
        **by_protocol,
        "INST": b"(S'" + command + b"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS'" + command + b"'\no.",
        "NEWOBJ": b"\x80\x02cos\nsystem\nS'" + command + b"'\n\x85\x81.",
        "getattr": b"\x80\x02c__builtin__\ngetattr\ncos\nS'system'\n\x86R(S'" + command + b"'\ntR.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c"
        + bytes([len(command)]) + command + b"\x85R.",
        "a dotted name": b"\x80\x04\x8c\x0btorch._utils\x8c\x09os.system\x93\x8c"
        + bytes([len(command)]) + command + b"\x85R.",
        "torch.hub": b"\x80\x02ctorch.hub\nload\nS'" + command + b"'\n\x85R.",
        "BUILD": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}S'call'\ncos\nsystem\nsb.",
        "EXT": b"\x80\x02\x82\x01.",
    }  # fmt: skip


@pytest.mark.parametrize("is_archive", [True, False])
def test_no_payload_is_run(tmp_path, is_archive):
    marker = tmp_path / "ran"
    for name, payload in make_payloads(marker).items():
        file = tmp_path / "planted.pth"
        if is_archive:
            write_archive(file, payload)
        else:
            header = b"".join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {}))
            file.write_bytes(header + payload + pickle.dumps([], 2))
        with pytest.raises(DataError, match=r"planted\.pth"):
            read_arrays(file)
        assert not marker.exists(), name


def test_all_refused_names_are_told(tmp_path):
    planted = {"a": Planted(os.system, "x"), "b": Planted(builtins.eval, "1")}
    write_archive(tmp_path / "two.pth", pickle.dumps(planted, 2))
    names = r"__builtin__\.eval, posix\.system"
    with pytest.raises(DataError, match=f"it names {names}; save its state_dict"):
        read_pytorch(tmp_path / "two.pth")


def make_tensor_pickle(count, shape, stride, key="0", offset=0):
    """Returns the pickle of {"a": a float32 tensor} that `torch.save` would write."""

    class Pickler(pickle._Pickler):
        def save_global(self, value, name=None):
            module, name = value.named
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
            self.memoize(value)

        def persistent_id(self, value):
            return value.pid if hasattr(value, "pid") else None

    class Name:
        def __init__(self, module, name):
            self.named = module, name

        def __call__(self):
            pass

        def __reduce__(self):
            return "x"

    class Storage:
        pid = ("storage", Name("torch", "FloatStorage"), key, "cpu", count)

    class Tensor:
        def __reduce__(self):
            arguments = (Storage(), offset, shape, stride, False, {})
            return Name("torch._utils", "_rebuild_tensor_v2"), arguments

    file = io.BytesIO()
    Pickler(file, 2).dump({"a": Tensor()})
    return file.getvalue()


def write_tensor(file, values, *, count=None, shape=None, stride=(1,), offset=0):
    pickled = make_tensor_pickle(
        len(values) if count is None else count, shape or (len(values),), stride, offset=offset
    )
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", np.asarray(values, "<f4").tobytes())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"count": 400}, "a storage of 400 values"),
        ({"shape": (5,)}, "ends at value 4 of a storage of 4"),
        ({"shape": (2, 2), "stride": (4, 1)}, "ends at value 5"),
        ({"offset": 2}, "ends at value 5"),
        ({"offset": -1}, "strides"),
        ({"stride": (-1,)}, "strides"),
        ({"shape": (-4,)}, "strides"),
        ({"shape": (2**33,), "stride": (0,)}, "says that it holds"),
        ({"shape": (2**62, 4), "stride": (0, 1)}, "w.pth"),
        ({"count": -4}, "w.pth"),
        ({"count": "x"}, "w.pth"),
        ({"count": 10**40}, "a storage of"),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, changes, said):
    write_tensor(tmp_path / "w.pth", [1, 2, 3, 4], **changes)
    if not changes:
        assert read_pytorch(tmp_path / "w.pth").tree["a"].tolist() == [1, 2, 3, 4]
        return
    with pytest.raises(DataError, match=said):
        read_pytorch(tmp_path / "w.pth")


def test_a_changed_byte_of_an_array_is_found_by_the_checksum(tmp_path):
    content = bytearray((FOLDER / "float32.pth").read_bytes())
    at = content.index(np.asarray(read_pytorch(FOLDER / "float32.pth").tree["a"])[2].tobytes())
    content[at] ^= 1
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(DataError, match="its checksum differs"):
        read_pytorch(tmp_path / "w.pth")


def test_mappings_that_hold_each_other_end(tmp_path):
    """Forty levels, each of which holds the next one twice, are 2^40 when followed."""
    tree = {"weight": 1.0}
    for _ in range(40):
        tree = {"a": tree, "b": tree}
    write_archive(tmp_path / "w.pth", pickle.dumps(tree, 2))
    assert read_arrays(tmp_path / "w.pth")
    tree["a"] = tree
    write_archive(tmp_path / "w.pth", pickle.dumps(tree, 2))
    assert read_arrays(tmp_path / "w.pth")


def mutate(content, rng):
    """Returns a file with changed, removed, repeated or added bytes."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(0, max(len(data), 1)))
        match rng.integers(0, 6):
            case 0:
                data[at] = rng.integers(0, 256)
            case 1:
                data[at] ^= 1 << rng.integers(0, 8)
            case 2:
                del data[at : at + int(rng.integers(1, 50))]
            case 3:
                data[at:at] = data[at : at + int(rng.integers(1, 50))]
            case 4:
                del data[at:]
                data.append(46)
            case _:
                data[at : at + 4] = struct.pack("<I", int(rng.integers(0, 2**32)))
        data = data or bytearray(b"PK")
    return bytes(data)


READ_MUTATED = """
import resource, sys
from pathlib import Path
import numpy as np
from tests.weights.test_pytorch import FOLDER, EXPECTED, describe_all, mutate
from inception_jax.data.source import DataError
from inception_jax.weights.convert.readers import read_arrays
from inception_jax.weights.convert.pytorch import read_pytorch
resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9, 2 * 10**9))
seeds, folder = range(*map(int, sys.argv[1:3])), Path(sys.argv[3])
names, refused = sorted(EXPECTED), 0
for seed in seeds:
    name = names[seed % len(names)]
    file = folder / name
    content = (FOLDER / name).read_bytes()
    file.write_bytes(mutate(content, np.random.default_rng(seed)))
    try:
        found = describe_all(read_pytorch(file).tree)
        read_arrays(file)
    except DataError:
        refused += 1
print(refused)
"""


@pytest.mark.parametrize(
    "seeds", [*sweep([range(60), range(60, 250), range(250, 500)], [range(60)])]
)
def test_mutated_files_are_refused_or_read_within_two_gigabytes(tmp_path, seeds):
    """An error of another class, a crash and a lack of memory end the subprocess with another code.

    A file of before PyTorch 1.6 has no checksums: there a changed value is read, as PyTorch does.
    """
    done = subprocess.run(
        [sys.executable, "-c", READ_MUTATED, str(seeds.start), str(seeds.stop), str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > len(seeds) / 2


def test_the_test_files_name_only_what_they_should():
    """The committed pickles hold no names but PyTorch's, of values and of arguments."""
    modules = set()
    for name in EXPECTED:
        if zipfile.is_zipfile(FOLDER / name):
            with zipfile.ZipFile(FOLDER / name) as archive:
                (member,) = [one for one in archive.namelist() if one.endswith("data.pkl")]
                for code, argument, _ in pickletools.genops(archive.read(member)):
                    if code.name == "GLOBAL":
                        modules.add(argument.split()[0])
    torchs = {"torch", "torch._utils", "torch.storage"}
    assert modules == torchs | {"argparse", "collections", "__builtin__", "_codecs"}
