"""The error of data that is too bad to go on with."""

import pandas as pd

from tfmeta.errors import DataError


class TooManyBadRowsError(DataError):
    """More bad rows than the schema allows.

    Attributes:
      rejected: all quarantined rows, `file, row, reason, content`, so that they can be written for inspection.
      counts: as `RawData.counts`.
    """

    def __init__(self, message: str, *, rejected: pd.DataFrame, counts: dict):
        super().__init__(message)
        self.rejected = rejected
        self.counts = counts
