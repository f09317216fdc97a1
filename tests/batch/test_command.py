"""The command line, and what is passed on to Beam."""

import json

import pytest
from batch_cases import make_log

from tfmeta import cli
from tfmeta.errors import ConfigError


def test_command_reports_in_words_and_in_json(model, tmp_path, capfd):
    make_log().to_parquet(tmp_path / "log.parquet")
    arguments = ["batch-score", "--mode", "embed", "--model", model, "--interactions", str(tmp_path / "log.parquet"),
                 "--out", str(tmp_path / "out"), "--shards", "2"]
    assert cli.main([*arguments, "--", "--direct_num_workers=1", "--job_name=nightly"]) == 0
    captured = capfd.readouterr()
    assert "rows in 2 parts" in captured.out and "interactions" in captured.out
    assert "embed: 100%" in captured.err  # progress is not in the way of the result
    assert cli.main([*arguments, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["complete"]


@pytest.mark.parametrize(("arguments", "message"), [
    (["--candidates", "c.parquet", "--mode", "embed"], "'candidates' requires none in mode embed"),
    (["--mode", "score"], "'candidates' requires files"),
    (["--mode", "recommend"], "requires 'users' or 'interactions'"),
    (["--candidates", "c.parquet", "--batch-users", "0"], "'batch_users' requires 1 to 65536, received 0"),
    (["--candidates", "c.parquet", "--workers", "0"], "'--workers' requires at least 1"),
    (["--candidates", "c.parquet", "--format", "bigquery"], "bq://project.dataset.table for output to BigQuery"),
    (["--candidates", "c.parquet", "--out", "bq://p.d.t"], "'work' requires a directory")])
def test_arguments_that_make_no_job(arguments, message, tmp_path, capfd):
    assert cli.main(["batch-score", "--model", str(tmp_path), "--out", str(tmp_path / "out"), *arguments]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("tfmeta: error:")]
    assert len(lines) == 1 and message in lines[0]


def test_runners_are_chosen_by_beams_own_options():
    from apache_beam.options.pipeline_options import DirectOptions
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
    from apache_beam.runners.portability.portable_runner import PortableRunner

    from tfmeta.batch.pipeline import make_pipeline

    local = make_pipeline((), workers=3)
    assert isinstance(local.runner, FnApiRunner)
    direct = local.options.view_as(DirectOptions)
    assert (direct.direct_num_workers, direct.direct_running_mode) == (3, "multi_threading")
    given = make_pipeline(("--runner=DirectRunner", "--direct_num_workers=2", "--direct_running_mode=in_memory"),
                          workers=3).options.view_as(DirectOptions)
    assert (given.direct_num_workers, given.direct_running_mode) == (2, "in_memory")
    assert isinstance(make_pipeline(("--runner=PortableRunner", "--job_endpoint=h:1"), workers=1).runner,
                      PortableRunner)
    with pytest.raises(ConfigError, match="Beam does not take the options"):
        make_pipeline(("--direct_num_workers=many",), workers=1)
    with pytest.raises(ConfigError, match="NoSuchRunner"):
        make_pipeline(("--runner=NoSuchRunner",), workers=1)


def test_stages_are_two_transforms_over_names_and_counts(model):
    """No collection of the job's own holds rows: what runs here is what a cluster is told."""
    import apache_beam as beam

    from tfmeta.batch.batch_config import BatchConfig
    from tfmeta.batch.input_plan import InputPlan
    from tfmeta.batch.input_split import InputSplit
    from tfmeta.batch.job_settings import JobSettings
    from tfmeta.batch.model_files import ModelFiles
    from tfmeta.batch.pipeline import make_pipeline, score_pipeline, stage_pipeline

    settings = JobSettings(BatchConfig(model=model, out="out", mode="embed", interactions=("a",)),
                           ModelFiles.read(model), 2, 0.0)
    plan = InputPlan((InputSplit("interactions", "a.csv", "csv", (), 0, "k"),), {}, {}, 1)
    pipeline = make_pipeline((), workers=1)
    stage_pipeline(pipeline, settings, plan)
    score_pipeline(pipeline, settings, pipeline | beam.Create([{}]))
    proto = pipeline.to_runner_api()
    names = {t.unique_name for t in proto.components.transforms.values()}
    assert {"StageSplits", "ScoreShards", "Staged"} <= names
    assert len(proto.SerializeToString()) < 1 << 20
