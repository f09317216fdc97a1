"""What the page knows of one loaded version, and what it asks of it."""

import threading
import time
from typing import Any

import numpy as np

from tfmeta.errors import ServingError
from tfmeta.serving.client.calls import PredictReply
from tfmeta.serving.client.client_options import ClientOptions
from tfmeta.serving.client.errors import STATUS_BITS
from tfmeta.serving.client.model_description import DOCUMENTS, SIGNATURE, ModelDescription
from tfmeta.serving.client.request_batch import RequestBatch
from tfmeta.serving.page.item_titles import ItemTitles
from tfmeta.serving.page.page_request import RequestValues
from tfmeta.serving.request_error import RequestError

# Where a model makes no lists itself, as many of its items are scored.
SAMPLE = 500
# Vocabularies up to this length are written out for a form.
_SHORT = 300


class PageModel:
    """Describes a version for the page, and answers it.

    It keeps no reference to the servable, which every call brings along.

    Args:
      servable: a loaded version.

    Attributes:
      description: what its signature `metadata` says; None for a model of somebody else.
      lacks: why the page can do nothing with it, None if it can.
    """

    def __init__(self, servable):
        self._path, self._lock = servable.path, threading.Lock()
        self._titles: ItemTitles | None = None
        self.description, self.lacks = _describe(servable)
        self._values = RequestValues(self.description) if self.description else None

    @property
    def titles(self) -> ItemTitles:
        """The items that the version's directory names, read when they are first wanted."""
        with self._lock:
            if self._titles is None:
                self._titles = ItemTitles.read(self._path)
            return self._titles

    def describe(self, servable) -> dict[str, Any]:
        """Returns what the page needs to draw its forms."""
        about = {"model": servable.name, "version": servable.version, "lacks": self.lacks,
                 "signatures": sorted(name for name, signature in servable.signature_defs.items() if signature.inputs)}
        if self.description is None:
            return about
        spec, export = self.description.feature_spec, self.description.export
        label = spec.label
        influence = export.get("influence") or {}
        has = servable.signature_defs.keys()
        return {**about,
                "label": {"name": label.name, "unit": label.unit, "minimum": label.minimum, "maximum": label.maximum},
                # Exports from before the field: every score of clicks was a probability.
                "percent": export.get("score_unit", label.unit) in ("probability", "click"),
                "task_side": spec.task_side, "by_id": self.description.by_id,
                "support_bound": self.description.support_bound,
                "user_features": [_feature(f) for f in spec.user_features],
                "item_features": [_feature(f) for f in self.description.item_features[1:]],
                "items": len(self.titles), "names": self.titles.source,
                "lists": self._makes_lists(has), "explains": "explain" in has,
                "exact": bool(influence.get("exact")),
                "diversity": (export.get("retrieval") or {}).get("diversity", 0.0)}

    def search(self, text: str, *, count: int) -> list[dict]:
        """Finds items by title or id, see `ItemTitles.search`."""
        return self.titles.search(text, count=count)

    def lists(self, servable, *, user: dict, support: list, candidates: list, count: int, deadline: float
              ) -> dict[str, Any]:
        """Returns the best items before and after adaptation.

        Args:
          servable: the version.
          user, support, candidates: as `RequestValues` takes them. Without candidates they are the whole catalogue
            where the model has lists of it, else a sample of its items.
          count: length of the lists.
          deadline: `time.monotonic()` after which nothing more is run.

        Raises:
          RequestError: INVALID_ARGUMENT if there is nothing to choose from, and as `Servable.run`.
          DataError: if a value does not fit the model's features.
        """
        values = self._require()
        user, support = values.user(user), values.support(support)
        ids = [self._id_of(row) for row in support]
        given = bool(candidates)
        if given:
            source, pool = "given", values.items(candidates, where="the candidates")
        elif self._makes_lists(servable.signature_defs.keys()):
            source, pool = "catalogue", None
        else:
            source, pool = "sample", self._sample(values, exclude=set(ids))
        status = 0
        if pool is None:
            orders = []
            for signature, arguments in (("recommend", {"exclude": [row[0] for row in support]}),
                                         ("adapt_and_recommend", {"exclude": [], "support": support})):
                if orders and not support:
                    orders.append(orders[0])
                    continue
                outputs, bits = self._run(servable, signature, {"user": user, **arguments}, deadline)
                orders.append(outputs["item_ids"][0][:outputs["item_count"][0]].tolist())
                status |= bits
            pool = list(dict.fromkeys(_text(i) for order in orders for i in order[:count]))
            ranks = [{_text(item): rank for rank, item in enumerate(order, 1)} for order in orders]
        outputs, bits = self._run(servable, "adapt_and_score", {"user": user, "support": support, "candidates": pool},
                                  deadline) if pool else ({"scores": [np.zeros(0)], "base_scores": [np.zeros(0)]}, 0)
        status |= bits
        scores = {"before": outputs["base_scores"][0], "after": outputs["scores"][0]}
        if source != "catalogue":
            ranks = [{place: rank for rank, place in enumerate(np.argsort(-scores[s], kind="stable").tolist(), 1)}
                     for s in ("before", "after")]
        shown = [values.text_id(item) for item in pool]
        keys = pool if source == "catalogue" else range(len(pool))
        entries = [{"id": item, "title": title, "place": place if given else None,
                    "before": _number(scores["before"][place]), "after": _number(scores["after"][place]),
                    "rank_before": ranks[0].get(key), "rank_after": ranks[1].get(key)}
                   for place, (key, item, title) in enumerate(zip(keys, shown, self.titles.titles(shown),
                                                                  strict=True))]
        return {"version": servable.version, "source": source,
                "candidates": self._catalogue_size() if source == "catalogue" else len(pool),
                "ranked": len(ranks[1]), "notes": self._notes(status, support),
                "before": _best(entries, "rank_before", count), "after": _best(entries, "rank_after", count)}

    def influence(self, servable, *, user: dict, support: list, items: list, deadline: float) -> dict[str, Any]:
        """Returns how much each row of the support moved the score of each item.

        Args and Raises: as `lists`; `items` are those to explain.
        """
        values = self._require()
        user, support = values.user(user), values.support(support)
        items = values.items(items, where="the items")
        if not items:
            raise RequestError("INVALID_ARGUMENT", "'items' requires at least one item, received none.")
        outputs, bits = self._run(servable, "explain", {"user": user, "support": support, "candidates": items},
                                  deadline)
        names = [self._id_of(row) for row in support]
        return {"version": servable.version, "notes": self._notes(bits, support),
                "support": [{"id": i, "title": t} for i, t in zip(names, self.titles.titles(names), strict=True)],
                "items": [{"id": values.text_id(item), "before": _number(outputs["base_scores"][0][row]),
                           "after": _number(outputs["scores"][0][row]),
                           "influence": [_number(v) for v in outputs["influence"][0][row][:len(support)]]}
                          for row, item in enumerate(items)]}

    def _run(self, servable, signature: str, arguments: dict, deadline: float) -> tuple[dict, int]:
        """Runs a signature for one user; returns the outputs as `RequestBatch.answer`, and the status."""
        batch = RequestBatch(self.description, signature, arguments, options=ClientOptions())
        replies = []
        for call in batch.calls(servable.name, version=servable.version, label=None):
            absent = set(servable.signature(signature).inputs) - set(call.inputs)
            if absent:
                raise RequestError("FAILED_PRECONDITION", f"Signature '{signature}' wants {', '.join(sorted(absent))}, "
                                   "which its model's description does not name.")
            inputs = {name: _bytes(value) for name, value in call.inputs.items()}
            replies.append(PredictReply(servable.run(signature, inputs, deadline=deadline), servable.version))
        outputs = batch.answer(replies, accept_status=True)
        return outputs, int(outputs["status"][0])

    def _require(self) -> RequestValues:
        if self._values is None:
            raise RequestError("FAILED_PRECONDITION", self.lacks)
        return self._values

    def _makes_lists(self, signatures) -> bool:
        return self.description.by_id and {"recommend", "adapt_and_recommend"} <= set(signatures)

    def _sample(self, values: RequestValues, *, exclude: set[str]) -> list:
        if not self.description.by_id:
            raise RequestError("INVALID_ARGUMENT", "This model requires the items to choose from: it was exported "
                               "without a catalogue, and their features come with the request. Add candidates.")
        if not len(self.titles):
            raise RequestError("INVALID_ARGUMENT", "This model requires the items to choose from: its directory names "
                               "none. Add candidates by their ids.")
        return [values.item(i, where="the catalogue") for i in self.titles.sample(SAMPLE + len(exclude))
                if i not in exclude][:SAMPLE]

    def _catalogue_size(self) -> int:
        return (self.description.export.get("catalogue") or {}).get("items", len(self.titles))

    def _id_of(self, row: Any) -> str:
        return self._values.text_id(row if isinstance(row, dict) else row[0])

    def _notes(self, status: int, support: list) -> list[str]:
        notes = [f"In this request {text}." for bit, text in STATUS_BITS.items() if status & bit]
        bound = self.description.support_bound
        if bound and len(support) > bound:
            notes.append(f"The model uses the last {bound} of the {len(support)} entries.")
        return notes


def _describe(servable) -> tuple[ModelDescription | None, str | None]:
    """Returns the description, or what the model lacks."""
    definition = servable.signature_defs.get(SIGNATURE)
    wanted = "The page learns features, label and items from it. Models of 'tfmeta export' have it."
    if definition is None or set(definition.inputs) != {"document"} or "json" not in definition.outputs:
        return None, f"This model has no signature '{SIGNATURE}' of tfmeta. {wanted}"
    outputs = servable.run(SIGNATURE, {"document": np.array([d.encode() for d in DOCUMENTS], object)},
                           deadline=time.monotonic() + 30)
    spec, export = outputs["json"].ravel().tolist()
    try:
        description = ModelDescription.parse(servable.name, version=servable.version, feature_spec=spec, export=export)
    except ServingError as error:
        return None, f"{error} {wanted}"
    if "adapt_and_score" not in servable.signature_defs:
        return None, "This model has no signature 'adapt_and_score', without which nothing can adapt."
    return description, None


def _feature(feature) -> dict[str, Any]:
    words = feature.vocabulary
    return {"name": feature.name, "kind": feature.kind, "dtype": feature.dtype, "length": feature.length,
            "vocabulary": [str(w) for w in words] if words and len(words) <= _SHORT else None,
            "mean": round(feature.mean[0], 2) if feature.kind == "numeric" and feature.mean else None}


def _best(entries: list[dict], rank: str, count: int) -> list[dict]:
    return sorted((e for e in entries if e[rank] is not None and e[rank] <= count), key=lambda e: e[rank])


def _number(value) -> float | None:
    """A score for JSON, which has no word for what is not finite."""
    return float(value) if np.isfinite(value) else None


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _bytes(array: np.ndarray) -> np.ndarray:
    """Text as the bytes that a session takes."""
    if array.dtype != object:
        return array
    encoded = np.empty(array.size, object)
    encoded[:] = [v.encode("utf-8") if isinstance(v, str) else v for v in array.ravel()]
    return encoded.reshape(array.shape)
