"""The secret that callers of a protected server send."""

import hmac
from collections.abc import Iterable

from tfmeta.errors import ServingError
from tfmeta.io import filesystem

_SCHEME = "bearer "
_SHORTEST = 16


class BearerToken:
    """Compares `Authorization: Bearer TOKEN` with the server's token, in constant time.

    Args:
      token: at least 16 visible ASCII characters.

    Raises:
      ServingError: on a shorter token or one with other characters; it does not show the token.
    """

    def __init__(self, token: str):
        if len(token) < _SHORTEST or not all("!" <= c <= "~" for c in token):
            raise ServingError(f"A bearer token requires at least {_SHORTEST} visible ASCII characters without spaces, "
                               f"received one of {len(token)}. 'openssl rand -hex 32' makes one.")
        self._token = token.encode("ascii")

    @classmethod
    def read(cls, path: str) -> "BearerToken":
        """Reads the token from a file, without the white space around it; ServingError if it is none."""
        try:
            text = filesystem.read_text(path)
        except UnicodeDecodeError:
            raise ServingError(f"Token file '{path}' requires text, received other bytes.") from None
        try:
            return cls(text.strip())
        except ServingError as error:
            raise ServingError(f"Token file '{path}': {error}") from None

    def accepts(self, header: str | bytes | None) -> bool:
        """Whether the value of an `Authorization` header carries the token."""
        if isinstance(header, bytes):
            header = header.decode("latin-1")
        if header is None or header[:len(_SCHEME)].lower() != _SCHEME:
            return False
        return hmac.compare_digest(header[len(_SCHEME):].strip().encode("utf-8", "replace"), self._token)

    def accepts_call(self, metadata: Iterable[tuple[str, str | bytes]]) -> bool:
        """Whether the metadata of a gRPC call carry the token as `authorization`."""
        return any(key == "authorization" and self.accepts(value) for key, value in metadata)
