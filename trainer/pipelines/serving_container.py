"""The container that serves an exported model on Vertex AI."""

import dataclasses
from typing import Any, Literal

from tfmeta.config import require

SERVING = ("tensorflow-serving", "vertex-prebuilt")
_IMAGES = {"tensorflow-serving": "tensorflow/serving:2.21.0",
           "vertex-prebuilt": "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"}
_NAME = "model"


@dataclasses.dataclass(frozen=True)
class ServingContainer:
    """What a model upload says of the container.

    Attributes:
      spec: ModelContainerSpec of Vertex AI's REST interface, the `containerSpec` of an UnmanagedContainerModel.
      layout: how the model has to lie, see `export_model`.
    """

    spec: dict[str, Any]
    layout: Literal["versioned", "flat"]


def serving_container(kind: str, *, image: str = "") -> ServingContainer:
    """Returns the container of a kind.

    `tensorflow-serving` is the stock server, which takes a base path with versions; Vertex AI pulls images from
    Artifact Registry only, so `image` names a mirror there. `vertex-prebuilt` is Google's own image, which takes the
    model itself and knows its routes.

    Args:
      kind: one of `SERVING`.
      image: another image of that kind; empty for the default.

    Raises:
      ConfigError: on another kind.
    """
    require(kind in SERVING, "serving", f"one of {', '.join(SERVING)}", kind)
    spec: dict[str, Any] = {"imageUri": image or _IMAGES[kind]}
    if kind == "vertex-prebuilt":
        return ServingContainer(spec, "flat")
    # Vertex AI sets AIP_STORAGE_URI to its copy of the artifact and expands $(...).
    spec |= {"command": ["tensorflow_model_server"],
             "args": ["--port=8500", "--rest_api_port=8501", f"--model_name={_NAME}",
                      "--model_base_path=$(AIP_STORAGE_URI)"],
             "ports": [{"containerPort": 8501}],
             "predictRoute": f"/v1/models/{_NAME}:predict", "healthRoute": f"/v1/models/{_NAME}"}
    return ServingContainer(spec, "versioned")
