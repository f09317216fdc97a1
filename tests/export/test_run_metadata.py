"""What a training run leaves beside the graph."""

import json
import os

from export_cases import make_items, make_recommender


def test_run_and_evaluation_lie_beside_the_graph(tmp_path):
    from export.exporter import export_model

    rows = [{"state": "warm", "model": "maml", "role": "learner", "k": k, "metric": "auc", "value": value}
            for k, value in ((0, 0.625), ("all", 0.75))]
    run = {"run": {"hash": "abc"}, "training_config": {"epochs": 3}, "metrics": {"rows": rows},
           "data": {"dataset": "toys"}}
    path = export_model(make_recommender(), items=make_items(), model_base=str(tmp_path / "m"), run=run, check=False)
    extras = os.path.join(path, "assets.extra")
    with open(os.path.join(extras, "export.json"), encoding="utf-8") as file:
        described = json.load(file)
    assert described["run"] == {"hash": "abc"} and described["training_config"] == {"epochs": 3}
    assert described["metrics"] == "evaluation.json"
    with open(os.path.join(extras, "evaluation.json"), encoding="utf-8") as file:
        assert json.load(file) == run["metrics"]
    with open(os.path.join(extras, "MODEL_CARD.md"), encoding="utf-8") as file:
        text = file.read()
    assert "evaluation.json" in text and "| warm | AUC |" in text and "**0.750**" in text and "`toys`" in text
    assert "data" not in described
