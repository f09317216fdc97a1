"""The demo, whole, in its quick form."""

import json

import pytest

from tfmeta import cli
from tfmeta.errors import ConfigError
from trainer.demo import MARKER, QUICK, run_demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    said = []
    outcome = run_demo(out=str(out), seed=3, size=QUICK, progress=False, say=said.append)
    return out, outcome, "\n".join(said)


def test_everything_is_where_it_says(demo):
    out, outcome, text = demo
    for name, path in outcome["paths"].items():
        assert path.startswith(str(out)) and path in text, name
    assert (out / "run" / "run.json").exists() and (out / "run" / "evaluation.json").exists()
    assert (out / "models" / "demo" / "1" / "saved_model.pb").exists()
    assert list((out / "run" / "tensorboard").rglob("events*"))
    assert json.loads((out / MARKER).read_text("utf-8")) == outcome
    assert all(outcome["verified"].values()) and len(outcome["verified"]) > 5


def test_adaptation_helps_and_nobody_beats_the_attainable(demo):
    _, outcome, _ = demo
    for state, metrics in outcome["metrics"].items():
        assert metrics["auc"]["attainable"] > metrics["auc"]["adapted"], state
        assert metrics["mae"]["attainable"] < metrics["mae"]["adapted"], state
    cold = outcome["metrics"]["user_cold"]
    assert cold["auc"]["adapted"] > cold["auc"]["unadapted"] + 0.05
    assert cold["auc"]["floor"] == pytest.approx(0.5)
    assert 0 < cold["auc"]["recovered"] < 1


def test_lists_are_of_an_unseen_user_and_leave_rated_items_out(demo):
    _, outcome, text = demo
    user = outcome["user"]
    rated = {item["item_id"] for item in user["support"]}
    for part in ("before", "after"):
        assert len(user[part]) == 10
        assert not rated & {item["item_id"] for item in user[part]}
        scores = [item["score"] for item in user[part]]
        assert scores == sorted(scores, reverse=True)
    assert [i["item_id"] for i in user["before"]] != [i["item_id"] for i in user["after"]]
    assert user["user_id"] in text and "top after adapting" in text


def test_report_is_labelled_synthetic(demo):
    out, outcome, _ = demo
    page = (out / "run" / "report.html").read_text("utf-8")
    assert "synthetic data" in page and "best attainable" in page
    assert f"{outcome['metrics']['user_cold']['auc']['adapted']:.3f}" in page


def test_only_an_earlier_demo_is_replaced(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ConfigError, match="was not made by 'tfmeta demo'"):
        run_demo(out=str(tmp_path), size=QUICK, progress=False)
    assert cli.main(["demo", "--out", str(tmp_path)]) == 2
    assert (tmp_path / "mine.txt").read_text() == "precious"
    assert capsys.readouterr().err.startswith("tfmeta: error: ")
    assert cli.main(["demo", "--seed", "-1"]) == 2
