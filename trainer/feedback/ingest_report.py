"""What an ingest did."""

import dataclasses
from collections import Counter
from typing import Any


@dataclasses.dataclass(frozen=True)
class IngestReport:
    """Counts of one ingest; `read` = `taken` + `duplicates` + the sum of `quarantined`.

    Attributes:
      read: rows read; of rows with lists, a row per candidate.
      taken: events that are new in the log, or rows of the users' or items' table.
      duplicates: events that the log had (the rows of files that it knows among them); of users or items, rows that
        a later one replaced.
      quarantined: reason -> rows left out.
      replaced: `bad_feature:<name>` -> values taken as missing, in rows that were kept.
      partitions: days (`YYYY-MM-DD`) that got events, in order.
      files: sources read or recognised.
      known_files: those that the log had taken in before.
      unreadable: file -> why nothing of it was taken.
      first_bad: (file, 0-based data row, reason, the row as JSON) of the first row left out, or None.
    """

    read: int = 0
    taken: int = 0
    duplicates: int = 0
    quarantined: dict[str, int] = dataclasses.field(default_factory=dict)
    replaced: dict[str, int] = dataclasses.field(default_factory=dict)
    partitions: tuple[str, ...] = ()
    files: int = 0
    known_files: int = 0
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)
    first_bad: tuple[str, int, str, str] | None = None

    def __add__(self, other: "IngestReport") -> "IngestReport":
        return IngestReport(
            read=self.read + other.read, taken=self.taken + other.taken,
            duplicates=self.duplicates + other.duplicates,
            quarantined=_sum(self.quarantined, other.quarantined), replaced=_sum(self.replaced, other.replaced),
            partitions=tuple(sorted({*self.partitions, *other.partitions})), files=self.files + other.files,
            known_files=self.known_files + other.known_files, unreadable={**self.unreadable, **other.unreadable},
            first_bad=self.first_bad or other.first_bad)

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON has it."""
        values = dataclasses.asdict(self)
        values["partitions"] = list(self.partitions)
        values["first_bad"] = None if self.first_bad is None else dict(
            zip(("file", "row", "reason", "content"), self.first_bad, strict=True))
        return values


def _sum(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    return dict(sorted((Counter(first) + Counter(second)).items()))
