"""`tfmeta pipeline`: the pipeline for engines that others operate."""

import argparse
import json

HELP = "Compile the pipeline for Kubeflow Pipelines v2 and Vertex AI"

_EPILOG = """\
examples:
  tfmeta pipeline compile --target kfp --out pipeline.yaml --image REGISTRY/tfmeta:0.1.0 \\
    --set parameters.source=gs://bucket/events --set parameters.schema=gs://bucket/schema.yaml
  tfmeta pipeline compile --target kfp --out pipeline.yaml --config pipeline-config.yaml
  tfmeta pipeline compile --target kfp --out demo.yaml --set parameters.dataset=synthetic \\
    --set parameters.config=demo --set parameters.train.epochs=10
  tfmeta pipeline compile --target kfp --print-config                 all settings and their defaults

What is below 'parameters' may be given anew with each run; the rest is fixed in the file. Values out of range are
refused before anything is written. The same settings give the same bytes. docs/pipelines.md says how to build the
image and to submit the file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tfmeta pipeline compile`."""
    commands = parser.add_subparsers(dest="subcommand", metavar="{compile}", required=True)
    parser.epilog = "'tfmeta pipeline compile --help' explains the options."
    compile_ = commands.add_parser("compile", help=HELP, description=HELP, epilog=_EPILOG,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    compile_.add_argument("--target", choices=("kfp",), required=True, help="engine: kfp is also Vertex AI Pipelines")
    compile_.add_argument("--out", metavar="FILE.yaml", help="file to write")
    compile_.add_argument("--config", metavar="FILE", help="YAML with settings")
    compile_.add_argument("--image", metavar="IMAGE", help="container image of the steps")
    compile_.add_argument("--gpu-image", metavar="IMAGE", help="of training where it has accelerators (default: "
                          "IMAGE-gpu)")
    compile_.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
                          help="override one setting, such as parameters.train.epochs=10; repeatable")
    compile_.add_argument("--print-config", action="store_true", help="print the whole configuration and stop")


def run(args: argparse.Namespace) -> int:
    """Compiles the pipeline."""
    from tfmeta import config as configs
    from tfmeta.errors import ConfigError
    from trainer.pipelines.kfp.pipeline_config import PipelineConfig

    values = configs.load_yaml(args.config) if args.config else {}
    given = {"image": args.image, "gpu_image": args.gpu_image}
    values |= {name: value for name, value in given.items() if value is not None}
    config = configs.parse(PipelineConfig, configs.apply_overrides(values, args.overrides))
    if args.print_config:
        import yaml

        plain = configs.to_dict(config)
        print(json.dumps(plain) if args.json else yaml.safe_dump(plain, sort_keys=False), end="")
        return 0
    if args.out is None:
        raise ConfigError("'tfmeta pipeline compile' requires --out. See 'tfmeta pipeline compile --help'.")
    from trainer.pipelines.kfp.compile_pipeline import compile_pipeline

    path = compile_pipeline(config, out=args.out)
    print(json.dumps({"path": path, "name": config.name, "image": config.image}) if args.json else
          f"Pipeline '{config.name}' is in {path}")
    return 0
