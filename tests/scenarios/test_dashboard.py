"""The dashboard in a real browser: real Valkey, the real API process' code, headless Chromium from PATH.

What the page shows equals what was seeded, changes when it changes, and turns into dashes when the source falls
silent. No request leaves for another host, nothing fails, nothing is written to the browser's console.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import shutil
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from aggregator import questions, views
from aggregator.api.server import serve
from aggregator.api.settings import Settings
from aggregator.embedded import EmbeddedServer
from droop.explain import explain_row
from tests.scenarios.lines import BOUND_S, until

playwright = pytest.importorskip("playwright.sync_api", reason="the playwright package is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.scenario,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH: install it to test the dashboard"),
]

NS = 1_000_000_000
FLEET = 64
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
REASON_ALARM = "no usable frequency: response held, then ramped to the baseline"


class Source:
    """Writes what the worker, the gateway and settle would, ten times a second while `alive`."""

    def __init__(self, url: str) -> None:
        self.store = redis.Redis.from_url(url, protocol=3)
        self.alive = True
        self.hz: float | None = None  # None: a sine
        self.alarms: list[dict[str, Any]] = []
        self.wish = "none"
        self._ticks = 0
        self._stop = threading.Event()
        start_ns = time.time_ns() // (900 * NS) * 900 * NS
        for k in range(1, 5):
            row = statement(start_ns - k * 900 * NS, k)
            self.store.hset("statements:ce", str(row["start_ns"]), json.dumps(row))
        self.once()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def once(self) -> None:
        now_ns = time.time_ns()
        self._ticks += 5
        hz = 50.0 + 0.03 * math.sin(now_ns / NS / 3) if self.hz is None else self.hz
        response_kw = 500.0 * (50.0 - hz) / 0.2
        rows = fleet()
        row = {
            "t_ns": now_ns,
            "rx_ns": now_ns,
            "now_ns": now_ns,
            "area": "ce",
            "nominal_hz": 50.0,
            "hz": hz,
            "mode": "normal",
            "products": [{"id": "ce_fcr", "sold_kw": 500.0, "fraction": response_kw / 500.0}],
            "response_kw": response_kw,
            "baseline_kw": -432.1,
            "delivered_kw": response_kw - 2.5,
            "unserved_kw": 0.0,
            "headroom_up_kw": 1234.5,
            "headroom_down_kw": 678.9,
            "capability": {
                "up_kw": {"15": 700.5, "30": 600.25, "60": 300.0},
                "down_kw": {"15": 555.5, "30": 505.0, "60": 250.0},
            },
            "withheld_kw": {
                "soc": {"up": 40.0, "down": 0.0},
                "site": {"up": 5.0, "down": 60.5},
                "taper": {"up": 0.0, "down": 1.0},
                "override": {"up": 12.3, "down": 4.5},
                "ramp": {"up": 0.5, "down": 0.0},
            },
            "vehicles": {"total": FLEET, "plugged": 57, "stale": 1, "unplugged": 6, "fault": 1},
            "soc_hist": np.histogram(rows["soc_frac"], 20, (0, 1))[0].tolist(),
            "ticks": self._ticks,
            "commands": 4321,
            "rejected": {"spike": 2, "dead_bus": 1},
            "alarms": self.alarms,
            "latency_ms": {
                "tick": {"p50": 0.2, "p99": 0.9, "max": 2.1},
                "total": {"p50": 1.25, "p99": 6.5, "max": 12.0},
            },
            "requested_kwh": 12.34,
            "delivered_kwh": 12.21,
            "worker": {"epoch": 1, "scheduling": "fifo"},
        }
        self.store.set("fleetview:ce", views.encode(now_ns, rows))
        for role in ("ingest", "worker", "gateway"):
            told = {"t_ns": now_ns, "published": 98765, "samples_lost": 0}
            self.store.set(f"stats:ce:{role}", json.dumps(told | ({"sources": SOURCES} if role == "ingest" else {})))
        self.store.set("live:ce", json.dumps(row))
        question = self.store.lpop(questions.asked("ce"))
        if question is not None:
            asked = questions.decode(question)
            self.store.set(
                questions.answered("ce", asked.ident), json.dumps(explanation(asked, now_ns, self.wish)), ex=5
            )

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            if self.alive:
                self.once()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.store.close()


def fleet() -> views.Rows:
    rows = np.zeros(FLEET, views.FLEETVIEW)
    slot = np.arange(FLEET)
    rows["slot"], rows["session"] = slot, 1
    rows["state"] = np.where(slot % 10 == 9, 0, 1)
    rows["state"][3] = 2
    rows["vehicle"] = [b"" if i % 10 == 9 else f"EV-{i:04d}".encode() for i in slot]
    rows["reason_up"] = np.where(slot % 4 == 2, 2, 0)
    rows["reason_down"] = 1
    rows["soc_frac"] = 0.2 + 0.01 * slot
    rows["lo_kw"], rows["hi_kw"] = -11, np.where(slot % 4 == 2, 0, 9.9)
    rows["plan_kw"], rows["setpoint_kw"], rows["measured_kw"] = -2.5, 0.25 * (slot % 16) - 3, 0.25 * (slot % 16) - 2.97
    rows["age_s"] = 0.1 * (slot % 15)
    return rows


def explanation(asked: questions.Question, now_ns: int, wish: str) -> dict[str, Any]:
    """As `aggregator.explained.document` makes it."""
    told = explain_row(-2.5, 9.0, 9.0, 0.5, -11.0, 0.0, "site", "rating", rated_hi_kw=9.9).to_dict()
    own = {"own_lo_kw": -11.0, "own_hi_kw": 9.9, "own_reason_down": "rating", "own_reason_up": "soc"}
    rated = {"rated_lo_kw": -11.0, "rated_hi_kw": 11.0, "resolved_kw": 1.25, "resolved_lam": 0.4}
    wished = {"wish": wish, "wish_until_ns": 0, "wish_up_kw": 1.1, "wish_down_kw": 0.0}
    about = {"slot": asked.slot, "session": asked.session, "t_ns": now_ns, "request_kw": 0.0}
    return {**told, **own, **rated, **wished, **about}


def statement(start_ns: int, k: int) -> dict[str, Any]:
    return {
        "start_ns": start_ns,
        "end_ns": start_ns + 900 * NS,
        "product": "ce_fcr",
        "final": True,
        "requested_up_kwh": 10.0 * k,
        "requested_down_kwh": 1.5,
        "delivered_up_kwh": 9.9 * k,
        "delivered_down_kwh": 1.45,
        "score": 0.987,
        "score_note": "adequate",
        "kpis": {"time_out_of_bound_frac": 0.0123, "slope_ratio": 0.991, "adequate": True},
    }


@pytest.fixture
def source() -> Iterator[Source]:
    with EmbeddedServer() as server:
        made = Source(server.url)
        yield made
        made.close()


@pytest.fixture
def url(source: Source) -> Iterator[str]:
    """The API's address, served from a thread of its own."""
    path = source.store.connection_pool.connection_kwargs["path"]
    settings = Settings(redis_url=f"unix://{path}", token="only-for-this-test", port=0, silent_s=3.0)  # noqa: S106
    loop, stop, ready, found = asyncio.new_event_loop(), asyncio.Event(), threading.Event(), []

    def run() -> None:
        try:
            loop.run_until_complete(serve(settings, stop, lambda at: (found.append(at), ready.set())))
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(BOUND_S)
    yield found[0]
    with contextlib.suppress(RuntimeError):  # already closed: the server failed, and the test says so
        loop.call_soon_threadsafe(stop.set)
    thread.join(BOUND_S)


class Watched:
    """A page, and all it did that it should not."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.faults: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.faults.append(f"console {message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("requestfailed", self._failed)
        page.on("response", lambda answer: answer.status < 400 or self.faults.append(f"{answer.status}: {answer.url}"))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("websocket", lambda socket: self.asked.append(socket.url))
        page.goto(url)
        self.expect("#link-text", "Live")

    def _failed(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # what a page asked for and left before the answer is no fault
            self.faults.append(f"failed: {request.url} {request.failure}")

    def expect(self, selector: str, text: str) -> None:
        playwright.expect(self.page.locator(selector)).to_have_text(text)

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.page.locator(selector).all_inner_texts()
        return [text.strip() for text in found]


def remembered(url: str, seconds: float) -> bool:
    """Whether the server's own history goes back so far."""
    with urllib.request.urlopen(f"http://{url.split('/')[2]}/v1/history", timeout=BOUND_S) as answer:
        t_ns = json.loads(answer.read())["t_ns"]
    return bool(t_ns) and t_ns[-1] - t_ns[0] >= seconds * NS


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright.expect.set_options(timeout=1e3 * BOUND_S)
    with playwright.sync_playwright() as p:
        launched = p.chromium.launch(executable_path=CHROMIUM, args=ARGS, headless=True)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Any, url: str) -> Iterator[Any]:
    """Call with context options for a watched page; at the end none of them may have done anything wrong."""
    opened: list[tuple[Any, Watched]] = []

    def make(**options: Any) -> Watched:
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark", **options})
        watched = Watched(context.new_page(), url)
        opened.append((context, watched))
        return watched

    yield make
    for context, watched in opened:
        context.close()
        assert watched.faults == []
        host = url.split("/")[2]
        assert {asked.split("/")[2] for asked in watched.asked} == {host}
        assert any(asked.startswith("ws://") for asked in watched.asked)


SOURCES = [
    {
        "number": 1, "name": "west", "used": False, "state": "outvoted", "why": "the others agree", "hz": 50.1,
        "rejected": {"outvoted": 30, "nan": 1}, "clock": {"drift_ppm": -12.34}, "kind": "iec61850", "address": "h:102",
    },
    {"number": 2, "name": "east", "used": True, "state": "used", "why": "the first", "hz": 49.95, "rejected": {}},
]  # fmt: skip


def test_figures_equal_what_was_written_and_change_live(source: Source, open_page: Any) -> None:
    source.hz = 49.95
    w = open_page()
    w.expect("#hz", "49.950")
    for selector, text in {
        "#deviation": "−50.0",
        "#response": "+125.0",
        "#fraction": "+25.0",
        "#delivered": "+122.5",
        "#mismatch": "−2.5",
        "#headroom-up": "1\u202f234.5",
        "#headroom-down": "678.9",
        "#capability-up-15": "700.5",
        "#capability-down-60": "250.0",
        "#plugged": "57",
        "#fault-count": "1",
        "#baseline": "−432.1",
        "#samples-in": "98\u202f765",
        "#lost": "0",
        "#rejected": "3",
        "#commands": "4\u202f321",
        "#mode": "normal",
        "#score": "0.987",
        "#verdict": "adequate",
        "#score-note": "1.2 % out of band · slope 0.991",
        "#statements-total": "4 statements",
        "#alarm-severity": "No alarms",
    }.items():
        w.expect(selector, text)
    assert w.texts("#latency-rows tr:last-child td") == ["total", "1.25", "6.50", "12.00"]
    # The owners' overrides first, then what takes most.
    assert w.texts("#source-rows td") == [
        "west", "outvoted", "50.100", "31", "−12.3", "east", "used", "49.950", "0", "—",
    ]  # fmt: skip
    assert w.page.get_attribute("#source-rows tr:first-child", "title") == "iec61850 h:102: the others agree"
    assert w.page.locator("#source-rows tr.used").count() == 1
    assert w.texts("#withheld-rows td") == [
        "owner's wish", "4.5", "12.3", "cap of the site", "60.5", "5.0", "SoC window", "0.0", "40.0",
        "taper near full or empty", "1.0", "0.0",
    ]  # fmt: skip
    assert w.texts("#statement-rows tr:first-child td")[1:] == [
        "ce fcr",
        "10.00 / 1.50",
        "9.90 / 1.45",
        "1.2",
        "0.991",
        "0.987",
    ]
    assert w.texts("#products li") == ["FCR, Continental Europe · 500 kW sold"]
    source.hz = 50.1
    w.expect("#hz", "50.100")
    w.expect("#response", "−250.0")
    w.expect("#deviation", "+100.0")


def test_charts_draw_and_can_be_read_by_keyboard(source: Source, open_page: Any, url: str) -> None:
    w = open_page()
    until(lambda: remembered(url, 2.0), "a past to read")
    coloured = """(id) => {
        const c = document.getElementById(id), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
        const seen = new Set();
        for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 200) seen.add((d[i] << 16) | (d[i + 1] << 8) | d[i + 2]);
        return seen.size;
    }"""
    for chart in ("chart-hz", "chart-kw"):
        until(lambda chart=chart: w.page.evaluate(coloured, chart) > 5, f"{chart} to be drawn")
    w.page.focus("#chart-hz")

    def read() -> bool:
        w.page.keyboard.press("Escape")
        w.page.keyboard.press("ArrowLeft")
        return "UTC" in w.page.locator("#legend-kw").inner_text()

    until(read, "a past value to be read")  # a second back, where the page may have just begun
    w.page.keyboard.press("Escape")
    playwright.expect(w.page.locator("#legend-kw")).not_to_contain_text("UTC")
    w.page.click("text=5 min")
    assert w.page.get_attribute("[data-window='300']", "aria-pressed") == "true"


def test_a_page_opened_late_has_the_past(source: Source, open_page: Any, url: str) -> None:
    until(lambda: remembered(url, 2.0), "a past that no page has seen")
    second = open_page()
    second.page.focus("#chart-hz")
    second.page.keyboard.press("ArrowLeft")  # a second ago this page was not there
    playwright.expect(second.page.locator("#legend-hz")).not_to_contain_text("—")


def test_vehicles_page_filter_and_sort(source: Source, open_page: Any) -> None:
    w = open_page()
    w.expect("#page-text", "1–15 of 64")
    first = w.texts("#vehicle-rows tr:nth-child(3) td")
    assert first[:3] == ["2", "EV-0002", "Plugged in"]
    assert first[3:6] == ["22", "−2.50", "−2.47"]
    assert first[7:10] == ["−2.50", "SoC window", "rated power"]
    w.page.click("#page-next")
    w.expect("#page-text", "16–30 of 64")
    w.expect("#vehicle-rows tr:first-child td:first-child", "15")
    for _ in range(3):
        w.page.click("#page-next")
    w.expect("#page-text", "61–64 of 64")
    playwright.expect(w.page.locator("#page-next")).to_be_disabled()
    w.page.select_option("#filter-state", "fault")
    w.expect("#page-text", "1–1 of 1")
    w.expect("#vehicle-rows tr:first-child td:nth-child(2)", "EV-0003")
    w.page.select_option("#filter-state", "")
    w.page.select_option("#filter-reason", "soc")
    w.expect("#page-text", "1–15 of 16")
    w.page.select_option("#filter-reason", "")
    w.page.fill("#filter-q", "ev-006")
    w.expect("#page-text", "1–4 of 4")
    w.page.fill("#filter-q", "nobody")
    w.expect("#page-text", "None")
    w.expect("#vehicles-note", "No vehicle passes this filter.")
    w.page.fill("#filter-q", "")
    w.page.get_by_role("button", name="SoC").click()
    w.page.get_by_role("button", name="SoC").click()
    w.expect("#vehicle-rows tr:first-child td:first-child", "63")
    assert w.page.locator("th[aria-sort=descending]").count() == 1


def test_a_row_explains_itself_by_mouse_and_keyboard(source: Source, open_page: Any, tmp_path: Path) -> None:
    source.wish = "no_discharge"
    w = open_page()
    button = w.page.get_by_role("button", name="EV-0002")
    button.focus()
    w.page.keyboard.press("Enter")
    told = explanation(questions.Question("", 2, 1), 0, "no_discharge")
    w.expect("#vehicle-rows tr:nth-child(4).why p:first-child", told["sentence"])
    assert button.get_attribute("aria-expanded") == "true"
    notes = w.texts(".why dd")
    assert [note.split("\n")[0] for note in notes] == [
        "−2.50 kW", "9.000 kW", "+0.500", "0.00 kW", "−11.00 kW", "0.00 kW", "+2.00 kW", "no discharge",
    ]  # fmt: skip
    assert notes[5].endswith("cap of the site; by itself +9.90 kW, SoC window")
    assert notes[6].endswith("+1.25 kW once the others give way")
    assert notes[7].endswith("takes 0.0 kW charge, 1.1 kW discharge")
    assert w.page.locator(".why dd.held").count() == 1
    w.page.locator(".why").screenshot(path=str(tmp_path / "why.png"))
    source.wish = "none"
    w.expect(".why dl > div:last-child dd span", "none")  # asked anew
    w.page.keyboard.press("Enter")
    playwright.expect(w.page.locator(".why")).to_have_count(0)
    assert button.get_attribute("aria-expanded") == "false"
    w.page.click("#vehicle-rows tr:nth-child(5) td:nth-child(6)")
    playwright.expect(w.page.locator("#vehicle-rows tr:nth-child(6).why")).to_contain_text("0.0 kW: plan")
    w.page.click("#vehicle-rows tr:nth-child(1) td:nth-child(6)")
    playwright.expect(w.page.locator("#vehicle-rows tr:nth-child(2).why")).to_contain_text("0.0 kW: plan")
    playwright.expect(w.page.locator(".why")).to_have_count(1)
    w.page.click("#page-next")  # it goes with its vehicle
    playwright.expect(w.page.locator(".why")).to_have_count(0)
    assert w.page.locator("[aria-expanded=true]").count() == 0


def test_alarms_stand_out_with_their_age(source: Source, open_page: Any, tmp_path: Path) -> None:
    w = open_page()
    top = w.page.locator("main").bounding_box()["y"]
    source.alarms = [
        {
            "code": "STALE_REPORTS",
            "severity": "warning",
            "since_ns": time.time_ns() - 300 * NS,
            "text": "many are late",
        },
        {"code": "FREQUENCY_LOST", "severity": "critical", "since_ns": time.time_ns() - 65 * NS, "text": REASON_ALARM},
    ]
    w.expect("#alarm-severity", "Critical")  # the worse one first, though it is younger
    w.expect("#alarm-text", REASON_ALARM[0].upper() + REASON_ALARM[1:])
    playwright.expect(w.page.locator("#alarm-age")).to_contain_text("1 min")
    w.page.click("#alarm-count")
    playwright.expect(w.page.locator("#alarm-list li")).to_have_count(2)
    assert w.page.locator("main").bounding_box()["y"] == top  # nothing moved
    w.page.screenshot(path=str(tmp_path / "alarms.png"))
    source.alarms = []
    w.expect("#alarm-severity", "No alarms")


def test_silence_turns_figures_into_dashes(source: Source, open_page: Any, tmp_path: Path) -> None:
    w = open_page()
    source.alive = False
    playwright.expect(w.page.locator("#link-text")).to_contain_text("No data since")
    w.expect("#mode", "silent")
    w.expect("#alarm-severity", "Critical")
    playwright.expect(w.page.locator("#alarm-text")).to_contain_text("worker is silent")
    for selector in ("#hz", "#response", "#delivered", "#plugged"):
        w.expect(selector, "—")
    w.expect("#headroom-up", "0.0")
    w.expect("#capability-up-15", "0.0")
    w.expect("#withheld-rows tr:first-child td:last-child", "—")
    assert w.texts("#source-rows tr:first-child td") == ["west", "—", "—", "—", "—"]
    assert w.page.get_attribute("body", "data-state") == "stale"
    assert [text.split()[0] for text in w.texts("#processes li")] == ["gateway", "ingest", "worker"]
    w.page.screenshot(path=str(tmp_path / "silent.png"), full_page=True)
    source.alive = True
    w.expect("#link-text", "Live")
    playwright.expect(w.page.locator("#hz")).not_to_have_text("—")


def test_a_page_that_lost_the_api_says_so_itself(source: Source, open_page: Any) -> None:
    w = open_page()
    lines: list[Any] = []

    def cut(socket: Any) -> None:
        lines.append(socket)  # connected to nothing: opens, and never says a word

    w.page.route_web_socket("**/v1/ws", cut)
    w.page.reload()
    w.expect("#link-text", "No data yet")
    w.expect("#mode", "no data")
    w.expect("#hz", "—")
    playwright.expect(w.page.locator("#alarm-text")).to_contain_text("receives nothing from the API")
    assert lines


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dark", {}),
        ("light", {"color_scheme": "light"}),
        ("narrow", {"viewport": {"width": 390, "height": 844}}),
        ("tablet", {"viewport": {"width": 900, "height": 1200}, "color_scheme": "light"}),
    ],
)
def test_fits_every_screen(source: Source, open_page: Any, tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    w = open_page(**options)
    w.expect("#page-text", "1–15 of 64")
    w.page.wait_for_timeout(600)
    w.page.screenshot(path=str(tmp_path / f"{name}.png"), full_page=True)
    width, room = w.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= room


def test_every_name_on_the_page_is_one_elements(open_page: Any) -> None:
    names = open_page().page.evaluate("[...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert sorted(names) == sorted(set(names))


def test_layout_stands_still(source: Source, open_page: Any) -> None:
    w = open_page()
    # What comes by a request of its own has its place once; from then on nothing moves.
    w.expect("#page-text", "1–15 of 64")
    w.expect("#statements-total", "4 statements")
    w.page.wait_for_timeout(1000)
    shifted = w.page.evaluate(
        """() => new Promise((done) => {
            let sum = 0;
            const watch = new PerformanceObserver((list) => list.getEntries().forEach((e) => (sum += e.value)));
            watch.observe({ type: "layout-shift" });
            setTimeout(() => done(sum), 1500);
        })"""
    )
    assert shifted < 0.01
