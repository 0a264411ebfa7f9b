"""Errors that a user can mend, and others."""

import errno
import re

import pytest

from inception_jax import cli
from inception_jax.atomic_io import StorageError
from inception_jax.cli import main
from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.errors import (
    ExitCode,
    UserError,
    escape_control_characters,
    format_message,
    get_exit_code,
)
from tests.conftest import ROOT


class ForeignError(Exception):
    """Another package's, with an exit code that means something there."""

    exit_code = 0


def test_only_errors_of_ours_have_an_exit_code_that_is_believed():
    assert [get_exit_code(error) for error in (ConfigError(), DataError(), StorageError())] == [
        78,
        65,
        74,
    ]
    assert get_exit_code(ForeignError()) == 1
    assert get_exit_code(OSError(errno.ENOSPC, "No space left on device")) == 74
    assert get_exit_code(FileNotFoundError(errno.ENOENT, "no such file")) == 1
    assert all(issubclass(kind, UserError) for kind in (ConfigError, DataError, StorageError))


def failing(error):
    def command(arguments):
        raise error

    return command


def test_a_foreign_exception_with_an_exit_code_is_a_bug_of_ours(monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "models", failing(ForeignError("broken")))
    with pytest.raises(ForeignError):
        main(["models"])


def test_an_os_error_that_is_not_of_storage_is_a_bug_of_ours(monkeypatch):
    monkeypatch.setitem(
        cli.COMMANDS, "models", failing(FileNotFoundError(errno.ENOENT, "No such file", "x"))
    )
    with pytest.raises(FileNotFoundError):
        main(["models"])


def test_storage_that_fails_ends_with_74_and_its_traceback(monkeypatch, capsys):
    monkeypatch.setitem(
        cli.COMMANDS, "models", failing(OSError(errno.ENOSPC, "No space left on device"))
    )
    assert main(["models"]) == 74
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "storage failed: [Errno 28] No space left on device" in said
    monkeypatch.setitem(cli.COMMANDS, "models", failing(StorageError("w.npz cannot be written")))
    assert main(["models"]) == 74
    assert capsys.readouterr().err == "inception-jax: w.npz cannot be written\n"


def test_names_are_printed_without_what_a_terminal_obeys():
    assert escape_control_characters("a\x1b[31mb\nc\td\x7f") == "a\\x1b[31mb\\nc\\td\\x7f"
    assert format_message("a\nb\x1b\r") == "a\nb\\x1b\\x0d"
    assert escape_control_characters("caf\u00e9 \u4e2d") == "caf\u00e9 \u4e2d"
    assert escape_control_characters("\udcff\u202e\x9b") == "\\udcff\\u202e\\x9b"


def test_no_message_prints_a_whole_file():
    said = format_message("x" * 1_000_000)
    assert len(said) < 4100
    assert said.endswith("(996,200 characters more)")


@pytest.mark.parametrize(
    "line",
    [
        ["train", "digits", "--data.name", "folder", "--data.directory", "x" * 5000],
        ["predict", "x" * 5000, "a.png"],
        ["train", "digits", "--workdir", "x" * 5000],
        ["report", "x" * 5000],
        ["evaluate", "x" * 5000],
        ["data", "prepare", "./" + "x" * 5000, "y"],
        ["convert", "x" * 5000, "--from", "torchvision", "--model", "resnet18"],
        ["plan", "x" * 5000 + ".py"],
        ["train", "digits", "--init-from", "x" * 5000],
    ],
    ids=lambda line: line[0],
)
def test_a_path_that_the_system_cannot_have_is_no_bug_of_ours(line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(line) in (65, 74, 78)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert len(said) < 4200
    assert list(tmp_path.iterdir()) == []


def test_names_of_images_that_no_system_has_are_reported_like_others(tmp_path):
    from inception_jax.data.images import FileSource, list_images

    for name in ("x" * 5000, "a\0b"):
        (path,) = list_images([name])
        with pytest.raises(DataError, match="cannot be read"):
            FileSource([path], ())[0]


def test_every_exit_code_is_in_the_table_and_in_the_readme():
    sources = [file.read_text() for file in (ROOT / "inception_jax").rglob("*.py")]
    assert not [text for text in sources if re.search(r"exit_code(: int)? = \d", text)]
    readme = (ROOT / "README.md").read_text().partition("Exit codes: ")[2].partition("\n\n")[0]
    listed = {int(code) for code in re.findall(r"(?:^|\u00b7 )(\d+)", readme.replace("\n", " "))}
    assert {0, *ExitCode} <= listed
