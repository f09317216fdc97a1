"""What a request can fail with, one class per group of status codes."""

from tfmeta.serving.request_error import RequestError

# Bits of the output `status`; see the signatures' documentation.
STATUS_BITS = {1: "a non-finite label was dropped", 2: "a non-finite feature was replaced",
               4: "the state belongs to another model", 8: "a length outside 0 to the width was clamped"}
OTHER_MODEL = 4


class NotFound(RequestError):
    """The server has no such model or version."""


class InvalidRequest(RequestError):
    """The model cannot take the request: a wrong name, type, shape or signature."""


class Unavailable(RequestError):
    """The server cannot be reached or is not ready."""


class DeadlineExceeded(RequestError):
    """The time given for the call has passed, retries included."""


class Exhausted(RequestError):
    """The server has more requests than it takes, or the message is too large."""


class AccessDenied(RequestError):
    """The token or the certificate is missing or not accepted."""


class StatusError(RequestError):
    """The server answered, but values of some rows were dropped, replaced or clamped, or a state was foreign.

    Attributes:
      rows: row of the request -> its `status`, for every row that is not 0.
    """

    def __init__(self, rows: dict[int, int]):
        super().__init__("DATA_LOSS", "; ".join(f"row {row}: {describe_status(bits)}" for row, bits in rows.items())
                         + ". Mend the request, or pass accept_status=True to take the result as it is.")
        self.rows = rows

    @property
    def stale_rows(self) -> list[int]:
        """Rows whose state is of another model: adapt again with the model that serves now."""
        return [row for row, bits in self.rows.items() if bits & OTHER_MODEL]


_CLASSES = {"NOT_FOUND": NotFound, "INVALID_ARGUMENT": InvalidRequest, "FAILED_PRECONDITION": InvalidRequest,
            "OUT_OF_RANGE": InvalidRequest, "UNAVAILABLE": Unavailable, "DEADLINE_EXCEEDED": DeadlineExceeded,
            "RESOURCE_EXHAUSTED": Exhausted, "UNAUTHENTICATED": AccessDenied, "PERMISSION_DENIED": AccessDenied}


def error_for(code: str, message: str) -> RequestError:
    """Returns the error of a status code, with the server's message; RequestError itself for the rarer codes."""
    return _CLASSES.get(code, RequestError)(code, message)


def describe_status(bits: int) -> str:
    """Returns the words of a `status`."""
    return " and ".join(text for bit, text in STATUS_BITS.items() if bits & bit) or f"status {bits}"
