"""Steps that are done once."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from tfmeta.io import filesystem


class RefreshSteps:
    """Remembers in `FOLDER/<name>.json` what a step came to, and for which inputs.

    A step whose inputs are those of its record is not repeated. One that was cut off is made again, with the same plan;
    one that was made from other inputs is cleaned away first.

    Args:
      folder: of the records.
    """

    def __init__(self, folder: str):
        self._folder = folder

    def do(self, name: str, inputs: Any, make: Callable[[Any], dict[str, Any]], *,
           plan: Callable[[], Any] | None = None, clean: Callable[[], None] | None = None) -> dict[str, Any]:
        """Returns the step's result, JSON-able.

        Args:
          name: of the step.
          inputs: all that decides the result, JSON-able.
          make: makes it; called with the plan. May have been cut off anywhere before.
          plan: what is settled before anything is made, and kept over interruptions; JSON-able.
          clean: removes what was made from other inputs.
        """
        path = filesystem.join(self._folder, f"{name}.json")
        digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode("utf-8")).hexdigest()
        record = self._read(path)
        if record is not None and record["inputs"] != digest:
            if clean is not None:
                clean()
            record = None
        if record is None:
            record = {"inputs": digest, "plan": plan() if plan else None, "result": None}
            self._write(path, record)
        if record["result"] is None:
            record["result"] = make(record["plan"])
            self._write(path, record)
        return record["result"]

    def _read(self, path: str) -> dict[str, Any] | None:
        return json.loads(filesystem.read_text(path)) if filesystem.exists(path) else None

    def _write(self, path: str, record: dict[str, Any]) -> None:
        filesystem.makedirs(self._folder)
        filesystem.write_text(path, json.dumps(record, indent=2))
