"""How delimited text is read."""

import codecs
import dataclasses

from tfmeta.config import require


@dataclasses.dataclass(frozen=True)
class CsvOptions:
    """Options of delimited text files.

    Attributes:
      separator: between the columns. With more than one character there is no quoting.
      quote: quotes a value (doubled inside it, RFC 4180); None where the files have no quoting.
      encoding: of the text; bytes that it cannot decode make a bad row where they stand in an id.
      columns: column names of the interactions files where those have no header line; None: the first line.
      user_columns, item_columns: the same for the users and items files.
      null_values: texts that mean missing, besides the empty one.

    Raises:
      ConfigError: if a value cannot be used.
    """

    separator: str = ","
    quote: str | None = '"'
    encoding: str = "utf-8"
    columns: tuple[str, ...] | None = None
    user_columns: tuple[str, ...] | None = None
    item_columns: tuple[str, ...] | None = None
    null_values: tuple[str, ...] = ()

    def __post_init__(self):
        require(len(self.separator) >= 1 and not set(self.separator) & set('\r\n"\0'), "csv.separator",
                "one or more characters other than a line end or a quote", self.separator)
        require(self.quote is None or (len(self.quote) == 1 and self.quote not in self.separator
                                       and self.quote not in "\r\n\0"),
                "csv.quote", "one character that is not in the separator", self.quote)
        try:
            known = codecs.lookup(self.encoding)._is_text_encoding
        except (LookupError, ValueError, TypeError):
            known = False
        require(known, "csv.encoding", "a text encoding, such as utf-8 or latin-1", self.encoding)
        for name in ("columns", "user_columns", "item_columns"):
            names = getattr(self, name)
            require(names is None or (len(names) > 0 and len(set(names)) == len(names)), f"csv.{name}",
                    "column names that differ", names)

    @property
    def quoting(self) -> bool:
        """Whether quotes have a meaning."""
        return self.quote is not None and len(self.separator) == 1
