"""An artifact as a step sees it."""

import dataclasses
from typing import Any

# Where KFP's launcher keeps local copies of what it cannot mount.
_LOCAL_ROOTS = {"minio://": "/minio/", "s3://": "/s3/", "oci://": "/oci/"}


@dataclasses.dataclass
class StepArtifact:
    """Something that a step reads or writes; engines' own artifacts have the same two attributes.

    Attributes:
      path: of the file or directory, on any file system that `tf.io.gfile` opens.
      metadata: what the engine shows and hands on; a step adds to that of its outputs.
    """

    path: str
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    @staticmethod
    def path_of(uri: str) -> str:
        """Returns where a step finds the artifact of a URI: itself, or the launcher's local copy."""
        for scheme, root in _LOCAL_ROOTS.items():
            if uri.startswith(scheme):
                return root + uri.removeprefix(scheme)
        return uri
