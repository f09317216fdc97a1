"""Columns of the output."""

import pyarrow as pa

from tfmeta.batch.job_settings import JobSettings
from tfmeta.data.feature import Feature


def id_type(feature: Feature) -> pa.DataType:
    return pa.int64() if feature.dtype == "int64" else pa.string()


def output_schema(settings: JobSettings) -> pa.Schema:
    """Returns the columns that a mode writes; ids are called and typed as in the model.

    `score` has `score`, adapted, and `base_score`, unadapted; `recommend` has `items` and `scores`, best first; `embed`
    has `user_state`, `state_model`, `adapted_at` and `interactions` (how many it was adapted to). All have `status`
    (bits as of the signatures) and `model_version`.
    """
    spec, mode = settings.spec, settings.config.mode
    user, item = (spec.user_id.name, id_type(spec.user_id)), (spec.item_id.name, id_type(spec.item_id))
    fields = {"score": [user, item, ("score", pa.float32()), ("base_score", pa.float32())],
              "recommend": [user, ("items", pa.list_(item[1])), ("scores", pa.list_(pa.float32()))],
              "embed": [user, ("user_state", pa.list_(pa.float32(), settings.model.state_width or -1)),
                        ("state_model", pa.string()), ("adapted_at", pa.timestamp("us", tz="UTC")),
                        ("interactions", pa.int32())]}[mode]
    return pa.schema([*fields, ("status", pa.int32()), ("model_version", pa.string())])
