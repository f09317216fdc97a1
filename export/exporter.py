"""Exports a recommender as a SavedModel that stock TensorFlow Serving hosts."""

import hashlib
import json
import logging
import os
from typing import Literal

import pandas as pd
import tensorflow as tf

from export import golden, metadata, model_card, model_card_text, warmup
from export.compatibility import require_compatible
from export.golden_requests import GoldenRequests
from export.influence.influence import Influence
from export.interface import Interface
from export.items import item_titles
from export.items.catalogue_items import CatalogueItems, catalogue_ids
from export.items.request_items import RequestItems
from export.retrieval import embeddings
from export.retrieval.retriever import RETRIEVALS, is_available
from export.saved_model import ServingModule
from export.signatures import DEFAULT_SIGNATURES, ITEM_FEATURES
from export.signatures.context import SignatureContext
from export.signatures.metadata import without_ids
from export.user_state import LARGE_STATE, UserState
from export.verify import require_passed, verify
from tfmeta.config import require
from tfmeta.data.feature_transform import FeatureTransform
from tfmeta.data.raw_columns import raw_columns
from tfmeta.errors import ConfigError, DataError, ExportError
from tfmeta.io import filesystem
from tfmeta.models.recommender import Recommender
from tfmeta.serving.model_versions import list_versions

_LOG = logging.getLogger("export.exporter")
SUPPORT_BOUND = 100
LAYOUTS = ("versioned", "flat")
EXTRAS = "assets.extra"
# Allowed difference between the served graph and the recommender, by compute dtype, relative to 1 + |score|.
_TOLERANCE = {"float32": 1e-4, "float64": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}


def export_model(recommender: Recommender, *, items: pd.DataFrame, model_base: str, version: int | None = None,
                 item_features: Literal["catalogue", "request"] = "catalogue",
                 default_signature: Literal["score", "adapt_and_score"] = "score",
                 layout: Literal["versioned", "flat"] = "versioned", support_bound: int = SUPPORT_BOUND,
                 check: bool = True, run: dict | None = None, compatible_with: str | None = None,
                 retrieval: Literal["auto", "exact", "none"] = "auto", top_k: int = 100, diversity: float = 0.0,
                 item_embeddings: str | None = None, batch_sizes: tuple[int, ...] = warmup.BATCH_SIZES) -> str:
    """Writes `MODEL_BASE/<version>/`, verified, or nothing.

    On a local disk the directory appears by a rename; on other file systems `saved_model.pb` is written last. A
    server that polls the base path never sees half a model.

    Args:
      recommender: with its trained weights.
      items: the raw catalogue, one row an item: the column `item_id` and the item features (`PreparedData.items`).
      model_base: base path, on any file system; with layout `flat` the model's own directory.
      version: version number; None takes the one after the highest.
      item_features: `catalogue` encodes the items at export, and a request carries ids only; with `request` it
        carries the features.
      default_signature: what `serving_default` is.
      layout: `versioned` or `flat`.
      support_bound: support rows kept per task, the last ones.
      check: verify in a second process before the directory appears.
      run: `run`, `training_config`, `metrics` (its evaluation) and `data` (the prepared directory's summary) of a
        training run, for what lies beside the graph.
      compatible_with: directory of a model whose clients must be able to go on with this one.
      retrieval: whether there are signatures that find the best items of the catalogue, see
        `export.retrieval.retriever.is_available`.
      top_k: items that they return.
      diversity: weight of maximal marginal relevance in their lists, 0 (best first) to 1.
      item_embeddings: file to write the items' vectors to for an index elsewhere, see `export.retrieval.embeddings`;
        `beside` puts it beside the graph.
      batch_sizes: those that the server's request batching makes, ascending: each signature is warmed up at each.

    Returns:
      the model's directory.

    Raises:
      ConfigError: if an option is not one of those above.
      ExportError: if the version exists, the catalogue cannot be used, clients of `compatible_with` would break, or
        verification fails.
    """
    require(item_features in ITEM_FEATURES, "item_features", f"one of {ITEM_FEATURES}", item_features)
    require(default_signature in DEFAULT_SIGNATURES, "default_signature", f"one of {DEFAULT_SIGNATURES}",
            default_signature)
    require(layout in LAYOUTS, "layout", f"one of {LAYOUTS}", layout)
    require(isinstance(support_bound, int) and support_bound >= 1, "support_bound", "at least 1", support_bound)
    require(retrieval in RETRIEVALS, "retrieval", f"one of {RETRIEVALS}", retrieval)
    require(len(batch_sizes) > 0 and min(batch_sizes) >= 1, "batch_sizes", "sizes of at least 1", batch_sizes)
    require(isinstance(top_k, int) and top_k >= 1, "top_k", "at least 1", top_k)
    require(0 <= diversity <= 1, "diversity", "a weight from 0 to 1", diversity)
    if retrieval == "exact" and item_features != "catalogue":
        raise ConfigError("'retrieval' exact requires 'item_features' catalogue: lists are made of items that the "
                          "graph knows.")
    if item_embeddings:
        embeddings.require_index(recommender)
    before = Interface.read(compatible_with) if compatible_with else None
    target = _target(str(model_base).rstrip("/"), version, layout)
    existed = filesystem.exists(target) and (not filesystem.is_dir(target) or bool(filesystem.listdir(target)))
    try:
        with filesystem.atomic_directory(target, last=("saved_model.pb",)) as directory:
            # On the processor, like the server, whatever device trained the model.
            with tf.device("/CPU:0"):
                _write(directory, recommender, items=items, item_features=item_features, run=run or {},
                       default_signature=default_signature, support_bound=support_bound,
                       model_name=filesystem.basename(str(model_base)), retrieval=retrieval, top_k=top_k,
                       diversity=diversity, batch_sizes=batch_sizes)
                if item_embeddings == embeddings.BESIDE:
                    embeddings.write(os.path.join(directory, EXTRAS, embeddings.FILE), recommender, items)
            if before is not None:
                require_compatible(before, Interface.read(directory))
            if check:
                require_passed(target, verify(directory))
            if item_embeddings and item_embeddings != embeddings.BESIDE:
                embeddings.write(item_embeddings, recommender, items)
            hashes = _hashes(directory)
        if filesystem.is_remote(target):
            _compare(target, hashes)
    except BaseException as error:
        if filesystem.is_remote(target) and not existed:
            filesystem.remove_tree(target)
        if isinstance(error, DataError) and existed:
            raise ExportError(str(error)) from None
        raise
    return target


def _target(model_base: str, version: int | None, layout: str) -> str:
    if layout == "flat":
        if version is not None:
            raise ExportError(f"Layout 'flat' has no versions, received version {version}. Leave it out, or use "
                              "layout 'versioned'.")
        return model_base
    known = list_versions(model_base)
    if version is None:
        return filesystem.join(model_base, str(max(known, default=0) + 1))
    if version < 1:
        raise ExportError(f"A version requires a number of at least 1, received {version}.")
    if version in known:
        raise ExportError(f"Version {version} exists already in '{model_base}'. Versions are never overwritten: "
                          f"choose another, or leave it out for {max(known) + 1}.")
    return filesystem.join(model_base, str(version))


def _write(directory: str, recommender: Recommender, *, items: pd.DataFrame, item_features: str, run: dict,
           default_signature: str, support_bound: int, model_name: str, retrieval: str, top_k: int,
           diversity: float, batch_sizes: tuple[int, ...]) -> None:
    spec = recommender.feature_spec
    ids = catalogue_ids(recommender, items)
    by_id = item_features == "catalogue"
    source = CatalogueItems(recommender, items) if by_id else RequestItems(recommender)
    fingerprint = metadata.fingerprint(recommender)
    context = SignatureContext(recommender=recommender, users=FeatureTransform(spec.user_features), items=source,
                               support_bound=support_bound, fingerprint=fingerprint, retrieval=retrieval, top_k=top_k,
                               diversity=diversity)
    run = dict(run)
    evaluation, data = run.pop("metrics", None), run.pop("data", None)
    documents = {}

    def describe(signatures: dict) -> dict[str, str]:
        described = metadata.describe(
            recommender, signatures=signatures, item_features=item_features, support_bound=support_bound,
            default_signature=default_signature, run={**run, "metrics": "evaluation.json" if evaluation else None},
            catalogue_size=len(ids) if by_id else None,
            catalogue_sha256=hashlib.sha256("\0".join(map(str, ids.tolist())).encode()).hexdigest() if by_id else None)
        described["state"] = UserState(recommender).describe()
        lists = by_id and is_available(recommender, retrieval=retrieval)
        described["retrieval"] = {"top_k": top_k, "diversity": diversity} if lists else None
        influence = Influence(recommender, support_bound=support_bound)
        described["influence"] = {"method": influence.method, "exact": influence.exact}
        documents.update(feature_spec=without_ids(spec).to_json(),
                         export=json.dumps(described, indent=2, sort_keys=True, allow_nan=False))
        return documents

    module = ServingModule(context, default_signature=default_signature, documents=describe)
    module.save(directory)
    described = json.loads(documents["export"])

    extras = os.path.join(directory, EXTRAS)
    os.makedirs(extras, exist_ok=True)
    requests = GoldenRequests(recommender, items, item_features=item_features, support_bound=support_bound,
                              fingerprint=fingerprint, documents=documents, top_k=top_k, diversity=diversity)
    cases = golden.golden_cases(requests, tuple(k for k in module.description if k != "serving_default"))
    tolerance = _TOLERANCE.get(recommender.model.compute_dtype, 1e-4)
    filesystem.write_bytes(os.path.join(extras, golden.FILE), golden.to_bytes(
        cases, tolerance=tolerance, default_signature=default_signature))
    warmup.write_warmup(
        os.path.join(extras, warmup.FILE), model_name=model_name, signatures=module.description, feature_spec=spec,
        item_features=source.features, state_model=fingerprint, support_width=support_bound,
        batch_sizes=batch_sizes, catalogue=raw_columns(items, source.features, rename={spec.item_id.name: "item_id"}))
    if evaluation:
        filesystem.write_text(os.path.join(extras, "evaluation.json"), json.dumps(evaluation))
    filesystem.write_text(os.path.join(extras, "feature_spec.json"), spec.to_json())
    if by_id:
        item_titles.write_titles(os.path.join(extras, item_titles.FILE), items, feature_spec=spec)
    filesystem.write_text(os.path.join(extras, "export.json"), documents["export"])
    card = model_card.build_card(described, feature_spec=spec, evaluation=evaluation, data=data)
    filesystem.write_text(os.path.join(extras, model_card.FILE), json.dumps(card, indent=2, allow_nan=False))
    filesystem.write_text(os.path.join(extras, model_card_text.FILE), model_card_text.to_markdown(card))
    if described["state"]["width"] > LARGE_STATE:
        _LOG.warning("A user state of this model has %d numbers; states above %d are as large as many interactions. "
                     "A smaller scope, such as user_vector or last_layer, has smaller ones.",
                     described["state"]["width"], LARGE_STATE)


def _hashes(directory: str) -> dict[str, str]:
    return {name: hashlib.sha256(filesystem.read_bytes(filesystem.join(directory, name))).hexdigest()
            for name in filesystem.walk(directory)}


def _compare(target: str, hashes: dict[str, str]) -> None:
    copied = _hashes(target)
    for name in sorted(set(hashes) | set(copied)):
        if hashes.get(name) != copied.get(name):
            raise ExportError(f"File '{name}' of '{target}' differs from what was written. Export again.")
