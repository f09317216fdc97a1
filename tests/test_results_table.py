"""Documents show the figures of the results files."""

import pytest

from benchmarks.marked_block import BEGIN, END, replace_block
from benchmarks.results_table import DOCUMENTS, k_shot_table, results_block, results_table


def row(model, role, k, metric, value, seed="mean", selected=False, **more):
    return {"state": "user_cold", "model": model, "role": role, "k": k, "seed": seed, "metric": metric, "value": value,
            "low": None, "high": None, "p_value": None, "users": 668, "selected": selected, "uses_history": False,
            "features": "full", **more}


def results(*rows):
    return {"environment": {"processor": "A processor", "threads": 2, "date": "2026-01-02T03:04:05+00:00",
                            "commit": "0123456789abcdef", "command": "ml1m.py --seeds 2"},
            "rows": list(rows)}


ROWS = [
    row("chance", "floor", "all", "mae", 1.34), row("weak", "reference", "all", "mae", 0.8),
    row("strong", "reference", "all", "mae", 0.7), row("strong", "reference", 0, "mae", 0.5),
    row("learner", "learner", 0, "mae", 0.75, selected=True),
    row("learner", "learner", "all", "mae", 0.69, selected=True, low=0.68, high=0.7, p_value=0.0123),
    row("learner", "learner", "all", "gain_mae", -0.06, selected=True, low=-0.07, high=-0.05),
    row("learner", "learner", "all", "mae", 9.9, seed=0, selected=True),
    row("learner", "learner", "all", "mae", 9.9, seed=1, selected=True),
    row("learner", "learner", "all", "auc", 0.7, selected=True), row("strong", "reference", "all", "auc", 0.71),
    row("weak", "reference", "all", "auc", 0.6),
]


def test_table_picks_the_right_rows():
    lines = results_table(results(*ROWS)).splitlines()
    assert lines[2] == ("| user-cold (668) | MAE | 1.340 | 0.700 `strong` | 0.750 | **0.690** (0.680 to 0.700) | "
                        "-0.060 (-0.070 to -0.050) | 0.012 |")
    assert "0.710 `strong`" in lines[3] and lines[3].startswith("|  | AUC | - |")
    assert "mean of 2 training seeds" in lines[-1] and "2026-01-02" in lines[-1] and "`0123456789ab`" in lines[-1]


def test_k_shot_table_has_the_strongest_references_and_sizes_in_order():
    def curve(model, role, values, **more):
        return [row(model, role, k, "auc", value, **more) for k, value in zip(("all", 10, 5), values, strict=True)]

    rows = [*curve("learner", "learner", (0.8, 0.7, 0.6), selected=True),
            *curve("second", "reference", (0.7, 0.6, 0.5)), *curve("third", "reference", (0.6, 0.6, 0.6)),
            *curve("first", "reference", (0.75, 0.65, 0.55)),
            {"model": "learner", "metric": "train_seconds", "value": 3.0}]
    assert k_shot_table(results(*rows)).splitlines() == [
        "| AUC, user-cold, support | 5 | 10 | all |", "| --- | --- | --- | --- |",
        "| `learner` | 0.600 | 0.700 | 0.800 |", "| `first` | 0.550 | 0.650 | 0.750 |",
        "| `second` | 0.500 | 0.600 | 0.700 |"]


def test_table_needs_a_selected_learner():
    with pytest.raises(ValueError, match="selected learner"):
        results_table(results(row("learner", "learner", "all", "mae", 0.7)))


def test_block_is_replaced_and_nothing_else():
    document = f"# A\n{BEGIN}\nold\n{END}\nafter"
    assert replace_block(document, "new") == f"# A\n{BEGIN}\nnew\n{END}\nafter"
    with pytest.raises(ValueError, match="markers"):
        replace_block("# A", "new")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_document_shows_its_results_files(repository, document):
    text = (repository / document).read_text("utf-8")
    block = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert block == results_block(DOCUMENTS[document])
    assert {"full", "genres_only"} <= {word.strip("`,") for word in block.split()}
