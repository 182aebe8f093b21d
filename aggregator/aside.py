"""One job at a time beside the loop: what takes long and nobody waits for, such as bringing megabytes to the store.

A loop that sends them itself stands still meanwhile, and so does the sample that comes then. Jobs must not touch what
the loop works on: they are given copies.

Policy: a job offered while another runs is refused, and what it would have done is done with the next one offered. A
job that meets a store that is away has failed, which is counted; the loop learns of the store by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import redis


class Aside:
    """done, failed : jobs that ended well, and that met a store that is away"""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self.done = self.failed = 0

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""
        return self._thread is not None and self._thread.is_alive()

    def offer(self, job: Callable[[], object]) -> bool:
        """Begin a job and return at once; False, and nothing begun, while `busy`."""
        if self.busy:
            return False
        self._thread = threading.Thread(target=self._run, args=(job,), name=self._name, daemon=True)
        self._thread.start()
        return True

    def close(self, seconds: float = 5.0) -> None:
        """Wait for the job under way, so long at most."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self, job: Callable[[], object]) -> None:
        try:
            job()
        except redis.RedisError:
            self.failed += 1
        else:
            self.done += 1
