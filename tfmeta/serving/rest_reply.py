"""A reply of the REST port."""

import dataclasses
import json

JSON = "application/json"


@dataclasses.dataclass(frozen=True)
class RestReply:
    """A reply: HTTP status, body and its type, and further headers."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, content, *, status: int = 200) -> "RestReply":
        """Returns a reply whose body is JSON."""
        return cls(status, json.dumps(content).encode("utf-8"))

    @classmethod
    def error(cls, message: str, *, status: int) -> "RestReply":
        """Returns the JSON object of an error."""
        return cls.of({"error": message}, status=status)
