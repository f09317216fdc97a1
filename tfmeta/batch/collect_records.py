"""Small results of a pipeline, for the process that started it."""

import json

import apache_beam as beam

from tfmeta.batch.work_files import read_record, write_record


class CollectRecords(beam.DoFn):
    """Writes a list of records to a file."""

    def __init__(self, path: str):
        self._path = path

    def process(self, records: list[dict]):
        # Beam may give a record's numbers as its own types.
        write_record(self._path, {"records": json.loads(json.dumps(list(records)))})


def collected(path: str) -> list[dict]:
    """Returns what the pipeline left."""
    return (read_record(path) or {"records": []})["records"]
