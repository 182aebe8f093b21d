// The page's shell: takes frames from the WebSocket, fills the figures, notices when they stop.
// Rule: a figure is either current or a dash. Whatever the reason for silence (worker, store, API, network), the page
// says "No data since" and takes its numbers back; the charts keep the past.

import { TimeChart } from "./chart.js";
import { NONE, age, clock, day, known, kw, minute, number, reason, words } from "./format.js";
import { VehiclesTable } from "./table.js";

const STALE_MS = 3000;
const KEEP_MS = 310e3;
const byId = (id) => document.getElementById(id);
const nsToMs = (ns) => (known(ns) ? ns / 1e6 : NaN);

let status = null; // newest frame
let heardAt = -Infinity; // performance.now() of the newest current frame
let lastDataMs = NaN; // its time of truth, ms UTC
let offsetMs = 0; // server clock minus ours
let readMs = null; // reading line of the charts
let retryMs = 500;
let statementMark = "";
const data = { t: [], hz: [], response_kw: [], delivered_kw: [] };

const nowMs = () => Date.now() + offsetMs;
const isStale = () => performance.now() - heardAt > STALE_MS;

function text(id, value) {
  const element = byId(id);
  if (element.textContent !== value) element.textContent = value;
}

async function get(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" }, cache: "no-store" });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error ?? response.statusText);
  return body;
}

// ---- charts

const nominal = () => status?.nominal_hz ?? 50;
const soldKw = () => (status?.products ?? []).reduce((sum, product) => sum + (product.sold_kw ?? 0), 0);
const deadband = () => Math.max(0, ...(status?.products ?? []).map((product) => product.deadband_hz ?? 0));

const chartHz = new TimeChart(byId("chart-hz"), {
  series: [{ key: "hz", color: "hz", width: 1.6 }],
  minSpan: () => Math.max(0.06, 3 * deadband()),
  centre: nominal,
  label: (value, step) => value.toFixed(step < 0.01 ? 3 : 2),
  onRead: moveReading,
});
const chartKw = new TimeChart(byId("chart-kw"), {
  series: [
    { key: "delivered_kw", color: "delivered", fill: "delivered-soft", width: 1.8 },
    { key: "response_kw", color: "requested", width: 1.5, step: true },
  ],
  minSpan: () => Math.max(10, 0.1 * soldKw()),
  centre: () => 0,
  label: (value, step) => number(value, step < 1 ? 1 : 0),
  onRead: moveReading,
});
for (const chart of [chartHz, chartKw]) chart.data = data;

function moveReading(t) {
  readMs = t;
  drawCharts();
}

function drawCharts() {
  const message = isStale() && known(lastDataMs) ? `No data since ${clock(lastDataMs)} UTC` : "";
  for (const chart of [chartHz, chartKw]) {
    chart.edge = nowMs();
    chart.read = readMs;
    chart.message = message;
    chart.draw();
  }
  legends();
}

function legends() {
  const i = readMs === null ? (isStale() ? -1 : data.t.length - 1) : chartHz.at(readMs);
  const at = readMs === null ? "" : i >= 0 ? `${clock(data.t[i])} UTC   ` : "";
  text("legend-hz", `${at}${number(data.hz[i], 3)} Hz`);
  text("legend-kw", `${at}requested ${kw(data.response_kw[i])} kW   delivered ${kw(data.delivered_kw[i])} kW`);
}

function remember(frame) {
  const t = nsToMs(frame.as_of_ns);
  const last = data.t.length ? data.t[data.t.length - 1] : -Infinity;
  if (!(t > last)) return;
  data.t.push(t);
  data.hz.push(frame.quality.length ? null : frame.hz); // a rejected sample is no measurement
  for (const key of ["response_kw", "delivered_kw"]) data[key].push(frame[key]);
  let old = 0;
  while (data.t[old] < t - KEEP_MS) old++;
  if (old > 64) for (const column of Object.values(data)) column.splice(0, old);
}

async function loadHistory() {
  const past = await get("/v1/history");
  const first = data.t.length ? data.t[0] : Infinity;
  // What the page saw itself stays; the server fills in what came before or was missed meanwhile.
  const merged = new Map(data.t.map((t, i) => [t, [data.hz[i], data.response_kw[i], data.delivered_kw[i]]]));
  past.t_ns.forEach((ns, i) => merged.set(nsToMs(ns), [past.hz[i], past.response_kw[i], past.delivered_kw[i]]));
  const times = [...merged.keys()].sort((a, b) => a - b);
  data.t.splice(0, Infinity, ...times);
  ["hz", "response_kw", "delivered_kw"].forEach((key, k) => data[key].splice(0, Infinity, ...times.map((t) => merged.get(t)[k])));
  if (times.length && first > times[0]) drawCharts();
}

for (const button of document.querySelectorAll("[data-window]")) {
  button.addEventListener("click", () => {
    for (const other of document.querySelectorAll("[data-window]")) other.ariaPressed = String(other === button);
    chartHz.seconds = chartKw.seconds = Number(button.dataset.window);
    drawCharts();
  });
}

// ---- figures

function showFigures(s) {
  const now = s ?? {};
  const sold = soldKw();
  text("hz", number(now.hz, 3));
  byId("hz").classList.toggle("bad", (now.quality ?? []).length > 0);
  text("deviation", known(now.hz) ? number(1000 * (now.hz - nominal()), 1, true) : NONE);
  text("nominal", number(nominal()));
  text("response", kw(now.response_kw));
  text("fraction", known(now.response_kw) && sold > 0 ? number((100 * now.response_kw) / sold, 1, true) : NONE);
  text("sold", sold > 0 ? number(sold) : NONE);
  text("delivered", kw(now.delivered_kw));
  const paired = known(now.delivered_kw) && known(now.response_kw);
  text("mismatch", paired ? kw(now.delivered_kw - now.response_kw) : NONE);
  text("headroom-up", kw(s ? now.headroom_up_kw : 0, false));
  text("headroom-down", kw(s ? now.headroom_down_kw : 0, false));
  text("unserved", kw(now.unserved_kw, false));
  const worst = Object.entries(now.unserved_by_reason ?? {}).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]))[0];
  text("unserved-reason", worst && worst[1] ? `· ${words(worst[0])}` : "");
  const fleet = now.vehicles ?? {};
  for (const [id, key] of [["plugged", "plugged"], ["total", "total"], ["stale-count", "stale"], ["fault-count", "fault"], ["unplugged-count", "unplugged"]]) {
    text(id, number(fleet[key]));
  }
  showCapability(now.capability);
  showWithheld(s ? now.withheld_kw : null);
  showSoc(now.soc_hist ?? []);
  showLine(now);
}

const capabilityRows = ["15", "30", "60"].map((minutes) => {
  const tr = document.createElement("tr");
  const th = document.createElement("th");
  th.scope = "row";
  th.textContent = `${minutes} min`;
  tr.append(th);
  const cells = ["down", "up"].map((direction) => {
    const td = document.createElement("td");
    const bar = document.createElement("i");
    const value = document.createElement("span");
    td.className = direction;
    value.id = `capability-${direction}-${minutes}`;
    td.append(value, bar);
    tr.append(td);
    return { bar, value };
  });
  byId("capability-rows").append(tr);
  return { minutes, cells };
});

function showCapability(capability) {
  const up = capability?.up_kw ?? {};
  const down = capability?.down_kw ?? {};
  const scale = Math.max(1, soldKw(), ...Object.values(up), ...Object.values(down));
  for (const { minutes, cells } of capabilityRows) {
    [down, up].forEach((table, i) => {
      const value = table[minutes] ?? 0; // unknown is nothing to promise
      cells[i].value.textContent = kw(value, false);
      cells[i].bar.style.width = `${(100 * value) / scale}%`;
      cells[i].bar.classList.toggle("short", value < soldKw());
    });
  }
}

// The owners' overrides always, then what takes most; as many rows whatever there is, so that nothing moves.
const WITHHELD_ROWS = 4;

function showWithheld(withheld) {
  const both = (name) => withheld?.[name] ?? { up: 0, down: 0 };
  const others = Object.keys(withheld ?? {}).filter((name) => name !== "override");
  others.sort((a, b) => both(b).up + both(b).down - both(a).up - both(a).down);
  const shown = ["override", ...others.slice(0, WITHHELD_ROWS - 1)];
  while (shown.length < WITHHELD_ROWS) shown.push(null);
  rows(byId("withheld-rows"), shown, 3, (name) => {
    if (name === null) return ["\u00a0", "", ""];
    return [reason(name), withheld ? kw(both(name).down, false) : NONE, withheld ? kw(both(name).up, false) : NONE];
  }, 1);
}

const socBars = Array.from({ length: 20 }, () => {
  const bar = document.createElement("i");
  byId("soc-bars").append(bar);
  return bar;
});

function showSoc(counts) {
  const top = Math.max(1, ...counts);
  const total = counts.reduce((sum, n) => sum + n, 0);
  socBars.forEach((bar, i) => {
    bar.style.height = `${(100 * (counts[i] ?? 0)) / top}%`;
    bar.title = `${i * 5}–${i * 5 + 5} %: ${counts[i] ?? 0} vehicles`;
  });
  const mean = counts.reduce((sum, n, i) => sum + n * (i + 0.5) * 5, 0) / total;
  text("soc-mean", total ? `mean ${number(mean)} % · ${number(total)} vehicles` : NONE);
  byId("soc-bars").ariaLabel = total ? `State of charge of ${total} vehicles, mean ${number(mean)} %` : "State of charge not known";
}

const firstKnown = (...values) => values.find(known);

function showLine(s) {
  const { ingest = {}, worker = {} } = s.processes ?? {};
  text("samples-in", number(firstKnown(s.samples_in, ingest.published, ingest.samples_in)));
  text("ticks", number(s.ticks));
  const lost = firstKnown(s.samples_lost, worker.samples_lost, worker.missing);
  text("lost", number(lost));
  byId("lost").classList.toggle("bad", lost > 0);
  const rejected = Object.entries(s.rejected ?? {});
  text("rejected", s.rejected ? number(rejected.reduce((sum, [, n]) => sum + n, 0)) : NONE);
  byId("rejected").title = rejected.map(([why, n]) => `${words(why)}: ${n}`).join("\n");
  text("commands", number(s.commands));
  text("requested-kwh", number(s.requested_kwh, 2));
  text("delivered-kwh", number(s.delivered_kwh, 2));
  text("baseline", kw(s.baseline_kw));
  const bad = (s.quality ?? []).map(words).join(", ");
  const top = rejected.sort((a, b) => b[1] - a[1]).slice(0, 3).map(([why, n]) => `${words(why)} ${number(n)}`).join(", ");
  text("quality", bad ? `Sample now rejected: ${bad}` : top ? `Rejected so far: ${top}` : s.t_ns ? "Every sample usable so far" : "");
  byId("quality").classList.toggle("bad", bad !== "");
  showSources(s.sources ?? []);
  text("scheduling", s.worker?.scheduling ? `scheduling ${s.worker.scheduling}` : "");
  const off = s.clock?.host_error_ms;
  text("latency-clock", `ms; total from the source's stamp, clock ${s.clock?.synchronised ? `within ${number(off, 1)} ms` : "not vouched for"}`);
  rows(byId("latency-rows"), Object.entries(s.latency_ms ?? {}), 4, ([stage, l]) => [words(stage), number(l.p50, 2), number(l.p99, 2), number(l.max, 2)], 1);
}

// Which source of frequency is acted on; why is told on the row. Without news the rows stay and say nothing.
let sourceNames = [];

function showSources(told) {
  if (told.length) sourceNames = told.map((source) => source.name);
  const sources = told.length ? told : sourceNames.map((name) => ({ name, state: NONE, why: "not known" }));
  const body = byId("source-rows");
  rows(body, sources, 5, (source) => {
    const refused = Object.values(source.rejected ?? {}).reduce((sum, n) => sum + n, 0);
    const drift = source.clock?.drift_ppm;
    return [source.name, words(source.state), number(source.hz, 3), source.rejected ? number(refused) : NONE, known(drift) ? number(drift, 1, true) : NONE];
  }, 2);
  sources.forEach((source, i) => {
    const tr = body.rows[i];
    tr.title = `${source.kind ?? ""} ${source.address ?? ""}: ${source.why}`;
    tr.className = source.used ? "used" : ["lost", "outvoted", "rejected"].includes(source.state) ? "bad" : "";
  });
}

// Fill a table body with text rows, reusing what is there; columns from `firstNumber` on are numeric.
function rows(body, items, columns, cellsOf, firstNumber) {
  while (body.rows.length > items.length) body.deleteRow(-1);
  items.forEach((item, i) => {
    const tr = body.rows[i] ?? body.insertRow();
    const cells = cellsOf(item);
    for (let c = 0; c < columns; c++) {
      const td = tr.cells[c] ?? tr.insertCell();
      if (c >= firstNumber) td.className = "num";
      if (td.textContent !== cells[c]) td.textContent = cells[c];
    }
  });
}

function showProcesses(ages) {
  const list = byId("processes");
  const names = Object.keys(ages).sort();
  while (list.children.length > names.length) list.lastChild.remove();
  names.forEach((name, i) => {
    const li = list.children[i] ?? list.appendChild(document.createElement("li"));
    const late = ages[name] > 10;
    const shown = `${words(name)}${late ? ` ${age(ages[name])}` : ""}`;
    if (li.textContent !== shown) li.textContent = shown;
    li.className = late ? "late" : "";
  });
}

function showHead(s, stale) {
  text("area", s ? `${s.area.toUpperCase()} · ${number(s.nominal_hz)} Hz` : NONE);
  const mode = stale ? (s?.stale ? s.mode : "no data") : s.mode;
  text("mode", mode);
  byId("mode").dataset.mode = mode.replace(" ", "-");
  const list = byId("products");
  const products = s?.products ?? [];
  while (list.children.length > products.length) list.lastChild.remove();
  products.forEach((product, i) => {
    const li = list.children[i] ?? list.appendChild(document.createElement("li"));
    const shown = `${product.title ?? product.id} · ${number(product.sold_kw)} kW sold`;
    if (li.textContent !== shown) li.textContent = shown;
  });
}

function showMarks() {
  const band = deadband();
  const full = Math.max(0, ...(status?.products ?? []).map((product) => product.full_hz ?? 0));
  chartHz.bands = band ? [{ low: nominal() - band, high: nominal() + band }] : [];
  chartHz.marks = [{ value: nominal(), color: "axis" }];
  if (band) chartHz.marks.push({ value: nominal() + band, color: "band-edge", label: `dead band ±${number(1000 * band)} mHz` });
  if (band) chartHz.marks.push({ value: nominal() - band, color: "band-edge" });
  if (full) for (const sign of [1, -1]) chartHz.marks.push({ value: nominal() + sign * full, color: "limit", dash: [2, 3], label: "full activation" });
  const sold = soldKw();
  chartKw.marks = [{ value: 0, color: "axis" }];
  if (sold) for (const sign of [1, -1]) chartKw.marks.push({ value: sign * sold, color: "limit", dash: [2, 3], label: "sold" });
}

// ---- alarms

const sentence = (s) => s.charAt(0).toUpperCase() + s.slice(1);

const pageAlarm = () => ({
  code: "PAGE_STALE", severity: "critical", since_ns: lastDataMs * 1e6,
  text: "This page receives nothing from the API. It reconnects by itself; check the network and the API process.",
});

function showAlarms(s, stale) {
  const alarms = stale && !s?.stale ? [pageAlarm(), ...(s?.alarms ?? [])] : (s?.alarms ?? []);
  const top = alarms[0];
  byId("alarms").dataset.severity = top ? top.severity : "none";
  text("alarm-severity", top ? (top.severity === "critical" ? "Critical" : "Warning") : "No alarms");
  text("alarm-text", top ? sentence(top.text) : "Everything that reports is within its limits.");
  text("alarm-age", top && known(top.since_ns) ? `for ${age((nowMs() - nsToMs(top.since_ns)) / 1000)}` : "");
  byId("alarm-more").hidden = alarms.length < 2;
  text("alarm-count", `${alarms.length} alarms`);
  const list = byId("alarm-list");
  while (list.children.length > alarms.length) list.lastChild.remove();
  alarms.forEach((alarm, i) => {
    const li = list.children[i] ?? list.appendChild(document.createElement("li"));
    li.className = alarm.severity;
    const since = nsToMs(alarm.since_ns);
    const shown = `${alarm.severity}: ${alarm.text} (${words(alarm.code).toLowerCase()}, since ${clock(since)} UTC, ${age((nowMs() - since) / 1000)})`;
    if (li.textContent !== shown) li.textContent = shown;
  });
}

// ---- statements

const outOfBand = (row) => row.kpis?.time_out_of_bound_frac;
const slope = (row) => row.kpis?.slope_ratio;
const both = (up, down) => (known(up) || known(down) ? `${number(up, 2)} / ${number(down, 2)}` : NONE);

function statementCells(row) {
  const start = nsToMs(row.start_ns);
  const end = nsToMs(row.end_ns);
  const out = outOfBand(row);
  return [
    `${day(start).slice(5)} ${minute(start)}${known(end) ? `–${minute(end)}` : ""}${row.final === false ? " …" : ""}`,
    words(row.product ?? NONE),
    both(row.requested_up_kwh, row.requested_down_kwh), both(row.delivered_up_kwh, row.delivered_down_kwh),
    known(out) ? number(100 * out, 1) : NONE, number(slope(row), 3), number(row.score, 3),
  ];
}

function showScore(s) {
  const row = s?.statement;
  text("score-title", row?.final === false ? "Score, interval so far" : "Score, last interval");
  text("score", number(row?.score, 3));
  const adequate = row?.kpis?.adequate;
  text("verdict", adequate === true ? "adequate" : adequate === false ? "not adequate" : "");
  byId("verdict").className = adequate === false ? "bad" : "";
  const out = row && outOfBand(row);
  text("score-note", !row ? "no interval settled yet"
    : known(out) ? `${number(100 * out, 1)} % out of band · slope ${number(slope(row), 3)}`
      : row.score_note ?? "no scoring rule for this product");
  const mark = row ? `${s.statements}/${row.start_ns}/${row.score}/${row.until_ns}` : "";
  if (mark !== statementMark) {
    statementMark = mark;
    loadStatements();
  }
}

async function loadStatements() {
  try {
    const page = await get("/v1/statements?limit=6");
    rows(byId("statement-rows"), page.rows, 7, statementCells, 2);
    text("statements-total", `${number(page.total)} statement${page.total === 1 ? "" : "s"}`);
  } catch {
    statementMark = ""; // ask again with the next frame
  }
}

// ---- life

function render() {
  const stale = isStale() || status === null;
  document.body.dataset.state = stale ? "stale" : "live";
  showHead(status, stale);
  showFigures(stale ? null : status);
  if (status) {
    showMarks();
    showScore(status);
    showProcesses(status.ages.processes_s); // in silence too: it shows who else is gone
  }
  showAlarms(status, stale);
  const since = known(lastDataMs) ? ` since ${clock(lastDataMs)} UTC` : " yet";
  text("link-text", stale ? `No data${since}` : "Live");
  drawCharts();
}

function tick() {
  text("clock", `${clock(nowMs())} UTC`);
  if (isStale()) render();
}

function onFrame(frame) {
  status = frame;
  offsetMs = nsToMs(frame.now_ns) - Date.now();
  if (frame.stale) {
    // The API is there, its source is not: known at once, no need to wait for our own limit.
    heardAt = -Infinity;
    if (frame.as_of_ns) lastDataMs = nsToMs(frame.now_ns) - 1000 * (frame.ages.live_s ?? 0);
  } else {
    heardAt = performance.now();
    lastDataMs = nsToMs(frame.now_ns);
    remember(frame);
  }
  render();
}

function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/ws`);
  socket.addEventListener("open", () => {
    retryMs = 500;
    loadHistory().catch(() => {}); // the charts then start from here
    vehicles.load();
  });
  socket.addEventListener("message", (event) => onFrame(JSON.parse(event.data)));
  socket.addEventListener("close", () => {
    setTimeout(connect, retryMs * (0.75 + 0.5 * Math.random()));
    retryMs = Math.min(5000, retryMs * 2);
  });
}

const vehicles = new VehiclesTable(get);
setInterval(tick, 500);
connect();
