"""Errors that a user can act on.

The command line prints these as one line and exits with status 2; anything else is a bug and shows a
traceback. Every message says what was required, what was received and how to fix it.
"""

import difflib


class TfmetaError(Exception):
    """Base of every error that is the caller's to mend."""


class ConfigError(TfmetaError):
    """A configuration, schema or command-line value is wrong."""


class DataError(TfmetaError):
    """Interactions, features or a prepared directory are wrong or incomplete."""


class RunError(TfmetaError):
    """A training run cannot start, continue or be read."""


class ExportError(TfmetaError):
    """A SavedModel cannot be written, or does not answer as it must."""


class ServingError(TfmetaError):
    """A server cannot start, or a request failed."""


def suggest(word: str, known) -> str:
    """Returns ` Did you mean 'x'?` for the known word nearest to `word`, else the list of known words."""
    known = sorted(str(k) for k in known)
    near = difflib.get_close_matches(str(word), known, n=1)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" Known: {', '.join(known) if known else 'none'}."
