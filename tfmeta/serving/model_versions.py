"""Version directories of a model base path."""

from tfmeta.io import filesystem


def list_versions(model_base: str) -> dict[int, str]:
    """Returns version number -> directory of all numeric directories below a base path, ascending; empty if none."""
    if not filesystem.exists(model_base) or not filesystem.is_dir(model_base):
        return {}
    names = [n for n in filesystem.listdir(model_base) if n.isascii() and n.isdigit()]
    return {int(n): filesystem.join(model_base, n) for n in sorted(names, key=int)
            if filesystem.is_dir(filesystem.join(model_base, n))}
