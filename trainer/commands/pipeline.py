"""`tfmeta pipeline`: the pipeline for engines that others operate."""

import argparse
import importlib
import json

HELP = "Compile the pipeline for Kubeflow Pipelines v2, TFX and Vertex AI"

_EPILOG = """\
examples:
  tfmeta pipeline compile --target kfp --out pipeline.yaml --image REGISTRY/tfmeta:0.1.0 \\
    --set parameters.source=gs://bucket/events --set parameters.schema=gs://bucket/schema.yaml
  tfmeta pipeline compile --target kfp --out pipeline.yaml --config pipeline-config.yaml
  tfmeta pipeline compile --target kfp --out demo.yaml --set parameters.dataset=synthetic \\
    --set parameters.config=demo --set parameters.train.epochs=10
  tfmeta pipeline compile --target kfp --print-config                 all settings and their defaults
  tfmeta pipeline compile --target tfx --out pipeline.json --set root=gs://bucket/root \\
    --set push_to=gs://bucket/served --set parameters.source=gs://bucket/events \\
    --set parameters.schema=gs://bucket/schema.yaml

With kfp what is below 'parameters' may be given anew with each run; the rest is fixed in the file. Values out of
range are refused before anything is written. The same settings give the same bytes. docs/pipelines.md says how to
build the image and to submit the file, and how to make the environment that target tfx needs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tfmeta pipeline compile`."""
    commands = parser.add_subparsers(dest="subcommand", metavar="{compile}", required=True)
    parser.epilog = "'tfmeta pipeline compile --help' explains the options."
    compile_ = commands.add_parser("compile", help=HELP, description=HELP, epilog=_EPILOG,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    compile_.add_argument("--target", choices=("kfp", "tfx"), required=True,
                          help="engine; both files are for Vertex AI Pipelines, too")
    compile_.add_argument("--out", metavar="FILE", help="file to write: .yaml for kfp, .json for tfx")
    compile_.add_argument("--config", metavar="FILE", help="YAML with settings")
    compile_.add_argument("--image", metavar="IMAGE", help="container image of the steps")
    compile_.add_argument("--gpu-image", metavar="IMAGE", help="of training where it has accelerators (kfp; default: "
                          "IMAGE-gpu)")
    compile_.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
                          help="override one setting, such as parameters.train.epochs=10; repeatable")
    compile_.add_argument("--print-config", action="store_true", help="print the whole configuration and stop")


def run(args: argparse.Namespace) -> int:
    """Compiles the pipeline."""
    from tfmeta import config as configs
    from tfmeta.errors import ConfigError

    engine = importlib.import_module(f"trainer.pipelines.{args.target}.pipeline_config")
    values = configs.load_yaml(args.config) if args.config else {}
    given = {"image": args.image, "gpu_image": args.gpu_image}
    values |= {name: value for name, value in given.items() if value is not None}
    config = configs.parse(engine.PipelineConfig, configs.apply_overrides(values, args.overrides))
    if args.print_config:
        import yaml

        plain = configs.to_dict(config)
        print(json.dumps(plain) if args.json else yaml.safe_dump(plain, sort_keys=False), end="")
        return 0
    if args.out is None:
        raise ConfigError("'tfmeta pipeline compile' requires --out. See 'tfmeta pipeline compile --help'.")
    compiler = importlib.import_module(f"trainer.pipelines.{args.target}.compile_pipeline")
    path = compiler.compile_pipeline(config, out=args.out)
    print(json.dumps({"path": path, "name": config.name, "image": config.image}) if args.json else
          f"Pipeline '{config.name}' is in {path}")
    return 0
