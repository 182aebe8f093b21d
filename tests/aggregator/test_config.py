"""The configuration: every mistake is one line that names its place and the remedy."""

from __future__ import annotations

from typing import get_args

import pytest
from pydantic import BaseModel

from aggregator.config import Config, ConfigError, load, redis_url, redis_url_b, validate
from aggregator.configured import core_settings

TABLES = {
    "fleet": "vehicles", "unit": "rate_hz", "quality": "stuck_s", "engine": "refresh_s", "api": "port",
    "limits": "bypass_k", "store": "maxmemory_mb", "journal": "keep_days", "choice": "policy",
    "protection": "ride_through", "worker": "ingests", "settlement": "prices",
}  # fmt: skip


def written(tmp_path, text):
    path = tmp_path / "flyball.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_defaults_make_a_whole_configuration():
    config = load(None)
    assert config == Config()
    assert config.api.host == "127.0.0.1"
    settings = core_settings(config)
    assert (settings.area, settings.rows, settings.nominal_hz) == ("ce", 1000, 50.0)
    assert settings.contracts[0].sold_kw == settings.signal_max_kw == 2000.0
    assert settings.renew_s == settings.validity_s / 2


def test_the_tables_here_are_all_there_are():
    tables = [
        name for name, field in Config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    ]  # fmt: skip
    assert sorted(tables) == sorted(TABLES)
    for name in ("contract", "site", "source", "meter"):
        assert issubclass(get_args(Config.model_fields[name].annotation)[0], BaseModel)


@pytest.mark.parametrize(("table", "key"), sorted(TABLES.items()))
def test_an_unknown_key_in_any_table_names_the_nearest(tmp_path, table, key):
    wrong = key[:-1] + "x" + key[-1]
    path = written(tmp_path, f"[{table}]\n{wrong} = 1\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: unknown key `{table}.{wrong}`; did you mean `{table}.{key}`?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[unit.tls]\ncert = 'a'\nkey = 'b'\npin = ['c']", "unknown key `unit.tls.pin`; did you mean `unit.tls.pins`?"),
        ("arae = 'ce'", "unknown key `arae`; did you mean `area`?"),
        ("[flet]\nvehicles = 3", "unknown key `flet`; did you mean `fleet`?"),
        ("[[contract]]\nsolld_kw = 3", "unknown key `contract.0.solld_kw`; did you mean `contract.0.sold_kw`?"),
        ("[[contract]]\n[[contract]]\nprodukt = 'x'", "`contract.1.produkt`; did you mean `contract.1.product`?"),
        ("zzzzzzzz = 1", "unknown key `zzzzzzzz`; known here: api, area, choice, contract"),
        ("[store]\nzzzzzzzz = 1", "known here: maxmemory_mb"),
        ("[fleet]\nvehicles = 'many'", "`fleet.vehicles`"),
        ("[fleet]\nvehicles = 0", "`fleet.vehicles`"),
        ("[fleet]\nvehicles = 1.5", "`fleet.vehicles`"),
        ("fleet = 3", "`fleet`"),
        ("[contract]\nproduct = 'ce_fcr'", "`contract`"),
        ("[[contract]]\nsold_kw = -1", "`contract.0.sold_kw`"),
        ("[[contract]]\nsold_kw = inf", "`contract.0.sold_kw`"),
        ("[[contract]]\nsold_kw = nan", "`contract.0.sold_kw`"),
        ("[unit]\nrate_hz = nan", "`unit.rate_hz`"),
        ("[unit]\nport = 65536", "`unit.port`"),
        ("[journal]\nkeep_days = -1", "`journal.keep_days`"),
        (
            "[journal.keep_kind_days]\nvehicle = 3",
            "`keep_kind_days.vehicle` is no table of the journal; known: accounts, backfill",
        ),
        ("[journal.keep_kind_days]\nvehicles = nan", "`journal.keep_kind_days.vehicles`"),
        ("[unit]\ncount = 9", "`unit.count`"),
        ("[unit]\ncount = 2\nsimulated = false", "`unit.count`: counts simulated units alone"),
        ("[unit]\ncount = 2\n[[source]]\nname = 'a'\nport = 1", "`unit.count`: counts simulated units alone"),
        ("[source]\nname = 'a'", "`source`: one table of several; write its head as [[source]]"),
        ("[[source]]\nport = 1", "`source.0.name`: Field required"),
        ("[[source]]\nname = 'a'", "`port`: name the port of the source, or make it `simulated`"),
        ("[[source]]\nname = 'a'\nport = 1\nkind = 'dnp3'", "`source.0.kind`"),
        ("[[source]]\nname = 'a'\nport = 1\npriority = 0", "`source.0.priority`"),
        ("[[source]]\nname = 'a'\nport = 1\nprioritiy = 2", "did you mean `source.0.priority`?"),
        ("[[source]]\nname = 'a'\nkind = 'c37118'\nsimulated = true", "the simulated unit speaks iec61850"),
        ("[[source]]\nname = 'a'\nport = 1\n[[source]]\nname = 'a'\nport = 2", "`source.name`: 'a' is given twice"),
        (
            "".join(f"[[source]]\nname = 's{n}'\nport = {n}\n" for n in range(1, 10)),
            "`source`: 9 tables; one process follows 8 at most",
        ),
        ("[choice]\npolicy = 'best'", "`choice.policy`"),
        ("[choice]\nagree_hz = nan", "`choice.agree_hz`"),
        ("[choice]\nagree_mhz = 20", "did you mean `choice.agree_hz`?"),
        ("[quality]\nspike_test = 'mean'", "`quality.spike_test`"),
        ("[engine]\nsample_age_max_s = inf", "`engine.sample_age_max_s`"),
        ("[engine]\nstale_s = 6.0", "`engine.stale_s`"),
        ("[engine]\nfresh_s = 60.0", "`engine.fresh_s`"),
        ("[engine]\nfresh_s = 3.0\nstale_s = 2.0", "`fresh_s` must not be above `stale_s`"),
        ("[engine]\nreversal_factor = 0.5", "`engine.reversal_factor`"),
        ("[engine]\nmost_frac = 0.0", "`engine.most_frac`"),
        ("[engine]\nwear_price = -1", "`engine.wear_price`"),
        ("[engine]\ndwell_s = nan", "`engine.dwell_s`"),
        ("[engine]\nretry_s = 0", "`engine.retry_s`"),
        ("[fleet]\nliars_frac = 1.1", "`fleet.liars_frac`"),
        ("[fleet]\nliar_frac = 0.1", "did you mean `fleet.liars_frac`?"),
        ("[limits]\ntaper_least_frac = 0", "`limits.taper_least_frac`"),
        ("[limits]\ncold_c = nan", "`limits.cold_c`"),
        ("[limits]\ncold_stop_c = 5.0", "must rise in this order"),
        ("[limits]\ncold_c = 45.0", "must rise in this order"),
        ("[limits]\nhot_c = 55.0", "must rise in this order"),
        ("[limits]\ntaper_from_frac = 0.08", "`weak_below_frac` must be below"),
        ("[site]\nname = 'a'", "`site`: one table of several; write its head as [[site]]"),
        ("[[site]]\nname = 'a'\nfirst = 0\ncount = 1\nexport_kw = nan", "`site.0.export_kw`"),
        (
            "[[site]]\nname = 'a'\nfirst = 0\ncount = 1\nlocal_meter = 7\n"
            "[[site]]\nname = 'b'\nfirst = 1\ncount = 1\nlocal_meter = 7",
            "`site.local_meter`: 'a' and 'b' both name 7",
        ),
        ("[[site]]\nfirst = 0\ncount = 1", "`site.0.name`: Field required"),
        ("[[site]]\nname = 'a b'\nfirst = 0\ncount = 1", "`site.0.name`"),
        ("[[site]]\nname = 'a'\nfirst = -1\ncount = 1", "`site.0.first`"),
        ("[[site]]\nname = 'a'\nfirst = 0\ncount = 0", "`site.0.count`"),
        ("[[site]]\nname = 'a'\nfirst = 0\ncount = 1\nexport_kw = -1", "`site.0.export_kw`"),
        ("[[site]]\nname = 'a'\nfirst = 0\ncount = 1\nimport_kw = inf", "`site.0.import_kw`"),
        ("[[site]]\nname = 'a'\nfirst = 0\ncount = 1\nexpert_kw = 1", "did you mean `site.0.export_kw`?"),
        ("[[site]]\nname = 'a'\nfirst = 0\ncount = 1\nlocal_lo_kw = -5", "need a `local_meter`"),
        ("[[site]]\nname = 'a'\nfirst = 0\ncount = 1\nlocal_meter = 1", "`site.0.local_meter`"),
        (
            "[[site]]\nname = 'a'\nfirst = 0\ncount = 1\nlocal_meter = 7\nlocal_lo_kw = 3\nlocal_hi_kw = 2",
            "`local_lo_kw` must not be above",
        ),
        ("area = 'a b'", "`area`"),
        ("area = '../x'", "`area`"),
        ("log = 'loud'", "`log`"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_place(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def sites(*rows):
    """rows : (name, parent, first, count)"""
    tables = [
        {"name": name, "first": first, "count": count} | ({"parent": parent} if parent else {})
        for name, parent, first, count in rows
    ]
    return validate({"site": tables, "fleet": {"vehicles": 100}}, "test").site


def test_sites_are_a_tree_over_the_fleets_rows_in_any_order():
    made = sites(("b", "a", 20, 30), ("a", None, 0, 50), ("c", "b", 20, 30), ("d", "a", 0, 20), ("e", None, 50, 50))
    assert [site.name for site in made] == ["b", "a", "c", "d", "e"]
    assert (made[0].last, made[0].export_kw, made[0].local_meter) == (50, None, None)
    assert sites() == ()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", None, 0, 50), ("a", None, 50, 50)], "`site.name`: 'a' is given twice"),
        ([("a", None, 60, 41)], "`site.count`: 'a' ends at row 101, the fleet has 100"),
        ([("a", "z", 0, 50)], "`site.parent`: 'a' names 'z', which is no site"),
        ([("a", None, 10, 50), ("b", "a", 9, 5)], "`site.parent`: 'b' does not lie within 'a'"),
        ([("a", None, 10, 50), ("b", "a", 56, 5)], "`site.parent`: 'b' does not lie within 'a'"),
        ([("a", "a", 0, 50)], "`site.parent`: 'a' lies within itself"),
        ([("a", "b", 0, 50), ("b", "a", 0, 50)], "lies within itself"),
        ([("a", None, 0, 50), ("b", None, 49, 5)], "`site.first`: 'a' and 'b' share rows; make one the parent"),
        ([("a", None, 0, 99), ("c", "a", 30, 9), ("b", "a", 20, 30)], "'b' and 'c' share rows"),
    ],
)
def test_sites_that_are_no_tree_are_named(rows, message):
    with pytest.raises(ConfigError) as caught:
        sites(*rows)
    assert str(caught.value).startswith("test: `site.")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match="no such configuration file"):
        load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="not a TOML file"):
        load(written(tmp_path, "area = ["))
    (tmp_path / "latin.toml").write_bytes(b"area = '\xe9'")
    with pytest.raises(ConfigError, match="not a TOML file"):
        load(tmp_path / "latin.toml")


def test_options_stand_above_the_file_and_none_leaves_it(tmp_path):
    path = written(tmp_path, "area = 'gb'\n[fleet]\nvehicles = 5\nseed = 9\n")
    config = load(path, fleet__vehicles=7, fleet__seed=None, unit__rate_hz=10.0, area=None)
    assert (config.area, config.fleet.vehicles, config.fleet.seed, config.unit.rate_hz) == ("gb", 7, 9, 10.0)
    with pytest.raises(ConfigError, match=r"options: `fleet\.vehicles`"):
        load(None, fleet__vehicles=-1)


def test_an_option_for_what_the_file_has_as_no_table_names_it(tmp_path):
    with pytest.raises(ConfigError, match="`fleet`"):
        load(written(tmp_path, "fleet = 3"), fleet__vehicles=7)


def test_a_configuration_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load(None).fleet.vehicles = 3


def test_the_environment_names_the_store(monkeypatch):
    monkeypatch.delenv("FLYBALL_REDIS_URL", raising=False)
    assert redis_url(None) is None
    assert redis_url("unix:///embedded") == "unix:///embedded"
    monkeypatch.setenv("FLYBALL_REDIS_URL", "")
    assert redis_url("unix:///embedded") == "unix:///embedded"
    monkeypatch.setenv("FLYBALL_REDIS_URL", "redis://store:6379")
    assert redis_url("unix:///embedded") == "redis://store:6379"


def test_the_second_server_is_an_independent_one_or_none(monkeypatch):
    for name in ("FLYBALL_REDIS_URL", "FLYBALL_REDIS_URL_B"):
        monkeypatch.delenv(name, raising=False)
    assert redis_url_b(None) is None
    assert redis_url_b("unix:///embedded") == "unix:///embedded"
    monkeypatch.setenv("FLYBALL_REDIS_URL_B", "redis://b:6379")
    with pytest.raises(ConfigError, match="FLYBALL_REDIS_URL is not"):
        redis_url_b(None)
    monkeypatch.setenv("FLYBALL_REDIS_URL", "redis://a:6379")
    assert redis_url_b("unix:///embedded") == "redis://b:6379"
    monkeypatch.setenv("FLYBALL_REDIS_URL", "redis://b:6379")
    with pytest.raises(ConfigError, match="independent"):
        redis_url_b(None)
    # A first one of one's own has no embedded one beside it.
    monkeypatch.delenv("FLYBALL_REDIS_URL_B")
    assert redis_url_b("unix:///embedded") is None


def sold(*products):
    return validate({"contract": [{"product": name, "sold_kw": 5.0} for name in products]}, "test")


def test_products_of_two_grids_are_not_sold_in_one_area():
    with pytest.raises(ConfigError, match="50 and of 60 Hz"):
        core_settings(sold("ce_fcr", "ieee1547"))
    stack = core_settings(sold("gb_dc_low", "gb_dc_high"))
    assert (stack.nominal_hz, stack.signal_max_kw, stack.interval_s) == (50.0, 10.0, 1800)


def test_a_contract_that_names_no_power_sells_two_kilowatts_a_vehicle_and_zero_is_zero():
    others = [{"product": "nordic_fcr_n", "sold_kw": 3.0}, {"product": "gb_dc_low", "sold_kw": 0}]
    config = validate({"contract": [{}, *others], "fleet": {"vehicles": 10}}, "test")
    assert [contract.sold_kw for contract in core_settings(config).contracts] == [20.0, 3.0, 0.0]


def test_the_engines_times_reach_the_core():
    times = {"refresh_s": 2.0, "fresh_s": 1.5, "stale_s": 4.0, "validity_s": 10.0, "overshoot_frac": 0.2}
    settings = core_settings(validate({"engine": times | {"sample_age_max_s": 0.3}}, "test"))
    assert {name: getattr(settings, name) for name in times} == times
    assert (settings.renew_s, settings.sample_age_max_s) == (5.0, 0.3)
    assert settings.horizon_s > settings.refresh_s  # bounds in energy must last until they are renewed
    assert core_settings(validate({"api": {"signal_max_kw": 0.0}}, "test")).signal_max_kw == 0.0


def test_limits_of_the_journal_are_those_its_housekeeping_takes(tmp_path):
    path = written(
        tmp_path, "[journal]\nkeep_days = 30\nkeep_gb = 1.5\nkeep_kind_days = { vehicles = 7, commands = 0 }\n"
    )
    assert load(path).journal.limits() == (30.0, {"vehicles": 7.0, "commands": 0.0}, 1_500_000_000)
    assert load(None).journal.limits() == (0.0, {}, 0)


def test_sources_are_those_of_the_file_or_the_units(tmp_path):
    def named(text):
        return [(s.name, s.port, s.priority, s.simulated) for s in load(written(tmp_path, text)).sources]

    assert named("") == [("unit1", 0, 1, True)]
    assert named("[unit]\nport = 7\ncount = 2") == [("unit1", 7, 1, True), ("unit2", 0, 2, True)]
    assert named("[unit]\nport = 7\nsimulated = false") == [("unit1", 7, 1, False)]
    two = "[[source]]\nname = 'b'\nport = 2\npriority = 2\n[[source]]\nname = 'a'\nsimulated = true\n"
    assert named(two) == [("a", 0, 1, True), ("b", 2, 2, False)]
    options = two + "[source.options]\nreport_block = 'X/LLN0.RP.a'\n"
    assert load(written(tmp_path, options)).sources[0].options == {"report_block": "X/LLN0.RP.a"}


SOURCE = """
[[source]]
name = "{name}"
port = {port}
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[worker]\ningests = ['i1', 'i1']", "`worker.ingests`: 'i1' is given twice"),
        ("[worker]\ningests = []", "`worker.ingests`"),
        ("[worker]\ningests = ['i9']", "`worker.ingests.0`"),
        (SOURCE.format(name="a", port=1) + 'ingest = "i2"', "`source.ingest`: 'i2' of 'a' is none of `worker.ingests`"),
        (
            '[worker]\ningests = ["i1", "i2"]' + SOURCE.format(name="a", port=1) + 'ingest = "i2"',
            "`worker.ingests`: 'i1' has no source",
        ),
        (
            '[worker]\ningests = ["i1", "i2"]'
            + SOURCE.format(name="a", port=1)
            + SOURCE.format(name="b", port=2)
            + 'ingest = "i2"\noptions = {history = true}',
            "`source.options.history` of 'b': only 'i1' brings late history",
        ),
    ],
)
def test_ingests_that_cannot_be_are_named(tmp_path, text, said):
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text))
    assert said in str(caught.value)


def test_sources_are_shared_out_among_ingests(tmp_path):
    text = '[worker]\ningests = ["i2", "i1"]' + SOURCE.format(name="a", port=1) + SOURCE.format(name="b", port=2)
    config = load(written(tmp_path, text + 'ingest = "i2"'))
    assert {name: {k: s.name for k, s in config.sources_of(name).items()} for name in config.worker.ingests} == {
        "i2": {1: "a", 2: "b"}, "i1": {1: "a"},
    }  # fmt: skip
    units = load(None, unit__count=3, worker__ingests=["i1", "i2"])
    assert [list(units.sources_of(name)) for name in units.worker.ingests] == [[1, 3], [2]]
    one = load(None, worker__ingests=["i1", "i2"])
    assert [list(one.sources_of(name)) for name in one.worker.ingests] == [[1], [1]]
