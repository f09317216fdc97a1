"""The certificate that a server shows."""

import dataclasses
import ssl

from tfmeta.errors import ServingError
from tfmeta.io import filesystem


@dataclasses.dataclass(frozen=True)
class TlsFiles:
    """Paths of PEM files, read and checked when the server starts.

    Attributes:
      certificate: the server's certificate with its chain.
      key: its private key, without a pass phrase.
      client_ca: authorities whose client certificates are required; empty asks for none.
    """

    certificate: str
    key: str
    client_ca: str = ""

    def ssl_context(self) -> ssl.SSLContext:
        """Returns the context for HTTPS.

        Raises:
          ServingError: if a file is missing or no PEM, or key and certificate do not belong together.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # A pass phrase would be asked for on the terminal; an empty one fails instead.
            context.load_cert_chain(self.certificate, self.key, password="")
        except (OSError, ValueError) as error:
            raise ServingError(f"TLS requires a PEM certificate with its key (without a pass phrase), received "
                               f"'{self.certificate}' and '{self.key}': {_reason(error)}.") from None
        if self.client_ca:
            try:
                context.load_verify_locations(self.client_ca)
            except (OSError, ValueError) as error:
                raise ServingError(f"TLS requires PEM certificates of client authorities, received "
                                   f"'{self.client_ca}': {_reason(error)}.") from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def grpc_credentials(self):
        """Returns `grpc.ServerCredentials`; ServingError as `ssl_context`, because gRPC itself only logs."""
        import grpc

        self.ssl_context()
        return grpc.ssl_server_credentials(
            [(filesystem.read_bytes(self.key), filesystem.read_bytes(self.certificate))],
            root_certificates=filesystem.read_bytes(self.client_ca) if self.client_ca else None,
            require_client_auth=bool(self.client_ca))


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
