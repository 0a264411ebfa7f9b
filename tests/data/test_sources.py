import time

import numpy as np
import pytest

from inception_jax.data import sources
from inception_jax.data.sources import ArraySource, DataError, open_source


def test_data_that_is_not_there_is_answered_at_once_with_the_command_to_run(tmp_path):
    began = time.monotonic()
    with pytest.raises(DataError, match=r"imagenet2012 is not prepared[\s\S]*download_and_prepare"):
        open_source("imagenet2012", "train", str(tmp_path))
    assert time.monotonic() - began < 5


def test_an_unknown_name_says_so():
    with pytest.raises(DataError, match="no dataset is called 'digitz'"):
        open_source("digitz", "train")


def test_an_unknown_split_names_those_there_are():
    with pytest.raises(DataError, match=r"no split 'validation'; it has test, train|it has train, test"):
        open_source("digits", "validation")


def test_slices_of_a_split_are_tfdss():
    assert len(open_source("digits", "train[:100]")) == 100


def test_a_folder_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"data\.directory"):
        open_source("digits", "train", str(tmp_path / "file"))


def test_users_register_their_own(monkeypatch):
    monkeypatch.setattr(sources, "SOURCES", {})
    mine = ArraySource(np.zeros((3, 8, 8), np.uint8), np.arange(3), ("a", "b", "c"))
    sources.register("mine", lambda split, directory: mine)
    assert open_source("mine", "train")[2].label == 2
    with pytest.raises(ValueError, match="registered already"):
        sources.register("mine", lambda split, directory: mine)
