"""Why this power: the worker's answer, the question's way through a real Valkey, the API's route, the command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from typer.testing import CliRunner

from aggregator import explained, questions, views
from aggregator.api.errors import Refusal
from aggregator.api.explaining import WAITING_MAX, Explainer, charger
from aggregator.api.models import ExplainAnswer
from aggregator.api.server import open_store
from aggregator.cli import app
from aggregator.embedded import EmbeddedServer
from aggregator.explained import Explaining, document
from aggregator.process import logger
from aggregator.questions import Question
from droop.explain import explain
from droop.fleet import Wish
from droop.reasons import Reason
from droop.step import Engine, Tick, engine
from droop.watch import Mode
from tests.aggregator.test_api import Api, settings_for

NS = 1_000_000_000
IDENT = "0123456789abcdef"
N = 4
LAM = 0.5


def some(price: float = 0.0) -> Engine:
    """Four chargers of 11 kW: 0 is held by its site, 1 by its owner's wish, 2 is free, 3 is empty."""
    made = engine(N, [], wear_price=price)
    fleet = made.fleet
    fleet.state[:], fleet.session[:] = [1, 1, 1, 0], [7, 8, 9, 3]
    fleet.charge_max_kw[:3] = fleet.discharge_max_kw[:3] = 11.0
    fleet.plan_kw[:3], fleet.slope_up[:3], fleet.slope_dn[:3] = -2.0, [8.0, 4.0, 8.0], 8.0
    fleet.free_lo_kw[:3] = fleet.lo_kw[:3] = -11.0
    fleet.free_hi_kw[:3], fleet.hi_kw[:3] = [10.0, -1.0, 11.0], [1.0, -1.0, 11.0]
    fleet.own_up[:], fleet.own_down[:] = [Reason.SOC, Reason.OVERRIDE, Reason.RATING, 0], Reason.RATING
    fleet.reason_up[:], fleet.reason_down[:] = [Reason.SITE, Reason.OVERRIDE, Reason.RATING, 0], Reason.RATING
    fleet.command_kw[:3] = [1.0, -1.0, 2.0]
    fleet.wish[:2], fleet.wish_until_ns[:2] = [Wish.CHARGE_NOW, Wish.NO_DISCHARGE], [99 * NS, 101 * NS]
    made.last_ns[0] = 100 * NS
    return made


def decided(request_kw: float = 2.0) -> Tick:
    return Tick(request_kw, 0.0, 2.0, 2.0, 0.0, -33.0, 11.0, LAM, 1, int(Mode.NORMAL), 0)


def test_an_answer_holds_the_explanation_and_what_stands_behind_it() -> None:
    made = some()
    held, wished, free = (document(made, decided(), slot) for slot in range(3))
    for slot, found in enumerate((held, wished, free)):
        said = explain(made.fleet, slot, LAM, 2.0).to_dict()
        assert {name: found[name] for name in said} == said
        assert (found["slot"], found["session"], found["t_ns"], found["request_kw"]) == (slot, 7 + slot, 100 * NS, 2.0)
        assert (found["rated_lo_kw"], found["rated_hi_kw"], found["own_lo_kw"]) == (-11.0, 11.0, -11.0)
        assert found["own_reason_down"] == "rating"
        json.dumps(found, allow_nan=False)
    assert (held["power_kw"], held["reason"], held["without_kw"], held["binding"]) == (1.0, "site", 2.0, True)
    assert (held["own_hi_kw"], held["own_reason_up"]) == (10.0, "soc")
    assert held["resolved_lam"] < LAM  # its 1 kW more is 1 kW less of the others
    assert (free["power_kw"], free["binding"], free["without_kw"]) == (2.0, False, 2.0)
    # A wish that has lapsed is none, though its column still stands.
    assert (held["wish"], held["wish_until_ns"], held["wish_up_kw"], held["wish_down_kw"]) == ("none", 0, 0.0, 0.0)
    assert (wished["wish"], wished["wish_until_ns"]) == ("no_discharge", 101 * NS)
    assert (wished["wish_up_kw"], wished["wish_down_kw"]) == (12.0, 0.0)


def test_a_wish_to_leave_alone_takes_both_directions() -> None:
    made = some()
    fleet = made.fleet
    fleet.own_down[1] = fleet.reason_down[1] = Reason.OVERRIDE
    fleet.free_lo_kw[1] = fleet.lo_kw[1] = -2.0
    found = document(made, decided(), 1)
    assert (found["wish_up_kw"], found["wish_down_kw"]) == (12.0, 9.0)


def test_the_price_of_wear_is_part_of_it() -> None:
    assert document(some(), decided(), 2)["price"] == 0.0
    found = document(some(0.25), decided(), 2)
    assert (found["price"], found["moved_kw"]) == (0.25, 2.0)
    one = some(0.25)._replace(price=np.full(1, 0.25, np.float32))
    assert document(one, decided(), 2) == found


def test_the_request_is_the_decisions() -> None:
    short, long = (document(some(), decided(kw), 0) for kw in (-3.0, 6.0))
    assert short["resolved_kw"] < long["resolved_kw"]
    assert short["without_kw"] == long["without_kw"]


def test_warming_reaches_the_second_split(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    monkeypatch.setattr(explained, "explain", lambda *given: found.append(explain(*given)))
    explained.warm()
    assert found[0].binding


@pytest.mark.parametrize(
    "data",
    [
        b"", b"no", b"[1]", b"{}", b'"x"', b"\xff",
        b'{"ident":"0123456789abcdef","slot":1}',
        b'{"ident":"0123456789abcdef","slot":1,"session":1,"more":1}',
        b'{"ident":"0123456789abcde","slot":1,"session":1}',
        b'{"ident":"live:ce000000000","slot":1,"session":1}',
        b'{"ident":"0123456789abcdef\\n","slot":1,"session":1}',
        b'{"ident":7,"slot":1,"session":1}',
        b'{"ident":"0123456789abcdef","slot":-1,"session":1}',
        b'{"ident":"0123456789abcdef","slot":true,"session":1}',
        b'{"ident":"0123456789abcdef","slot":1,"session":1.0}',
    ],
)  # fmt: skip
def test_what_is_no_question_is_named(data: bytes) -> None:
    with pytest.raises(questions.QuestionError):
        questions.decode(data)


def test_a_question_comes_out_as_it_went_in() -> None:
    question = Question(IDENT, 3, 2**32 - 1)
    assert questions.decode(questions.encode(question)) == question


@pytest.fixture(scope="module", autouse=True)
def warmed() -> None:
    """As the worker does: kernels that load within the first answer could outlast the wait for it."""
    explained.warm()


@pytest.fixture(scope="module")
def valkey() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
def store(valkey: EmbeddedServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey.url) as made:
        made.flushall()
        yield made


class Answering:
    """The worker's share of it, in a thread: takes one question at a time while `alive`."""

    def __init__(self, store: redis.Redis) -> None:
        self.engine, self.last, self.alive = some(), decided(), True
        self.explaining = Explaining(store, "ce", logger("worker"))
        self._store, self._stop = store, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def once(self) -> None:
        with self._store.pipeline(transaction=False) as pipeline:
            self.explaining.take(pipeline)
            taken = pipeline.execute(raise_on_error=False)[-1]
        if taken is not None:
            self.explaining.answer(taken, self.engine, self.last)

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            if self.alive:
                self.show()
                self.once()

    def show(self) -> None:
        fleet = self.engine.fleet
        rows = np.zeros(N, views.FLEETVIEW)
        rows["slot"], rows["session"], rows["state"] = np.arange(N), fleet.session, fleet.state
        rows["vehicle"] = [b"EV-0", b"twin", b"twin", b""]
        self._store.set("fleetview:ce", views.encode(time.time_ns(), rows))

    def __enter__(self) -> Answering:
        self.show()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def answer(store: redis.Redis, ident: str = IDENT) -> Any:
    found = store.get(questions.answered("ce", ident))
    return None if found is None else json.loads(found)


def test_one_question_is_taken_and_its_answer_expires(store: redis.Redis) -> None:
    worker, second = Answering(store), IDENT[::-1]
    worker.once()
    for question in (Question(IDENT, 2, 9), Question(second, 0, 7)):
        store.rpush(questions.asked("ce"), questions.encode(question))
    worker.once()
    assert answer(store) == document(worker.engine, worker.last, 2)
    assert 0 < store.ttl(questions.answered("ce", IDENT)) <= questions.ANSWER_S
    assert (answer(store, second), store.llen(questions.asked("ce"))) == (None, 1)
    worker.once()
    worker.once()
    assert answer(store, second)["slot"] == 0
    assert (worker.explaining.answered, worker.explaining.malformed) == (2, 0)


@pytest.mark.parametrize("question", [(N, 0), (2, 8), (3, 3), (10**15, 9)])
def test_a_session_that_has_ended_is_said_to_have(store: redis.Redis, question: tuple[int, int]) -> None:
    worker = Answering(store)
    worker.explaining.answer(questions.encode(Question(IDENT, *question)), worker.engine, worker.last)
    assert answer(store) == {"refusal": "gone"}


def test_before_the_first_decision_and_on_numbers_that_do_not_add_up(store: redis.Redis) -> None:
    worker = Answering(store)
    question = questions.encode(Question(IDENT, 2, 9))
    worker.explaining.answer(question, worker.engine, None)
    assert answer(store) == {"refusal": "undecided"}
    worker.engine.fleet.plan_kw[2] = np.nan
    worker.explaining.answer(question, worker.engine, worker.last)
    assert answer(store) == {"refusal": "failed"}


def test_rubbish_on_the_list_stops_nobody(store: redis.Redis) -> None:
    worker = Answering(store)
    store.rpush(questions.asked("ce"), b"rubbish", questions.encode(Question(IDENT, 2, 9)))
    worker.once()
    worker.once()
    assert (worker.explaining.malformed, answer(store)["slot"]) == (1, 2)
    store.set(questions.asked("ce"), "no list at all")
    worker.once()
    assert worker.explaining.malformed == 2


@pytest.fixture
def api(valkey: EmbeddedServer, store: redis.Redis) -> Iterator[Api]:
    made = Api(settings_for(valkey.url, explain_wait_s=1.0))
    yield made
    made.close()


@pytest.fixture
def worker(store: redis.Redis) -> Iterator[Answering]:
    with Answering(store) as made:
        yield made


def test_the_api_explains(worker: Answering, api: Api) -> None:
    now_ns = time.time_ns()
    worker.engine.last_ns[0] = now_ns - 3 * NS
    found = api.get("/v1/vehicles/EV-0/explain")
    said = document(worker.engine, worker.last, 0)
    assert {name: found[name] for name in said} == said
    assert (found["vehicle"], found["slots"]) == ("EV-0", [0])
    assert 3.0 <= found["age_s"] < 60.0
    assert found["sentence"].startswith("1.0 kW: plan")
    assert found.keys() == ExplainAnswer.model_fields.keys()
    described = api.get("/v1/openapi.json")["paths"]["/v1/vehicles/{vehicle}/explain"]["get"]
    assert {"200", "400", "403", "404", "503"} == described["responses"].keys()
    assert "security" not in described
    assert [(p["name"], p["in"]) for p in described["parameters"]] == [("vehicle", "path"), ("slot", "query")]


def test_a_name_at_two_chargers_takes_the_slot(worker: Answering, api: Api) -> None:
    first, second = api.get("/v1/vehicles/twin/explain"), api.get("/v1/vehicles/twin/explain?slot=2")
    assert (first["slot"], second["slot"], first["slots"], second["slots"]) == (1, 2, [1, 2], [1, 2])
    status, body, _ = api.call("GET", "/v1/vehicles/twin/explain?slot=0")
    assert (status, body["field"]) == (404, "slot")


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/v1/vehicles/nobody/explain", 404, "vehicle"),
        ("/v1/vehicles/EV-0%00/explain", 404, "vehicle"),
        ("/v1/vehicles/EV-0/explain?slot=x", 400, "slot"),
        ("/v1/vehicles/EV-0/explain?what=x", 400, "what"),
    ],
)
def test_what_cannot_be_explained_is_named(worker: Answering, api: Api, path: str, status: int, field: str) -> None:
    found, body, _ = api.call("GET", path)
    assert (found, body["field"]) == (status, field)


def test_a_car_that_left_after_the_view_was_written(worker: Answering, api: Api) -> None:
    api.get("/v1/vehicles/EV-0/explain")
    worker.engine.fleet.session[0] += 1  # the API's view is half a second old at most
    status, body, _ = api.call("GET", "/v1/vehicles/EV-0/explain")
    assert (status, body["field"]) == (404, "vehicle")


def test_before_the_first_decision(worker: Answering, api: Api) -> None:
    worker.last = None
    status, body, headers = api.call("GET", "/v1/vehicles/EV-0/explain")
    assert (status, headers["Retry-After"]) == (503, "2")
    assert "nothing has been decided" in body["error"]


def test_a_worker_that_does_not_answer(store: redis.Redis, worker: Answering, api: Api) -> None:
    worker.alive = False
    status, body, headers = api.call("GET", "/v1/vehicles/EV-0/explain")
    assert (status, body["field"], headers["Retry-After"]) == (503, "worker", "2")
    assert "did not answer within 1 s" in body["error"]
    # Nobody will ever take the question: it goes by itself.
    assert 0 < store.ttl(questions.asked("ce")) <= questions.LIST_S


@pytest.mark.parametrize(
    ("reply", "part"),
    [
        (b"rubbish", "could not explain it: no JSON object"),
        (b"[]", "could not explain it: no JSON object"),
        (b'{"refusal": "failed"}', "could not explain it: failed"),
        (b'{"slot": 0}', "answer cannot be read"),
        (b'{"slot": 0, "t_ns": "x"}', "answer cannot be read"),
    ],
)
def test_an_answer_of_another_version_is_said_to_be(
    store: redis.Redis, worker: Answering, api: Api, monkeypatch: pytest.MonkeyPatch, reply: bytes, part: str
) -> None:
    def other(taken: bytes, *_: object) -> None:
        store.set(questions.answered("ce", questions.decode(taken).ident), reply)

    monkeypatch.setattr(worker.explaining, "answer", other)
    status, body, _ = api.call("GET", "/v1/vehicles/EV-0/explain")
    assert (status, body["field"]) == (503, "worker")
    assert part in body["error"]


def test_questions_are_bounded_and_those_of_one_vehicle_are_asked_once(
    store: redis.Redis, valkey: EmbeddedServer
) -> None:
    settings = settings_for(valkey.url, explain_wait_s=0.3)

    async def crowd() -> list[Any]:
        made = open_store(settings)
        explainer = Explainer(made, settings)
        asked = [explainer.ask(slot, 1) for slot in range(WAITING_MAX + 1) for _ in range(3)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        count = store.llen(questions.asked("ce"))
        await asyncio.sleep(0)
        later = await asyncio.gather(explainer.ask(99, 1), return_exceptions=True)
        await made.aclose()
        return [count, found, later]

    count, found, later = asyncio.run(crowd())
    assert count == WAITING_MAX
    assert all(isinstance(refusal, Refusal) and refusal.status == 503 for refusal in [*found, *later])
    assert ["too many" in refusal.error for refusal in found] == [False] * 3 * WAITING_MAX + [True] * 3
    assert "did not answer" in later[0].error  # places come back


def test_the_list_is_bounded(store: redis.Redis, valkey: EmbeddedServer) -> None:
    store.rpush(questions.asked("ce"), *(b"old" for _ in range(100)))
    settings = settings_for(valkey.url, explain_wait_s=0.05)

    async def one() -> None:
        made = open_store(settings)
        with contextlib.suppress(Refusal):
            await Explainer(made, settings).ask(0, 1)
        await made.aclose()

    asyncio.run(one())
    left = store.lrange(questions.asked("ce"), 0, -1)
    assert (len(left), questions.decode(left[-1])[1:]) == (questions.KEPT, (0, 1))


def test_a_dead_store_is_said_to_be() -> None:
    settings = settings_for("redis://127.0.0.1:1")

    async def one() -> None:
        made = open_store(settings)
        try:
            await Explainer(made, settings).ask(0, 1)
        finally:
            await made.aclose()

    with pytest.raises(Refusal, match="store lost"):
        asyncio.run(one())


def test_a_vehicle_is_looked_up_among_those_plugged_in() -> None:
    rows = np.zeros(3, views.FLEETVIEW)
    rows["slot"], rows["session"], rows["state"], rows["vehicle"] = [0, 1, 2], [5, 6, 7], [0, 1, 2], b"EV"
    assert charger("EV", None, rows) == (1, 6, [1, 2])
    assert charger("EV", 2, rows) == (2, 7, [1, 2])
    with pytest.raises(Refusal, match="is not at charger 0"):
        charger("EV", 0, rows)


def said(*words: str) -> Any:
    return CliRunner().invoke(app, ["explain", *words])


def test_the_command_asks_the_running_instance(worker: Answering, api: Api, tmp_path: Path) -> None:
    shown = said("twin", "--url", api.url + "/")
    assert shown.exit_code == 0, shown
    text = " ".join(shown.output.split())
    assert document(worker.engine, worker.last, 1)["sentence"] in text
    for part in ("twin, charger 1", "-11 (rating)", "-1 (override)", "wish no_discharge takes", "rated power"):
        assert part in text
    found = json.loads(said("twin", "--slot", "2", "--url", api.url, "--json", "-").stdout)
    assert (found["slot"], found.keys() == ExplainAnswer.model_fields.keys()) == (2, True)
    assert "wish" not in said("EV-0", "--url", api.url).output
    port = api.url.rpartition(":")[2]
    config = tmp_path / "flyball.toml"
    config.write_text(f'[api]\nhost = "0.0.0.0"\nport = {port}\n')
    assert said("EV-0", "--config", str(config), "--json", str(tmp_path / "out.json")).output == ""
    assert json.loads((tmp_path / "out.json").read_text())["vehicle"] == "EV-0"


def test_the_command_says_in_one_line_what_is_wrong(worker: Answering, api: Api, tmp_path: Path) -> None:
    for words, part in {
        ("nobody", "--url", api.url): "no vehicle 'nobody' is plugged in; GET /v1/vehicles",
        ("a/b?slot=1#x", "--url", api.url): "no vehicle 'a/b?slot=1#x' is plugged in",
        ("EV-0", "--url", "http://127.0.0.1:1"): "no answer (",
        ("EV-0", "--url", "file:///etc/passwd"): "takes an address such as",
        ("EV-0", "--url", "127.0.0.1:8080"): "takes an address such as",
        ("EV-0", "--url", api.url + "/nowhere"): "GET /v1/openapi.json",
        ("EV-0", "--url", api.url, "--json", str(tmp_path / "no" / "x")): "no such folder",
    }.items():
        failed = said(*words)
        assert isinstance(failed.exception, ValueError), (words, failed)  # which `main` turns into one line and exit 2
        assert part in str(failed.exception), words
