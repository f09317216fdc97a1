"""What every worker of a job is told."""

import dataclasses

from tfmeta.batch.batch_config import BatchConfig
from tfmeta.batch.model_files import ModelFiles
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.io import filesystem

SIGNATURES = {"score": "adapt_and_score", "recommend": "adapt_and_recommend", "embed": "adapt"}


@dataclasses.dataclass(frozen=True)
class JobSettings:
    """A job as it is carried out.

    Attributes:
      config: as asked for.
      model: as found.
      shards: parts of the output.
      started: when the job began first, seconds since 1970: the time of meta-embeddings, which a re-run keeps.
    """

    config: BatchConfig
    model: ModelFiles
    shards: int
    started: float

    @property
    def spec(self) -> FeatureSpec:
        return self.model.description.feature_spec

    @property
    def support_bound(self) -> int:
        return self.model.description.support_bound or 100

    @property
    def staged(self) -> str:
        return filesystem.join(self.config.work_directory, "staged")

    @property
    def signature(self) -> str:
        """What the mode calls; without interactions nobody is adapted, and `score` is enough."""
        return SIGNATURES[self.config.mode] if self.config.interactions or self.config.mode != "score" else "score"

    def part(self, shard: int) -> str:
        """Path of a part of the output."""
        ending = "tfrecord" if self.config.output_format == "tfrecord" else "parquet"
        return filesystem.join(self.config.parts_directory, f"part-{shard:05d}-of-{self.shards:05d}.{ending}")

    def record(self, shard: int) -> str:
        """Path of what is known of a part that is done."""
        return filesystem.join(self.config.work_directory, "done", f"{shard:05d}.json")
