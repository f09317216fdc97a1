"""What a client knows of a model."""

import dataclasses
import functools
import json

from tfmeta.data.feature import Feature
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.errors import ConfigError, ServingError
from tfmeta.serving.client.errors import InvalidRequest
from tfmeta.serving.input_names import input_names

SIGNATURE = "metadata"
DOCUMENTS = ("feature_spec", "export")


@dataclasses.dataclass(frozen=True)
class ModelDescription:
    """A version of a model as its signature `metadata` describes it.

    Attributes:
      model: name on the server.
      version: the version described, None if the server did not say.
      feature_spec: features, label and ids.
      export: the content of the model's `export.json`: signatures, support bound, item mode, fingerprint and more.
    """

    model: str
    version: int | None
    feature_spec: FeatureSpec
    export: dict

    @classmethod
    def parse(cls, model: str, *, version: int | None, feature_spec: bytes | str, export: bytes | str
              ) -> "ModelDescription":
        """Reads the two JSON documents; ServingError if they are not those of an export."""
        try:
            spec = FeatureSpec.from_json(_text(feature_spec))
            content = json.loads(_text(export))
            if not isinstance(content, dict):
                raise ConfigError(f"'export' requires a mapping, received {content!r}.")
        except (ConfigError, ValueError) as error:
            raise ServingError(f"Model '{model}' requires a description that this version of tfmeta reads: {error}"
                               ) from None
        return cls(model, version, spec, content)

    @property
    def by_id(self) -> bool:
        """Whether a request names items by id alone, because their features are in the graph."""
        return self.export.get("item_features", "catalogue") == "catalogue"

    @property
    def item_features(self) -> tuple[Feature, ...]:
        """Features of an item that a request carries, the id first."""
        spec = self.feature_spec
        return (spec.item_id,) if self.by_id else (spec.item_id, *spec.item_features)

    @property
    def support_bound(self) -> int | None:
        """Support rows that the graph keeps, the last ones."""
        return self.export.get("support_bound")

    @property
    def fingerprint(self) -> str:
        """Fingerprint of weights, feature specification and learner: the `state_model` of user states."""
        return self.export.get("fingerprint", "")

    @property
    def signatures(self) -> dict:
        """Signature key -> `{"inputs": {name: {"dtype", "shape"}}, "outputs": ...}`."""
        return self.export.get("signatures", {})

    @functools.cached_property
    def names(self) -> dict[str, dict[str, str]]:
        """`user`, `support` or `query` -> feature name -> input name."""
        return {"user": input_names("user", self.feature_spec.user_features),
                **{side: input_names(side, self.item_features) for side in ("support", "query")}}

    def require_signature(self, name: str) -> None:
        """Raises InvalidRequest, with the words of a server, unless the model has a signature."""
        if self.signatures and name not in self.signatures:
            raise InvalidRequest("FAILED_PRECONDITION", f'Serving signature key "{name}" not found. Model '
                                 f"'{self.model}' has: {', '.join(sorted(self.signatures))}.")

    def encodes_like(self, other: "ModelDescription") -> bool:
        """Whether a request made for one is right for the other."""
        return self._encoding() == other._encoding()

    def _encoding(self) -> tuple:
        """What requests depend on; vocabularies and statistics are the graph's business."""
        spec = self.feature_spec
        features = (spec.user_id, spec.item_id, *spec.user_features, *spec.item_features)
        return ([(f.name, f.kind, f.dtype, f.length) for f in features], len(spec.user_features), spec.label.name,
                spec.label.unit, spec.title, self.by_id, self.support_bound)


def _text(document: bytes | str) -> str:
    return document.decode("utf-8") if isinstance(document, bytes) else document
