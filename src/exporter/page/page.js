// The exporter's page: asks for /snapshot, /history and /alerts, and draws them.
"use strict";

const RANGES = [
  ["1 min", 60, 1], ["5 min", 300, 1], ["15 min", 900, 3],
  ["1 h", 3600, 10], ["6 h", 21600, 30], ["24 h", 86400, 30],
];
const PRIORITIES = ["critical", "high", "normal", "low"];
const $ = (id) => document.getElementById(id);

const view = { span: 300, every: 1, pool: 0, token: sessionStorage.getItem("millpond-token") };
let before = null; // the snapshot before the last, for rates
let sections = null; // the charts that are drawn, and of what
let past = [];

// Elements ------------------------------------------------------------------

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "onclick") made.onclick = value;
    else if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/// Replaces what is inside only if it is to be different, so that nothing flickers or loses focus.
function fill(parent, ...children) {
  const next = element("div", null, ...children);
  if (parent.innerHTML !== next.innerHTML) {
    const focused = parent.contains(document.activeElement)
      ? [...parent.querySelectorAll("button")].indexOf(document.activeElement) : -1;
    parent.replaceChildren(...next.childNodes);
    if (focused >= 0) parent.querySelectorAll("button")[focused]?.focus();
  }
}

// Numbers -------------------------------------------------------------------

function short(value, digits = 3) {
  return Number(value.toPrecision(digits)).toString();
}

function count(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e9) return short(value / 1e9) + " G";
  if (size >= 1e6) return short(value / 1e6) + " M";
  if (size >= 1e4) return short(value / 1e3) + " k";
  return size >= 100 ? Math.round(value).toString() : short(value);
}

const rate = (value) => (value === null || value === undefined ? "–" : count(value) + "/s");

function time(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === 0) return "0";
  if (seconds < 1e-3) return short(seconds * 1e6) + " µs";
  if (seconds < 1) return short(seconds * 1e3) + " ms";
  return short(seconds) + " s";
}

const percent = (value) => (value === null || value === undefined ? "–" : short(value) + " %");

function bytes(mebibytes) {
  if (mebibytes === null || mebibytes === undefined) return "–";
  return mebibytes >= 1024 ? short(mebibytes / 1024) + " GiB" : short(mebibytes) + " MiB";
}

function age(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const at = parts.findIndex(([size]) => seconds >= size);
  if (at < 0) return "0 s";
  const [size, name] = parts[at];
  const whole = Math.floor(seconds / size);
  const next = parts[at + 1];
  const rest = next ? Math.floor((seconds % size) / next[0]) : 0;
  return `${whole} ${name}` + (rest ? ` ${rest} ${next[1]}` : "");
}

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });

// Charts --------------------------------------------------------------------

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function tick(moment, step) {
  const options = { hour: "2-digit", minute: "2-digit", second: step < 60 ? "2-digit" : undefined, hour12: false };
  return new Date(moment * 1000).toLocaleTimeString([], options);
}

/// What a label needs; those of whole minutes are narrower.
function room(from, to, width) {
  const minute = (width / (to - from)) * 60;
  return minute >= 40 && minute < 80 ? 40 : 66;
}

/// Whole powers of ten around these times.
function decades(low, high) {
  if (!low || !high) return [1e-4, 1];
  const from = Math.floor(Math.log10(low) + 1e-9);
  return [10 ** from, 10 ** Math.max(Math.ceil(Math.log10(high) - 1e-9), from + 2)];
}

function powers(low, high) {
  const [from, to] = [Math.round(Math.log10(low)), Math.round(Math.log10(high))];
  return Array.from({ length: to - from + 1 }, (_, number) => Number(`1e${from + number}`));
}

/// A chart of some lines; times on a logarithmic scale, everything else from zero. Each line: label, color, and how it is drawn. With `stacked` the lines
/// lie on top of each other, the first at the bottom.
class Chart {
  constructor(parent, { title, unit, lines, stacked = false, large = false, floor = 0 }) {
    Object.assign(this, { unit, lines, stacked });
    this.moment = element("span");
    this.legend = element("div", { class: "legend" });
    this.values = lines.map((line) => {
      const value = element("b");
      const swatch = element("i", { style: `background: var(${line.color})` });
      this.legend.append(element("span", null, swatch, line.label + " ", value));
      return value;
    });
    const plot = element("div");
    this.box = element("div", { class: large ? "chart large" : "chart" },
      element("h3", null, title, this.moment), this.legend, plot);
    parent.append(this.box);
    // Stacked areas are drawn from the highest down, each over the one behind it.
    this.order = lines.map((_, number) => number);
    if (stacked) this.order.reverse();
    const axis = { stroke: color("--quiet"), grid: { stroke: color("--grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    this.height = large ? 210 : 160;
    this.plot = new uPlot({
      width: Math.max(plot.clientWidth, 100), height: this.height,
      legend: { show: false },
      cursor: { y: false, sync: { key: "millpond" }, drag: { x: false, y: false }, points: { size: 6 } },
      scales: {
        x: { time: true, range: () => this.range || [0, 1] },
        y: unit === time ? { distr: 3, range: (_, low, high) => decades(low, high) }
          : { range: (_, low, high) => [0, Math.max(high === null ? 0 : high * 1.08, floor)] },
      },
      axes: [
        { ...axis, size: 26, space: (_, __, from, to, width) => room(from, to, width), values: (_, moments, __, ___, step) => moments.map((moment) => tick(moment, step)) },
        { ...axis, size: 58, space: 34, values: (_, values) => values.map((value) => this.unit(value)),
          splits: unit === time ? (_, __, low, high) => powers(low, high) : undefined, filter: unit === time ? (_, values) => values : undefined },
      ],
      series: [{}, ...this.order.map((number) => this.series(lines[number]))],
      hooks: { setCursor: [() => this.tell()] },
    }, [[], ...lines.map(() => [])], plot);
    this.observer = new ResizeObserver(() => {
      if (plot.clientWidth > 0) this.plot.setSize({ width: plot.clientWidth, height: this.height });
    });
    this.observer.observe(plot);
  }

  series(line) {
    return {
      label: line.label,
      stroke: color(line.color),
      width: line.thin ? 1 : 1.6,
      dash: line.dash ? [5, 4] : undefined,
      fill: this.stacked && !line.dash ? color(line.color) : line.fill ? color(line.color) + "22" : undefined,
      points: { show: (_, __, from, to) => to - from < 2 },
    };
  }

  /// `columns` in the order of the lines.
  set(moments, columns) {
    this.columns = columns;
    this.moments = moments;
    const last = moments.at(-1) ?? Date.now() / 1000;
    this.range = [last - view.span, last];
    let drawn = columns;
    if (this.stacked) {
      const sum = new Array(moments.length).fill(0);
      drawn = columns.map((column, number) => this.lines[number].dash ? column : column.map((value, row) => {
        if (value === null) return null;
        sum[row] += value;
        return sum[row];
      }));
    }
    // Nothing is as short as nothing on a logarithmic scale.
    if (this.unit === time) drawn = drawn.map((column) => column.map((value) => value || null));
    this.plot.setData([moments, ...this.order.map((number) => drawn[number])]);
    this.tell();
  }

  /// Writes the values under the cursor, or else the last ones, into the legend.
  tell() {
    if (!this.columns) return;
    const hovered = this.plot.cursor.idx;
    const at = hovered ?? this.moments.length - 1;
    this.moment.textContent = hovered === null || hovered === undefined || !this.moments.length ? "" : clock(this.moments[at]);
    this.columns.forEach((column, number) => {
      this.values[number].textContent = this.unit(column[at]);
    });
  }

  destroy() {
    this.observer.disconnect();
    this.plot.destroy();
    this.box.remove();
  }
}

const POOL_CHARTS = [
  { title: "Connections", unit: count, large: true, stacked: true, floor: 1, of: ["used", "idle", "limit"], lines: [
    { label: "in use", color: "--c1" }, { label: "idle", color: "--c1-soft" }, { label: "limit", color: "--c5", dash: true, thin: true }] },
  { title: "Response time", unit: time, large: true, of: ["p50", "p95", "p99"], lines: [
    { label: "p50", color: "--c1" }, { label: "p95", color: "--c2" }, { label: "p99", color: "--c3" }] },
  { title: "Operations", unit: rate, floor: 1, of: ["succeeded", "failed", "leases"], lines: [
    { label: "done", color: "--c1", fill: true }, { label: "failed", color: "--c4" }, { label: "leases", color: "--c5", thin: true }] },
  { title: "Waiting callers", unit: count, floor: 1, of: ["waiting"], lines: [{ label: "waiting", color: "--c3", fill: true }] },
  { title: "Waiting and holding, p99", unit: time, of: ["wait_p99", "use_p99"], lines: [
    { label: "wait", color: "--c3" }, { label: "hold", color: "--c2" }] },
  { title: "Connecting", unit: rate, floor: 1, of: ["created", "connect_failures", "timeouts"], lines: [
    { label: "connected", color: "--c1" }, { label: "failed", color: "--c4" }, { label: "callers out of time", color: "--c3" }] },
];
const BATCH_CHARTS = [
  { title: "Queue", unit: count, floor: 1, stacked: true, of: "queued", lines: PRIORITIES.map((label, number) =>
    ({ label, color: ["--c4", "--c3", "--c1", "--c5"][number] })) },
  { title: "Outcomes", unit: rate, floor: 1, of: ["done", "rejected", "not_executed", "unknown"], lines: [
    { label: "done", color: "--c1", fill: true }, { label: "rejected", color: "--c3" },
    { label: "not executed", color: "--c5" }, { label: "unknown", color: "--c4" }] },
  { title: "Queued and executed, p99", unit: time, of: ["queue_p99", "group_p99"], lines: [
    { label: "queued", color: "--c3" }, { label: "group", color: "--c2" }] },
];
const PROCESS_CHARTS = [
  { title: "Memory", unit: bytes, floor: 1, large: true, of: ["memory_mib"], lines: [{ label: "resident", color: "--c1", fill: true }] },
  { title: "Processor", unit: percent, floor: 5, large: true, of: ["cpu_percent"], lines: [{ label: "of what it may use", color: "--c2", fill: true }] },
];

/// A group of charts of one kind that get their columns from one object.
class Section {
  constructor(parent, kinds) {
    this.charts = kinds.map((kind) => [kind, new Chart(parent, kind)]);
  }

  set(moments, source) {
    for (const [kind, chart] of this.charts) {
      const columns = typeof kind.of === "string" ? source[kind.of] : kind.of.map((name) => source[name]);
      chart.set(moments, columns);
    }
  }

  destroy() {
    for (const [, chart] of this.charts) chart.destroy();
  }
}

// What is shown -------------------------------------------------------------

/// What grew between two snapshots, per second.
function speed(snapshot, of) {
  if (!before) return null;
  const seconds = snapshot.uptime_seconds - before.uptime_seconds;
  const [was, is] = [of(before), of(snapshot)];
  return seconds > 0 && was !== undefined ? Math.max(is - was, 0) / seconds : null;
}

const failures = (pool) => pool.operations.failed.reduce((sum, [, number]) => sum + number, 0);
const operations = (number) => (snapshot) => {
  const pool = snapshot.pools[number];
  return pool && pool.operations.succeeded + failures(pool);
};
const leases = (number) => (snapshot) => snapshot.pools[number]?.leases;

function showHealth(snapshot) {
  const { health } = snapshot.health;
  const words = { up: "All is well", degraded: "Degraded", down: "Down" };
  $("health").textContent = words[health];
  $("health").className = `pill ${health}`;
  $("uptime").textContent = `up for ${age(snapshot.uptime_seconds)}`;
  document.title = (health === "up" ? "" : "● ") + "Millpond" + (health === "up" ? "" : ` – ${words[health]}`);
  const severity = { info: "up", warning: "degraded", critical: "down" };
  fill($("firing"), ...snapshot.alerts.map((alert) => element("p", { class: severity[alert.severity] },
    element("time", null, `since ${clock(alert.since)}`),
    element("b", null, `${alert.rule.replaceAll("_", " ")}: ${alert.subject}. `), alert.message)));
  $("firing").hidden = snapshot.alerts.length === 0;
}

function showPools(snapshot) {
  fill($("pools"), ...snapshot.pools.map((pool, number) => {
    const { leased, idle_connections: idle, max_size: limit } = pool.state;
    const share = (part) => `width:${Math.min(100, (100 * part) / Math.max(limit, 1))}%`;
    const busy = speed(snapshot, operations(number)) || speed(snapshot, leases(number));
    return element("button", { "aria-pressed": number === view.pool, "data-pool": number },
      element("span", { class: "name" }, element("span", { class: `dot ${pool.health}`, title: pool.health }), element("b", null, pool.name)),
      element("div", { class: "where" }, `${pool.backend} · ${pool.endpoint}`),
      element("div", { class: "bar" }, element("i", { style: share(leased) }), element("i", { style: share(idle) })),
      element("div", { class: "numbers" }, element("span", null, `${leased} of ${limit} in use`), element("span", null, rate(busy))));
  }));
  const health = snapshot.health.pools[view.pool];
  const reasons = [...(health ? health.reasons : []), ...snapshot.health.resources];
  fill($("reasons"), ...reasons.map((reason) => element("p", { class: reason.health }, reason.text)));
  $("reasons").hidden = reasons.length === 0;
}

function showFigures(snapshot, history) {
  const pool = snapshot.pools[view.pool];
  if (!pool) return;
  const columns = history.pools[0];
  const last = (column) => columns?.[column].at(-1);
  const queued = snapshot.batches.filter((batch) => batch.pool === pool.name).map((batch) => batch.queued);
  const recent = pool.operations.recent;
  const figure = (name, value, small, bad) => element("div", bad ? { class: "bad" } : null,
    element("dt", null, name), element("dd", null, value, small ? element("small", null, " " + small) : null));
  fill($("figures"),
    figure("in use", count(pool.state.leased), `of ${pool.state.max_size}`),
    figure("waiting", count(pool.state.waiters), null, pool.state.waiters > 0),
    figure("operations", rate(speed(snapshot, operations(view.pool)))),
    figure("leases", rate(speed(snapshot, leases(view.pool)))),
    figure("p95", time(last("p95"))),
    figure("failed", percent(100 * recent.error_rate), `of last ${count(recent.requests)}`, recent.error_rate > 0.01),
    queued.length ? figure("queued", count(queued.reduce((sum, number) => sum + number, 0))) : null);
}

function showTables(snapshot) {
  const pool = snapshot.pools[view.pool];
  const rows = (pairs, none) => {
    const some = pairs.filter(([, number]) => number > 0).sort((a, b) => b[1] - a[1]);
    const row = ([name, number]) => element("tr", null, element("td", null, name.replaceAll("_", " ")), element("td", { class: "number" }, number.toLocaleString("en")));
    return some.length ? some.map(row) : [element("tr", null, element("td", { class: "quiet" }, none))];
  };
  if (pool) {
    fill($("errors"), ...rows(pool.operations.failed, "none"));
    fill($("connects"), ...rows(pool.connect_failures, "none"));
    fill($("closed"), ...rows(pool.closed, "none"));
  }
  const all = [...snapshot.alerts, ...[...past].reverse()];
  fill($("alerts"), ...(all.length ? all.map((alert) => element("tr", null,
    element("td", { class: "time" }, `${clock(alert.since)} – ${alert.until ? clock(alert.until) : "now"}`),
    element("td", null, element("span", { class: `pill ${alert.until ? "up" : alert.severity === "critical" ? "down" : "degraded"}` }, alert.until ? "resolved" : alert.severity)),
    element("td", null, `${alert.rule.replaceAll("_", " ")}: ${alert.subject}`),
    element("td", { class: "message" }, alert.message))) : [element("tr", null, element("td", { class: "quiet" }, "none so far"))]));
}

function showCharts(snapshot, history) {
  const pool = snapshot.pools[view.pool];
  const mine = snapshot.batches.map((batch, number) => [batch, number]).filter(([batch]) => pool && batch.pool === pool.name);
  const key = [view.pool, ...mine.map(([batch]) => batch.name)].join("\n");
  if (!sections || sections.key !== key) {
    sections?.all.forEach((section) => section.destroy());
    fill($("batches"), ...mine.flatMap(([batch]) => [element("h2", null, `Batch ${batch.name}`), element("div", { class: "charts" })]));
    sections = {
      key,
      pool: new Section($("pool-charts"), POOL_CHARTS),
      batches: mine.map((_, number) => new Section($("batches").querySelectorAll(".charts")[number], BATCH_CHARTS)),
      process: new Section($("process-charts"), PROCESS_CHARTS),
    };
    sections.all = [sections.pool, ...sections.batches, sections.process];
  }
  const moments = history.at_ms.map((moment) => moment / 1000);
  const columns = history.pools[0];
  if (columns && pool) {
    sections.pool.set(moments, { ...columns, limit: columns.used.map((value) => (value === null ? null : pool.state.max_size)) });
  }
  mine.forEach(([, number], at) => {
    const columns = history.batches.find((batch) => batch.number === number);
    if (columns) sections.batches[at].set(moments, columns);
  });
  sections.process.set(moments, history);
}

function redraw() {
  sections?.all.forEach((section) => section.destroy());
  sections = null;
}

// Asking --------------------------------------------------------------------

class Denied extends Error {}

async function ask(path) {
  const headers = view.token ? { Authorization: `Bearer ${view.token}` } : {};
  const answer = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(5000) });
  if (answer.status === 401) throw new Denied();
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.json();
}

let turn = 0;
let history = null;
let drawn = -1;
let heard = Date.now();
let timer = 0;
let busy = false;

async function round() {
  clearTimeout(timer);
  if (busy) return;
  busy = true;
  try {
    const [snapshot, alerts] = await Promise.all([ask("/snapshot"), turn % 3 === 0 ? ask("/alerts") : null]);
    snapshot.batches ??= [];
    past = alerts ? alerts.past : past;
    if (view.pool >= snapshot.pools.length) view.pool = 0;
    if (!history || drawn < 0 || turn - drawn >= view.every) {
      history = await ask(`/history?span=${view.span}&pool=${view.pool}`);
      history.batches ??= [];
      drawn = turn;
    }
    $("lost").hidden = $("login").hidden = true;
    document.querySelector("main").hidden = false;
    showHealth(snapshot);
    showPools(snapshot);
    showFigures(snapshot, history);
    if (drawn === turn) showCharts(snapshot, history);
    showTables(snapshot);
    before = snapshot;
    heard = Date.now();
    turn += 1;
  } catch (error) {
    if (error instanceof Denied) {
      $("denied").hidden = !view.token;
      $("login").hidden = false;
      document.querySelector("main").hidden = true;
    } else {
      $("lost").textContent = `No answer from the program since ${clock(heard / 1000)}. Trying again…`;
      $("lost").hidden = false;
    }
  }
  busy = false;
  if ($("login").hidden && !document.hidden) timer = setTimeout(round, 1000);
}

/// Shows something else, at once.
function choose(change) {
  Object.assign(view, change);
  drawn = -1;
  fill($("ranges"), ...RANGES.map(([label, span]) =>
    element("button", { "aria-pressed": span === view.span, "data-span": span }, label)));
  round();
}

$("ranges").onclick = (event) => {
  const span = Number(event.target.dataset.span);
  const range = RANGES.find(([, length]) => length === span);
  if (range) choose({ span, every: range[2] });
};
$("pools").onclick = (event) => {
  const card = event.target.closest("button");
  if (card) choose({ pool: Number(card.dataset.pool) });
};
$("login").onsubmit = (event) => {
  event.preventDefault();
  view.token = $("token").value;
  sessionStorage.setItem("millpond-token", view.token);
  round();
};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { redraw(); choose({}); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) round(); });
choose({});
