"""The Slicer CLI module `MaxQueryTraining`, run as Slicer runs it."""

import importlib.util
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import fields
from pathlib import Path

import pytest

from maxquery import bundle as bundles
from maxquery.bundle import load_bundle
from maxquery_training import job
from maxquery_training.job import TrainingJob

from .phantoms import write_pairs
from .test_train_cli import TINY

MODULE = Path(__file__).parents[2] / "MaxQueryTraining" / "MaxQueryTraining.py"


def run_module(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, str(MODULE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)


def test_its_panel_its_help_and_its_dataclass_say_the_same():
    done = run_module("--xml")
    assert (done.returncode, done.stderr) == (0, "")
    shown = {}
    for group in ET.fromstring(done.stdout).findall("parameters"):
        for element in group:
            if element.find("name") is not None:
                shown[element.findtext("name")] = (group.findtext("label"), element)
    help_text = " ".join(run_module("--help").stdout.split())
    assert list(shown) == [item.name for item in fields(TrainingJob)]
    for item in fields(TrainingJob):
        kind, (group, element) = item.metadata, shown[item.name]
        flag = f"--{item.name}"
        assert re.fullmatch(r"--[A-Za-z_][A-Za-z0-9_]*", flag), "or Slicer drops the parameter"
        assert (group, element.findtext("label")) == (kind["group"], kind["label"])
        assert element.findtext("description") == kind["text"]
        assert element.findtext("longflag") == flag and f"{flag} " in help_text
        assert kind["text"] in help_text
        if "file" in kind or "folder" in kind:
            assert element.tag == ("file" if "file" in kind else "directory")
            assert element.get("fileExtensions") == kind.get("file") and element.findtext("channel") == "input"
            continue
        assert element.findtext("default") == str(item.default)
        assert tuple(e.text for e in element.findall("element")) == kind.get("choices", ())
        assert (element.tag == "integer") == isinstance(item.default, int)
        for end, name in (("least", "minimum"), ("most", "maximum")):
            assert element.findtext(f"constraints/{name}") == (str(kind[end]) if end in kind else None)


def test_cases_become_a_model_that_the_segmentation_module_finds_by_name(tmp_path, monkeypatch, capfd):
    cases, models = write_pairs(tmp_path, (2, 3, 2, 3)), tmp_path / "models"
    monkeypatch.setitem(job.PRESETS, "quick", TINY)
    for module in (job, bundles):
        monkeypatch.setattr(module, "USER_MODELS", models)
    spec = importlib.util.spec_from_file_location("MaxQueryTraining", MODULE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments = ["--folder", cases, "--labels", tmp_path / "labels.json", "--name", "tiny", "--preset", "quick"]
    arguments += ["--work", tmp_path / "work", "--device", "cpu", "--joint_epochs", "1", "--processes", "1"]

    (tmp_path / "wrong.json").write_text("{}")
    refused = [*arguments, "--labels", tmp_path / "wrong.json"]
    assert module.main([str(argument) for argument in refused]) == 2
    assert "wrong.json: 'organ' is missing." in capfd.readouterr().err
    code = module.main([str(argument) for argument in arguments])
    told = capfd.readouterr()
    assert (code, told.err) == (0, "")
    progress = [float(value) for value in re.findall(r"<filter-progress>(.*?)</filter-progress>", told.out)]
    assert progress == sorted(progress) and progress[-1] == 1 and len(progress) > 3
    assert told.out.endswith(f"Model in {models / 'tiny'}\n")
    bundle = load_bundle(bundles.find_bundle("tiny", [models]))
    assert bundle.training["preset"]["joint_epochs"] == 1

    other = [*arguments, "--seed", "1"]
    assert module.main([str(argument) for argument in other]) == 2
    assert "The work folder holds a run with seed 0." in capfd.readouterr().err
    (tmp_path / "labels.json").write_text((tmp_path / "labels.json").read_text().replace("cyst", "FNH"))
    assert module.main([str(argument) for argument in arguments]) == 2
    assert "Changed since the run in the work folder began: labels.json." in capfd.readouterr().err


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "--labels is not set. Give it a file."),
        (["--labels", "absent.json", "--work", "w", "--folder", "f"], "There is no file absent.json."),
        (["--labels", __file__, "--work", "w"], "No cases were given. Set --table or --folder."),
        (["--labels", __file__, "--work", "w", "--folder", "f", "--processes", "0"], "Processes is 0."),
        (["--labels", __file__, "--work", "w", "--folder", "f", "--name", "a/b"], "'a/b' cannot be the model's name."),
        (["--labels", __file__, "--work", "w", "--folder", "f", "--name", "liver-demo"], "cannot be the model's name"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_module(*arguments)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_work_folder_that_cannot_be_one_is_said_without_a_traceback(tmp_path):
    (tmp_path / "taken").write_text("a file")
    cases = write_pairs(tmp_path, (2, 3))
    done = run_module("--folder", cases, "--labels", tmp_path / "labels.json", "--work", tmp_path / "taken" / "work")
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert done.stderr.startswith(str(tmp_path / "taken" / "work"))
