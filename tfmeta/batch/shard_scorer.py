"""Calls a signature for the users of a shard."""

import numpy as np
import pyarrow as pa

from tfmeta.batch.item_table import ItemTable
from tfmeta.batch.job_settings import JobSettings
from tfmeta.batch.latest_rows import codes_of
from tfmeta.batch.output_schema import id_type, output_schema
from tfmeta.batch.shard_users import ShardUsers
from tfmeta.batch.task_batches import cut_lists, task_batches
from tfmeta.serving.servable import Servable

_FEATURE_REPLACED = 2


class ShardScorer:
    """Answers blocks of candidates, or of users, with rows of the output.

    Args:
      settings: of the job.
      servable: the model.
      users: those of the shard.
      items: turns ids into inputs.
    """

    def __init__(self, settings: JobSettings, servable: Servable, *, users: ShardUsers, items: ItemTable):
        self._settings, self._users, self._items = settings, users, items
        self._names = settings.model.description.names
        self._schema = output_schema(settings)
        self._call = servable.call(settings.signature)
        self._inputs = set(self._call.aliases)

    def score(self, candidates: pa.Table) -> pa.Table:
        """Returns one row for each candidate, in their order."""
        codes, distinct = codes_of(candidates["user"])
        item_codes, tables = self._items.encode(candidates["item"])
        item_codes = np.append(item_codes, len(next(iter(tables.values()))) - 1)
        counts = np.bincount(codes, minlength=len(distinct))
        starts = np.cumsum(counts) - counts
        # Candidates of a user side by side, in their order.
        order = np.append(np.argsort(codes, kind="stable"), len(codes))
        owner, first, length = cut_lists(counts, self._settings.config.max_candidates)
        rows, supports = (found[owner] for found in self._users.find(distinct))
        scores, base = np.zeros(len(codes), np.float32), np.zeros(len(codes), np.float32)
        status = np.zeros(len(codes), np.int32)
        for tasks in task_batches(length, self._users.support_counts(supports),
                                  most_tasks=self._settings.config.batch_users):
            column = np.arange(int(length[tasks].max()))[None, :]
            inside = column < length[tasks][:, None]
            place = order[np.where(inside, (starts[owner] + first)[tasks][:, None] + column, len(codes))]
            query = item_codes[place]
            inputs = {self._names["query"][name]: table[query] for name, table in tables.items()}
            found = self._run({**inputs, **self._task_inputs(rows[tasks], supports[tasks])}, rows[tasks])
            # Column by column and row by row, as `place[inside]`.
            scores[place[inside]] = found["scores"][inside]
            base[place[inside]] = found.get("base_scores", found["scores"])[inside]
            status[place[inside]] = np.broadcast_to(found["status"][:, None], inside.shape)[inside]
        return self._table([candidates["user"], candidates["item"], pa.array(scores), pa.array(base),
                            pa.array(status)])

    def recommend(self, users: pa.Array) -> pa.Table:
        """Returns one row with a list for each user, in their order."""
        ids, scores, counts, status = self._each(users, ("item_ids", "scores", "item_count", "status"))
        if self._settings.config.count:
            counts = np.minimum(counts, self._settings.config.count)
        inside = np.arange(ids.shape[1])[None, :] < counts[:, None]
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        flat = pa.array(ids[inside])
        if pa.types.is_binary(flat.type):
            flat = flat.cast(pa.string())
        return self._table([users, pa.ListArray.from_arrays(offsets, flat.cast(id_type(self._settings.spec.item_id))),
                            pa.ListArray.from_arrays(offsets, pa.array(scores[inside])), pa.array(status)])

    def embed(self, users: pa.Array) -> pa.Table:
        """Returns one row with the adapted state for each user, in their order."""
        states, models, status = self._each(users, ("user_state", "state_model", "status"))
        support = self._users.support_counts(self._users.find(users)[1])
        when = pa.array(np.full(len(users), int(self._settings.started * 1e6)), pa.int64()).cast(
            pa.timestamp("us", tz="UTC"))
        return self._table([users, pa.FixedSizeListArray.from_arrays(pa.array(states.ravel()), states.shape[1]),
                            pa.array(models).cast(pa.string()), when, pa.array(support.astype(np.int32)),
                            pa.array(status)])

    def _each(self, users: pa.Array, outputs: tuple[str, ...]) -> list[np.ndarray]:
        """Outputs of a signature that answers users, in their order."""
        rows, supports = self._users.find(users)
        parts, places = [], []
        for tasks in task_batches(np.zeros(len(users), np.int64), self._users.support_counts(supports),
                                  most_tasks=self._settings.config.batch_users):
            found = self._run(self._task_inputs(rows[tasks], supports[tasks]), rows[tasks])
            parts.append([found[name] for name in outputs])
            places.append(tasks)
        back = np.argsort(np.concatenate(places))
        return [np.concatenate(part)[back] for part in zip(*parts, strict=True)]

    def _task_inputs(self, rows: np.ndarray, supports: np.ndarray) -> dict[str, np.ndarray]:
        inputs = {self._names["user"][name]: value for name, value in self._users.features(rows).items()}
        if "support_length" in self._inputs:
            items, labels, lengths = self._users.support(supports)
            inputs |= {self._names["support"][name]: value for name, value in items.items()}
            inputs |= {"support_label": labels, "support_length": lengths}
        if "exclude_item" in self._inputs:
            missing = self._settings.spec.item_id.missing
            inputs["exclude_item"] = np.full((len(rows), 1), missing, object if missing == "" else np.int64)
            inputs["exclude_length"] = np.zeros(len(rows), np.int32)
        return inputs

    def _run(self, inputs: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
        found = self._call.named(self._call.run(self._call.values(inputs)))
        # A number that the data lack is replaced by the graph, which is what is wanted.
        found["status"] = np.where(self._users.lacks_number(rows), found["status"] & ~_FEATURE_REPLACED,
                                   found["status"]).astype(np.int32)
        return found

    def _table(self, columns: list) -> pa.Table:
        count = len(columns[0])
        return pa.table([*columns, pa.repeat(self._settings.model.version, count)], names=self._schema.names).cast(
            self._schema)
