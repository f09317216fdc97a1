"""Whether clients of one exported model can go on with another: a comparison of their signatures.

Only `saved_model.pb` is read, so it works on any SavedModel and costs no loading. What signatures cannot say (the
label's unit, the item mode) is compared where both models have the `export.json` of `tfmeta export` beside the graph.
"""

from typing import Any

from export.interface import Interface, Tensor
from tfmeta.errors import ExportError

DEFAULT = "serving_default"
# Stands in a line for the signatures that it is about; no name has such a character.
_SIGNATURES = "\0"


def breaking_changes(old: Interface, new: Interface) -> list[str]:
    """Returns one line for each change that breaks a client of `old`; empty if it can go on with `new`.

    New signatures, new outputs and inputs that accept more than before break nothing. The same change of several
    signatures is one line.
    """
    lines = _described_changes(old.described, new.described)
    changes: dict[str, list[str]] = {}
    default_changed = any(line.startswith(f"'{DEFAULT}' was") for line in lines)
    for key, before in old.signatures.items():
        if key == DEFAULT and default_changed:
            continue  # Its inputs differ because it is another signature, which has been said.
        after = new.signatures.get(key)
        if after is None:
            lines.append(f"signature '{key}' is gone")
            continue
        if before.method != after.method:
            lines.append(f"signature '{key}' has the method '{after.method}' instead of '{before.method}'")
        for change in (*_part("input", before.inputs, after.inputs), *_part("output", before.outputs, after.outputs)):
            changes.setdefault(change, []).append(f"'{key}'")
    return lines + [change.replace(_SIGNATURES, ", ".join(keys), 1) for change, keys in changes.items()]


def require_compatible(old: Interface, new: Interface) -> None:
    """Raises ExportError that names every breaking change."""
    lines = breaking_changes(old, new)
    if lines:
        raise ExportError(f"The model breaks clients of '{old.path}': {'; '.join(lines)}. Export under another model "
                          "name, or with --allow-breaking.")


def _described_changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    if not old or not new:
        return []
    lines = []
    for key, name in (("item_features", "the item mode"), ("task_side", "the side of the tasks")):
        if old.get(key) != new.get(key):
            lines.append(f"{name} was '{old.get(key)}' and is '{new.get(key)}'")
    before, after = (d.get("label") or {} for d in (old, new))
    if before.get("unit") != after.get("unit"):
        lines.append(f"the label's unit was '{before.get('unit')}' and is '{after.get('unit')}'")
    elif any(before.get(k) != after.get(k) for k in ("minimum", "maximum")):
        lines.append(f"the label's range was {_range(before)} and is {_range(after)}")
    if before.get("unit") == after.get("unit") and _score_unit(old) != _score_unit(new):
        lines.append(f"a score was a {_score_unit(old)} and is a {_score_unit(new)}")
    if old.get("default_signature") != new.get("default_signature"):
        lines.append(f"'{DEFAULT}' was '{old.get('default_signature')}' and is '{new.get('default_signature')}'")
    return lines


def _score_unit(described: dict[str, Any]) -> str | None:
    # Exports from before the field: every score of clicks was made a probability.
    by_label = {"rating": "rating", "click": "probability", "weight": "preference"}
    return described.get("score_unit") or by_label.get((described.get("label") or {}).get("unit"))


def _range(label: dict[str, Any]) -> str:
    return f"{label.get('minimum')} to {label.get('maximum')}"


def _part(part: str, old: dict[str, Tensor], new: dict[str, Tensor]) -> list[str]:
    """Returns what changed of the inputs or outputs, with `_SIGNATURES` for the signature."""
    lines = []
    gone = [name for name in old if name not in new]
    added = [name for name in new if name not in old]
    renamed = _renamed({n: old[n] for n in gone}, {n: new[n] for n in added})
    for name in gone:
        lines.append(f"{part} '{name}' of {_SIGNATURES} is now called '{renamed[name]}'" if name in renamed else
                     f"{part} '{name}' of {_SIGNATURES} is gone")
    for name in added:
        if part == "input" and not new[name].optional and name not in renamed.values():
            lines.append(f"input '{name}' of {_SIGNATURES} is new and mandatory ({new[name]})")
    for name in old:
        if name in new and (change := _change(part, old[name], new[name])):
            lines.append(f"{part} '{name}' of {_SIGNATURES} {change}")
    return lines


def _renamed(gone: dict[str, Tensor], added: dict[str, Tensor]) -> dict[str, str]:
    """Pairs a tensor that is gone with a new one of the same type and shape, where the choice is unique."""
    pairs = {}
    for name, tensor in gone.items():
        same = [other for other, candidate in added.items() if (candidate.dtype, candidate.shape)
                == (tensor.dtype, tensor.shape)]
        rivals = [n for n, t in gone.items() if (t.dtype, t.shape) == (tensor.dtype, tensor.shape)]
        if len(same) == len(rivals) == 1:
            pairs[name] = same[0]
    return pairs


def _change(part: str, old: Tensor, new: Tensor) -> str | None:
    if old.dtype != new.dtype:
        return f"was {old} and is {new}"
    if part == "input":
        if old.optional and not new.optional:
            return "has lost its default value"
        fits = _accepts(new.shape, old.shape)
    else:
        fits = _accepts(old.shape, new.shape)
    return None if fits else f"was {old} and is {new}"


def _accepts(wide: tuple[int | None, ...] | None, narrow: tuple[int | None, ...] | None) -> bool:
    """Whether every shape that `narrow` stands for is one of `wide`."""
    if wide is None:
        return True
    if narrow is None or len(wide) != len(narrow):
        return False
    return all(w is None or w == n for w, n in zip(wide, narrow, strict=True))
