"""Whether a server can be reached from other machines, and may be."""

import ipaddress

from tfmeta.errors import ServingError


def is_loopback(host: str) -> bool:
    """Whether an address to bind is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_protection(host: str, *, tls: bool, token: bool, insecure: bool) -> None:
    """Raises ServingError for a host that others reach without TLS and a token, unless that is asked for.

    Args:
      host: address to bind.
      tls, token: whether the server has them.
      insecure: the user said so.
    """
    if insecure or is_loopback(host) or (tls and token):
        return
    missing = " and ".join([name for name, there in (("TLS (--tls-cert, --tls-key)", tls),
                                                     ("a bearer token (--token-file)", token)) if not there])
    raise ServingError(f"Host '{host}' can be reached from other machines, which requires {missing}. Bind 127.0.0.1, "
                       "give them, or say --insecure where the network itself is trusted.")
