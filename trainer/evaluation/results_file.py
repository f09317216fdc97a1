"""Results on disk."""

import io
import json
from typing import Any

import pandas as pd

from tfmeta.errors import DataError
from tfmeta.io import filesystem
from trainer.evaluation.evaluation import Evaluation, committed_rows


def write_json(path: str, *, environment: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Writes one JSON object with `environment` and `rows`, a row a line."""
    head = json.dumps(environment, ensure_ascii=False, allow_nan=False)
    # Thousands of rows: without spaces they are a tenth shorter.
    body = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")) for row in rows)
    filesystem.write_text(path, f'{{"environment": {head},\n"rows": [\n{body}\n]}}\n')


def read_json(path: str) -> dict[str, Any]:
    """Reads what `write_json` wrote; DataError names a file that is something else."""
    try:
        content = json.loads(filesystem.read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"Results file '{path}' requires JSON: {error}") from None
    if not isinstance(content, dict) or not {"environment", "rows"} <= set(content):
        raise DataError(f"Results file '{path}' requires the keys environment and rows.")
    return content


def write_results(stem: str, evaluation: Evaluation, rows: list[dict[str, Any]], *,
                  environment: dict[str, Any]) -> None:
    """Writes the files of an evaluation.

        STEM.json            environment and the rows of `committed_rows`
        STEM_rows.parquet    all rows
        STEM.parquet         values per user, averaged over splits

    Args:
      stem: path without an ending, on any file system.
      evaluation: for the values per user.
      rows: of `evaluation.rows()`.
      environment: of `environment()`.
    """
    write_json(f"{stem}.json", environment=environment, rows=committed_rows(rows))
    frame = pd.DataFrame(rows)
    frame[["k", "seed"]] = frame[["k", "seed"]].astype(str)
    _write_parquet(f"{stem}_rows.parquet", frame)
    _write_parquet(f"{stem}.parquet", evaluation.per_user())


def _write_parquet(path: str, frame: pd.DataFrame) -> None:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    filesystem.write_bytes(path, buffer.getvalue())
