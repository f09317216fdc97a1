"""Golden requests: raw inputs with the answers of the recommender itself, computed outside the exported graph.

Each exported signature has a module of the same name in `export.golden_cases` with
`cases(requests: GoldenRequests) -> list[GoldenCase]`.
"""

import dataclasses
import importlib
import io
import json

import numpy as np

FILE = "golden.npz"


@dataclasses.dataclass(frozen=True)
class GoldenCase:
    """One request and its answer.

    Attributes:
      name: what the case is about.
      signature: key of the signature.
      inputs: raw arrays by input name.
      outputs: expected arrays by output name; an infinity is expected as such, NaN never.
    """

    name: str
    signature: str
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


def golden_cases(requests, signatures: tuple[str, ...]) -> list[GoldenCase]:
    """Returns the cases of the given signatures.

    Args:
      requests: `GoldenRequests` of the export.
      signatures: keys.
    """
    cases = []
    for key in signatures:
        cases += importlib.import_module(f"export.golden_cases.{key}").cases(requests)
    return cases


def to_bytes(cases: list[GoldenCase], *, tolerance: float, default_signature: str) -> bytes:
    """Packs cases into an npz file: arrays `<case>/in/<name>` and `<case>/out/<name>`, and the index in JSON.

    Args:
      cases: to pack.
      tolerance: difference allowed, relative to 1 + |score|.
      default_signature: what `serving_default` must answer like.
    """
    arrays, index = {}, []
    for number, case in enumerate(cases):
        binary = []
        for part, values in (("in", case.inputs), ("out", case.outputs)):
            for name, value in values.items():
                if value.dtype == object:
                    # Numbers instead of objects, so that no reader has to unpickle: bytes one after the other, and
                    # where each value ends.
                    binary.append(f"{part}/{name}")
                    flat = [v if isinstance(v, bytes) else str(v).encode("utf-8") for v in value.ravel().tolist()]
                    arrays[f"{number}/{part}/{name}"] = np.cumsum([len(v) for v in flat]).reshape(value.shape)
                    arrays[f"{number}/bytes/{part}/{name}"] = np.frombuffer(b"".join(flat), np.uint8)
                else:
                    arrays[f"{number}/{part}/{name}"] = value
        index.append({"name": case.name, "signature": case.signature, "binary": binary})
    arrays["index"] = np.array(json.dumps({"tolerance": tolerance, "default": default_signature, "cases": index}))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
