import json
import os
from pathlib import Path

import numpy as np
import pytest

from inception_jax.atomic_io import StorageError, format_json, split_lines, write_atomically


def refuse(token):
    raise AssertionError(f"{token} is no JSON")


def test_json_text_has_null_where_there_is_no_number():
    value = {
        "loss": float("nan"),
        "rows": [1.5, float("inf"), {"low": -float("inf")}],
        "pair": (np.float64("nan"), 2),
        "name": "NaN",
    }
    text = format_json(value)
    assert json.loads(text, parse_constant=refuse) == {
        "loss": None,
        "rows": [1.5, None, {"low": None}],
        "pair": [None, 2],
        "name": "NaN",
    }


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "table.csv"
    write_atomically(file, "before")

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match=r"table.csv cannot be written.*No space left"):
        write_atomically(file, "after")
    assert file.read_text() == "before"


def test_the_folder_of_a_written_file_is_synchronised(tmp_path, monkeypatch):
    """Without that a fall of the machine may take the name of the new file with it."""
    synced = []
    original = os.fsync
    monkeypatch.setattr(
        os,
        "fsync",
        lambda descriptor: (
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}")) or original(descriptor)
        ),
    )
    write_atomically(tmp_path / "report.json", "{}")
    unfinished, folder = synced
    assert Path(unfinished).name.startswith("report.json.")
    assert folder == str(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        "ant\nbee, wasp\nköder\n".encode(),
        "\ufeffant\r\nbee, wasp\r\nköder\r\n\r\n".encode(),
        "ant\rbee, wasp\rköder".encode(),
        b"\xff\xfe" + "ant\r\nbee, wasp\r\nköder\r\n".encode("utf-16-le"),
        b"\xfe\xff" + "ant\nbee, wasp\nköder\n".encode("utf-16-be"),
    ],
)
def test_lists_of_names_are_read_as_any_editor_saves_them(data):
    assert split_lines(data) == ["ant", "bee, wasp", "köder"]


def test_bytes_of_a_list_that_are_no_utf_8_stay_names_of_files():
    assert [os.fsencode(line) for line in split_lines(b"a\xff.png\nb\x85c\n")] == [
        b"a\xff.png",
        b"b\x85c",
    ]
