"""The extension as Slicer's build system installs it, and as the Extensions Index lists it."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from cmake import CMAKE_BIN_DIR
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
STAND_IN = Path(__file__).parent / "slicer_stand_in"
TOP = (REPOSITORY / "CMakeLists.txt").read_text("utf-8")
METADATA = dict(re.findall(r'^set\((EXTENSION_\w+) "([^"]+)"\)$', TOP, re.MULTILINE))
ENTRY = REPOSITORY / "Resources" / "MaxQuery.json"
MODULES = Path("lib", "Slicer-5.13", "qt-scripted-modules")
CLI_MODULES = Path("lib", "Slicer-5.13", "cli-modules")

# Third-party packages without their folder's .pth files, which would lead back to the sources.
PACKAGES = f"import runpy, sys; sys.path.append({sysconfig.get_path('purelib')!r})\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    build, root = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("installed")
    options = [f"-DSlicer_DIR={STAND_IN}", f"-DCMAKE_TOOLCHAIN_FILE={STAND_IN / 'NoCompiler.cmake'}"]
    for arguments in (
        ["-S", REPOSITORY, "-B", build, *options],
        ["--build", build, "--config", "Release"],
        ["--install", build, "--config", "Release", "--prefix", root],
    ):
        command = [Path(CMAKE_BIN_DIR, "cmake"), *arguments]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60)
        assert done.returncode == 0, done.stderr
    return root


def run(installed: Path, cwd: Path, *command: str) -> subprocess.CompletedProcess:
    """Python, from the folder `cwd`, with nothing of this project to import but what is installed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PYTHONPATH": str(installed / MODULES), "PYTHONDONTWRITEBYTECODE": "1", "XDG_DATA_HOME": str(cwd)}
    return subprocess.run(
        [sys.executable, "-S", *command], cwd=cwd, env=environment, capture_output=True, encoding="utf-8", timeout=60
    )


def files_in(folder: Path, *but: str) -> set[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if "__pycache__" not in path.parts and path.name not in but}


def test_every_file_of_the_segmentation_module_is_in_the_package(installed):
    models = {f"Resources/Models/{name}" for name in files_in(REPOSITORY / "Resources" / "Models")}
    module = files_in(REPOSITORY / "MaxQuerySegmentation", "CMakeLists.txt")
    assert files_in(installed / MODULES) ^ (module | models) == set()


def test_every_file_of_the_training_module_is_in_the_package(installed):
    module = files_in(REPOSITORY / "MaxQueryTraining", "CMakeLists.txt")
    assert files_in(installed / CLI_MODULES) ^ module == set()


def test_the_installed_engine_finds_the_shipped_models_beside_itself_undamaged(installed, tmp_path):
    code = """
from maxquery.bundle import list_bundles, load_bundle
for path in list_bundles().values():
    print(path, load_bundle(path, with_weights=False).name)
"""
    done = run(installed, tmp_path, "-c", PACKAGES + code)
    shipped = sorted(path.name for path in (REPOSITORY / "Resources" / "Models").iterdir())
    expected = [f"{installed / MODULES / 'Resources' / 'Models' / name} {name}" for name in shipped]
    assert (done.returncode, done.stderr, done.stdout.splitlines()) == (0, "", expected)


def test_the_installed_training_module_describes_its_panel_before_any_package_is_there(installed, tmp_path):
    done = run(installed, tmp_path, str(installed / CLI_MODULES / "MaxQueryTraining.py"), "--xml")
    description = (REPOSITORY / "MaxQueryTraining" / "MaxQueryTraining.xml").read_text("utf-8")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", description)


def test_the_installed_training_module_has_its_own_package_and_the_engine(installed, tmp_path):
    script = str(installed / CLI_MODULES / "MaxQueryTraining.py")
    done = run(installed, tmp_path, "-c", f"{PACKAGES}runpy.run_path({script!r}, run_name='__main__')")
    assert (done.returncode, done.stderr) == (2, "--labels is not set. Give it a file.\n")


def test_no_library_file_passes_for_a_command_line_module():
    for module in ("MaxQuerySegmentation", "MaxQueryTraining"):
        marked = [path.name for path in (REPOSITORY / module).rglob("*.py") if path.read_bytes().startswith(b"#!")]
        assert marked == (["MaxQueryTraining.py"] if module == "MaxQueryTraining" else [])


def test_the_catalogue_entry_keeps_to_the_indexs_schema():
    kinds = {
        "$schema": str, "category": str, "scm_url": str, "scm_revision": str, "scm_type": str,
        "build_dependencies": list, "build_subdirectory": str, "enabled": bool, "tier": int,
    }  # fmt: skip
    entry = json.loads(ENTRY.read_text("utf-8"))
    assert entry.keys() <= kinds.keys() and entry.keys() >= {"$schema", "category", "scm_url"}
    assert all(type(value) is kinds[name] for name, value in entry.items())
    assert re.fullmatch(r"https://.*/slicer-extension-catalog-entry-schema-v1\.0\.1\.json#", entry["$schema"])
    assert entry["category"] == "Segmentation" and 1 <= entry["tier"] <= 5
    assert re.fullmatch(r"https://github\.com/[\w-]+/Slicer\w+\.git", entry["scm_url"])
    assert b"\r" not in ENTRY.read_bytes()


def test_the_catalogue_entry_and_cmake_name_the_same_extension_repository_and_dependencies():
    entry = json.loads(ENTRY.read_text("utf-8"))
    raw = entry["scm_url"].removesuffix(".git").replace("//github.com/", "//raw.githubusercontent.com/")
    assert re.findall(r"^project\((\w+)\)$", TOP, re.MULTILINE) == [ENTRY.stem]
    assert METADATA["EXTENSION_HOMEPAGE"] == entry["scm_url"].removesuffix(".git")
    assert METADATA["EXTENSION_DEPENDS"].split() == entry["build_dependencies"]
    for url in (METADATA["EXTENSION_ICONURL"], *METADATA["EXTENSION_SCREENSHOTURLS"].split()):
        assert re.fullmatch(rf"{re.escape(raw)}/{entry['scm_revision']}/Resources/[\w/]+\.(png|jpg)", url)


def test_cmake_says_what_the_extension_is_on_one_line_each():
    names = {"HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"}
    assert set(METADATA) == {f"EXTENSION_{name}" for name in names}
    assert not any(";" in value for value in METADATA.values())


def test_the_icon_is_what_the_catalogue_asks_for_and_the_same_in_the_module():
    icon = REPOSITORY / "Resources" / "MaxQuery.png"
    with Image.open(icon) as image:
        assert (image.format, image.size, image.mode) == ("PNG", (128, 128), "RGBA")
    module = REPOSITORY / "MaxQuerySegmentation" / "Resources" / "Icons" / "MaxQuerySegmentation.png"
    assert module.read_bytes() == icon.read_bytes()
