"""The job as a Beam pipeline, the same for every runner."""

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.utils import shared

from tfmeta.batch import tables
from tfmeta.batch.batch_config import BIGQUERY
from tfmeta.batch.input_plan import InputPlan
from tfmeta.batch.job_settings import JobSettings
from tfmeta.batch.output_schema import output_schema
from tfmeta.batch.score_shard import ScoreShard
from tfmeta.batch.stage import StageRows, StageSplit
from tfmeta.errors import ConfigError

_LOCAL = (None, "DirectRunner", "direct", "FnApiRunner")
# Rows of a table that are cleaned at once.
_TABLE_ROWS = 50_000


def stage_pipeline(pipeline: beam.Pipeline, settings: JobSettings, plan: InputPlan):
    """Adds the first stage; returns the collection of its records.

    Elements are names of files and small records, never rows of data: the shuffle goes through staged files, so no
    runner holds more than a chunk, and the local one has nothing to encode.
    """
    staged = []
    if plan.splits:
        staged.append(pipeline | "Splits" >> beam.Create(list(plan.splits)) | "SpreadSplits" >> beam.Reshuffle()
                      | "StageSplits" >> beam.ParDo(StageSplit(settings)))
    for kind, names in plan.tables.items():
        for number, name in enumerate(names):
            label = f"{kind}{number}"
            staged.append(
                pipeline | f"Read_{label}" >> tables.read_table(name)
                | f"Batch_{label}" >> beam.BatchElements(min_batch_size=_TABLE_ROWS, max_batch_size=_TABLE_ROWS)
                | f"Stage_{label}" >> beam.ParDo(StageRows(settings, kind=kind, name=f"{BIGQUERY}{name}")))
    return staged | "Staged" >> beam.Flatten(pipeline=pipeline)


def score_pipeline(pipeline: beam.Pipeline, settings: JobSettings, staged):
    """Adds the second stage, which begins when all of the first is done; returns the collection of its records."""
    done = (pipeline | "Shards" >> beam.Create(list(range(settings.shards))) | "SpreadShards" >> beam.Reshuffle()
            | "ScoreShards" >> beam.ParDo(ScoreShard(settings, shared.Shared()), beam.pvalue.AsList(staged)))
    if settings.config.output_format == "bigquery":
        _ = (done | "Rows" >> beam.ParDo(tables.PartRows())
             | "Write" >> tables.write_table(settings.config.out.removeprefix(BIGQUERY), output_schema(settings)))
    return done


def make_pipeline(arguments: tuple[str, ...], *, workers: int) -> beam.Pipeline:
    """Returns an empty pipeline for Beam's own arguments.

    Without a runner, or with DirectRunner, it runs in this process on `workers` threads: one model for all of them,
    and TensorFlow, Arrow and numpy let go of the interpreter while they compute.

    Raises:
      ConfigError: if Beam does not know an argument or a runner.
    """
    try:
        options = PipelineOptions(list(arguments))
        options.get_all_options()
    except SystemExit:
        raise ConfigError(f"Beam does not take the options {' '.join(arguments)}.") from None
    runner = options.view_as(StandardOptions).runner
    if runner not in _LOCAL:
        try:
            return beam.Pipeline(options=options)
        except (ValueError, ImportError, AttributeError) as error:
            raise ConfigError(f"Beam cannot start runner '{runner}': {str(error).splitlines()[0]}") from None
    direct = options.view_as(DirectOptions)
    given = {argument.partition("=")[0] for argument in arguments}
    if "--direct_num_workers" not in given:
        direct.direct_num_workers = workers
    if "--direct_running_mode" not in given and direct.direct_num_workers > 1:
        direct.direct_running_mode = "multi_threading"
    return beam.Pipeline(runner=_direct_runner(options), options=options)


def _direct_runner(options: PipelineOptions):
    """The local runner itself: `DirectRunner` would first look for one that has to be downloaded."""
    from apache_beam.portability.api import beam_provision_api_pb2
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle

    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    return fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(
        beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)))
