"""A batch job from its plan to its summary."""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable

from tfmeta.batch.batch_config import BatchConfig
from tfmeta.batch.input_plan import SHARD_BYTES, plan_input
from tfmeta.batch.job_settings import JobSettings
from tfmeta.batch.model_files import ModelFiles
from tfmeta.batch.progress import Progress
from tfmeta.batch.staged_set import staged_fingerprint
from tfmeta.batch.work_files import read_record, write_record
from tfmeta.errors import DataError
from tfmeta.io import filesystem

SUMMARY, QUARANTINE, JOB = "_summary.json", "_quarantine", "job.json"
_DEFAULT_TABLE_SHARDS = 64


class BatchJob:
    """Runs one job, or what is left of it.

    Args:
      config: what to do.
      beam_options: arguments of Beam, such as `--runner=DataflowRunner`.
      workers: threads of the local runner.
      progress: show a bar on standard error.

    Raises:
      ExportError: if the model lacks what the mode needs.
      DataError: if data and model do not fit each other, or the output holds something else.
    """

    def __init__(self, config: BatchConfig, *, beam_options: tuple[str, ...] = (), workers: int | None = None,
                 progress: bool = False):
        self._config, self._beam_options = config, beam_options
        self._workers = workers or len(os.sched_getaffinity(0))
        self._progress = progress
        self._model = ModelFiles.read(config.model)
        signature = JobSettings(config, self._model, 1, 0.0).signature
        self._model.require_signature(signature, mode=config.mode)
        self._plan = plan_input(config, self._model.description.feature_spec)
        if config.items or not self._model.description.by_id:
            from tfmeta.batch.item_table import ItemTable

            ItemTable(self._model.description, config.items)
        if config.on_bad_shard == "stop" and self._plan.unreadable:
            raise DataError(describe_unreadable(self._plan.unreadable) + " Nothing was scored.")

    def run(self) -> dict:
        """Runs the pipeline and returns the summary, also written as `_summary.json`.

        Returns:
          `complete`, `rows` (written), `shards`, `read`, `kept` and `rejected` by kind, `unreadable` (file -> reason),
          `seconds`, `out`, `mode`, `model`, `model_version`.

        Raises:
          DataError: with `on_bad_shard` stop, if a file cannot be read; if no row of a kind is good.
        """
        begin = time.monotonic()
        done = self._already_done()
        if done is not None:
            return {**done, "seconds": 0.0}
        settings = self._begin()
        staged = self._stage(settings)
        unreadable = {**self._plan.unreadable, **{r["file"]: r["error"] for r in staged if "error" in r}}
        good = [r for r in staged if "error" not in r]
        if unreadable and self._config.on_bad_shard == "stop":
            raise DataError(describe_unreadable(unreadable) + " Nothing was scored.")
        self._check_rows(good)
        parts = self._score(settings, staged)
        summary = self._summarise(settings, good, parts, unreadable, begin)
        self._finish(settings, good, parts, summary)
        return summary

    def _stage(self, settings: JobSettings) -> list[dict]:
        splits = len(self._plan.splits)
        with Progress(settings.staged, total=splits, unit="split", name="read", shown=self._progress):
            return self._collect(settings, "staged", lambda pipeline: self._add_stage(pipeline, settings))

    def _add_stage(self, pipeline, settings):
        from tfmeta.batch.pipeline import stage_pipeline

        return stage_pipeline(pipeline, settings, self._plan)

    def _score(self, settings: JobSettings, staged: list[dict]) -> list[dict]:
        import apache_beam as beam

        from tfmeta.batch.pipeline import score_pipeline

        def add(pipeline):
            return score_pipeline(pipeline, settings, pipeline | "StagedRecords" >> beam.Create(staged))

        with Progress(filesystem.join(self._config.work_directory, "done"), total=settings.shards, unit="shard",
                      name=self._config.mode, shown=self._progress):
            parts = self._collect(settings, "parts", add)
        return sorted(parts, key=lambda r: r["shard"])

    def _collect(self, settings: JobSettings, name: str, add: Callable) -> list[dict]:
        """Runs a pipeline whose small records come back through a file, as on any runner."""
        import apache_beam as beam

        from tfmeta.batch.collect_records import CollectRecords, collected
        from tfmeta.batch.pipeline import make_pipeline

        path = filesystem.join(self._config.work_directory, f"{name}.json")
        pipeline = make_pipeline(self._beam_options, workers=self._workers)
        records = add(pipeline)
        _ = (records | "Together" >> beam.combiners.ToList() | "Keep" >> beam.ParDo(CollectRecords(path)))
        pipeline.run().wait_until_finish()
        return collected(path)

    def _begin(self) -> JobSettings:
        """Makes, or takes up again, the work directory."""
        config, file = self._config, filesystem.join(self._config.work_directory, JOB)
        before, identity = read_record(file), self._identity()
        if before is not None and before["identity"] == identity and not (config.shards not in (0, before["shards"])):
            return JobSettings(config, self._model, before["shards"], before["started"])
        self._clear()
        tables = any(self._plan.tables.values())
        shards = config.shards or max(1, -(-self._plan.size // SHARD_BYTES), _DEFAULT_TABLE_SHARDS if tables else 1,
                                      2 * self._workers if self._plan.size > (1 << 20) else 1)
        settings = JobSettings(config, self._model, shards, time.time())
        write_record(file, {"identity": identity, "shards": shards, "started": settings.started})
        return settings

    def _clear(self) -> None:
        """Empties the output of another job, if that was asked for."""
        folders = [self._config.work_directory]
        if self._config.output_format != "bigquery":
            folders.append(self._config.out.rstrip("/"))
        for folder in folders:
            names = filesystem.listdir(folder) if filesystem.is_dir(folder) else []
            ours = {SUMMARY, QUARANTINE, "_work", JOB, "staged", "done", "parts", "staged.json", "parts.json"}
            others = [n for n in names if n not in ours and not n.startswith((".part-", "part-"))]
            if others:
                raise DataError(f"'{folder}' requires an empty directory or the output of a batch job; it has "
                                f"'{others[0]}'. Choose another one.")
            if names and not self._config.overwrite:
                raise DataError(f"'{folder}' has the output of another job, or of this one with another model or other "
                                "settings or input. Choose another directory, or replace it with --overwrite.")
            for name in names:
                filesystem.remove_tree(filesystem.join(folder, name))

    def _already_done(self) -> dict | None:
        if self._config.output_format == "bigquery" or self._config.overwrite or any(self._plan.tables.values()):
            return None
        summary = read_record(filesystem.join(self._config.out, SUMMARY))
        keys = staged_fingerprint({"key": s.key} for s in self._plan.splits)
        same = (summary is not None and summary.get("complete") and summary.get("identity") == self._identity()
                and summary.get("input") == keys and not self._plan.unreadable)
        return summary if same else None

    def _identity(self) -> str:
        """What makes two jobs the same; the content of the input is looked at file by file."""
        c = self._config
        text = json.dumps([self._model.path, self._model.description.fingerprint, c.out, c.mode, c.interactions,
                           c.candidates, c.users, c.items, c.output_format, c.user, c.item, c.label, c.time, c.count,
                           c.batch_users, c.max_candidates])
        return hashlib.sha256(text.encode()).hexdigest()

    def _check_rows(self, staged: list[dict]) -> None:
        read, kept = _sum(staged, "read"), _sum(staged, "kept")
        for kind, count in read.items():
            if count and not kept[kind]:
                rejected = _rejected(staged)[kind]
                raise DataError(f"{kind.capitalize()} require rows that fit the model, all {count:,} were rejected: "
                                f"{', '.join(f'{n:,} {r}' for r, n in rejected.items())}. Look into "
                                f"'{self._config.work_directory}/staged'.")

    def _summarise(self, settings, staged, parts, unreadable, begin) -> dict:
        rejected = _rejected(staged)
        for part in parts:
            for reason, count in part["rejected"].items():
                rejected.setdefault("users", Counter())[reason] += count
        return {"complete": not unreadable, "mode": self._config.mode, "out": self._config.out,
                "model": self._model.path, "model_version": self._model.version, "shards": settings.shards,
                "rows": sum(p["rows"] for p in parts), "read": dict(_sum(staged, "read")),
                "kept": dict(_sum(staged, "kept")), "rejected": {k: dict(v) for k, v in rejected.items()},
                "unreadable": unreadable, "identity": self._identity(), "input": staged_fingerprint(staged),
                "seconds": round(time.monotonic() - begin, 3)}

    def _finish(self, settings, staged, parts, summary) -> None:
        """Keeps the quarantine and the summary, written last; the work is kept only for a job that is not whole."""
        work = self._config.work_directory
        where = work if self._config.output_format == "bigquery" else self._config.out.rstrip("/")
        quarantine = filesystem.join(where, QUARANTINE)
        filesystem.remove_tree(quarantine)
        for record in (*staged, *parts):
            if record["quarantine"]:
                name = record.get("key") or f"users-shard-{record['shard']:05d}"
                target = filesystem.join(quarantine, f"{name}.parquet")
                filesystem.makedirs(quarantine)
                with (filesystem.open_file(record["quarantine"], "rb") as reader,
                      filesystem.open_file(target, "wb") as writer):
                    while data := reader.read(8 << 20):
                        writer.write(data)
        parts = self._config.parts_directory
        for name in filesystem.listdir(parts) if filesystem.is_dir(parts) else []:
            if name.startswith(".part-"):  # Of a worker that was killed.
                filesystem.remove_tree(filesystem.join(parts, name))
        write_record(filesystem.join(where, SUMMARY), summary)
        if summary["complete"] and self._config.output_format != "bigquery":
            filesystem.remove_tree(work)


def describe_unreadable(files: dict[str, str]) -> str:
    """One line for all files that cannot be read."""
    (path, reason), *others = sorted(files.items())
    more = f" {len(others)} more: {', '.join(repr(p) for p, _ in others[:5])}." if others else ""
    return f"Input '{path}' cannot be read: {reason.rstrip('.')}.{more}"


def _sum(staged: list[dict], name: str) -> Counter:
    counts: Counter = Counter()
    for record in staged:
        counts[record["kind"]] += record[name]
    return counts


def _rejected(staged: list[dict]) -> dict[str, Counter]:
    found: dict[str, Counter] = {}
    for record in staged:
        found.setdefault(record["kind"], Counter()).update(record["rejected"])
    return found
