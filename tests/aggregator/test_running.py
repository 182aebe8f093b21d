"""The summary of a run from the processes' counters, and what is checked before anything starts."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import orjson
import pytest

from aggregator import roles, supervisor, users
from aggregator.config import ConfigError, load, validate
from aggregator.configured import core_settings
from aggregator.contracts import from_json
from aggregator.running import check_faults, check_trace, summarise
from aggregator.supervisor import ORDER, StartError, free_port, roles_of, with_ports
from aggregator.unit import faults_of
from telemetry.traces.errors import TraceError

CORE = core_settings(load(None))


def worker(**changes: Any) -> dict[str, Any]:
    return {
        "first_id": "100-11", "last_id": "100-110", "ticked": 100, "missing": 0, "ticks": 103, "commands": 40,
        "rejected": {"spike": 1}, "requested_kwh": 2.0, "delivered_kwh": 1.5, "unserved_kwh": 0.5,
        "alarms": ["DEAD_BUS"],
        "latency_ms": {"total": {"p50": 1.0, "p99": 2.0, "max": 3.0}}, "max_sum_error_kw": 1e-7, "bound_violations": 0,
        "scheduling": "nice 0",
    } | changes  # fmt: skip


def parts(**changes: Any) -> dict[str, Any]:
    return {
        "worker": worker(), "ingest": {"published": 110, "epoch": 100}, "gateway": {"refused": {}}, "statements": [],
        "rss_mb": 500.0, "warm_start_s": 2.0, "past": {}, "restarts": {},
    } | changes  # fmt: skip


def test_samples_count_from_the_first_one_ticked() -> None:
    found = summarise(parts(), CORE)
    assert (found["samples_in"], found["samples_lost"], found["ticks"]) == (100, 0, 103)
    found = summarise(parts(ingest={"published": 115, "epoch": 100}), CORE)
    assert (found["samples_in"], found["samples_lost"]) == (105, 5)


def test_a_run_that_never_ticked_lost_nothing() -> None:
    found = summarise(parts(worker={}, ingest={"published": 9, "epoch": 100}), CORE)
    assert (found["samples_in"], found["samples_lost"], found["ticks"]) == (0, 0, 0)
    assert found["score"] is None
    assert found["score_note"] == "no interval was settled"


def test_all_lives_of_a_process_count() -> None:
    second = worker(
        first_id="100-131", ticked=70, ticks=71, commands=5, rejected={"spike": 2, "nan": 1}, alarms=["NO_FLEET"]
    )
    second["latency_ms"] = {"total": {"p50": 0.5, "p99": 9.0, "max": float("nan")}}
    found = summarise(
        parts(
            worker=second,
            ingest={"published": 40, "epoch": 200},
            gateway={"refused": {"forged": 1}},
            past={
                "worker": [worker()],
                "ingest": [{"published": 160, "epoch": 100}, {"published": 7, "epoch": 50}],
                "gateway": [{"refused": {"forged": 2, "expired": 1}}],
                "settle": [{"stalls": 1}],
            },
            settle={"stalls": 0},
            restarts={"worker": 1, "ingest": 2},
        ),
        CORE,
    )
    assert found["samples_in"] == 150 + 40  # the life before the first tick does not count
    assert found["samples_lost"] == 190 - 170
    assert found["ticks"] == 174
    assert found["commands"] == 45
    assert found["requested_kwh"] == 4.0
    assert found["rejected"] == {"spike": 3, "nan": 1, "command_forged": 3, "command_expired": 1}
    assert found["alarms"] == ["DEAD_BUS", "NO_FLEET", "JOURNAL_STALLED"]
    assert found["latency_ms"] == {"total": {"p50": 1.0, "p99": 9.0, "max": 3.0}}
    assert found["samples_late"] == 0
    assert found["restarts"] == {"worker": 1, "ingest": 2}


def test_a_life_that_was_gone_on_from_counts_once_and_its_latency_still_does() -> None:
    """The heir's totals hold its predecessor's: up to what the killed one's last word, a second old, did not say."""
    killed = worker(epoch=7, ticked=100, commands=40, latency_ms={"split": {"p50": 9.0, "p99": 9.0, "max": 9.0}})
    heir = worker(epoch=9, continues=7, ticked=160, ticks=165, commands=70, first_id="100-11")
    heir["latency_ms"] = {"split": {"p50": 1.0, "p99": 2.0, "max": 3.0}}
    found = summarise(parts(worker=heir, ingest={"published": 170, "epoch": 100}, past={"worker": [killed]}), CORE)
    assert (found["samples_in"], found["samples_lost"]) == (160, 0)
    assert (found["commands"], found["requested_kwh"]) == (70, 2.0)
    assert found["latency_ms"]["split"]["p99"] == 9.0
    # Names of before lead to the same figures.
    assert found["latency_ms"]["engine"] == found["latency_ms"]["split"]


def test_late_are_those_beyond_a_period_of_the_source() -> None:
    told = {"total": {"le": {"0.01": 90, "0.02": 97, "0.5": 100}, "count": 101, "sum_s": 1.0}}
    both = parts(worker=worker(histograms=told), past={"worker": [worker(histograms=told, epoch=3)]})
    assert summarise(both, CORE, 0.01)["samples_late"] == 22
    assert summarise(both, CORE, 0.015)["samples_late"] == 8
    assert summarise(both, CORE, 3.0)["samples_late"] == 0


def test_a_killed_ingest_that_had_not_counted_to_the_end_loses_nothing() -> None:
    found = summarise(parts(ingest={"published": 90, "epoch": 100}), CORE)
    assert (found["samples_in"], found["samples_lost"]) == (100, 0)


def test_the_score_is_weighted_by_the_time_each_interval_covers() -> None:
    rows = [
        {"score": 1.0, "coverage_frac": 0.9, "final": True},
        {"score": 0.0, "coverage_frac": 0.1, "final": False},
        {"score": None, "score_note": "no rule"},
    ]
    found = summarise(parts(statements=rows), CORE)
    assert found["score"] == pytest.approx(0.9)
    assert "2 interval(s)" in found["score_note"]
    assert "1 not complete" in found["score_note"]
    assert found["statements"] == rows
    assert summarise(parts(statements=rows[2:]), CORE)["score_note"] == "no rule"


def test_two_kw_a_vehicle_are_sold_when_nobody_says() -> None:
    found = core_settings(load(None, fleet__vehicles=300))
    assert [(c.product.id, c.sold_kw) for c in found.contracts] == [("ce_fcr", 600.0)]
    assert found.signal_max_kw == 600.0
    found = core_settings(load(None, contract=[{"product": "ce_fcr", "sold_kw": 55.0}], api__signal_max_kw=7.0))
    assert [c.sold_kw for c in found.contracts] == [55.0]
    assert found.signal_max_kw == 7.0


def test_one_area_has_one_nominal_frequency() -> None:
    with pytest.raises(ConfigError, match="50 and of 60 Hz"):
        core_settings(load(None, contract=[{"product": "ce_fcr"}, {"product": "ieee1547"}]))


def test_a_trace_is_read_to_its_end_before_anything_starts(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = [f"2026-06-22 00:00:{k:02d},{50 + k / 1000:.3f}" for k in range(50)]
    path.write_text("\n".join(["dtm,f", *rows]) + "\n", encoding="utf-8")
    check_trace(path, 50.0, {})
    with pytest.raises(ConfigError, match="60 Hz"):
        check_trace(path, 60.0, {})
    path.write_text("\n".join(["dtm,f", *rows, "2026-06-22 00:00:55,what"]) + "\n", encoding="utf-8")
    with pytest.raises(TraceError, match=":52: "):
        check_trace(path, 50.0, {})


def test_ports_are_found_or_named() -> None:
    found = with_ports(load(None, api__port=0))
    assert found.api.port > 0
    assert found.unit.port > 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=rf"api\.port: port {port} .* in use"):
            with_ports(load(None, api__port=port))
        # A unit of somebody else's is there already: its port is not ours to take.
        assert with_ports(load(None, api__port=0, unit__port=port, unit__simulated=False)).unit.port == port
        with pytest.raises(StartError, match="in use"):
            free_port("127.0.0.1", port, "x")


def test_a_run_is_written_and_read_without_the_servers_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(None, fleet__vehicles=7)
    core = core_settings(config)
    monkeypatch.setenv("FLYBALL_REDIS_URL", "redis://:hush-hush@127.0.0.1:1")
    run = roles.Run(
        config, tmp_path, "redis://:hush-hush@127.0.0.1:1", core.to_json().decode(), 50.0, since={"freq:ce:i1": "3-4"}
    )
    run.write()
    path = tmp_path / roles.RUN
    assert b"hush-hush" not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    assert roles.read(tmp_path) == run
    assert from_json(run.core.encode()) == core
    monkeypatch.delenv("FLYBALL_REDIS_URL")
    embedded = roles.Run(config, tmp_path, "unix:///x/r.sock", run.core, 50.0)
    embedded.write()
    assert orjson.loads(path.read_bytes())["url"] == "unix:///x/r.sock"
    assert roles.read(tmp_path) == embedded
    assert embedded.urls == ("unix:///x/r.sock",)


def test_both_servers_addresses_stay_out_of_the_file_and_each_process_takes_its_own_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = "rediss://:hush-hush@one:1", "rediss://:quiet-quiet@two:1"
    monkeypatch.setenv("FLYBALL_REDIS_URL", a)
    monkeypatch.setenv("FLYBALL_REDIS_URL_B", b)
    run = roles.Run(load(None), tmp_path, a, CORE.to_json().decode(), 50.0, url_b=b)
    run.write()
    written = (tmp_path / roles.RUN).read_bytes()
    assert b"hush-hush" not in written
    assert b"quiet-quiet" not in written
    assert roles.read(tmp_path).urls == (a, b)
    assert roles.read(tmp_path).as_user("worker").urls == (a, b)
    for name in ("FLYBALL_REDIS_URL", "FLYBALL_REDIS_URL_B"):
        monkeypatch.delenv(name)
    passwords = users.make_passwords(tmp_path / "keys")
    own = roles.Run(load(None), tmp_path, "unix:///x/r.sock", run.core, 50.0, url_b="unix:///y/r.sock")
    own.write()
    assert not [word for word in passwords.values() if word.encode() in (tmp_path / roles.RUN).read_bytes()]
    assert roles.read(tmp_path).as_user("worker").urls == (
        f"unix://worker:{passwords['worker']}@/x/r.sock", f"unix://worker:{passwords['worker']}@/y/r.sock",
    )  # fmt: skip


def test_every_stream_of_an_area_is_known() -> None:
    assert set(roles.streams("ce")) == {
        "freq:ce:i1", "sources:ce:i1", "backfill:ce:i1", "fleet:ce:g1", "cmd:ce:g1", "signal:ce:a1", "signal:ce:u1",
        "wishes:ce:a1", "journal:ce:w1",
    }  # fmt: skip


def test_each_simulated_unit_has_a_port_and_a_process() -> None:
    usual = tuple(role for role in ORDER if role != "utility")
    assert roles_of(load(None)) == usual
    assert roles_of(load(None, unit__simulated=False)) == tuple(role for role in usual if role != "unit")
    assert roles_of(validate({"utility": {}}, "x")) == ORDER
    found = with_ports(load(None, unit__count=3, api__port=0))
    ports = [source.port for source in found.sources]
    assert len({*ports, found.api.port}) == 4
    assert roles_of(found)[1:4] == ("unit", "unit2", "unit3")
    assert [roles.unit_table(found, n).port for n in (1, 2, 3)] == ports
    assert found.unit.port == ports[0]
    # What the processes read is what was written.
    assert validate(found.model_dump(mode="json"), "x").sources == found.sources


def test_real_sources_keep_their_ports_and_get_no_process() -> None:
    tables = [{"name": "real", "port": 1}, {"name": "played", "simulated": True, "host": "127.0.0.1", "priority": 2}]
    found = with_ports(load(None, source=tables, api__port=0))
    assert found.sources[0].port == 1
    assert found.sources[1].port > 1
    assert roles_of(found) == tuple(role for role in ORDER if role != "utility")
    assert roles.unit_table(found, 1).port == found.sources[1].port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        tables[1]["port"] = taken.getsockname()[1]
        with pytest.raises(StartError, match=r"source\.port of 'played': port .* in use"):
            with_ports(load(None, source=tables, api__port=0))


def test_faults_belong_to_the_unit_they_name() -> None:
    faults = ("spike@5", "2:lie@8+3, nan@9", "2:silence@1")
    assert [fault.kind for fault in faults_of(faults, 1)] == ["spike", "nan"]
    assert [(fault.kind, fault.at_s, fault.for_s) for fault in faults_of(faults, 2)] == [
        ("lie", 8.0, 3.0), ("silence", 1.0, 5.0),
    ]  # fmt: skip
    check_faults(load(None, unit__count=2, unit__faults=faults))
    with pytest.raises(ConfigError, match=r"`unit\.faults`: unit 2 of 1 simulated ones; see `--units`"):
        check_faults(load(None, unit__faults=faults))
    with pytest.raises(ValueError, match="fault 'spyke@5'"):
        check_faults(load(None, unit__count=2, unit__faults=("2:spyke@5",)))


def test_the_summary_tells_of_each_source() -> None:
    told = {"name": "a", "address": "h:1", "decided": 5, "rejected": {"nan": 1}, "clock": {"drift_ppm": 3.0}}
    ingest = {"published": 110, "epoch": 100, "alarms": ["SOURCE_LOST"], "sources": [{**told, "state": "lost"}]}
    found = summarise(parts(ingest=ingest), CORE)
    assert found["sources"] == [told]
    assert found["alarms"] == ["DEAD_BUS", "SOURCE_LOST"]


def test_no_port_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter([5, 5, 5, 6, 7, 8])
    monkeypatch.setattr(supervisor, "free_port", lambda *_: next(given))
    assert [source.port for source in with_ports(load(None, unit__count=3)).sources] == [5, 6, 7]


def test_of_several_ingests_each_counts_from_its_own_first_sample() -> None:
    """The second one was killed: what it said last is older than what was ticked of it."""
    read = {
        "i1": {"first_id": "100-11", "ticked": 100}, "i2": {"first_id": "300-1", "ticked": 50},
    }  # fmt: skip
    found = summarise(
        parts(
            worker=worker(ticked=150, ingests=read),
            ingest={"published": 114, "epoch": 100, "alarms": ["SOURCE_LOST"], "sources": [{"name": "a"}]},
            ingest2={"published": 5, "epoch": 400, "sources": [{"name": "b"}]},
            past={"ingest2": [{"published": 40, "epoch": 300}]},
        ),
        CORE,
    )
    assert found["samples_in"] == 104 + 50
    assert found["samples_lost"] == 4
    assert [(source["name"], source["ingest"]) for source in found["sources"]] == [("a", "i1"), ("b", "i2")]
    assert found["alarms"] == ["DEAD_BUS", "SOURCE_LOST"]
