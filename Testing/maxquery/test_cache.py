"""What can be made again is kept where a person's computer keeps such things."""

import os
import sys
from pathlib import Path

import pytest

from maxquery.cache import cache_folder
from maxquery.errors import MachineError

VARIABLE = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"


def test_it_lies_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert tmp_path in cache_folder("samples").parents


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    assert Path.home() in cache_folder("samples").parents


def test_without_a_home_it_says_which_variable_to_set(monkeypatch, tmp_path):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert tmp_path in cache_folder("samples").parents
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(MachineError, match=f"no home folder.*{VARIABLE}"):
        cache_folder("samples")
