// The explanation under a vehicle's row: plan, slope, lambda, the bound of either direction with what set it, what the
// vehicle got, and what it would have got. Asked anew with every page of the table, and only while it is open.

import { NONE, age, known, make, number, reason, words } from "./format.js";

const FIGURES = ["Plan", "Slope", "Lambda", "Got", "Charge at most", "Discharge at most", "Without its bound", "Owner's wish"];

const power = (x) => (known(x) ? `${number(x, 2, true)} kW` : NONE);

// A bound with its reason, and the vehicle's own behind it where least power or site narrowed it.
function bounded(kw, why, ownKw, ownWhy) {
  const own = kw === ownKw && why === ownWhy ? "" : `; by itself ${power(ownKw)}, ${reason(ownWhy)}`;
  return [power(kw), reason(why) + own];
}

function figures(e) {
  const asked = e.binding && known(e.resolved_kw) ? `${power(e.resolved_kw)} once the others give way` : "it is not held";
  const wish = e.wish !== "none";
  return [
    [power(e.plan_kw), "its part of the baseline"],
    [`${number(e.slope_kw, 3)} kW`, "per unit of lambda"],
    [number(e.lam, 3, true), e.price > 0 ? `moves beyond ${number(e.price, 2)}` : "the same for every vehicle"],
    [power(e.power_kw), `${power(e.free_kw)} without any bound`],
    bounded(e.lo_kw, e.reason_down, e.own_lo_kw, e.own_reason_down),
    bounded(e.hi_kw, e.reason_up, e.own_hi_kw, e.own_reason_up),
    [power(e.without_kw), asked],
    [wish ? words(e.wish) : "none", wish ? `takes ${number(e.wish_down_kw, 1)} kW charge, ${number(e.wish_up_kw, 1)} kW discharge` : ""],
  ];
}

export class Explanation {
  constructor(get, columns) {
    this.get = get;
    this.row = null;
    this.asked = 0;
    this.busy = false;
    this.tr = make("tr", "why");
    const td = make("td", "", this.tr);
    td.colSpan = columns;
    this.sentence = make("p", "", td);
    this.sentence.role = "status";
    this.list = make("dl", "", td);
    this.cells = FIGURES.map((title) => {
      const div = make("div", "", this.list);
      make("dt", "", div).textContent = title;
      const dd = make("dd", "", div);
      return { dd, value: make("span", "", dd), note: make("small", "", dd) };
    });
    this.note = make("p", "faint", td);
  }

  shows(row) {
    return Boolean(row && this.row && row.slot === this.row.slot && row.session === this.row.session);
  }

  // Under `after`, the row of this vehicle; figures stand until newer ones are there.
  open(row, after) {
    if (!this.shows(row)) {
      this.asked++;
      this.busy = false;
      this.sentence.textContent = "Asking the worker …";
      this.note.textContent = "";
      this.list.hidden = true;
    }
    this.row = row;
    if (after.nextSibling !== this.tr) after.after(this.tr);
    this.load();
  }

  close() {
    this.asked++;
    this.busy = false;
    this.row = null;
    this.tr.remove();
  }

  async load() {
    if (this.busy) return;
    const turn = ++this.asked;
    this.busy = true;
    const { vehicle, slot } = this.row;
    try {
      const found = await this.get(`/v1/vehicles/${encodeURIComponent(vehicle)}/explain?slot=${slot}`);
      if (turn === this.asked) this.fill(found);
    } catch (error) {
      if (turn === this.asked) this.fail(error);
    }
    if (turn === this.asked) this.busy = false;
  }

  fill(e) {
    this.sentence.textContent = e.sentence;
    this.note.textContent = `Of the decision ${age(e.age_s)} ago.`;
    figures(e).forEach(([value, note], i) => {
      this.cells[i].value.textContent = value;
      this.cells[i].note.textContent = note;
    });
    this.cells[4].dd.classList.toggle("held", e.binding && e.bound === "floor");
    this.cells[5].dd.classList.toggle("held", e.binding && e.bound === "ceiling");
    this.list.hidden = false;
  }

  // Old figures would pass for current ones.
  fail(error) {
    this.sentence.textContent = `Cannot be explained: ${error.message}`;
    this.note.textContent = "";
    this.list.hidden = true;
  }
}
