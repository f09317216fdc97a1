"""An exported model as a job finds it on disk."""

import dataclasses
import json

from tfmeta.errors import ExportError
from tfmeta.io import filesystem
from tfmeta.serving.client.model_description import ModelDescription
from tfmeta.serving.model_versions import list_versions


@dataclasses.dataclass(frozen=True)
class ModelFiles:
    """Where a model lies, and what it says of itself.

    Attributes:
      path: directory with `saved_model.pb`.
      version: number of the version, or "" for a flat export.
      description: features, label, signatures.
      state_width: numbers of a user state, or None where the model does not say.
    """

    path: str
    version: str
    description: ModelDescription
    state_width: int | None

    @classmethod
    def read(cls, path: str) -> "ModelFiles":
        """Reads MODEL_BASE (its latest version), MODEL_BASE/N or a flat export, without TensorFlow on a local disk.

        Raises:
          ExportError: if there is no SavedModel, or it was not exported by tfmeta.
        """
        path = str(path).rstrip("/")
        if not filesystem.exists(filesystem.join(path, "saved_model.pb")):
            versions = list_versions(path)
            if not versions:
                raise ExportError(f"A model requires saved_model.pb, or versions with one, in '{path}'; there is "
                                  "neither. Export one with 'tfmeta export'.")
            path = versions[max(versions)]
        name = filesystem.basename(path)
        documents = {}
        for document in ("feature_spec", "export"):
            file = filesystem.join(path, "assets.extra", f"{document}.json")
            if not filesystem.exists(file):
                raise ExportError(f"Batch scoring requires a model exported by tfmeta, '{path}' has no "
                                  f"assets.extra/{document}.json.")
            documents[document] = filesystem.read_text(file)
        description = ModelDescription.parse(path, version=None, **documents)
        width = (json.loads(documents["export"]).get("state") or {}).get("width")
        return cls(path, name if name.isdigit() else "", description, width)

    def require_signature(self, name: str, *, mode: str) -> None:
        """Raises ExportError unless the model has a signature that a mode calls."""
        if name not in self.description.signatures:
            raise ExportError(f"Mode '{mode}' requires signature '{name}', model '{self.path}' has "
                              f"{', '.join(sorted(self.description.signatures))}.")
