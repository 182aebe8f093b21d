// Numbers and times as text: one place for signs, grouping, units' decimals and the dash for "not known".
// Knows no figure; of elements only how one is made.

export const NONE = "—";
const MINUS = "\u2212";
const THIN = "\u202f"; // narrow no-break space groups thousands (ISO 80000-1, 7.3.2)

export const known = (x) => typeof x === "number" && Number.isFinite(x);

export function number(x, decimals = 0, signed = false) {
  if (!known(x)) return NONE;
  const fixed = Math.abs(x).toFixed(decimals);
  const [whole, part] = fixed.split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, THIN);
  const zero = Number(fixed) === 0;
  const sign = zero ? "" : x < 0 ? MINUS : signed ? "+" : "";
  return sign + grouped + (part ? "." + part : "");
}

// One decimal while it means something; a fleet of tens of MW needs none.
export const kw = (x, signed = true) => number(x, Math.abs(x) < 9999.95 ? 1 : 0, signed);

export function age(seconds) {
  if (!known(seconds)) return NONE;
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

// Times of the grid are UTC, to the second; ms since 1970.
export const clock = (ms) => (known(ms) ? new Date(ms).toISOString().slice(11, 19) : "--:--:--");
export const minute = (ms) => (known(ms) ? new Date(ms).toISOString().slice(11, 16) : "--:--");
export const day = (ms) => (known(ms) ? new Date(ms).toISOString().slice(0, 10) : NONE);

export const words = (code) => String(code).replaceAll("_", " ");

const REASON_TEXT = {
  none: "not limited", rating: "rated power", soc: "SoC window", soh: "battery health", dod: "depth of discharge",
  departure: "departure energy", stale: "report too old", unplugged: "away", fault: "fault", refused: "refuses commands",
  held: "report ageing", temperature: "battery temperature", taper: "taper near full or empty",
  throughput: "day's throughput", override: "owner's wish", ramp: "charger's ramp", minimum: "charger's least power",
  site: "cap of the site", response: "gives less than told",
  frequency_out_of_bounds: "frequency beyond the trip limits",
};
export const REASONS = Object.keys(REASON_TEXT).slice(1); // what one can filter by
export const reason = (code) => REASON_TEXT[code] ?? words(code);

export function make(tag, className, parent) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  parent?.append(element);
  return element;
}
