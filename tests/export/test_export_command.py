"""`tfmeta export --gate --compatible-with`: on runs and models that are made of files alone."""

import json
import os
import types

import pytest
from test_compatibility import write_saved_model
from test_gate import WINS, rows

from export import exporter, run_export
from export.warmup import BATCH_SIZES
from tfmeta.cli import main
from tfmeta.errors import ExportError
from trainer.config import EarlyStoppingConfig

LOSES = {**WINS, "auc": (0.70, 0.71, 0.60)}


class Run:
    """A complete run whose evaluation is `evaluation.json` in a folder."""

    config, summary, training_fingerprint, data_path = EarlyStoppingConfig(), {"hash": "abc"}, "f", "prepared"

    def __init__(self, path):
        self.path = str(path)

    @classmethod
    def open(cls, path):
        return cls(path)

    def file(self, name):
        return os.path.join(self.path, name)

    def recommender(self):
        return None


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A run, and an exporter that writes a signature instead of a model; the one that `change` makes of it."""
    made = types.SimpleNamespace(run=tmp_path / "run", base=str(tmp_path / "m"), given=None, optional=None)
    made.run.mkdir()
    old = write_saved_model(tmp_path / "old" / "1")
    made.old = old

    def write(directory, *_, run, batch_sizes, **__):
        made.given, made.batch_sizes = run, batch_sizes
        write_saved_model(tmp_path / "next", default=made.optional)
        os.replace(tmp_path / "next" / "saved_model.pb", os.path.join(directory, "saved_model.pb"))
        os.rmdir(tmp_path / "next")

    prepared = types.SimpleNamespace(path="prepared", items=None, summary={"dataset": "toys"},
                                     training_fingerprint=lambda: "f")
    monkeypatch.setattr(exporter, "_write", write)
    monkeypatch.setattr(run_export, "RunDirectory", Run)
    monkeypatch.setattr(run_export, "PreparedData", lambda path: prepared)
    made.evaluate = lambda values: (made.run / "evaluation.json").write_text(
        json.dumps({"environment": {}, "rows": rows(values)}), encoding="utf-8")
    made.command = ["export", "--run", str(made.run), "--out", made.base, "--no-verify"]
    made.versions = lambda: sorted(os.listdir(made.base)) if os.path.isdir(made.base) else []
    return made


def one_line(capsys):
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1, captured
    return captured.err


def test_gate_passes(place, capsys):
    place.evaluate(WINS)
    assert main([*place.command, "--gate"]) == 0
    assert "(gate passed)" in capsys.readouterr().out
    assert place.versions() == ["1"]
    assert place.given["data"] == {"dataset": "toys"} and place.given["metrics"]["rows"]


def test_gate_keeps_a_model_back(place, capsys):
    place.evaluate(LOSES)
    assert main([*place.command, "--gate"]) == 2
    line = one_line(capsys)
    assert line.startswith("tfmeta: error: The gate keeps")
    assert "user-cold AUC: adapted 0.7000 is no better than 0.7100 (unadapted)" in line
    assert place.versions() == []
    assert main(place.command) == 0


def test_gate_without_an_evaluation(place, capsys):
    assert main([*place.command, "--gate"]) == 2
    assert "tfmeta evaluate --run" in one_line(capsys)
    (place.run / "evaluation.json").write_text("{", encoding="utf-8")
    assert main([*place.command, "--gate"]) == 2
    assert "requires JSON" in one_line(capsys)
    assert place.versions() == []


def test_compatible(place, capsys):
    place.optional = "k"
    assert main([*place.command, "--compatible-with", place.old, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": os.path.join(place.base, "1"), "verified": False,
                                                   "gate_passed": None, "breaking_changes": []}


def test_breaking_changes_leave_no_version(place, tmp_path, capsys):
    """The old model needs no `k`; the new one does."""
    old = write_saved_model(tmp_path / "older", default="k")
    assert main([*place.command, "--compatible-with", old]) == 2
    line = one_line(capsys)
    assert "input 'k' of 'score' has lost its default value" in line and "--allow-breaking" in line
    assert place.versions() == []
    assert main([*place.command, "--compatible-with", old, "--allow-breaking"]) == 0
    captured = capsys.readouterr()
    assert "Exported to" in captured.out and "input 'k' of 'score' has lost its default value" in captured.err
    assert place.versions() == ["1"]


@pytest.mark.parametrize(("text", "sizes"), [
    (None, BATCH_SIZES), ("max_batch_size { value: 8 } allowed_batch_sizes: 2 allowed_batch_sizes: 8", (2, 8)),
    ("max_batch_size { value: 64 }", (1, 64)), ("max_batch_size { value: 1 }", (1,))])
def test_warm_up_follows_the_servers_batch_sizes(place, tmp_path, text, sizes):
    file = tmp_path / "batching.txt"
    file.write_text(text or "", encoding="utf-8")
    assert main([*place.command, *(["--batching-parameters", str(file)] if text else [])]) == 0
    assert place.batch_sizes == sizes


@pytest.mark.parametrize(("options", "message"), [
    (["--batching-parameters", "no-such-file"], "'no-such-file' does not exist"),
    (["--compatible-with", "no/such/model"], "'no/such/model' has none"),
    (["--allow-breaking"], "--allow-breaking requires --compatible-with")])
def test_mistakes_are_named_before_anything_is_written(place, capsys, options, message):
    assert main([*place.command, *options]) == 2
    assert message in one_line(capsys)
    assert place.versions() == [] and place.given is None


def test_remote_models_are_compared(place):
    from tfmeta.io import filesystem

    with open(os.path.join(place.old, "saved_model.pb"), "rb") as file:
        filesystem.write_bytes("ram://compare/1/saved_model.pb", file.read())
    path = run_export.export_run(str(place.run), model_base=place.base, check=False, compatible_with="ram://compare/1")
    assert path.endswith("1")
    with pytest.raises(ExportError, match=r"requires saved_model\.pb"):
        run_export.export_run(str(place.run), model_base=place.base, check=False, compatible_with="ram://compare/2")
