"""The whole of cleaning: chunks in, `RawData` out."""

from collections.abc import Iterable

import numpy as np

from tfmeta.data.cleaning.chunk import Chunk
from tfmeta.data.cleaning.id_table import IdTable
from tfmeta.data.cleaning.interaction_cleaner import InteractionCleaner
from tfmeta.data.cleaning.rejects import Rejects
from tfmeta.data.cleaning.side_cleaner import SideCleaner
from tfmeta.data.interactions import Interactions
from tfmeta.data.raw_data import RawData
from tfmeta.data.schema import Schema
from tfmeta.data.too_many_bad_rows_error import TooManyBadRowsError
from tfmeta.errors import DataError


def assemble(schema: Schema, *, interactions: Iterable[Chunk], users: Iterable[Chunk] | None = None,
             items: Iterable[Chunk] | None = None, features: str = "full") -> RawData:
    """Cleans chunks of raw rows; one chunk at a time is held.

    Args:
      schema: columns, features and the share of bad rows that is allowed.
      interactions: chunks of the interactions files, in order.
      users, items: chunks of the users and items files; None where there are none, so that ids and features come
        from the interactions.
      features: see `RawData.features`.

    Raises:
      DataError: if a column is missing or of a kind that cannot be read.
      TooManyBadRowsError: if in one kind of file the share of rows left out is above `schema.max_bad_share`, or
        no interaction is left.
    """
    rejects = Rejects()
    counts: dict = {"features": features}
    sides = {"user": SideCleaner(schema, "user", rejects=rejects),
             "item": SideCleaner(schema, "item", rejects=rejects)}
    frames, tables = {}, {}
    for name, side, chunks in (("users", sides["user"], users), ("items", sides["item"], items)):
        counts[f"{name}_file"] = None
        tables[name] = side.ids
        if chunks is not None:
            for chunk in chunks:
                side.add(chunk)
            frames[name], ids, _ = side.finish()
            tables[name] = IdTable(schema.side(side.side)[1], known=ids)
            counts[f"{name}_file"] = side.counts()
            _check_share(schema, name, side.read, rejects, counts)
    cleaner = InteractionCleaner(
        schema, users=tables["users"], items=tables["items"], rejects=rejects,
        sides=tuple(s for name, s in (("users", sides["user"]), ("items", sides["item"])) if name not in frames))
    for chunk in interactions:
        cleaner.add(chunk)
    places = {}
    for name, side in (("users", sides["user"]), ("items", sides["item"])):
        if name not in frames:
            frames[name], _, places[name] = side.finish()
    kept = cleaner.finish(places.get("users"), places.get("items"))
    _count(counts, kept, cleaner, rejects, frames)
    _check_share(schema, "interactions", cleaner.read, rejects, counts)
    if not len(kept):
        if not cleaner.read:
            raise DataError("Interactions require at least one row, received none.")
        reasons = _reasons(rejects, "interactions")
        raise TooManyBadRowsError(f"No interaction is left of {cleaner.read} rows: {reasons}.",
                                  rejected=rejects.frame(), counts=counts)
    return RawData(schema=schema, users=frames["users"], items=frames["items"], interactions=kept,
                   rejected=rejects.frame(), counts=counts, features=features)


def _count(counts: dict, kept: Interactions, cleaner: InteractionCleaner, rejects: Rejects, frames: dict) -> None:
    bad_features: dict[str, int] = {}
    for reasons in rejects.by_reason.values():
        for reason, number in reasons.items():
            if reason.startswith("bad_feature:"):
                name = reason.partition(":")[2]
                bad_features[name] = bad_features.get(name, 0) + number
    counts |= {
        "read": cleaner.read, "kept": len(kept), "duplicates": cleaner.duplicates,
        "rejected": rejects.rows("interactions"),
        "rejected_by_reason": {r: n for r, n in sorted(rejects.by_reason["interactions"].items())
                               if not r.startswith("bad_feature:")},
        "bad_features": dict(sorted(bad_features.items())),
        "users": len(frames["users"]), "items": len(frames["items"]),
        "users_with_interactions": len(np.unique(kept.user_row)),
        "items_with_interactions": len(np.unique(kept.item_row))}


def _reasons(rejects: Rejects, kind: str) -> str:
    return ", ".join(f"{reason} {number}" for reason, number in rejects.by_reason[kind].most_common()
                     if not reason.startswith("bad_feature:")) or "none rejected"


def _check_share(schema: Schema, kind: str, read: int, rejects: Rejects, counts: dict) -> None:
    bad = rejects.rows(kind)
    if not bad or bad <= schema.max_bad_share * read:
        return
    file, row, reason, content = rejects.first(kind)
    content = content if len(content) <= 200 else content[:200] + "..."
    raise TooManyBadRowsError(
        f"{bad} of {read} rows of the {kind} are bad ({bad / read:.1%}); max_bad_share allows "
        f"{schema.max_bad_share:.1%}. Reasons: {_reasons(rejects, kind)}. First: file '{file}', data row {row}, "
        f"{reason}: {content}. Mend the rows, correct the schema or raise max_bad_share.",
        rejected=rejects.frame(), counts=counts)
