// Shows what the node sends. It computes nothing but widths and units: rates and percentiles come from the node. What comes from
// outside is only ever put in as text.
"use strict";

const POINTS = 300; // Five minutes.
const SILENCE_MS = 5000; // The node sends an event each second.
const RETRY_MS = 1000;
const WHOLE = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat(); // Steps of an axis.
const NARROW = 8; // Shards that have a column each among the answers.
const HUES = ["#2457c5", "#c2410c", "#1a7f4b", "#8b3fc4", "#b3261e", "#00809a", "#8a6100", "#d0358c"];
const HUES_DARK = ["#7aa7ff", "#ff9e64", "#4cc38a", "#c39aff", "#ff7b72", "#5fd0e6", "#e0b341", "#ff8ac6"];

document.title = `${location.host} florin`;
const $ = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
let token = ""; // In this page's memory, and nowhere else.
let plots = null;
let past = [];
let refused = -1; // As many were told as the last list has.
let uptime = 0;

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

const count = (n) => Math.round(n).toLocaleString("en");
const orDash = (value, show) => (value === null || value === undefined ? "–" : show(value));
const us = (n) => orDash(n, (n) => (n < 10000 ? `${count(n)} µs` : `${(n / 1000).toFixed(1)} ms`));
const ms = (n) => orDash(n, (n) => (n < 10000 ? `${n.toFixed(1)} ms` : `${(n / 1000).toFixed(1)} s`));
const percent = (n) => orDash(n, (n) => `${(n * 100).toFixed(0)} %`);
const bytes = (n) => orDash(n, (n) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const unit = Math.min(Math.floor(Math.log2(Math.max(n, 1)) / 10), units.length - 1);
  return `${(n / 2 ** (10 * unit)).toFixed(unit > 0 ? 1 : 0)} ${units[unit]}`;
});

// A row of cells; one that is [text, class] has a class.
function row(cells) {
  const made = element("tr");
  for (const cell of cells) {
    const [text, kind] = Array.isArray(cell) ? cell : [cell];
    made.append(element("td", text, kind));
  }
  return made;
}

function fill(id, rows) {
  $(id).tBodies[0].replaceChildren(...rows.map(row));
}

function ask(path, more = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  return fetch(path, { headers, cache: "no-store", credentials: "omit", ...more });
}

async function refusal(answer) {
  try {
    return (await answer.json()).detail || answer.statusText;
  } catch {
    return answer.statusText;
  }
}

function state(kind, text) {
  $("state").className = `pill ${kind}`;
  $("state").textContent = text;
}

function trouble(text) {
  $("trouble").hidden = !text;
  $("trouble").textContent = text || "";
}

// Without the right to what the node does, there is what everybody may know: whether it is ready.
async function readiness() {
  const ready = await (await ask("/readyz")).json();
  state(ready.ready ? "well" : "fault", ready.ready ? "ready" : "not ready");
  say(ready.reasons.map((words) => ({ about: "node", words, weight: "fault" })));
}

function say(said) {
  $("said").replaceChildren(...said.map(({ about, words, weight }) => {
    const item = element("li", undefined, weight);
    item.append(element("b", `${about}: `), words);
    return item;
  }));
}

function show(activity) {
  const { node } = activity;
  document.body.dataset.shown = String(Number(document.body.dataset.shown) + 1);
  document.body.classList.remove("gone");
  if (activity.uptime_s < uptime) refused = -1; // It was started anew, and may permit more.
  uptime = activity.uptime_s;
  trouble("");
  state(activity.ready ? "well" : "fault", activity.ready ? "ready" : "not ready");
  $("build").textContent = `${activity.version}, ${activity.shards.length} × ${activity.driver}, up ${age(activity.uptime_s)}`;
  const figures = {
    reads: count(node.reads_per_s), p50: us(node.p50_us), p99: us(node.p99_us), p999: us(node.p999_us),
    applied: count(node.applied_per_s), lag: ms(node.lag_ms), cpu: percent(node.cpu_share), connections: count(node.connections),
    accounts: count(node.accounts), memory: bytes(activity.memory_bytes),
  };
  for (const [id, text] of Object.entries(figures)) $(id).textContent = text;
  say(activity.said);
  fill("shards", activity.shards.map(({ index, cpu, runs_on, listen, load }) => [
    String(index), [orDash(runs_on, String), runs_on !== null && runs_on !== cpu ? "fault" : ""], percent(load.cpu_share),
    count(load.reads_per_s), us(load.p50_us), us(load.p99_us), us(load.p999_us), ms(load.lag_ms), count(load.applied_per_s),
    count(load.connections), count(load.accounts), [count(load.quarantined), load.quarantined ? "fault" : ""],
    bytes(load.table_bytes), orDash(listen, String),
  ]));
  answers(activity);
  fill("callers", activity.callers.map((caller) =>
    [[caller.name, "words"], count(caller.connections), count(caller.shed), count(caller.turned_away)]));
  fill("nodes", (activity.nodes || []).map((of) =>
    [[of.is_this ? `${of.address} (this one)` : of.address, "words"], count(of.owns), count(of.stands_by)]));
  fill("partitions", (activity.partitions || []).map((of) =>
    [String(of.partition), [of.role, "words"], orDash(of.lag_records, count)]));
  $("divided").hidden = (activity.nodes || []).length === 0;
  $("followed").hidden = (activity.partitions || []).length === 0;
  $("callers").hidden = activity.callers.length === 0;
  $("callers-none").hidden = activity.callers.length > 0;
  if (activity.over_s > 0) note(activity);
  refusals(activity.refusals);
}

function answers({ answers, shards }) {
  const each = shards.length > 1 && shards.length <= NARROW ? shards : [];
  const headings = ["status", "since the start", "a second", ...each.map(({ index }) => `shard ${index}`)];
  const head = element("tr");
  head.append(...headings.map((heading) => element("th", heading)), element("th", "what it tells a caller", "words"));
  $("answers").tHead.replaceChildren(head);
  fill("answers", answers.map(({ status, words, total, per_s, shards_per_s }) =>
    [status, count(total), count(per_s), ...each.map(({ index }) => count(shards_per_s[index] ?? 0)), [words, "words"]]));
}

function age(s) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"]];
  const [length, unit] = parts.find(([length]) => s >= length) || [1, "s"];
  return `${Math.floor(s / length)} ${unit}`;
}

function note(activity) {
  past.push({ at: Date.now() / 1000, activity });
  past = past.slice(-POINTS);
  if (!plots || plots.shards !== activity.shards.length) draw(activity.shards.length);
  const at = past.map((point) => point.at);
  const shard = (index) => past.map(({ activity }) => activity.shards[index]?.load.reads_per_s ?? null);
  plots.rate.setData([at, ...activity.shards.map((_, index) => shard(index))]);
  const time = (name) => past.map(({ activity }) => activity.node[name]);
  plots.times.setData([at, time("p50_us"), time("p99_us"), time("p999_us")]);
}

function draw(shards) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const hues = dark.matches ? HUES_DARK : HUES;
  const axis = { stroke: color("--dim"), grid: { stroke: color("--grid"), width: 1 }, ticks: { show: false } };
  const plot = (id, names) => {
    $(id).replaceChildren();
    const series = names.map((label, index) =>
      ({ label, stroke: hues[index % hues.length], width: 1.5, points: { show: false }, value: (_, n) => orDash(n, count) }));
    const axes = [{ ...axis }, { ...axis, size: 64, incrs: WHOLE, values: (_, ticks) => ticks.map(count) }];
    const scales = { y: { range: (_, low, high) => [0, Math.max(high || 0, 1) * 1.1] } };
    const size = { width: $(id).clientWidth, height: 160 };
    return new uPlot({ ...size, series: [{}, ...series], axes, scales, cursor: { y: false } }, [[], ...names.map(() => [])], $(id));
  };
  const names = Array.from({ length: shards }, (_, index) => `shard ${index}`);
  plots = { shards, rate: plot("rate", names), times: plot("times", ["p50", "p99", "p99.9"]) };
}

// Who was refused takes another right than what is counted. It is asked for when there are more of them, for each look is written down; and
// not again where it is refused itself.
async function refusals(total) {
  if (refused >= total) return;
  refused = total;
  try {
    const answer = await ask("/v1/refusals");
    if (!answer.ok) refused = answer.status < 500 ? Infinity : -1;
    const lines = answer.ok ? (await answer.json()).refusals : [];
    $("refusals-none").textContent = answer.ok ? (lines.length ? "" : "Nobody was refused.") : await refusal(answer);
    $("refusals").hidden = lines.length === 0;
    fill("refusals", alike(lines.reverse()).map(({ at, who, what, reason, times }) => [
      [at.replace("T", " ").replace(/\.\d+Z$/, ""), "time"], [who, "words"], [times > 1 ? `${times} × ${what}` : what, "words"],
      [reason || "", "words"],
    ]));
  } catch {
    // The stream says what is wrong.
  }
}

// Refusals one behind the other that are alike but for their time are one line, with the newest's.
function alike(lines) {
  const found = [];
  for (const { at, principal, from, action, outcome, reason } of lines) {
    const line = { at, who: `${principal || "nobody known"}${from ? `, ${from}` : ""}`, what: `${action}: ${outcome}`, reason, times: 1 };
    const last = found.at(-1);
    if (last && last.who === line.who && last.what === line.what && last.reason === reason) last.times += 1;
    else found.push(line);
  }
  return found;
}

// A user's balance and statistics, each as the node answers or refuses it.
async function look(event) {
  event.preventDefault();
  const user = encodeURIComponent($("user").value.trim());
  const found = $("found");
  found.replaceChildren();
  for (const [what, table] of [["balance", balances], ["statistics", windows]]) {
    const part = element("div");
    found.append(part);
    try {
      const answer = await ask(`/v1/users/${user}/${what}`);
      if (!answer.ok) {
        const why = await refusal(answer);
        // An id that is none is none for both.
        if (found.textContent !== why) part.append(element("p", why, answer.status === 404 ? "dim" : "fault"));
        continue;
      }
      const header = (name) => answer.headers.get(`florin-${name}`);
      const incomplete = header("quarantined") ? ", quarantined: its history is known to be incomplete" : "";
      const lasting = header("lasting") ? ", and stays so until the ledger is mended" : "";
      const place = `shard ${header("shard")} of ${location.host}`;
      const origin = `${what} at version ${header("version")} on ${place}, as of ${header("as-of")}${incomplete}${lasting}`;
      const rows = element("div", undefined, "scroll");
      rows.append(table(await answer.json()));
      part.append(element("p", origin, incomplete ? "fault" : "dim"), rows);
    } catch (error) {
      part.append(element("p", `${what}: ${error.message}`, "fault"));
    }
  }
}

function table(headings, rows) {
  const made = element("table");
  const head = element("tr");
  head.append(...headings.map((heading) => element("th", heading)));
  made.createTHead().append(head);
  made.createTBody().append(...rows.map(row));
  return made;
}

const digits = (text) => BigInt(text).toLocaleString("en");

function balances({ balances }) {
  return table(["asset", "available", "held"], balances.map((of) => [of.asset, digits(of.available), digits(of.held)]));
}

function windows({ statistics }) {
  const rows = statistics.flatMap(({ asset, windows }) => Object.entries(windows).map(([name, of]) =>
    [asset, name, digits(of.credit_count), digits(of.credit_sum), digits(of.debit_count), digits(of.debit_sum)]));
  return table(["asset", "window", "credits", "received", "debits", "spent"], rows);
}

// Reads the stream of events until it ends; the reader's own loop, for EventSource can send no token.
async function watch(stop) {
  const answer = await ask("/v1/activity", { signal: stop.signal });
  if (!answer.ok) {
    const why = await refusal(answer);
    // From now on another token may be shown, with other rights.
    if ([401, 403].includes(answer.status)) $("proof").hidden = false;
    trouble(answer.status === 401 && !token ? "This node tells what it does to those whom it knows: show the token of one who may metrics." : why);
    await readiness();
    // Without another token the answer will be the same.
    return ![401, 403].includes(answer.status);
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const silence = setTimeout(() => stop.abort(), SILENCE_MS);
    const { value, done } = await reader.read();
    clearTimeout(silence);
    if (done) return true;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.split("\n").find((line) => line.startsWith("data: "));
      if (data) show(JSON.parse(data.slice(6)));
    }
  }
}

const pause = () => new Promise((wait) => setTimeout(wait, RETRY_MS));
let current = null;

// What everybody may know goes on until there is another token.
async function wait_for_token(stop) {
  for (;;) {
    await pause();
    if (current !== stop) return;
    await readiness();
  }
}

async function live() {
  const stop = new AbortController();
  current?.abort();
  current = stop;
  for (;;) {
    try {
      if (!(await watch(stop))) return await wait_for_token(stop);
    } catch {
      if (current !== stop) return;
      state("fault", "no answer");
      document.body.classList.add("gone");
      trouble("The node does not answer; this page asks again each second. What is below is what it said last.");
    }
    await pause();
    if (current !== stop) return;
    if (stop.signal.aborted) return live();
  }
}

$("search").addEventListener("submit", look);
$("proof").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  $("token").value = "";
  refused = -1;
  live();
});
const redraw = () => { if (plots && past.length) { plots = null; note(past.pop().activity); } };
dark.addEventListener("change", redraw);
addEventListener("resize", redraw);
live();
