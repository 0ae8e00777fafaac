"""The engine in Slicer's own Python, which has fewer packages than the one that these tests run in."""

import os
import re
import subprocess
import sys
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REQUIREMENTS = Path(__file__).parents[2] / "MaxQuerySegmentation" / "Resources" / "requirements.txt"
SLICERS_OWN = ("torch", "numpy", "SimpleITK")  # torch from its extension PyTorch

HIDE = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *where):
        return None if name.partition(".")[0] in {hidden!r} else self.finder.find_spec(name, *where)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from maxquery.cli import main
sys.exit(main({arguments!r}))
"""


def with_what_they_need(names: list[str]) -> set[str]:
    """Distributions, and those that they depend on."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            needed = [Requirement(text) for text in distribution(name).requires or ()]
            waiting += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def maxquery_in_slicer():
    """Runs the command with every package hidden that Slicer's Python would not have after the first run."""
    listed = re.findall(r"^[\w-]+", REQUIREMENTS.read_text("utf-8"), re.MULTILINE)
    there = with_what_they_need([*SLICERS_OWN, *listed]) | {"maxquery"}
    hidden = {
        package for package, owners in packages_distributions().items()
        if package not in sys.stdlib_module_names and not there & {canonicalize_name(owner) for owner in owners}
    }  # fmt: skip
    assert {"matplotlib", "rich", "nnunetv2"} <= hidden

    def run(*arguments) -> subprocess.CompletedProcess:
        code = HIDE.format(hidden=hidden, arguments=list(map(str, arguments)))
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300, env=os.environ)

    return run


@pytest.fixture(scope="module")
def ct(tmp_path_factory) -> Path:
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(0, 100, (16, 40, 40)).astype(np.int16))
    image.SetSpacing((2.5, 2.5, 5.0))
    path = tmp_path_factory.mktemp("ct") / "ct.nrrd"
    sitk.WriteImage(image, str(path))
    return path


def test_the_panels_run_needs_nothing_that_is_not_installed_for_it(maxquery_in_slicer, ct, tiny_model, tmp_path):
    options = ("--bundle", tiny_model, "--device", "cpu", "--progress", "jsonl")
    done = maxquery_in_slicer("segment", ct, "--output", tmp_path / "result", "--units", "raw", *options)
    assert (done.returncode, done.stderr) == (0, "")
    done = maxquery_in_slicer("responses", ct, "--output", tmp_path / "r.npz", "--centre", -50, -50, 40, *options)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_missing_for_a_picture_is_named(maxquery_in_slicer, ct, tiny_model, tmp_path):
    done = maxquery_in_slicer(
        "segment", ct, "--output", tmp_path / "result", "--bundle", tiny_model, "--preview", "--progress", "jsonl"
    )
    assert done.returncode == 3
    assert "'matplotlib' is missing" in done.stderr
    assert not (tmp_path / "result").exists()
