"""The demo, whole, in its quick form."""

import json

import numpy as np
import pandas as pd
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


def test_another_catalogue_is_exported_without_training_again(demo, tmp_path, capsys):
    from tfmeta.serving.servable import Servable

    _, outcome, _ = demo
    known = pd.read_parquet(f"{outcome['paths']['prepared']}/items.parquet").head(30)
    today = pd.concat([known.assign(item_id=[f"new-{n}" for n in range(len(known))]), known], ignore_index=True)
    path, base = tmp_path / "today.parquet", tmp_path / "m"
    today.to_parquet(path)
    assert cli.main(["export", "--run", outcome["paths"]["run"], "--out", str(base), "--items", str(path),
                     "--top-k", "7"]) == 0, capsys.readouterr().err
    vectors = pd.read_parquet(base / "1" / "assets.extra" / "item_embeddings.parquet")
    assert list(vectors["item_id"]) == list(today["item_id"])
    # An item that training never saw has the vector of its features, without an id's share.
    assert np.isfinite(np.stack(vectors["embedding"])).all() and vectors["embedding"].map(len).nunique() == 1

    servable = Servable("m", 1, str(base / "1"))
    try:
        signature = servable.signature("recommend")
        rows = {name: np.full([1] + [0] * (len(info.tensor_shape.dim) - 1), "" if info.dtype == 7 else 0,
                              object if info.dtype == 7 else {1: np.float32, 3: np.int32, 9: np.int64}[info.dtype])
                for name, info in signature.inputs.items()}
        listed = servable.run("recommend", rows)
    finally:
        servable.close()
    ids = [v.decode() for v in next(v for n, v in listed.items() if v.dtype == object)[0]]
    assert len(set(ids)) == 7 and set(ids) <= set(today["item_id"])


def test_only_an_earlier_demo_is_replaced(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ConfigError, match="was not made by 'tfmeta demo'"):
        run_demo(out=str(tmp_path), size=QUICK, progress=False)
    assert cli.main(["demo", "--out", str(tmp_path)]) == 2
    assert (tmp_path / "mine.txt").read_text() == "precious"
    assert capsys.readouterr().err.startswith("tfmeta: error: ")
    assert cli.main(["demo", "--seed", "-1"]) == 2
