"""`flyball bid` and `backtest --sold bid` as they are called, and bids over the API."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from typer.testing import CliRunner

from aggregator.api.bids import Bids
from aggregator.api.errors import Refusal
from aggregator.api.routes import ENDPOINTS, SETTINGS, get_bids
from aggregator.api.settings import Settings
from aggregator.bidding import asked, available
from aggregator.bidding.available import FILE
from aggregator.cli import app
from aggregator.cli.bidding import seller_of
from droop.products import load
from tests.aggregator.bidding.histories import FIRST, NS, bundle, made
from tests.aggregator.test_backtesting import settings_of

DAY = FIRST + timedelta(30)
TOKEN = "test-token-0123456789"  # noqa: S105 - of these tests alone


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A backtest's folder with thirty days of availability; of 150 chargers, so that a megawatt is far."""
    found, sold = tmp_path_factory.mktemp("history"), bundle([load("ce_fcr")])
    available.write(found / FILE, made(sold, 30, chargers=900), sold)
    return found


def called(*args):
    """(exit status, standard output, error). The exception is what `main` turns into one line and status 2."""
    found = CliRunner().invoke(app, ["bid", *map(str, args)])
    return found.exit_code, found.stdout, str(found.exception)


def test_bids_are_made_shown_written_and_drawn(folder, tmp_path):
    page = tmp_path / "bids.html"
    status, said, _ = called(
        "--product", "ce_fcr", "--history", folder, "--date", DAY, "--confidence", "0.9", "--out", page, "--json", "-"
    )
    assert status == 0
    document = orjson.loads(said)
    assert len(document["blocks"]) == 6
    assert all(row["offer_kw"] % 1000 == 0 for row in document["blocks"])
    assert sum(row["offer_kw"] for row in document["blocks"]) > 0
    assert document["backtest"]["passed"] is True
    html = page.read_text(encoding="utf-8")
    assert "<html" in html
    assert 'src="http' not in html
    assert "cut: quantile" in html
    assert "available then" in html
    status, shown, _ = called("--product", "ce_fcr", "--history", folder, "--date", DAY, "--confidence", "0.9")
    assert status == 0
    assert "16:00-20:00" in shown
    assert "quantile" in shown
    assert "On its own history: passed" in shown


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"--confidence": "1"}, "--confidence: confidence takes a probability"),
        ({"--date": "tomorrow"}, "--date tomorrow"),
        ({"--date": (FIRST + timedelta(20)).isoformat()}, "a bid rests on what is known before it"),
        ({"--product": "nordic_fcr_n"}, "not of nordic_fcr_n:1"),
        ({"--product": "no_such"}, "`no_such` is not in the catalogue"),
        ({"--how": "luck"}, "--how luck"),
        ({"--round-trip": "1.5"}, "--round-trip"),
        ({"--history": "/nowhere"}, "nowhere"),
        ({"--out": "/nowhere/b.html"}, "--out"),
        ({"--window-days": "2"}, "--window-days"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(folder, changed, named):
    options = {"--product": "ce_fcr", "--history": folder, "--date": DAY, "--confidence": "0.9"} | changed
    status, said, error = called(*(part for pair in options.items() for part in pair))
    assert status != 0
    assert named in error
    assert said == ""


def test_selling_by_the_rule_begins_with_nothing_sold(folder):
    settings = settings_of(sold_kw=24.0)
    assert seller_of("fixed", settings, [], 0.99) == (settings, None)
    begun, seller = seller_of("bid", settings, [folder], 0.95)
    assert begun.contracts[0].sold_kw == 0.0
    assert seller.rule.confidence == 0.95
    assert seller.known().size == 30 * 96
    for wrong, named in (
        (("some", settings, [], 0.9), "--sold some"),
        (("fixed", settings, [folder], 0.9), "--history: goes with"),
        (("bid", settings_of(sold_kw=0.0), [], 0.9), "sold_kw"),
        (("bid", settings, [], 1.0), "confidence"),
    ):
        with pytest.raises(ValueError, match=named):
            seller_of(*wrong)


class TestAsked:
    """The process that answers the API."""

    @staticmethod
    def of(folder, **changed):
        now_ns = available.read(folder / FILE, bundle([load("ce_fcr")]))["end_ns"][-1] - NS
        plain = {"folder": str(folder), "product": "ce_fcr", "date": "", "confidence": "0.9", "now_ns": int(now_ns)}
        return asked.answered(plain | changed)

    def test_tomorrow_is_the_markets(self, folder):
        found = self.of(folder)
        assert found["status"] == 200
        assert found["answer"]["date"] == DAY.isoformat()

    @pytest.mark.parametrize(
        ("changed", "status", "field"),
        [
            ({"product": "no_such"}, 404, "product"),
            ({"date": "soon"}, 400, "date"),
            ({"confidence": "2"}, 400, "confidence"),
            ({"confidence": "x"}, 400, "confidence"),
            ({"date": "2026-09-20"}, 409, "date"),
            ({"date": "2026-09-10"}, 409, "date"),
            ({"product": "nordic_fcr_n"}, 409, "date"),
        ],
    )
    def test_a_refusal_is_an_answer(self, folder, changed, status, field):
        found = self.of(folder, **changed)
        assert (found["status"], found["field"]) == (status, field)
        assert found["error"]
        assert found["remedy"]

    def test_too_little_history_is_told_as_that(self, tmp_path):
        sold = bundle([load("ce_fcr")])
        available.write(tmp_path / FILE, made(sold, 3), sold)
        found = self.of(tmp_path)
        assert (found["status"], found["field"]) == (409, "history")


class TestApi:
    def ask(self, folder, product="ce_fcr", **more):
        more = {"bids_wait_s": 600.0} | more  # a busy machine is no failure
        settings = Settings("unix:///nowhere", TOKEN, history=folder, **more)
        now_ns = 1_791_300_000 * NS
        return asyncio.run(Bids(settings, lambda: now_ns, lambda: 0.0).of(product, DAY.isoformat(), "0.9"))

    def test_a_process_of_its_own_answers(self, folder, tmp_path):
        (tmp_path / "journal").mkdir()
        (tmp_path / FILE).write_bytes((folder / FILE).read_bytes())
        found = self.ask(tmp_path)
        assert found["date"] == DAY.isoformat()
        assert len(found["blocks"]) == 6

    def test_without_history_or_product_it_is_refused_by_name(self, tmp_path):
        for folder, product, status in ((None, "ce_fcr", 404), (tmp_path, "ce_fcr", 404), (None, "", 400),
                                        (tmp_path, "mine.toml", 400)):  # fmt: skip
            with pytest.raises(Refusal) as refused:
                self.ask(folder, product)
            assert refused.value.status == status
            assert refused.value.field == "product"
        (tmp_path / "journal").mkdir()
        with pytest.raises(Refusal) as refused:
            self.ask(tmp_path)
        assert (refused.value.status, refused.value.field) == (409, "history")

    def test_a_process_that_takes_too_long_is_ended(self, tmp_path):
        (tmp_path / "journal").mkdir()
        with pytest.raises(Refusal, match="not made within") as refused:
            self.ask(tmp_path, bids_wait_s=0.01)
        assert refused.value.status == 503

    def test_nobody_without_the_token_is_told(self):
        application = web.Application()
        application[SETTINGS] = Settings("unix:///nowhere", TOKEN)
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            request = make_mocked_request("GET", "/v1/bids?product=ce_fcr", headers=headers, app=application)
            with pytest.raises(Refusal) as refused:
                asyncio.run(get_bids(request))
            assert refused.value.status == 401
        (endpoint,) = [endpoint for endpoint in ENDPOINTS if endpoint.path == "/v1/bids"]
        assert endpoint.token
        assert 409 in endpoint.refusals
