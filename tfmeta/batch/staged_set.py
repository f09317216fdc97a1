"""What identifies a set of staged splits."""

import hashlib
from collections.abc import Iterable


def staged_fingerprint(records: Iterable[dict]) -> str:
    """Returns a hash over the keys of staged splits, in any order."""
    return hashlib.sha256("\n".join(sorted(r["key"] for r in records)).encode()).hexdigest()
