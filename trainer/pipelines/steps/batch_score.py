"""The step that scores users in bulk with an exported model."""

from collections.abc import Sequence


def batch_score(*, mode: str, interactions: Sequence[str], candidates: Sequence[str], users: Sequence[str],
                beam_options: Sequence[str], model, scores, summary) -> None:
    """Runs `tfmeta batch-score`.

    Args:
      mode: `score`, `recommend` or `embed`.
      interactions, candidates, users: paths, as of the command.
      beam_options: of Beam, such as `--runner=DataflowRunner`; none runs here.
      model: the exported model.
      scores: gets the output.
      summary: gets counts as metrics.

    Raises:
      ConfigError, DataError: as `BatchJob.run` does, and DataError if a file could not be read.
    """
    from tfmeta.batch.batch_config import BatchConfig
    from tfmeta.batch.batch_job import BatchJob, describe_unreadable
    from tfmeta.errors import DataError

    config = BatchConfig(model=model.path, out=scores.path, mode=mode, interactions=tuple(interactions),
                         candidates=tuple(candidates), users=tuple(users))
    result = BatchJob(config, beam_options=tuple(beam_options), progress=False).run()
    if result["unreadable"]:
        raise DataError(describe_unreadable(result["unreadable"]))
    scores.metadata |= {"mode": mode, "rows": result["rows"], "parts": result["shards"]}
    summary.metadata |= {"rows": result["rows"], "seconds": result["seconds"],
                         **{f"read_{kind}": count for kind, count in result["read"].items()},
                         **{f"rejected_{kind}": sum(counts.values()) for kind, counts in result["rejected"].items()}}
