"""Components of our own, with TFX's standard artifacts on both sides.

Importing this module imports TFX. Parameters are single values, mappings as JSON, because that is what every engine
records and hands on.
"""

import json

from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.proto import example_gen_pb2
from tfx.types import standard_artifacts


@component
def interaction_example_gen(
        examples: OutputArtifact[standard_artifacts.Examples], schema: OutputArtifact[standard_artifacts.Schema],
        dataset: Parameter[str], source: Parameter[str] = "", source_schema: Parameter[str] = "",
        synthetic: Parameter[str] = "{}"):
    """Reads, or generates, and cleans interactions.

    Args:
      examples: gets the splits `interactions`, `users` and `items`.
      schema: gets what the features are, for our `run_fn` and for TFX's own components.
      dataset: as of `tfmeta data prepare`.
      source: file, glob or directory of the raw data; empty for `synthetic`.
      source_schema: YAML file that says what CSV and Parquet look like; else empty.
      synthetic: settings of the generator as JSON.
    """
    from trainer.pipelines.tfx.example_writer import SPLITS, examples_schema, write_examples
    from trainer.pipelines.tfx.raw_source import read_source
    from trainer.pipelines.tfx.schema_artifact import write_schema

    raw = read_source(dataset, source=source, schema=source_schema, synthetic=json.loads(synthetic))
    rows = write_examples(raw, examples.uri)
    examples.splits = list(SPLITS)
    examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, "tfrecords_gzip")
    for split, number in rows.items():
        examples.set_int_custom_property(f"{split}_rows", number)
    examples.set_int_custom_property("rejected_rows", len(raw.rejected))
    write_schema(examples_schema(raw.schema), schema.uri)


@component
def gated_evaluator(
        model: InputArtifact[standard_artifacts.Model], model_run: InputArtifact[standard_artifacts.ModelRun],
        evaluation: OutputArtifact[standard_artifacts.ModelEvaluation],
        blessing: OutputArtifact[standard_artifacts.ModelBlessing], ks: Parameter[str] = "0,1,3,5,10,20,all",
        baselines: Parameter[str] = "", gate_states: Parameter[str] = ""):
    """Evaluates what our `run_fn` has left beside tuned baselines, and blesses the model if the gate lets it pass.

    Args:
      model: what is blessed; the export has verified it, and `VersionedPusher` verifies what it publishes.
      model_run: with the run and its prepared data.
      evaluation: gets the run with its evaluation, and `report.html`.
      blessing: gets `BLESSED` or `NOT_BLESSED`, as of TFX's own Evaluator, and the reasons.
      ks: numbers of support rows, comma-separated, or `all`.
      baselines: names, comma-separated; empty for those of the label's unit.
      gate_states: states that the gate judges, comma-separated; empty for all.
    """
    from trainer.pipelines.tfx.judge import judge

    reasons = judge(model_run.uri, evaluation=evaluation.uri, blessing=blessing.uri, ks=ks, baselines=baselines,
                    gate_states=gate_states)
    blessing.set_int_custom_property("blessed", int(not reasons))
    blessing.set_string_custom_property("blessing_message", "; ".join(reasons))
    blessing.set_string_custom_property("current_model", model.uri)
    blessing.set_int_custom_property("current_model_id", model.id)
