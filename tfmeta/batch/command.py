"""`tfmeta batch-score`: scores, recommendations or states for any number of users."""

import argparse
import json
import sys

HELP = "Score, recommend or embed any number of users with an exported model (Apache Beam)"

_EPILOG = """\
examples:
  tfmeta batch-score --model models/movies --interactions 'events/*.parquet' --candidates pairs.parquet --out scores
  tfmeta batch-score --mode recommend --model models/movies --interactions events.csv --users users.parquet --out lists
  tfmeta batch-score --mode embed --model models/movies --interactions events.tfrecord --out states --json
  tfmeta batch-score --model gs://b/movies --interactions gs://b/events --candidates gs://b/pairs --out gs://b/scores \\
                     -- --runner=DataflowRunner --project=p --region=r --temp_location=gs://b/tmp

What follows -- goes to Beam as it is. Files are Parquet, CSV or TFRecord of tf.Example by their names; a directory
stands for all files in it, bq://project.dataset.table for a table. Rows that cannot be used are in OUT/_quarantine,
counts in OUT/_summary.json. A job that was interrupted goes on when it is started again. docs/batch_scoring.md says
what the columns are."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("--model", required=True, metavar="DIR",
                        help="MODEL_BASE (its latest version), MODEL_BASE/N or a flat export")
    parser.add_argument("--mode", choices=("score", "recommend", "embed"), default="score",
                        help="score the candidates given (default), best of the catalogue, or adapted states")
    inputs = parser.add_argument_group("input (each may be given more than once)")
    for name, text in (("interactions", "what users did: user, item, label, and a time where there is one"),
                       ("candidates", "what to score: user, item"),
                       ("users", "user features, one row a user; in recommend and embed, whom to answer for"),
                       ("items", "item features (Parquet), for models without a catalogue")):
        inputs.add_argument(f"--{name}", action="append", default=[], metavar="PATH", help=text)
    for name in ("user", "item", "label", "time"):
        inputs.add_argument(f"--{name}-column", metavar="NAME",
                            help=f"column of the {name}" + (" (default timestamp)" if name == "time" else ""))
    output = parser.add_argument_group("output")
    output.add_argument("--out", required=True, metavar="DIR", help="directory, or bq://project.dataset.table")
    output.add_argument("--format", choices=("parquet", "tfrecord", "bigquery"), help="of the output (default parquet)")
    output.add_argument("--work", metavar="DIR", help="directory for what lies between the stages (default OUT/_work)")
    output.add_argument("--shards", type=int, default=0, metavar="N", help="parts (default by the size of the input)")
    output.add_argument("--count", type=int, default=0, metavar="K", help="items recommended (default all the model's)")
    output.add_argument("--overwrite", action="store_true", help="replace the output of another job")
    running = parser.add_argument_group("running")
    running.add_argument("--batch-users", type=int, default=256, metavar="N", help="users of one call (default 256)")
    running.add_argument("--max-candidates", type=int, default=2048, metavar="N",
                         help="candidates of one user in one call (default 2048)")
    running.add_argument("--on-bad-shard", choices=("continue", "stop"), default="continue",
                         help="a file that cannot be read: score the others and fail at the end (default), or stop")
    running.add_argument("--workers", type=int, metavar="N", help="threads of the local runner (default: cores)")
    parser.add_argument("beam", nargs="*", metavar="-- BEAM OPTIONS", help="options of Beam, such as --runner=...")


def run(args: argparse.Namespace) -> int:
    """Runs the job and prints its summary; 2 if a file could not be read."""
    from tfmeta.batch.batch_config import BIGQUERY, BatchConfig
    from tfmeta.errors import ConfigError, DataError

    try:
        import apache_beam  # noqa: F401
    except ImportError:
        raise ConfigError("Batch scoring requires Apache Beam. Install it with: pip install 'tfmeta[batch]'") from None
    from tfmeta.batch.batch_job import BatchJob

    if args.workers is not None and args.workers < 1:
        raise ConfigError(f"'--workers' requires at least 1, received {args.workers}.")
    kind = args.format or ("bigquery" if args.out.startswith(BIGQUERY) else "parquet")
    config = BatchConfig(
        model=args.model, out=args.out, mode=args.mode, interactions=tuple(args.interactions),
        candidates=tuple(args.candidates), users=tuple(args.users), items=tuple(args.items), output_format=kind,
        work=args.work, user=args.user_column, item=args.item_column, label=args.label_column, time=args.time_column,
        shards=args.shards, batch_users=args.batch_users, max_candidates=args.max_candidates, count=args.count,
        on_bad_shard=args.on_bad_shard, overwrite=args.overwrite)
    summary = BatchJob(config, beam_options=tuple(args.beam), workers=args.workers, progress=True).run()
    if getattr(args, "json", False):
        print(json.dumps(summary))
    else:
        _report(summary)
    sys.stdout.flush()
    if summary["unreadable"]:
        from tfmeta.batch.batch_job import describe_unreadable

        raise DataError(f"{describe_unreadable(summary['unreadable'])} {summary['rows']:,} rows of the other files are "
                        f"in '{summary['out']}'. Mend it and start the same job again.")
    return 0


def _report(summary: dict) -> None:
    print(f"{summary['rows']:,} rows in {summary['shards']} parts: {summary['out']} ({summary['seconds']:.1f} s)")
    for kind, count in summary["read"].items():
        rejected = summary["rejected"].get(kind, {})
        bad = ", ".join(f"{n:,} {reason}" for reason, n in sorted(rejected.items()))
        print(f"  {kind:<13}{count:,} read, {summary['kept'][kind]:,} kept{f'; {bad}' if bad else ''}")
