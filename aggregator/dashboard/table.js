// The vehicles table: one page from /v1/vehicles at a time, rows reused, never rebuilt.
// Sorting and filtering happen on the server, over the whole fleet; this file shows what came back.

import { Explanation } from "./explain.js";
import { NONE, age, known, make, number, reason, REASONS, words } from "./format.js";

export const PAGE = 15;
const EVERY_MS = 2000;
const LATE_S = 5; // a report older than this is no capacity any more

const STATE_TEXT = { plugged: "Plugged in", unplugged: "Away", fault: "Fault" };

const COLUMNS = [
  { title: "Slot", sort: "slot", num: true },
  { title: "Vehicle", sort: "vehicle" },
  { title: "State", sort: "state" },
  { title: "SoC", unit: "%", sort: "soc_frac", num: true },
  { title: "Set-point", unit: "kW", sort: "setpoint_kw", num: true },
  { title: "Measured", unit: "kW", sort: "measured_kw", num: true },
  { title: "Band", unit: "kW, with set-point" },
  { title: "Plan", unit: "kW", sort: "plan_kw", num: true },
  { title: "Limits discharge" },
  { title: "Limits charge" },
  { title: "Report", unit: "s ago", sort: "age_s", num: true },
];

export class VehiclesTable {
  constructor(get) {
    this.get = get;
    this.offset = 0;
    this.sort = "slot";
    this.matched = 0;
    this.timer = 0;
    this.asked = 0;
    this.note = document.getElementById("vehicles-note");
    this.heads = this.makeHead();
    this.why = new Explanation(get, COLUMNS.length);
    this.rows = Array.from({ length: PAGE }, () => this.makeRow());
    this.q = document.getElementById("filter-q");
    this.state = document.getElementById("filter-state");
    this.reason = document.getElementById("filter-reason");
    for (const code of REASONS) this.reason.add(new Option(reason(code), code));
    document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
    for (const input of [this.q, this.state, this.reason]) input.addEventListener("input", () => this.go(0));
    document.getElementById("page-prev").addEventListener("click", () => this.go(this.offset - PAGE));
    document.getElementById("page-next").addEventListener("click", () => this.go(this.offset + PAGE));
    document.addEventListener("visibilitychange", () => document.hidden || this.load());
  }

  makeHead() {
    const row = document.getElementById("vehicle-head");
    return COLUMNS.map((column) => {
      const th = make("th", column.num ? "num" : "", row);
      th.scope = "col";
      const title = column.sort ? make("button", "sort", th) : make("span", "", th);
      title.textContent = column.title;
      if (column.unit) make("small", "", th).textContent = column.unit;
      if (column.sort) {
        title.type = "button";
        title.addEventListener("click", () => {
          this.sort = this.sort === column.sort ? `-${column.sort}` : column.sort;
          this.go(0);
        });
      }
      return th;
    });
  }

  makeRow() {
    const tr = make("tr", "empty", document.getElementById("vehicle-rows"));
    const cells = COLUMNS.map((column) => make("td", column.num ? "num" : "", tr));
    const name = make("button", "name", cells[1]);
    name.type = "button";
    name.ariaExpanded = "false";
    const view = { tr, cells, name, row: null };
    // The button is for the keyboard; with a pointer the whole row will do, unless its text is being marked.
    tr.addEventListener("click", (event) => {
      if (event.target === name || getSelection().isCollapsed) this.explain(view);
    });
    const soc = make("span", "soc-bar", cells[3]);
    const socFill = make("i", "", soc);
    const socText = make("span", "", cells[3]);
    const band = make("span", "band-bar", cells[6]);
    const low = make("span", "num", band);
    const track = make("span", "track", band);
    const high = make("span", "num", band);
    const bars = { span: make("i", "span", track), zero: make("i", "zero", track), tick: make("i", "tick", track) };
    return Object.assign(view, { socFill, socText, low, high }, bars);
  }

  // Open the explanation under a row, or close it there.
  explain(view) {
    if (!view.row?.vehicle || view.row.state === "unplugged") return;
    if (this.why.shows(view.row)) this.why.close();
    else this.why.open(view.row, view.tr);
    this.mark();
  }

  mark() {
    for (const { name, row } of this.rows) name.ariaExpanded = String(this.why.shows(row));
  }

  go(offset) {
    this.offset = Math.max(0, offset);
    this.load();
  }

  async load() {
    clearTimeout(this.timer);
    const turn = ++this.asked;
    const params = new URLSearchParams({ limit: PAGE, offset: this.offset, sort: this.sort });
    for (const [name, input] of [["q", this.q], ["state", this.state], ["reason", this.reason]]) {
      if (input.value.trim()) params.set(name, input.value.trim());
    }
    try {
      const page = await this.get(`/v1/vehicles?${params}`);
      if (turn === this.asked) this.show(page);
    } catch (error) {
      if (turn === this.asked) this.note.textContent = `Vehicles cannot be read: ${error.message}`;
    }
    // A hidden page asks for nothing.
    if (turn === this.asked && !document.hidden) this.timer = setTimeout(() => this.load(), EVERY_MS);
  }

  show(page) {
    if (this.offset && this.offset >= page.matched) return this.go(Math.floor(Math.max(0, page.matched - 1) / PAGE) * PAGE);
    this.matched = page.matched;
    // One scale for the page, so that bands compare.
    const scale = Math.max(1, ...page.rows.flatMap((row) => [Math.abs(row.lo_kw ?? 0), Math.abs(row.hi_kw ?? 0)]));
    this.rows.forEach((view, i) => this.fill(view, page.rows[i], scale));
    const open = this.rows.find((view) => this.why.shows(view.row) && view.row.state !== "unplugged");
    // It follows its vehicle over the page, and goes with it.
    if (open) this.why.open(open.row, open.tr);
    else this.why.close();
    this.mark();
    const last = Math.min(page.matched, this.offset + page.rows.length);
    document.getElementById("page-text").textContent = page.matched
      ? `${number(this.offset + 1)}–${number(last)} of ${number(page.matched)}`
      : "None";
    document.getElementById("page-prev").disabled = this.offset === 0;
    document.getElementById("page-next").disabled = last >= page.matched;
    this.heads.forEach((th, i) => {
      const name = COLUMNS[i].sort;
      if (name) th.ariaSort = this.sort === name ? "ascending" : this.sort === `-${name}` ? "descending" : "none";
    });
    const old = page.age_s > LATE_S && page.total > 0;
    this.note.classList.toggle("bad", old);
    this.note.textContent = old
      ? `This table is ${age(page.age_s)} old: the worker has stopped writing it.`
      : page.matched || !page.total ? (page.total ? "" : "No vehicle is known yet.") : "No vehicle passes this filter.";
  }

  fill(view, row, scale) {
    const { tr, cells } = view;
    view.row = row ?? null;
    view.name.hidden = !row;
    tr.className = row ? `state-${row.state}` : "empty";
    if (!row) {
      for (const i of [0, 2, 4, 5, 7, 8, 9, 10]) cells[i].textContent = i === 0 ? "\u00a0" : "";
      return;
    }
    const away = row.state === "unplugged"; // an empty charger has no figures
    const set = (i, text) => {
      if (cells[i].textContent !== text) cells[i].textContent = text;
    };
    set(0, String(row.slot));
    const name = row.vehicle || NONE;
    if (view.name.textContent !== name) view.name.textContent = name;
    view.name.disabled = away || !row.vehicle; // nothing to explain
    set(2, STATE_TEXT[row.state] ?? words(row.state));
    view.socFill.style.width = `${100 * Math.min(1, Math.max(0, row.soc_frac ?? 0))}%`;
    view.socText.textContent = known(row.soc_frac) && !away ? number(100 * row.soc_frac, 0) : NONE;
    set(4, away ? NONE : number(row.setpoint_kw, 2, true));
    set(5, away ? NONE : number(row.measured_kw, 2, true));
    this.fillBand(view, row, scale);
    set(7, away ? NONE : number(row.plan_kw, 2, true));
    set(8, reason(row.reason_up));
    set(9, reason(row.reason_down));
    cells[8].classList.toggle("free", row.reason_up === "none");
    cells[9].classList.toggle("free", row.reason_down === "none");
    set(10, away ? NONE : number(row.age_s, 1));
    cells[10].classList.toggle("late", !away && row.age_s > LATE_S);
  }

  fillBand(view, row, scale) {
    const at = (value) => 50 + (50 * Math.max(-scale, Math.min(scale, value ?? 0))) / scale;
    view.low.textContent = number(row.lo_kw, 1, true);
    view.high.textContent = number(row.hi_kw, 1, true);
    view.span.style.left = `${at(row.lo_kw)}%`;
    view.span.style.width = `${Math.max(0, at(row.hi_kw) - at(row.lo_kw))}%`;
    view.tick.style.left = `${at(row.setpoint_kw)}%`;
    view.tick.hidden = !known(row.setpoint_kw);
  }
}
