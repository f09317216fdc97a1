"""Runs the TFX pipeline here: `python -m trainer.pipelines.tfx.run --config FILE`.

One process runs one step after the other with TFX's LocalDagRunner and keeps its metadata in a file.
"""

import dataclasses
import json
import logging
import sys
from collections.abc import Sequence

from tfmeta import config as configs
from tfmeta.cli import CommandParser
from tfmeta.errors import TfmetaError
from tfmeta.quiet import quiet_tensorflow
from trainer.pipelines.tfx.pipeline_config import PipelineConfig

_EPILOG = """\
examples:
  python -m trainer.pipelines.tfx.run --config pipeline.yaml
  python -m trainer.pipelines.tfx.run --set root=runs/tfx --set push_to=served --set parameters.dataset=synthetic \\
    --set parameters.config=demo

'tfmeta pipeline compile --target tfx --print-config' shows all settings."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the pipeline; returns 0, 1 where the gate kept the model back, 2 after an error that is the caller's."""
    parser = CommandParser(prog="python -m trainer.pipelines.tfx.run", description=__doc__.split("\n\n", 1)[1],
                           epilog=_EPILOG)
    parser.add_argument("--config", metavar="FILE", help="YAML with settings")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
                        help="override one setting; repeatable")
    parser.add_argument("--metadata", metavar="FILE", help="metadata store (default: ROOT/metadata.sqlite)")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    args = parser.parse_args(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    quiet_tensorflow()
    try:
        values = configs.apply_overrides(configs.load_yaml(args.config) if args.config else {}, args.overrides)
        config = configs.parse(PipelineConfig, values)
        from trainer.pipelines.tfx.local_run import run_local

        outcome = run_local(config, metadata=args.metadata)
    except TfmetaError as error:
        print(f"trainer.pipelines.tfx.run: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(dataclasses.asdict(outcome)))
    elif outcome.model:
        print(f"The model is in {outcome.model}, the report in {outcome.report}")
    else:
        print(f"The model was kept back: {outcome.reasons}. The report is in {outcome.report}")
    return 0 if outcome.model else 1


if __name__ == "__main__":
    raise SystemExit(main())
