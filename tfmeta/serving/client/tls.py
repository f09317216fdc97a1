"""Certificates of a connection."""

import dataclasses
import ssl

from tfmeta.config import require
from tfmeta.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Tls:
    """An encrypted connection; the server's certificate is always checked.

    Attributes:
      root_cert: PEM file of the authorities to trust; None takes those of the system.
      client_cert, client_key: PEM files with which the client proves who it is; both or none.
      server_name: name to expect in the server's certificate where it is not that of the address.
    """

    root_cert: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    server_name: str | None = None

    def __post_init__(self):
        require((self.client_cert is None) == (self.client_key is None), "tls.client_cert",
                "client_cert and client_key, or neither", (self.client_cert, self.client_key))

    def grpc_credentials(self):
        """Returns grpc.ChannelCredentials; ConfigError names a file that cannot be read."""
        import grpc

        return grpc.ssl_channel_credentials(_read(self.root_cert), _read(self.client_key), _read(self.client_cert))

    def ssl_context(self) -> ssl.SSLContext:
        """Returns the context of an HTTPS connection; ConfigError names a file that cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.root_cert)
            if self.client_cert:
                context.load_cert_chain(self.client_cert, self.client_key)
        except (OSError, ssl.SSLError) as error:
            files = [f for f in (self.root_cert, self.client_cert, self.client_key) if f]
            raise ConfigError(f"TLS requires PEM files, received {files}: {error}.") from None
        return context


def _read(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"TLS requires a PEM file, received '{path}': {error.strerror}.") from None
