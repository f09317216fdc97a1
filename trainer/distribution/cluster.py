"""The machines of a training job."""

import dataclasses
import json
from collections.abc import Mapping

from tfmeta.errors import RunError

_FORM = ("requires JSON such as {\"cluster\": {\"worker\": [\"host0:2222\", \"host1:2222\"]}, "
         "\"task\": {\"type\": \"worker\", \"index\": 0}}")
# In the order in which workers are numbered.
_JOBS = ("chief", "worker")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a job and which of them this process is.

    Attributes:
      chief, worker: `host:port` of each process of the two jobs; a cluster need not have a chief.
      job, index: this process.
    """

    chief: tuple[str, ...] = ()
    worker: tuple[str, ...] = ()
    job: str = "worker"
    index: int = 0

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Cluster":
        """Reads TF_CONFIG; absent, empty, or without a cluster it is one process.

        Raises:
          RunError: if it cannot be read, names jobs other than chief and worker, or this process is not in it.
        """
        text = environ.get("TF_CONFIG")
        if not text:
            return cls()
        try:
            values = json.loads(text)
            jobs = {str(job): _addresses(hosts) for job, hosts in (values.get("cluster") or {}).items() if hosts}
            task = values.get("task") or {}
            job, index = str(task.get("type", next(iter(jobs), "worker"))), int(task.get("index", 0))
        except (ValueError, TypeError, AttributeError):
            raise RunError(f"TF_CONFIG {_FORM}, received '{text}'.") from None
        if "master" in jobs and "chief" not in jobs:
            jobs["chief"], job = jobs.pop("master"), "chief" if job == "master" else job
        other = sorted(set(jobs) - set(_JOBS))
        if other or (not jobs and job not in (*_JOBS, "master")):
            raise RunError(f"Training requires workers that all do the same: a cluster of 'chief' and 'worker' in "
                           f"TF_CONFIG, received {', '.join(other) or job}. Use worker pools without parameter servers "
                           "and evaluators.")
        addresses = [a for hosts in jobs.values() for a in hosts]
        if len(addresses) != len(set(addresses)):
            raise RunError(f"TF_CONFIG requires a different address for each worker, received {', '.join(addresses)}.")
        if len(jobs.get("chief", ())) > 1:
            raise RunError(f"TF_CONFIG requires at most one chief, received {len(jobs['chief'])}.")
        if jobs and "task" not in values and len(addresses) > 1:
            raise RunError(f"TF_CONFIG {_FORM}: 'task' says which of the {len(addresses)} workers this process is, "
                           "received none.")
        size = len(jobs.get(job, ())) if jobs else 1
        if not 0 <= index < size:
            known = ", ".join(f"{j} 0 to {len(h) - 1}" for j, h in jobs.items()) or f"{job} 0"
            raise RunError(f"TF_CONFIG requires 'task' to be one of the cluster ({known}), received {job} {index}.")
        if not jobs:
            return cls()
        return cls(chief=jobs.get("chief", ()), worker=jobs.get("worker", ()), job=job, index=index)

    @property
    def num_workers(self) -> int:
        return max(1, len(self.chief) + len(self.worker))

    @property
    def number(self) -> int:
        """This worker's number, from 0; the chief's is 0."""
        return self.index + (len(self.chief) if self.job == "worker" else 0)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run: the job `chief`, or worker 0 where there is none."""
        return self.number == 0

    def jobs(self) -> dict[str, list[str]]:
        """Returns the addresses by job, jobs without any left out."""
        return {job: list(hosts) for job in _JOBS if (hosts := getattr(self, job))}

    def name(self, number: int) -> str:
        """Returns what a worker is called in messages, such as `worker 1 (host1:2222)`."""
        address = (*self.chief, *self.worker)[number:number + 1]
        return f"worker {number}" + (f" ({address[0]})" if address else "")


def _addresses(hosts) -> tuple[str, ...]:
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        raise TypeError("a list of host:port")
    return tuple(hosts)
