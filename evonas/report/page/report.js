"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const { runs, columns, rows, charts, styles } = page;
const n = rows.id.length;
const byName = Object.fromEntries(columns.map((column) => [column.name, column]));
const dark = matchMedia("(prefers-color-scheme: dark)");
const state = { x: "", y: "", z: "", series: "run", limits: {}, sort: null, descending: false, chosen: page.first };
const views = {};    // id of a chart -> its view
const brushes = {};  // id of a chart -> {field: [low, high]}
const MOST_LINES = 300;
let shown = innerWidth < 600 ? 10 : 25;  // rows of the table
let drawings = null;

const $ = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text, never markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element && name !== "list") element[name] = value; else element.setAttribute(name, value);
  }
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

// ---- values ----

/** A value with its unit, as the command line shows it: 12.4%, 40.93M, 1.506k. */
function text(name, value) {
  if (value === null || value === undefined) return "–";
  const scale = byName[name]?.scale ?? (/error$|aupr$|accuracy$/.test(name) ? 100 : 1);
  if (scale === 100) return `${(100 * value).toFixed(1)}%`;
  if (scale < 1) {
    const [factor, unit] = Math.abs(value) >= 1e6 ? [1e-6, "M"] : Math.abs(value) >= 1e3 ? [1e-3, "k"] : [1, ""];
    return `${+(value * factor).toPrecision(4)}${unit}`;
  }
  return String(+Number(value).toPrecision(4));
}
const better = (name, a, b) => (byName[name].maximize ? a > b : a < b);
const has = (name, i) => rows[name][i] !== null;
const short = (i) => rows.id[i].slice(0, 6);
const seriesOf = (i) => (state.series === "method" ? runs[rows.run[i]].method : runs[rows.run[i]].name);
const about = (i) => [short(i), ...columns.filter((c) => has(c.name, i)).map((c) => `${c.name} ${text(c.name, rows[c.name][i])}`)].join(", ");
const titleOf = (name) => byName[name].label + (byName[name].maximize ? ", larger is better" : "");

// ---- what the limits, the brushes and the chosen objectives leave ----

const within = new Uint8Array(n), brushed = new Uint8Array(n), onFront = new Uint8Array(n);

function sift() {
  const limits = Object.entries(state.limits);
  for (let i = 0; i < n; i++) {
    within[i] = limits.every(([name, worst]) => has(name, i) && !better(name, worst, rows[name][i])) ? 1 : 0;
    brushed[i] = within[i];
  }
  for (const [id, ranges] of Object.entries(brushes)) {
    const names = { x: id === "chart-zy" ? state.z : state.x, y: state.y };
    for (const [axis, [low, high]] of Object.entries(ranges)) {
      const name = names[axis], values = rows[name], scale = byName[name].scale;
      for (let i = 0; i < n; i++) if (!(values[i] !== null && values[i] * scale >= low && values[i] * scale <= high)) brushed[i] = 0;
    }
  }
  markFront();
}

/** Mark the networks within the limits that no other one dominates in the chosen objectives. */
function markFront() {
  onFront.fill(0);
  const names = axes();
  const signs = names.map((name) => (byName[name].maximize ? -1 : 1));
  const found = [];
  for (let i = 0; i < n; i++) if (within[i] && names.every((name) => has(name, i))) found.push([i, ...names.map((name, k) => signs[k] * rows[name][i])]);
  found.sort((a, b) => { for (let k = 1; k < a.length; k++) if (a[k] !== b[k]) return a[k] - b[k]; return a[0] - b[0]; });
  const front = [];
  for (const one of found) {  // in this order a row is dominated by earlier ones alone
    const beaten = front.some((other) => {
      let differs = false;
      for (let k = 1; k < one.length; k++) { if (other[k] > one[k]) return false; differs ||= other[k] < one[k]; }
      return differs;
    });
    if (!beaten) { front.push(one); onFront[one[0]] = 1; }
  }
}
const axes = () => [...new Set([state.y, state.x, state.z].filter(Boolean))];

/** Numbers of the rows that are left, in the order of the table. */
function order() {
  const found = [];
  for (let i = 0; i < n; i++) if (brushed[i]) found.push(i);
  const name = state.sort;
  if (name === null) return found.sort((a, b) => onFront[b] - onFront[a] || (rows.rank[a] ?? 1e9) - (rows.rank[b] ?? 1e9) || a - b);
  const way = state.descending ? -1 : 1, values = name === "run" ? rows.run.map((k) => runs[k].name) : rows[name];
  return found.sort((a, b) => {
    const [left, right] = [values[a], values[b]];
    if (left === right) return a - b;
    if (left === null || right === null) return left === null ? 1 : -1;
    return left < right ? -way : way;
  });
}

// ---- charts ----

function look() {
  const ink = dark.matches ? "#e8eaee" : "#1d2127", line = dark.matches ? "#363b44" : "#d9dde3";
  return {
    background: null, font: "system-ui, sans-serif", view: { stroke: line },
    axis: { labelColor: ink, titleColor: ink, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 130 },
    legend: { labelColor: ink, titleColor: ink, labelFontSize: 12, labelLimit: 260 },
  };
}

async function embed(id, spec, data, height = 330) {
  views[id]?.finalize();
  const full = { ...spec, width: "container", height, autosize: { type: "fit", contains: "padding" }, config: look(), datasets: data };
  const { view } = await vegaEmbed(`#${id}`, full, { actions: false, renderer: "canvas", tooltip: { theme: dark.matches ? "dark" : "light" } });
  views[id] = view;
  return view;
}

/** A copy of a chart with its colours for the chosen kind of series. */
function coloured(chart) {
  const domain = Object.keys(styles[state.series]);
  return JSON.parse(JSON.stringify(chart), (key, value) => {
    if ((key === "color" || key === "shape") && value?.field === "series") {
      value.scale = { domain, range: domain.map((name) => styles[state.series][name][key === "color" ? 0 : 1]) };
      value.legend = domain.length > 1 ? { orient: "top", columns: innerWidth < 600 ? 1 : 3 } : null;
    }
    return value === "#22262e" && dark.matches ? "#e8eaee" : value;  // what is drawn in ink
  });
}

/** Axes of a front: fixed, so that limits move no point. */
function titled(spec, x, y) {
  for (const layer of spec.layer) for (const [axis, name] of [["x", x], ["y", y]]) {
    const [low, high] = ranges[name].map((value) => value * byName[name].scale);
    const wide = byName[name].cost && low > 0 && high > 20 * low, room = 0.04 * (high - low || Math.abs(high) || 1);
    layer.encoding[axis].title = titleOf(name);
    layer.encoding[axis].scale = wide ? { type: "log", domain: [low / 1.15, high * 1.15], nice: false } : { domain: [low - room, high + room], nice: false };
    layer.encoding[axis].axis = wide ? { format: "~g", labelOverlap: true } : {};
  }
  return spec;
}

function pointsOf(x, y) {
  const found = [];
  for (let i = 0; i < n; i++) if (has(x, i) && has(y, i)) {
    found.push({ i, x: rows[x][i] * byName[x].scale, y: rows[y][i] * byName[y].scale, series: seriesOf(i), text: about(i), on: onFront[i] === 1 });
  }
  return found;
}
function stepsOf(x, y) {
  if (axes().length !== 2 || byName[x].maximize || byName[y].maximize) return [];
  const found = [];
  for (let i = 0; i < n; i++) if (onFront[i]) found.push({ x: rows[x][i] * byName[x].scale, y: rows[y][i] * byName[y].scale });
  return found.sort((a, b) => a.x - b.x || b.y - a.y);
}

async function drawFront() {
  for (const id of ["chart-xy", "chart-zy"]) delete brushes[id];
  sift();
  const third = state.z && state.z !== state.x && state.z !== state.y;
  document.querySelector(".pair").classList.toggle("two", Boolean(third));
  await drawScatter("chart-xy", state.x, state.y);
  if (third) await drawScatter("chart-zy", state.z, state.y);
  else { views["chart-zy"]?.finalize(); delete views["chart-zy"]; $("chart-zy").replaceChildren(); }
  update();
}

async function drawScatter(id, x, y) {
  const view = await embed(id, titled(coloured(charts.front), x, y), { rows: pointsOf(x, y), steps: stepsOf(x, y) }, innerWidth < 600 ? 280 : 380);
  view.addSignalListener("brush", (_, value) => {
    if (Object.keys(value).length) brushes[id] = value; else delete brushes[id];
    later(update);
  });
  view.addEventListener("click", (_, item) => { if (item?.datum?.i !== undefined) choose(item.datum.i); });
}

/** Show anew what limits, brushes and selection leave; the milliseconds of it stand in the body's data-filter-ms. */
function update() {
  const begun = performance.now();
  const before = onFront.slice();
  sift();
  const changed = before.some((value, i) => value !== onFront[i]);
  const keep = Array.from(within, (inside, i) => (brushed[i] ? (onFront[i] ? 1 : 0.75) : inside ? 0.12 : 0));
  for (const id of ["chart-xy", "chart-zy"]) if (views[id]) {
    const x = id === "chart-zy" ? state.z : state.x;
    views[id].signal("keep", keep).signal("chosen", state.chosen);
    if (changed) {
      for (const row of views[id].data("rows")) row.on = onFront[row.i] === 1;
      views[id].data("steps", stepsOf(x, state.y));
    }
    views[id].run();
  }
  const found = order();
  showTable(found);
  clearTimeout(lining);
  lining = setTimeout(() => showLines(found), 80);  // once a slider rests
  let front = 0, left = 0;
  for (let i = 0; i < n; i++) { front += brushed[i] && onFront[i]; left += brushed[i]; }
  $("count").textContent = `${left.toLocaleString("en")} of ${n.toLocaleString("en")} networks, ${front} of them on the front`;
  document.body.dataset.filterMs = (performance.now() - begun).toFixed(1);
  document.body.dataset.left = left;
  remember();
}
let waiting = 0, lining = 0;
function later(call) { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(call); }

function showLines(found) {
  const view = views["chart-lines"];
  if (!view) return;
  const some = found.slice(0, MOST_LINES);
  if (brushed[state.chosen] && !some.includes(state.chosen)) some.push(state.chosen);
  view.signal("chosen", state.chosen).data("rows", linesOf(some)).run();
  $("lines-hint").textContent = `Best at the bottom, worst at the top of each column; ${found.length > MOST_LINES ? `the first ${MOST_LINES} networks of the table` : "every network of the table"}, the selected one thick.`;
}
const lined = columns.filter((column) => rows[column.name].some((value) => value !== null));
const ranges = Object.fromEntries(lined.map(({ name }) => {
  const values = rows[name].filter((value) => value !== null);
  return [name, [Math.min(...values), Math.max(...values)]];
}));
function linesOf(numbers) {
  const found = [];
  for (const i of numbers) lined.forEach(({ name, maximize }, place) => {
    if (!has(name, i)) return;
    const [low, high] = ranges[name], share = high > low ? (rows[name][i] - low) / (high - low) : 0.5;
    found.push({ i, column: name, place, share: maximize ? 1 - share : share, series: seriesOf(i), text: about(i) });
  });
  return found;
}
async function drawLines() {
  const spec = coloured(charts.lines);
  const narrow = innerWidth < 600;
  for (const layer of spec.layer) {
    layer.encoding.x.sort = lined.map(({ name }) => name);
    Object.assign(layer.encoding.x.axis, { labelAngle: narrow ? -60 : 0, labelFontSize: narrow ? 9 : 11 });
  }
  const view = await embed("chart-lines", spec, { rows: [] }, 300);
  view.addEventListener("click", (_, item) => { if (item?.datum?.i !== undefined) choose(item.datum.i); });
}

async function drawHistory() {
  const found = runs.flatMap((run) => run.history.map((row) => ({ ...row, series: run.name })));
  const by = state.series;
  state.series = "run";
  await embed("chart-history", coloured(charts.history), { rows: found }, 300);
  state.series = by;
  const references = runs.map((run) => `${run.name}: ${run.objectives.map((name) => `${name} ${text(name, run.reference[name])}`).join(", ")}`);
  $("history-hint").textContent = `Larger is better. Reference points: ${references.join("; ")}.`;
}

async function drawChoices() {
  const run = runs[$("choices-run").value], question = $("question").value;
  const found = run.choices.filter((row) => row.question === question);
  const answers = new Set(found.map((row) => row.answer)).size;
  await embed("chart-choices", charts.choices, { rows: found }, 60 + 34 * answers);
}

// ---- table and selected network ----

const tableColumns = [["id", "network"], ...(runs.length > 1 ? [["run", "run"]] : []), ["generation", "generation"], ...columns.map(({ name, label }) => [name, label.replace(/ \(.*\)/, "")])];

function showTable(found) {
  const head = make("tr");
  for (const [name, label] of tableColumns) {
    const sorted = state.sort === name;
    const button = make("button", { type: "button", onclick: () => sortBy(name) }, label + (sorted ? (state.descending ? " ↓" : " ↑") : ""));
    head.append(make("th", { scope: "col", "aria-sort": sorted ? (state.descending ? "descending" : "ascending") : "none" }, button));
  }
  document.querySelector("#table thead").replaceChildren(head);
  const some = found.slice(0, shown);
  document.querySelector("#table tbody").replaceChildren(...some.map((i) => {
    const cells = tableColumns.map(([name]) => make("td", {}, name === "id" ? short(i) : name === "run" ? runs[rows.run[i]].name : text(name, rows[name][i])));
    return make("tr", { className: `row${onFront[i] ? " front" : ""}${i === state.chosen ? " chosen" : ""}`, "data-i": i, tabIndex: 0 }, ...cells);
  }));
  $("more").hidden = found.length <= shown;
}
function sortBy(name) {
  state.descending = state.sort === name && !state.descending;
  state.sort = name;
  update();
}
for (const kind of ["click", "keydown"]) document.querySelector("#table tbody").addEventListener(kind, (event) => {
  const row = event.target.closest("tr");
  if (row && (kind === "click" || event.key === "Enter")) choose(Number(row.dataset.i));
});

function choose(i) { state.chosen = i; update(); showNetwork(); }

function showNetwork() {
  const i = state.chosen;
  if (!(i >= 0 && i < n)) return;
  const run = runs[rows.run[i]];
  $("chosen-id").textContent = rows.id[i];
  const audits = run.audit.filter((row) => row.arch_id === rows.id[i]);
  const names = [...new Set([...columns.map(({ name }) => name).filter((name) => has(name, i)), ...audits.flatMap((row) => Object.keys(row.values))])];
  const head = make("tr", {}, make("th", {}, runs.length > 1 ? run.name : ""), make("th", {}, "search"), ...audits.map((row) => make("th", {}, `audit, ${weightsOf(row)}`)));
  const body = names.map((name) => make("tr", {}, make("td", {}, name.replaceAll("_", " ")), make("td", {}, byName[name] ? text(name, rows[name][i]) : "–"),
    ...audits.map((row) => make("td", {}, text(name, row.values[name])))));
  $("values").replaceChildren(make("div", { className: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body))));
  $("genome").textContent = rows.genome[i];
  $("drawing").innerHTML = (drawings?.drawings[i] ?? []).map((k) => drawings.pieces[k]).join("");  // its texts are escaped
  if (drawings?.drawings[i].length === 0) $("drawing").textContent = "Networks of this space have no drawing.";
  $("commands").replaceChildren(...commandsOf(run, i).map(([what, line]) => {
    const copy = make("button", { type: "button", title: what, onclick: () => navigator.clipboard?.writeText(line) }, "copy");
    return make("div", { className: "command" }, make("code", {}, line), copy);
  }));
}
const weightsOf = (row) => (row.weights === "search" ? "as searched" : row.recipe ? `trained, ${row.recipe}, ${row.epochs} epochs` : "trained");

const quoted = (word) => (/^[\w./~:@%+=-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`);
function commandsOf(run, i) {
  const limits = Object.entries(state.limits).map(([name, worst]) => [name, worst]);
  const bounds = limits.length ? limits : run.objectives.slice(0, 2).map((name) => [name, rows[name][i]]);
  const where = bounds.map(([name, worst]) => `${name} ${byName[name].maximize ? ">=" : "<="} ${worst}`).join(" and ");
  return page.commands.map(([what, line]) => [what, line.replace("RUN", () => quoted(run.path)).replace("ARCH", rows.id[i]).replace("WHERE", () => where).replace(" PLUGIN", () => run.plugin)]);
}

// ---- parts that stay as they are ----

function fillSelect(select, options, value) {
  select.replaceChildren(...options.map(([key, label]) => make("option", { value: key }, label)));
  select.value = value;
}

function buildControls() {
  const options = lined.map(({ name, label }) => [name, label]);
  const shared = (name) => ranges[name] && runs.every((_, k) => !rows.run.includes(k) || rows.run.some((run, i) => run === k && has(name, i)));
  const objectives = runs[0].objectives.filter(shared);
  const others = lined.map(({ name }) => name).filter((name) => shared(name) && !objectives.includes(name));
  const [first, second, third] = [...objectives, ...others];
  state.y ||= first ?? lined[0].name; state.x ||= second ?? state.y;
  if (!started && objectives.length > 2) state.z = third;
  for (const axis of ["y", "x"]) fillSelect($(`axis-${axis}`), options, state[axis]);
  fillSelect($("axis-z"), [["", "none"], ...options], state.z);
  for (const axis of ["x", "y", "z"]) $(`axis-${axis}`).onchange = (event) => { state[axis] = event.target.value; drawFront(); };
  $("by").hidden = runs.length < 2;
  $("series").value = state.series;
  $("series").onchange = (event) => { state.series = event.target.value; drawAll(); };
  $("reset").onclick = () => { state.limits = {}; buildSliders(); drawFront(); };
  $("more").onclick = () => { shown += 100; update(); };
  const drawn = runs.map((run, k) => [k, run.name]).filter(([k]) => runs[k].choices.length);
  $("choices").hidden = drawn.length === 0;
  if (drawn.length) {
    fillSelect($("choices-run"), drawn, drawn[0][0]);
    const questions = () => {
      const found = [...new Set(runs[$("choices-run").value].choices.map((row) => row.question))];
      fillSelect($("question"), found.map((each) => [each, each]), found[0]);
    };
    questions();
    $("choices-run").onchange = () => { questions(); drawChoices(); };
    $("question").onchange = drawChoices;
  }
}

function buildSliders() {
  $("sliders").replaceChildren(...lined.filter(({ name }) => ranges[name][1] > ranges[name][0]).map(({ name, label, maximize }) => {
    const [low, high] = ranges[name], worst = maximize ? low : high;
    const bound = (value) => `${maximize ? "at least" : "at most"} ${text(name, value)}`;
    const output = make("output", {}, bound(state.limits[name] ?? worst));
    const slider = make("input", { type: "range", min: low, max: high, step: "any", "data-column": name, "aria-label": `${label}, ${maximize ? "at least" : "at most"}` });
    slider.value = state.limits[name] ?? worst;
    slider.oninput = () => {
      const value = Number(Number(slider.value).toPrecision(4)), off = maximize ? value <= low : value >= high;
      if (off) delete state.limits[name]; else state.limits[name] = value;
      output.textContent = bound(off ? worst : value);
      later(() => { update(); showNetwork(); });
    };
    return make("label", {}, label, output, slider);
  }));
}

function buildAudits() {
  const audited = runs.filter((run) => run.audit.length);
  $("audit").hidden = audited.length === 0;
  $("audits").replaceChildren(...audited.map((run) => {
    const part = make("div", {}, make("h3", {}, run.name));
    for (const line of run.audited) part.append(make("p", { className: line.startsWith("ALARM") ? "alarm" : "" }, line));
    const measured = [...new Set(run.audit.flatMap((row) => Object.keys(row.values)))];
    const searched = run.objectives.filter((name) => byName[name]);
    const head = make("tr", {}, ...["network", "weights"].map((word) => make("th", { className: "text" }, word)), ...searched.map((name) => make("th", {}, `search: ${name.replaceAll("_", " ")}`)), ...measured.map((name) => make("th", {}, name.replaceAll("_", " "))));
    const body = run.audit.map((row) => {
      const i = rows.id.findIndex((id, k) => id === row.arch_id && runs[rows.run[k]] === run);
      const values = row.status === "ok" ? measured.map((name) => make("td", {}, text(name, row.values[name]))) : [make("td", { colSpan: Math.max(measured.length, 1), className: "wrap" }, `${row.status}: ${row.reason}`)];
      return make("tr", { className: "row", onclick: () => i >= 0 && choose(i) }, make("td", {}, row.arch_id.slice(0, 6)), make("td", { className: "text" }, weightsOf(row)),
        ...searched.map((name) => make("td", {}, i < 0 ? "–" : text(name, rows[name][i]))), ...values);
    });
    part.append(make("div", { className: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body))));
    return part;
  }));
}

function pairs(entries) {
  return make("table", {}, make("tbody", {}, ...entries.map(([name, value]) => make("tr", {}, make("td", {}, name.replaceAll("_", " ")),
    make("td", { className: "wrap" }, value)))));
}

function buildRuns() {
  $("runs").replaceChildren(...runs.map((run) => make("div", {}, make("h3", {}, run.name),
    make("p", {}, `${run.method} on ${run.data}, space ${run.space}, ${run.evaluations.toLocaleString("en")} evaluations; ${run.path}`),
    ...run.failed.map(([reason, times]) => make("p", { className: "alarm" }, `failed ${times} times: ${reason}`)),
    ...Object.entries(run.about).map(([name, words]) => make("p", { className: "hint" }, `${name}: ${words}`)),
    ...run.notes.map((note) => make("p", { className: "hint" }, note)),
    make("details", {}, make("summary", {}, "settings"), pairs(Object.entries(run.settings))),
    make("details", {}, make("summary", {}, "versions"), pairs(Object.entries(run.versions))),
    make("details", {}, make("summary", {}, "identity: all that can change a result"), make("pre", {}, run.identity)))));
}

function buildHead() {
  const failed = runs.reduce((sum, run) => sum + run.failed.reduce((all, [, times]) => all + times, 0), 0);
  $("summary").textContent = `${runs.map((run) => `${run.method} on ${run.data}`).filter((each, k, all) => all.indexOf(each) === k).join("; ")}: ${n.toLocaleString("en")} networks evaluated${failed ? `, ${failed} failed` : ""}. ${page.made}`;
  $("notes").replaceChildren(...page.notes.map((note) => make("li", {}, note)));
}

// ---- a page that is written again and again ----

let remembering = 0;
function remember() { clearTimeout(remembering); remembering = setTimeout(note, 500); }
function note() {
  location.replace(`#${encodeURIComponent(JSON.stringify({ ...state, id: rows.id[state.chosen], run: runs[rows.run[state.chosen]]?.name }))}`);
}
function recall() {
  try {
    const { id, run, ...kept } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
    for (const name of ["x", "y"]) if (ranges[kept[name]]) state[name] = kept[name];
    if (kept.z === "" || ranges[kept.z]) state.z = kept.z;
    for (const [name, worst] of Object.entries(kept.limits ?? {})) if (ranges[name] && Number.isFinite(worst)) state.limits[name] = worst;
    if (kept.series === "method") state.series = "method";
    const i = rows.id.findIndex((each, k) => each === id && runs[rows.run[k]].name === run);
    if (i >= 0) state.chosen = i;
    return true;
  } catch { return false; }
}
function reloadEvery(seconds) {
  let touched = 0;
  for (const kind of ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"]) addEventListener(kind, () => { touched = Date.now(); }, { passive: true });
  setInterval(() => { if (Date.now() - touched > 5000) location.reload(); }, 1000 * seconds);
}

async function readDrawings() {
  const bytes = Uint8Array.from(atob($("drawings").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  drawings = JSON.parse(await new Response(stream).text());
  showNetwork();
}

async function drawAll() {
  await Promise.all([drawFront(), drawLines(), drawHistory(), ...($("choices").hidden ? [] : [drawChoices()])]);
  update();
}

let started = recall();
async function start() {
  buildHead();
  buildRuns();
  buildAudits();
  if (n === 0) { $("count").textContent = "no network with status ok yet"; }
  else {
    buildControls();
    buildSliders();
    await Promise.all([drawAll(), readDrawings()]);
    showNetwork();
    dark.addEventListener("change", drawAll);
  }
  if (page.watch) reloadEvery(page.watch);
  document.body.dataset.ready = "yes";
}
start();
