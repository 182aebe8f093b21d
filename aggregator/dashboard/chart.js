// A time chart on a canvas: some 1500 points five times a second, crisp on any screen, colours from the style sheet.
// Knows lines, bands and a reading line; does not know what it draws. A plotting library would cost 5 MB for two of these.

import { clock } from "./format.js";

const LEFT = 62;
const RIGHT = 12;
const TOP = 8;
const BOTTOM = 22;

function niceStep(span, count) {
  const raw = span / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const unit = raw / power;
  return (unit <= 1 ? 1 : unit <= 2 ? 2 : unit <= 5 ? 5 : 10) * power;
}

export class TimeChart {
  // options: {series: [{key, color, dash, step, fill, width}], decimals(step), minSpan, centre, onRead(tMs|null), onMove(fn)}
  constructor(canvas, options) {
    this.canvas = canvas;
    this.options = options;
    this.marks = []; // [{value, label, color, dash}] horizontal lines
    this.bands = []; // [{low, high}] shaded
    this.read = null; // time of the reading line, ms
    this.message = "";
    this.data = { t: [] };
    this.edge = 0; // right edge, ms
    this.seconds = 180;
    this.range = null;
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    canvas.addEventListener("pointerleave", () => options.onRead(null));
    canvas.addEventListener("keydown", (event) => this.keyed(event));
  }

  get inner() {
    return Math.max(1, this.canvas.clientWidth - LEFT - RIGHT);
  }

  point(x) {
    const t = this.edge - (1 - (x - LEFT) / this.inner) * this.seconds * 1000;
    this.options.onRead(x < LEFT || t > this.edge ? null : t);
  }

  keyed(event) {
    const stride = (event.shiftKey ? 10 : 1) * 1000;
    const from = this.read ?? this.edge;
    if (event.key === "ArrowLeft") this.options.onRead(Math.max(this.edge - this.seconds * 1000, from - stride));
    else if (event.key === "ArrowRight") this.options.onRead(Math.min(this.edge, from + stride));
    else if (event.key === "Escape") this.options.onRead(null);
    else return;
    event.preventDefault();
  }

  // Index of the last point not after t, or -1.
  at(t) {
    const times = this.data.t;
    let low = 0;
    let high = times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] <= t) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  scale(first) {
    const { series, minSpan, centre } = this.options;
    let low = Infinity;
    let high = -Infinity;
    for (const { key } of series) {
      const column = this.data[key] ?? [];
      for (let i = Math.max(0, first); i < column.length; i++) {
        const value = column[i];
        if (value === null || value === undefined) continue;
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    const middle = centre();
    low = Math.min(low, middle - minSpan() / 2);
    high = Math.max(high, middle + minSpan() / 2);
    const pad = (high - low) * 0.06;
    const step = niceStep(high - low + 2 * pad, 5);
    // Whole steps only: the axis stands still until the data really leaves it.
    return { low: Math.floor((low - pad) / step) * step, high: Math.ceil((high + pad) / step) * step, step };
  }

  draw() {
    const { canvas } = this;
    const ratio = devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const g = canvas.getContext("2d");
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    const style = getComputedStyle(canvas);
    const color = (name) => style.getPropertyValue(`--${name}`).trim();
    const start = this.edge - this.seconds * 1000;
    const first = this.at(start);
    const { low, high, step } = this.scale(first);
    const x = (t) => LEFT + ((t - start) / (this.seconds * 1000)) * this.inner;
    const y = (value) => TOP + (1 - (value - low) / (high - low)) * (height - TOP - BOTTOM);
    const sharp = (v) => Math.round(v) + 0.5;
    const rule = (value, stroke, dash = []) => {
      g.strokeStyle = stroke;
      g.lineWidth = 1;
      g.setLineDash(dash);
      g.beginPath();
      g.moveTo(LEFT, sharp(y(value)));
      g.lineTo(width - RIGHT, sharp(y(value)));
      g.stroke();
      g.setLineDash([]);
    };

    g.font = `11px ${style.fontFamily}`;
    g.textBaseline = "middle";
    g.fillStyle = color("band");
    for (const band of this.bands) {
      const top = y(Math.min(high, band.high));
      g.fillRect(LEFT, top, this.inner, Math.max(1, y(Math.max(low, band.low)) - top));
    }
    g.textAlign = "right";
    for (let k = 0; k <= Math.round((high - low) / step); k++) {
      const value = low + k * step;
      rule(value, color("grid"));
      g.fillStyle = color("muted");
      g.fillText(this.options.label(value, step), LEFT - 8, y(value));
    }
    this.drawTimes(g, { color, start, x, height });
    for (const mark of this.marks) {
      if (mark.value < low || mark.value > high) continue;
      rule(mark.value, color(mark.color), mark.dash);
      if (!mark.label) continue;
      g.textAlign = "left";
      const under = y(mark.value) < TOP + 16; // no room above
      g.textBaseline = under ? "top" : "bottom";
      g.fillStyle = color("muted");
      g.fillText(mark.label, LEFT + 6, y(mark.value) + (under ? 4 : -3));
      g.textBaseline = "middle";
    }
    g.save();
    g.beginPath();
    g.rect(LEFT, 0, this.inner, height - BOTTOM + 1);
    g.clip();
    for (const series of this.options.series) this.drawSeries(g, series, { x, y, first, color, low, high });
    g.restore();
    if (this.read !== null) this.drawReading(g, { color, x, y, height });
    if (this.message) this.drawMessage(g, { color, width });
  }

  drawTimes(g, { color, start, x, height }) {
    const every = (this.seconds <= 60 ? 10 : this.seconds <= 180 ? 30 : 60) * (this.inner < 420 ? 2 : 1) * 1000;
    g.textAlign = "center";
    for (let t = Math.ceil(start / every) * every; t <= this.edge; t += every) {
      g.strokeStyle = color("grid");
      g.lineWidth = 1;
      g.beginPath();
      g.moveTo(Math.round(x(t)) + 0.5, TOP);
      g.lineTo(Math.round(x(t)) + 0.5, height - BOTTOM + 4);
      g.stroke();
      if (x(t) > LEFT + 18 && x(t) < LEFT + this.inner - 18) {
        g.fillStyle = color("muted");
        g.fillText(clock(t), x(t), height - 8);
      }
    }
  }

  drawSeries(g, series, { x, y, first, color, low, high }) {
    const times = this.data.t;
    const column = this.data[series.key] ?? [];
    const zero = y(Math.min(high, Math.max(low, 0)));
    let from = null; // start of the unbroken run
    let px = 0;
    let py = 0;
    g.lineWidth = series.width;
    g.lineJoin = "round";
    g.strokeStyle = color(series.color);
    g.setLineDash(series.dash ?? []);
    const path = new Path2D();
    const area = new Path2D();
    const close = () => {
      if (from !== null) area.lineTo(px, zero);
      from = null;
    };
    for (let i = Math.max(0, first); i < times.length; i++) {
      const value = column[i];
      if (value === null || value === undefined) {
        close();
        continue;
      }
      const broken = from === null || (i > 0 && times[i] - times[i - 1] > 2500);
      const qx = x(times[i]);
      const qy = y(value);
      if (broken) {
        close();
        path.moveTo(qx, qy);
        area.moveTo(qx, zero);
        area.lineTo(qx, qy);
        from = qx;
      } else {
        if (series.step) {
          path.lineTo(qx, py);
          area.lineTo(qx, py);
        }
        path.lineTo(qx, qy);
        area.lineTo(qx, qy);
      }
      px = qx;
      py = qy;
    }
    close();
    if (series.fill) {
      g.fillStyle = color(series.fill);
      g.fill(area);
    }
    g.stroke(path);
    g.setLineDash([]);
  }

  drawReading(g, { color, x, y, height }) {
    const i = this.at(this.read);
    g.strokeStyle = color("muted");
    g.lineWidth = 1;
    g.beginPath();
    g.moveTo(Math.round(x(this.read)) + 0.5, TOP);
    g.lineTo(Math.round(x(this.read)) + 0.5, height - BOTTOM);
    g.stroke();
    if (i < 0) return;
    for (const series of this.options.series) {
      const value = this.data[series.key]?.[i];
      if (value === null || value === undefined) continue;
      g.fillStyle = color(series.color);
      g.beginPath();
      g.arc(x(this.read), y(value), 3.5, 0, 7);
      g.fill();
    }
  }

  drawMessage(g, { color, width }) {
    g.font = `600 14px ${getComputedStyle(this.canvas).fontFamily}`;
    const w = g.measureText(this.message).width + 32;
    const cx = LEFT + (width - LEFT - RIGHT) / 2;
    const cy = TOP + 24; // high up: the past below stays readable
    g.fillStyle = color("panel");
    g.strokeStyle = color("critical");
    g.lineWidth = 1.5;
    g.beginPath();
    g.roundRect(cx - w / 2, cy - 17, w, 34, 6);
    g.fill();
    g.stroke();
    g.fillStyle = color("critical-text");
    g.textAlign = "center";
    g.textBaseline = "middle";
    g.fillText(this.message, cx, cy + 1);
  }
}
