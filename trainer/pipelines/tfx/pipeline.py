"""The pipeline for TFX; importing this module imports TFX."""

import json

from tfx.components.trainer.component import Trainer
from tfx.orchestration import pipeline
from tfx.proto import pusher_pb2, trainer_pb2

from tfmeta import config as configs
from trainer.pipelines.steps.prepare import preparation_settings, whole
from trainer.pipelines.tfx.components import gated_evaluator, interaction_example_gen
from trainer.pipelines.tfx.example_writer import SPLITS
from trainer.pipelines.tfx.pipeline_config import PipelineConfig
from trainer.pipelines.tfx.trainer_settings import TrainerSettings
from trainer.pipelines.tfx.versioned_pusher import VersionedPusher

RUN_FN = "trainer.pipelines.tfx.run_fn.run_fn"


def build_pipeline(config: PipelineConfig, **options) -> pipeline.Pipeline:
    """Returns the pipeline: Examples and Schema, TFX's Trainer, evaluation and blessing, Pusher.

    Args:
      config: everything about it.
      **options: of `tfx.dsl.Pipeline`, such as `metadata_connection_config` and `enable_cache`.

    Raises:
      ConfigError: if a value is out of range.
    """
    p = config.parameters
    settings = preparation_settings(p.dataset, p.split)
    generated = interaction_example_gen(
        dataset=p.dataset, source=p.source, source_schema=p.schema,
        synthetic=json.dumps(configs.to_dict(settings["synthetic"]) if settings["synthetic"] else {}, sort_keys=True))
    custom = TrainerSettings(split=settings["split"], vocabulary=settings["vocabulary"], config=p.config,
                             train=whole(p.train), default_signature=p.default_signature,
                             item_features=p.item_features, support_bound=p.support_bound, top_k=p.top_k)
    # The users' and items' tables go along with the training split; there is nothing to evaluate on while training,
    # because validation tasks are made of the interactions.
    trainer = Trainer(run_fn=RUN_FN, examples=generated.outputs["examples"], schema=generated.outputs["schema"],
                      train_args=trainer_pb2.TrainArgs(splits=list(SPLITS)),
                      eval_args=trainer_pb2.EvalArgs(splits=[SPLITS[0]]), custom_config=configs.to_dict(custom))
    evaluator = gated_evaluator(model=trainer.outputs["model"], model_run=trainer.outputs["model_run"], ks=p.ks,
                                baselines=p.baselines, gate_states=p.gate_states)
    pusher = VersionedPusher(
        model=trainer.outputs["model"], model_blessing=evaluator.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(filesystem=pusher_pb2.PushDestination.Filesystem(
            base_directory=config.push_to)))
    return pipeline.Pipeline(pipeline_name=config.name, pipeline_root=config.root,
                             components=[generated, trainer, evaluator, pusher], **options)
