"""Where a sample's time went, from the source's stamp to its commands on the stream: one histogram a stage.

| stage    | from ... to                                                         | clocks |
|----------|---------------------------------------------------------------------|--------|
| `source` | source's stamp to arrival: instrument and network, clock error in it | two    |
| `wire`   | arrival in the source's thread to the gate's turn                    | ingest |
| `gate`   | judged, packed, handed to the stream                                 | ingest |
| `stream` | to the worker's hands: across the server                             | ingest, worker |
| `tick`   | to its turn: unpacked, after what vehicles said before it            | worker |
| `split`  | the decision: curve, dynamics, bounds, split, choice of commands     | worker |
| `out`    | signed and acknowledged by the server                                | worker |
| `total`  | source's stamp to acknowledged commands                              | two    |

No protocol in use says when a report left its instrument, so that `source` cannot be told from the network. The first
seven add up to `total`. Ingest and worker on two machines add the difference of their clocks to `stream`.

Pure: no clock, no I/O; stamps are passed in. The ingest's two stamps travel as a note beside the sample. A sample
without one (another publisher's) has no `wire` and no `gate`, and its `stream` begins with its arrival.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from telemetry.latency import Histogram

STAGES: Final = ("source", "wire", "gate", "stream", "tick", "split", "out", "total")
# Names of before, for scripts that know them.
ALIASES: Final = {"report": "source", "engine": "split", "publish": "out"}
NOTE: Final = struct.Struct("<qq")
_NS_PER_MS: Final = 1e6


def note(taken_ns: int, published_ns: int) -> bytes:
    """What the ingest says of one sample: when its turn at the gate came, and when it left for the stream."""
    return NOTE.pack(taken_ns, published_ns)


class Stages:
    """The histograms of one worker's life. least_source_ns : smallest of `source`, exact; None before the first"""

    def __init__(self) -> None:
        self.histograms = {stage: Histogram() for stage in STAGES}
        self.least_source_ns: int | None = None

    def add(
        self, t_ns: int, rx_ns: int, said: bytes, read_ns: int, begun_ns: int, decided_ns: int, sent_ns: int
    ) -> None:  # fmt: skip
        """One sample; all stamps are wall clocks in ns. said : the `note` it came with, or nothing"""
        spans = {
            "source": rx_ns - t_ns, "tick": begun_ns - read_ns, "split": decided_ns - begun_ns,
            "out": sent_ns - decided_ns, "total": sent_ns - t_ns,
        }  # fmt: skip
        if len(said) == NOTE.size:
            taken_ns, published_ns = NOTE.unpack(said)
            spans |= {"wire": taken_ns - rx_ns, "gate": published_ns - taken_ns, "stream": read_ns - published_ns}
        else:
            spans["stream"] = read_ns - rx_ns
        for stage, span_ns in spans.items():
            self.histograms[stage].add_ns(span_ns)
        least_ns = self.least_source_ns
        self.least_source_ns = spans["source"] if least_ns is None else min(least_ns, spans["source"])

    def summary(self) -> dict[str, dict[str, float]]:
        """Of each stage p50, p99 and max [ms]."""
        return {stage: histogram.summary() for stage, histogram in self.histograms.items()}

    def buckets(self) -> dict[str, dict[str, Any]]:
        """Of each stage what a scraper wants: cumulative counts under fixed bounds, count and sum [s]."""
        return {stage: histogram.cumulative() for stage, histogram in self.histograms.items() if histogram.count}

    def least_source_ms(self) -> float | None:
        """The shortest way from stamp to arrival that was seen: below 0 the clocks differ by at least that."""
        return None if self.least_source_ns is None else self.least_source_ns / _NS_PER_MS
