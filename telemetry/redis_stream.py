"""Publish and follow packed payloads on Redis or Valkey streams, exactly once and in order.

Policy for buffers and losses:
- One writer per stream. An entry's ID is "epoch-counter", the counter starting from 1, never the time: the server
  refuses an ID twice, so a retry cannot write twice, and a clock jump cannot lose an entry.
- The client never retries by itself. An entry whose fate is unknown stays with its writer, in order, up to
  `pending_max`; then the oldest is dropped and counted (`dropped`), and readers see the gap.
- A stream keeps about `maxlen` entries; the server drops the oldest.
- A reader that fell behind that, or a writer that dropped, shows as `missing`: counters skipped within an epoch.
- Entries of a foreign form are counted (`skipped`) and passed over.

One server; the same stream on two of them is `telemetry.paired` and `telemetry.paired_writer`. This file knows
payloads as bytes; what they mean is `telemetry.wire`'s affair. A note may travel beside a payload, in a field of its
own: when an entry left, how far its writer had read. Connection failures leave as
redis-py raises them (`redis.ConnectionError`, `redis.TimeoutError`); all positions survive them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

FIELD: Final = b"b"
NOTE: Final = b"n"
TIMEOUT_S: Final = 1.0  # longer than an fsync hiccup, shorter than a lease
DEFAULT_MAXLEN: Final = 10_000
DEFAULT_PENDING: Final = 1_000


Fields = dict[bytes, bytes]


def entries(rows: int, least: int, most: int, budget: int) -> int:
    """Entries a stream may keep when one can hold `rows` rows and all together about `budget` of them."""
    return max(least, min(most, budget // max(rows, 1)))


class Row(NamedTuple):
    """One entry as read; `foreign` says that it has no payload of ours."""

    key: str
    entry_id: str
    payload: bytes
    note: bytes = b""
    foreign: bool = False


class StreamError(Exception):
    """Base of this module's errors."""


class StreamConflict(StreamError):
    """Somebody else has written to a stream that has one writer."""

    def __init__(self, key: str, entry_id: str) -> None:
        super().__init__(
            f"stream {key}: the server holds another entry at or beyond {entry_id}; a stream has one writer: "
            "stop the other one, or start this one with a higher epoch"
        )
        self.key, self.entry_id = key, entry_id


class BlockTooLong(StreamError, ValueError):
    """A blocking read through a client whose socket gives up sooner."""


class InsecureTls(StreamError, ValueError):
    """TLS that would believe any server."""


def connect(url: str, *, blocking: bool = False) -> redis.Redis:
    """A client for `unix://`, `redis://` or `rediss://` that never repeats a command on its own.

    TLS: certificate and host name are verified, against the system's authorities or those of `?ssl_ca_certs=FILE`;
    `&ssl_certfile=FILE&ssl_keyfile=FILE` is our own. Raises InsecureTls for an address that asks for less, ValueError
    for one that is none.

    blocking : for `StreamReader.read` with a block time: waits as long as the server does. Others give up
        after `TIMEOUT_S`.
    """
    _verified(url)
    return redis.Redis.from_url(
        url,
        protocol=3,
        legacy_responses=False,
        socket_connect_timeout=TIMEOUT_S,
        socket_timeout=None if blocking else TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
    )


def _verified(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "rediss":
        return
    asked = parse_qs(parts.query)
    required = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
    for name, wanted in required.items():
        if any(value.lower() not in (wanted, "1", "yes") for value in asked.get(name, [])):
            raise InsecureTls(f"`{name}` in the store's address: only {wanted} is taken; name the authority instead, "
                              "`?ssl_ca_certs=FILE`")  # fmt: skip


def parse_id(entry_id: str) -> tuple[int, int]:
    """(epoch, counter) of an entry's ID."""
    epoch, _, counter = entry_id.partition("-")
    return int(epoch), int(counter or 0)


class StreamWriter:
    """The one writer of a stream.

    key : the stream
    epoch : higher than that of any earlier writer of this stream (0 < epoch < 2**63)
    maxlen : entries kept, approximately
    pending_max : entries kept here while the server's answer is unknown
    """

    def __init__(
        self,
        client: redis.Redis,
        key: str,
        epoch: int,
        maxlen: int = DEFAULT_MAXLEN,
        pending_max: int = DEFAULT_PENDING,
    ) -> None:
        if not 0 < epoch < 2**63:
            raise StreamError(f"epoch {epoch} for stream {key}: take a positive 63-bit number")
        self.key, self.epoch = key, epoch
        self.counter = 0  # of the newest entry, written or pending
        self.dropped = 0
        self._client, self._maxlen, self._pending_max = client, maxlen, pending_max
        self._pending: deque[tuple[str, Fields]] = deque()
        self._conflict: str | None = None

    @property
    def pending(self) -> int:
        """Entries whose fate is unknown; `retry` or the next `add` settles them."""
        return len(self._pending)

    def add(self, payload: bytes, note: bytes = b"") -> str:
        """Append one entry, and before it whatever is pending; its ID.

        Raises redis.ConnectionError or redis.TimeoutError (the entry stays pending; do not add it again),
        StreamConflict, or redis.ResponseError as the server gave it (out of memory: the entry stays pending).
        """
        self._check()
        first = not self._pending
        entry_id, fields = self._push(payload, note)
        if not first:
            self.retry()
            return entry_id
        try:
            self._xadd(self._client, entry_id, fields)
        except redis.ResponseError as error:
            if _is_too_small(error):
                raise self._fail(entry_id) from error
            raise
        self._pending.clear()
        return entry_id

    def queue(self, pipeline: redis.client.Pipeline, payload: bytes, note: bytes = b"") -> str:
        """Put one entry into someone's pipeline; call `confirm` once it was executed without error.

        Until then do not `add`. If `execute` fails the entry stays pending and `retry` settles it. A pipeline that
        is no transaction takes one entry of each stream at most (see `retry`).
        """
        self._check()
        entry_id, fields = self._push(payload, note)
        self._xadd(pipeline, entry_id, fields)
        return entry_id

    def hold(self, payload: bytes, note: bytes = b"") -> str:
        """Keep one entry for a server that is away; `retry` or the next `add` sends it."""
        return self._push(payload, note)[0]

    def skip_to(self, counter: int) -> None:
        """Number the next entry `counter`: those up to it never came here. Counted; readers see the gap.

        With entries pending the gap lies behind them. A counter that is not ahead changes nothing.
        """
        self.dropped += max(counter - self.counter - 1, 0)
        self.counter = max(self.counter, counter - 1)

    def forget(self) -> None:
        """Give up what is pending: newer entries make it void. Readers see the gap."""
        self.dropped += len(self._pending)
        self._pending.clear()

    def confirm(self) -> None:
        """All that was queued has been executed."""
        self._pending.clear()

    def retry(self) -> int:
        """Send again what is pending, in order; how many entries that settled.

        An entry at or below the stream's newest counts as written only if the server holds this very entry; else
        StreamConflict, and this writer is done for.
        """
        settled = len(self._pending)
        if not settled:
            return 0
        self._check()
        top = parse_id(newest(self._client, self.key))
        while self._pending and parse_id(self._pending[0][0]) <= top:
            self._confirm_held(*self._pending[0])
            self._pending.popleft()
        if self._pending:
            self._send_pending()
        return settled

    def _send_pending(self) -> None:
        entries = list(self._pending)
        # All or nothing: with a plain pipeline an out-of-memory answer to one entry could be followed by a later
        # entry written, and the refused one could then never be appended.
        with self._client.pipeline(transaction=True) as pipeline:
            for entry_id, fields in entries:
                self._xadd(pipeline, entry_id, fields)
            answers = pipeline.execute(raise_on_error=False)
        for (entry_id, fields), answer in zip(entries, answers, strict=True):
            if isinstance(answer, Exception):
                if not _is_too_small(answer):
                    raise answer
                # A first try that was still in a socket's buffer has come in just before.
                self._confirm_held(entry_id, fields)
            self._pending.popleft()

    def _confirm_held(self, entry_id: str, fields: Fields) -> None:
        held: Any = self._client.xrange(self.key, entry_id, entry_id)
        if not held or held[0][1].get(FIELD) != fields[FIELD]:
            raise self._fail(entry_id)

    def _fail(self, entry_id: str) -> StreamConflict:
        self._conflict = entry_id
        return StreamConflict(self.key, entry_id)

    def _check(self) -> None:
        """After a conflict nothing more is written: order and single authorship are lost."""
        if self._conflict is not None:
            raise StreamConflict(self.key, self._conflict)

    def _push(self, payload: bytes, note: bytes) -> tuple[str, Fields]:
        self.counter += 1
        entry_id = f"{self.epoch}-{self.counter}"
        fields = {FIELD: payload, NOTE: note} if note else {FIELD: payload}
        self._pending.append((entry_id, fields))
        if len(self._pending) > self._pending_max:
            self._pending.popleft()
            self.dropped += 1
        return entry_id, fields

    def _xadd(self, target: Any, entry_id: str, fields: Fields) -> None:
        target.xadd(self.key, fields, id=entry_id, maxlen=self._maxlen, approximate=True)


class StreamReader:
    """Follows several streams, each from a position of its own.

    start : key -> ID of the last entry already known ("0" for all that is kept, "$" for what comes from now on)

    "$" is resolved here and once, so that nothing written between two reads is lost. Positions move only with
    entries returned: after a failed read, read again.
    """

    def __init__(self, client: redis.Redis, start: Mapping[str, str]) -> None:
        self._client = client
        self.missing = 0  # counters skipped within an epoch
        self.skipped = 0  # entries without the field
        self.positions: dict[str, str] = {
            key: newest(client, key) if entry_id == "$" else entry_id for key, entry_id in start.items()
        }

    def read(self, block_ms: int | None = None, count: int | None = None) -> list[tuple[str, str, bytes]]:
        """New entries as (key, ID, payload), in order within each key; empty when the time is up.

        block_ms : longest wait; None or 0 does not wait
        count : at most so many entries per stream

        Raises BlockTooLong, redis.ConnectionError, redis.TimeoutError.
        """
        self._check(block_ms)
        streams: dict[Any, Any] = {**self.positions}
        answer: Any = self._client.xread(streams, count=count, block=block_ms or None)
        rows: list[tuple[str, str, bytes]] = []
        for row in told(answer):
            self._follow(row.key, row.entry_id)
            if row.foreign:
                self.skipped += 1
            else:
                rows.append(row[:3])
        return rows

    def _follow(self, key: str, entry_id: str) -> None:
        """Move the position and count what was jumped over."""
        epoch, counter = parse_id(entry_id)
        last_epoch, last_counter = parse_id(self.positions[key])
        if epoch == last_epoch:
            self.missing += counter - last_counter - 1
        elif (last_epoch, last_counter) != (0, 0):
            # Counters start from 1: a new epoch first seen later has lost its beginning. From "0" nothing is known.
            self.missing += max(0, counter - 1)
        self.positions[key] = entry_id

    def _check(self, block_ms: int | None) -> None:
        timeout_s = self._client.connection_pool.connection_kwargs.get("socket_timeout")
        if block_ms and timeout_s is not None and block_ms >= 1000 * timeout_s:
            raise BlockTooLong(
                f"block_ms {block_ms} on a client that gives up after {timeout_s} s: connect(url, blocking=True)"
            )


def told(answer: Any) -> Iterator[Row]:
    """The entries of an XREAD's answer in its order."""
    for key, found in (answer or {}).items():
        for entry_id, fields in found:
            payload = fields.get(FIELD) if fields else None
            note = fields.get(NOTE, b"") if fields else b""
            yield Row(key.decode(), entry_id.decode(), payload or b"", note, payload is None)


def newest(client: redis.Redis, key: str) -> str:
    """ID of a stream's last entry; "0-0" where there is none. Raises what redis-py raises."""
    last: Any = client.xrevrange(key, count=1)
    return str(last[0][0].decode()) if last else "0-0"


def _is_too_small(error: Exception) -> bool:
    return isinstance(error, redis.ResponseError) and "equal or smaller" in str(error)
