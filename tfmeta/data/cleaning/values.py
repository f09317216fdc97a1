"""Conversion of Arrow columns of any type to ids, numbers and times, value by value and without exceptions.

Every distinct string is converted once, by rules that look at nothing else, so the outcome for a value never
depends on its neighbours in a chunk.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tfmeta.errors import DataError

_INTEGER = r"^[+-]?[0-9]{1,18}(\.0*)?$"  # `7.0` is how a column of numbers with gaps is often written
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?$"
_NAN = r"^(?i)[+-]?nan$"
_INFINITE = r"^(?i)[+-]?inf(inity)?$"
# Whole floats below this are exact in float64, so a column of ints that became floats can be undone.
_EXACT = 2.0**53


def plain(array: pa.Array, name: str) -> pa.Array:
    """Decodes dictionaries and extension types; DataError where a column holds lists or records.

    Args:
      array: a column `[n]`.
      name: its name, for the message.
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_nested(array.type):
        raise DataError(f"Column '{name}' requires single values, received {array.type}.")
    return array


def to_strings(array: pa.Array, name: str) -> pa.Array:
    """Returns `[n]` string; null where missing or empty. Whole floats lose their `.0`."""
    array = plain(array, name)
    if pa.types.is_floating(array.type):
        array = _floats_to_strings(array)
    elif pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type) or (
            pa.types.is_fixed_size_binary(array.type)):
        array = pa.array([None if v is None else v.decode("utf-8", "replace") for v in array.to_pylist()],
                         pa.string())
    elif not pa.types.is_string(array.type):
        array = pc.cast(array, pa.string())
    return pc.if_else(pc.equal(array, ""), pa.scalar(None, pa.string()), array)


def to_integers(array: pa.Array, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (`[n]` int64, present, good): missing values are not present, unreadable ones not good."""
    array = plain(array, name)
    if pa.types.is_signed_integer(array.type) or pa.types.is_boolean(array.type):
        present = _present(array)
        return _numpy(pc.cast(array, pa.int64()), 0), present, present
    return _by_distinct(to_strings(array, name), _parse_integers, np.int64)


def to_floats(array: pa.Array, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (`[n]` float64, present, good): good ones are numbers, `nan` and `inf` among them."""
    array = plain(array, name)
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or (
            pa.types.is_decimal(array.type) or pa.types.is_boolean(array.type)):
        present = _present(array)
        if pa.types.is_boolean(array.type):
            array = pc.cast(array, pa.int8())
        return _numpy(pc.cast(array, pa.float64(), safe=False), np.nan), present, present
    return _by_distinct(to_strings(array, name), _parse_floats, np.float64)


def to_times(array: pa.Array, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (`[n]` int64, present, good): numbers rounded down, ISO 8601 and dates as unix seconds (UTC)."""
    array = plain(array, name)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        present = _present(array)
        seconds = pc.cast(pc.cast(array, pa.timestamp("s", tz=getattr(array.type, "tz", None)), safe=False),
                          pa.int64())
        return _numpy(seconds, 0), present, present
    if pa.types.is_signed_integer(array.type):
        present = _present(array)
        return _numpy(pc.cast(array, pa.int64()), 0), present, present
    if pa.types.is_floating(array.type):
        numbers = _numpy(pc.cast(array, pa.float64()), np.nan)
        present = ~np.isnan(numbers)  # NaN is how data frames spell missing
        values, good = _floor(numbers, present)
        return values, present, good
    return _by_distinct(to_strings(array, name), _parse_times, np.int64)


def _floor(values: np.ndarray, good: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    good = good & np.isfinite(values) & (np.abs(values) < 2.0**62)
    return np.floor(np.where(good, values, 0.0)).astype(np.int64), good


def _present(array: pa.Array) -> np.ndarray:
    return array.is_valid().to_numpy(zero_copy_only=False)


def _numpy(array: pa.Array, fill) -> np.ndarray:
    if array.null_count:
        array = array.fill_null(pa.scalar(fill, array.type))
    return array.to_numpy(zero_copy_only=False)


def _floats_to_strings(array: pa.Array) -> pa.Array:
    values = pc.cast(array, pa.float64())
    numbers = _numpy(values, np.nan)
    whole = np.isfinite(numbers) & (np.abs(numbers) < _EXACT)
    whole &= np.floor(np.where(whole, numbers, 0.5)) == numbers
    integers = pc.cast(pa.array(np.where(whole, numbers, 0.0).astype(np.int64)), pa.string())
    # NaN is how data frames spell missing.
    texts = pc.if_else(pa.array(np.isnan(numbers)), pa.scalar(None, pa.string()), pc.cast(values, pa.string()))
    return pc.if_else(pa.array(whole), integers, texts)


def _by_distinct(strings: pa.Array, parse: Callable, dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    encoded = strings.dictionary_encode()
    present = _present(strings)
    if not len(encoded.dictionary):
        return np.zeros(len(strings), dtype), present, np.zeros(len(strings), bool)
    values, good = parse(pc.utf8_trim_whitespace(encoded.dictionary))
    index = _numpy(encoded.indices, 0)
    return values[index], present, present & good[index]


def _matches(strings: pa.Array, pattern: str) -> np.ndarray:
    return pc.match_substring_regex(strings, pattern).to_numpy(zero_copy_only=False)


def _cast(strings: pa.Array, good: np.ndarray, dtype: pa.DataType) -> np.ndarray:
    """Casts the good ones; Arrow knows no leading plus."""
    kept = pc.utf8_ltrim(pc.if_else(pa.array(good), strings, "0"), "+")
    return pc.cast(kept, dtype).to_numpy(zero_copy_only=False)


def _parse_integers(strings: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    good = _matches(strings, _INTEGER)
    return _cast(pc.replace_substring_regex(strings, r"\.0*$", ""), good, pa.int64()), good


def _parse_floats(strings: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    number, infinite = _matches(strings, _NUMBER), _matches(strings, _INFINITE)
    values = _cast(strings, number, pa.float64()).astype(np.float64)
    return np.where(number, values, np.where(infinite, np.inf, np.nan)), number | infinite | _matches(strings, _NAN)


def _parse_times(strings: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    values, good = _parse_integers(strings)
    if not good.all():
        floats, number = _parse_floats(strings)
        floored, number = _floor(floats, number & ~good)
        values, good = np.where(number, floored, values), good | number
    if not good.all():
        rest = np.flatnonzero(~good)
        dates = pd.to_datetime(pd.Series(strings.take(pa.array(rest)).to_pylist(), dtype=object),
                               format="ISO8601", errors="coerce", utc=True)
        read = dates.notna().to_numpy()
        values[rest[read]] = dates[read].dt.as_unit("s").astype("int64").to_numpy()
        good[rest[read]] = True
    return values, good
