"""Ids as integer codes."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmeta.data.cleaning.values import to_integers, to_strings


class IdTable:
    """Gives every id of one side a code, in the order of first sight, or by a closed list.

    Args:
      dtype: `string` or `int64`.
      known: the only ids that there are; None to take every new one in.
    """

    def __init__(self, dtype: str, *, known: pa.Array | None = None):
        self._dtype = dtype
        self._codes: dict[str | int, int] = {}
        if known is not None:
            self._codes = {value: i for i, value in enumerate(known.to_pylist())}
        self.closed = known is not None

    def __len__(self) -> int:
        return len(self._codes)

    def read(self, array: pa.Array, name: str) -> tuple[pa.Array, np.ndarray, np.ndarray]:
        """Converts a column `[n]`.

        Returns:
          (ids `[n]` string or int64 with nulls, missing `[n]` bool, bad `[n]` bool). An int64 -1 is missing; a
          string with a replacement character is bad, because its bytes were not of the declared encoding.
        """
        if self._dtype == "int64":
            values, present, good = to_integers(array, name)
            present &= ~(good & (values == -1))
            return pa.array(values), ~present, present & ~good
        strings = to_strings(array, name)
        encoded = strings.dictionary_encode()
        missing = strings.is_null().to_numpy(zero_copy_only=False)
        damaged = pc.match_substring(encoded.dictionary, "\N{REPLACEMENT CHARACTER}")
        if not pc.any(damaged).as_py():
            return strings, missing, np.zeros(len(strings), bool)
        bad = damaged.to_numpy(zero_copy_only=False)[encoded.indices.fill_null(0).to_numpy()]
        return strings, missing, bad & ~missing

    def encode(self, ids: pa.Array) -> np.ndarray:
        """Returns `[n]` int32 codes of ids without nulls; -1 for one that a closed table does not know."""
        encoded = ids.dictionary_encode()
        codes = self._codes
        # One step per distinct id of the chunk, not per row.
        if self.closed:
            distinct = [codes.get(value, -1) for value in encoded.dictionary.to_pylist()]
        else:
            distinct = [codes.setdefault(value, len(codes)) for value in encoded.dictionary.to_pylist()]
        return np.asarray(distinct, np.int32)[encoded.indices.to_numpy()]

    def sorted(self) -> tuple[pa.Array, np.ndarray]:
        """Returns (ids `[U]` in ascending order, `[U]` int32: code -> place in that order)."""
        ids = pa.array(list(self._codes), pa.int64() if self._dtype == "int64" else pa.string())
        order = pc.sort_indices(ids).to_numpy()
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        return ids.take(pa.array(order)), place
