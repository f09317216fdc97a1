"""The part of a document that a program writes."""

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def replace_block(text: str, table: str) -> str:
    """Returns a document with the block between the markers replaced; ValueError where it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"The document requires the markers {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"
