"""The benchmark of embedding tables, at small sizes."""

from benchmarks.embedding_scale import format_table, measure, to_rows


def test_rows_of_the_results_file():
    records = measure([200, 500], rounds=2, steps=2, progress=False)
    assert [(r["rows"], r["optimizer"]) for r in records] == [
        (200, "lazy_adam"), (500, "lazy_adam"), (200, "keras_adam_dense"), (500, "keras_adam_dense")]
    assert records[0]["ratio"] == records[0]["ratio_low"] == records[0]["ratio_high"] == 1
    rows = to_rows(records)
    assert all(set(r) == {"workload", "system", "setting", "metric", "value", "ratio_to_ours"} for r in rows)
    milliseconds = {(r["setting"]["embedding_rows"], r["system"]): r for r in rows if r["metric"] == "ms_per_step"}
    for (size, _), row in milliseconds.items():
        ours = milliseconds[size, "tfmeta"]
        assert row["value"] > 0 and ours["ratio_to_ours"] == 1
        assert abs(row["ratio_to_ours"] - row["value"] / ours["value"]) < 1e-2
    assert "Goal: at most 1.2 at 500 rows" in format_table(records)
