"""Where a run stands, beside its variables."""

import dataclasses
import json

from tfmeta.errors import RunError
from trainer.early_stopping import EarlyStopping


@dataclasses.dataclass
class TrainingState:
    """What a checkpoint holds in one JSON text.

    Attributes:
      identity: hash of configuration, feature specification and training data.
      epochs_done: complete epochs, validation included.
      seconds: of training so far, over all resumptions.
      history: one record per complete epoch.
      early_stopping: None where there is no validation or none is wanted.
      stopped: early stopping has ended the run.
    """

    identity: str
    epochs_done: int = 0
    seconds: float = 0.0
    history: list[dict] = dataclasses.field(default_factory=list)
    early_stopping: EarlyStopping | None = None
    stopped: bool = False

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    def restore(self, text: str) -> None:
        """Takes everything over from what `to_json` gave.

        Raises:
          RunError: if it belongs to another run.
        """
        values = json.loads(text)
        if values["identity"] != self.identity:
            raise RunError("The checkpoint to resume from belongs to a run with another configuration or other "
                           "training data. Choose another directory for the checkpoints.")
        stopping = values.pop("early_stopping")
        for name, value in values.items():
            setattr(self, name, value)
        self.early_stopping = EarlyStopping(**stopping) if stopping else None
