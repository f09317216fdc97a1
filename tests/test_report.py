"""The report page."""

import html.parser
import json

import pytest

from tfmeta.errors import DataError, RunError
from trainer.report import figures, write_report, write_run_report
from trainer.report.result_rows import ResultRows


def row(model, role, k, metric, value, state="user_cold", **more):
    return {"state": state, "model": model, "role": role, "k": k, "seed": "mean", "metric": metric, "value": value,
            "low": None, "high": None, "p_value": None, "users": 41, "selected": False, "uses_history": False,
            "features": "full", **more}


ROWS = [
    row("random", "floor", "all", "auc", 0.4987), row("perfect_order", "ceiling", "all", "auc", 1.0),
    row("item_mean", "reference", "all", "auc", 0.6123),
    row("als_fold_in", "reference", "all", "auc", 0.7344, low=0.7, high=0.8),
    row("maml", "learner", 0, "auc", 0.6511), row("maml", "learner", 5, "auc", 0.7011),
    row("maml", "learner", "all", "auc", 0.7422, low=0.73, high=0.7555, selected=True),
    row("random", "floor", "all", "mae", 1.35), row("item_mean", "reference", "all", "mae", 0.801),
    row("maml", "learner", 0, "mae", 0.811), row("maml", "learner", "all", "mae", 0.777),
    row("maml", "learner", "all", "gain_auc", 0.0911, low=0.08, high=0.1),
]
HISTORY = [{"epoch": e, "train_loss": 1.0 / (e + 1), "val_mae": 0.9, "val_base_mae": 0.95, "val_user_cold_mae": 0.91,
            "val_item_cold_mae": 0.89, "seconds": 2.0, "tasks_per_s": 100} for e in range(4)]


class Page(html.parser.HTMLParser):
    """Collects what a browser would fetch, the tags left open, ids and accessible names."""

    VOID = frozenset({"meta", "br", "link", "img", "hr", "input"})

    def __init__(self, text):
        super().__init__()
        self.loads, self.stack, self.ids, self.svgs, self.scripts, self.text = [], [], [], [], 0, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.loads += [v for k, v in attrs.items() if k in ("src", "srcset", "data", "poster")]
        self.loads += [v for k, v in attrs.items() if k in ("href", "xlink:href") and not v.startswith("#")]
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.svgs += [attrs] if tag == "svg" else []
        self.scripts += tag == "script"
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(str(path), rows=ROWS, history=HISTORY, title="Run <7>", facts={"Users": 1234}, synthetic=True)
    return path.read_text("utf-8")


def test_page_asks_nothing_of_the_network(page):
    parsed = Page(page)
    assert parsed.loads == [] and parsed.scripts == 0
    assert parsed.stack == [] and len(parsed.ids) == len(set(parsed.ids))
    assert "http://" not in page and "https://" not in page and "@import" not in page
    assert "url(" not in page.replace("url(#", "")


def test_page_contains_the_values(page):
    text = " ".join(Page(page).text)
    for value in ("0.499", "0.612", "0.734", "0.651", "0.701", "0.742", "0.730 to 0.755", "0.777", "+0.091", "1,234"):
        assert value in text, value
    assert "Run <7>" in text and "Run <7>" not in page
    assert "synthetic data" in text and "user-cold" in text and "ALS fold-in" in text


def test_summary_says_what_the_figures_say(page):
    text = " ".join(" ".join(Page(page).text).split())
    assert ("User-cold: MAML reaches AUC 0.742 with all support interactions, +0.091 against itself unadapted; it is "
            "0.008 ahead of the strongest baseline, ALS fold-in (0.734), within that baseline's interval.") in text


def test_real_data_is_not_called_synthetic(tmp_path):
    path = write_report(str(tmp_path / "r.html"), rows=ROWS)
    assert "synthetic" not in (tmp_path / "r.html").read_text("utf-8") and path == str(tmp_path / "r.html")


def test_figures_have_names_with_their_values(page):
    names = [svg["aria-label"] for svg in Page(page).svgs]
    assert any("0.651 at k=0, 0.701 at k=5, 0.742 at k=all" in name for name in names)
    assert any("Gain from adaptation in AUC: user-cold +0.091" in name for name in names)
    assert any("training from 1 to 0.25" in name for name in names)
    assert any("unadapted from 0.95 to 0.95; user-cold from 0.91 to 0.91" in name for name in names)


def test_worse_than_baseline_is_said(tmp_path):
    rows = [row("als_fold_in", "reference", "all", "mae", 0.7), row("maml", "learner", 0, "mae", 0.75),
            row("maml", "learner", "all", "mae", 0.78)]
    write_report(str(tmp_path / "r.html"), rows=rows)
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "+0.030 against itself unadapted; it is 0.080 behind the strongest baseline" in text


def test_rows_are_reduced_over_seeds():
    seeds = [row("maml", "learner", 0, "auc", v, seed=s) for s, v in enumerate((0.6, 0.7))]
    assert ResultRows.of(seeds).rows[0]["value"] == pytest.approx(0.65)
    mean = row("maml", "learner", 0, "auc", 0.66)
    assert ResultRows.of([*seeds, mean]).rows == (mean,)


def test_gain_is_the_difference_where_none_is_recorded():
    table = ResultRows.of([row("m", "learner", 0, "mae", 0.8), row("m", "learner", 5, "mae", 0.75)])
    assert table.gain("user_cold", "m", "mae")["value"] == pytest.approx(-0.05)
    assert table.gain("user_cold", "m", "auc") is None


def test_share_of_the_attainable():
    def share(metric, zero, last, best):
        table = ResultRows.of([row("m", "learner", 0, metric, zero), row("m", "learner", "all", metric, last),
                               row("synthetic_fold_in", "ceiling", "all", metric, best)])
        return table.recovered("user_cold", "m", metric)

    assert share("auc", 0.6, 0.7, 0.8) == pytest.approx(0.5)
    assert share("mae", 0.8, 0.65, 0.6) == pytest.approx(0.75)
    assert share("auc", 0.6, 0.5, 0.8) == pytest.approx(-0.5)
    assert share("mae", 0.6, 0.5, 0.7) is None


def test_best_follows_the_direction_of_the_metric():
    rows = [row(m, "reference", "all", metric, v) for m, v in (("a", 0.7), ("b", 0.9)) for metric in ("auc", "mae")]
    table = ResultRows.of(rows)
    assert table.best("user_cold", "reference", "auc")["model"] == "b"
    assert table.best("user_cold", "reference", "mae")["model"] == "a"


def test_states_and_k_are_ordered():
    rows = [row("m", "learner", k, "auc", 0.7, state=s) for s in ("both_cold", "warm") for k in ("all", 10, 3)]
    table = ResultRows.of(rows)
    assert table.states == ["warm", "both_cold"]
    assert [r["k"] for r in table.curve("warm", "m", "auc")] == [3, 10, "all"]


def test_wrong_rows_are_named():
    with pytest.raises(DataError, match=r"row 1 .*lacks metric, value"):
        ResultRows.of([ROWS[0], {"state": "warm", "model": "m", "role": "learner", "k": 0}])
    with pytest.raises(DataError, match="role of floor, reference"):
        ResultRows.of([row("m", "teacher", 0, "auc", 1.0)])


def test_no_rows_and_not_finite_values_still_make_a_page(tmp_path):
    write_report(str(tmp_path / "r.html"), rows=[row("m", "learner", 0, "auc", float("nan"))])
    assert "The evaluation has no rows." in (tmp_path / "r.html").read_text("utf-8")


def test_training_curves_need_two_epochs():
    assert figures.training_curves(HISTORY[:1]) == []
    assert len(figures.training_curves(HISTORY)) == 2


def test_run_report(tmp_path):
    with pytest.raises(RunError, match="tfmeta evaluate"):
        write_run_report(str(tmp_path))
    (tmp_path / "evaluation.json").write_text(json.dumps({"environment": {}, "rows": ROWS}))
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in HISTORY))
    assert write_run_report(str(tmp_path)) == str(tmp_path / "report.html")
    assert "0.742" in (tmp_path / "report.html").read_text("utf-8")
