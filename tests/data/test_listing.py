"""Folders as people and their machines leave them."""

import logging
import os

import pytest

from inception_jax.data.images import list_images
from inception_jax.data.listing import is_left_behind, list_files
from inception_jax.data.registry import open_source
from inception_jax.data.source import DataError
from tests.folders import make_images


@pytest.fixture
def root(tmp_path):
    return make_images(tmp_path / "images", splits={"train": 3, "test": 2})


def names(source):
    return [os.path.relpath(source[i].name, source._root) for i in range(len(source))]


def test_images_in_folders_below_that_of_a_class_are_read(root):
    below = root / "train" / "ant" / "2024" / "may"
    below.mkdir(parents=True)
    (root / "train" / "bee" / "00.png").rename(below / "9.png")
    source = open_source("folder", "train", str(root))
    assert names(source) == [
        "ant/00.png",
        "ant/01.png",
        "ant/02.png",
        "ant/2024/may/9.png",
        "bee/01.png",
        "bee/02.png",
    ]
    assert source.labels.tolist() == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    "left",
    [
        "Thumbs.db",
        ".DS_Store",
        "desktop.ini",
        "._00.png",
        "__MACOSX/a.png",
        ".git/b.png",
        ".ipynb_checkpoints/c.png",
        "00.png~",
    ],
)
def test_what_systems_and_editors_leave_behind_is_passed_over_everywhere(left, root, caplog):
    for place in (root / "train" / "ant", root / "train", root):
        (place / left).parent.mkdir(exist_ok=True)
        (place / left).write_bytes(b"no image")
    with caplog.at_level(logging.WARNING):
        source = open_source("folder", "train", str(root))
        found = list_images([root / "train"])
    assert (source.class_names, len(source), len(found)) == (("ant", "bee"), 6, 6)
    assert caplog.text == ""
    assert is_left_behind(left.split("/")[0])


def test_files_outside_of_class_folders_are_named_and_counted(root, caplog):
    for i in range(4):
        (root / "train" / f"{i}.png").write_bytes(b"")
    os.mkfifo(root / "train" / "ant" / "pipe")
    with caplog.at_level(logging.WARNING):
        assert len(open_source("folder", "train", str(root))) == 6
    assert "train: 4 left out, in no class folder: 0.png, 1.png, 2.png and 1 more" in caplog.text
    assert "ant: 1 left out, no regular files: pipe" in caplog.text


def test_links_to_files_and_folders_are_followed_and_a_circle_is_not(root, tmp_path, caplog):
    make_images(tmp_path / "elsewhere", ("cat",), {"more": 2})
    (root / "train" / "ant" / "one.png").symlink_to(root / "train" / "bee" / "00.png")
    (root / "train" / "ant" / "more").symlink_to(tmp_path / "elsewhere" / "more" / "cat")
    (root / "train" / "cat").symlink_to(tmp_path / "elsewhere" / "more" / "cat")
    (root / "train" / "ant" / "round").symlink_to(root / "train" / "ant")
    with caplog.at_level(logging.WARNING):
        source = open_source("folder", "train", str(root))
    assert source.class_names == ("ant", "bee", "cat")
    assert [name for name in names(source) if name.startswith("ant")][3:] == [
        "ant/more/00.png",
        "ant/more/01.png",
        "ant/one.png",
    ]
    assert "1 left out, links to a folder that holds them: round" in caplog.text


def test_a_link_to_nothing_is_a_fault(root):
    (root / "train" / "bee" / "gone.png").symlink_to(root / "nowhere")
    with pytest.raises(
        DataError, match=r"bee/gone\.png is a link to nothing.*mend or remove it \(1 such"
    ):
        open_source("folder", "train", str(root))
    assert root / "train" / "bee" / "gone.png" in list_images(
        [root / "train"]
    )  # `predict` reports it, and names the others


def test_images_in_hidden_folders_are_not_predicted(root):
    hidden = root / "train" / ".trash" / "deep"
    hidden.mkdir(parents=True)
    (hidden / "0.png").write_bytes((root / "train" / "ant" / "00.png").read_bytes())
    assert len(list_images([root / "train"])) == 6
    assert list_images([hidden / "0.png"]) == [hidden / "0.png"]  # named, it is meant


def test_a_folder_with_nothing_but_leftovers_holds_no_images(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".DS_Store").touch()
    with pytest.raises(DataError, match="is a folder without files"):
        list_images([tmp_path / "a"])


def test_names_that_are_not_utf_8_are_listed_as_the_system_has_them(tmp_path):
    folder = os.fsencode(tmp_path / "b")
    os.mkdir(folder)
    with open(folder + b"/\xff\xfe.png", "w"):
        pass
    ((name, _),) = list_files(tmp_path / "b").files
    assert os.fsencode(name) == b"\xff\xfe.png"
