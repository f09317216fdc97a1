"""From a model's directory to the next version below a base path."""

from tfmeta.errors import ExportError
from tfmeta.io import filesystem
from tfmeta.serving.model_versions import list_versions

_GRAPH = "saved_model.pb"


def publish(source: str, *, model_base: str) -> tuple[str, int]:
    """Copies a SavedModel to `MODEL_BASE/<highest version + 1>`, verified, or leaves nothing there.

    On a local disk the directory appears by a rename; on other file systems `saved_model.pb` is written last. A server
    that polls the base path never sees half a model.

    Args:
      source: the model's directory.
      model_base: base path of a server, on any file system.

    Returns:
      (the version's directory, the version).

    Raises:
      ExportError: if there is no model, or the copy fails verification.
    """
    from export.verify import require_passed, verify

    if not filesystem.exists(filesystem.join(source, _GRAPH)):
        raise ExportError(f"A SavedModel is required to publish, '{source}' has no {_GRAPH}.")
    version = max(list_versions(model_base), default=0) + 1
    target = filesystem.join(model_base, str(version))
    with filesystem.atomic_directory(target, last=(_GRAPH,)) as directory:
        filesystem.copy_tree(source, directory)
        require_passed(target, verify(directory))
    return target, version
