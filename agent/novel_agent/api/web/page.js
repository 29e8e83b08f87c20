"use strict";
// Asks the agent every five seconds while the page is looked at, and shows what it says. Data becomes text nodes only.

const PERIOD_MS = 5000, DEADLINE_MS = 12000, HISTORY = 60, SHOWN = 8, TOKEN = "novel-agent-token";
const BAD = ["hung", "failing", "restarting"], GOOD = ["up", "resting", "idle", "stopped"];
const SECOND = "needs a second reading";
const KINDS = { up: "good", delivering: "good", healthy: "good", idle: "", resting: "warn", degraded: "warn",
  "waiting to retry": "warn", restarting: "warn", hung: "bad", failing: "bad", unhealthy: "bad" };
const history = { cpu: [], memory: [], load: [], disk: [], network: [] };
const $ = id => document.getElementById(id);
let timer = 0, asking = false, lastSample = null, answeredAt = null;

// text -------------------------------------------------------------------------------------------------------------

const known = value => value !== null && value !== undefined;
const percent = share => known(share) ? `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %` : "–";
const count = number => number.toLocaleString("en").replaceAll(",", "\u202f");
const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;

function size(bytes) {
  if (!known(bytes)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) { bytes /= 1024; unit += 1; }
  return `${bytes.toFixed(unit && bytes < 99.95 ? 1 : 0)} ${units[unit]}`;
}

const rate = bytes => known(bytes) ? `${size(bytes)}/s` : "–";

function span(seconds) {
  seconds = Math.max(0, seconds);
  if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const at = units.findIndex(([, length]) => seconds >= length);
  const [name, length] = units[at];
  const parts = [`${Math.floor(seconds / length)} ${name}`];
  const next = units[at + 1];
  if (next && name !== "min") {
    const rest = Math.floor(seconds % length / next[1]);
    if (rest) parts.push(`${rest} ${next[0]}`);
  }
  return parts.join(" ");
}

const ago = (at, now) => known(at) ? now - at < 1.5 ? "just now" : `${span(now - at)} ago` : "never";
const clock = at => new Date(1000 * at).toLocaleString([], { dateStyle: "short", timeStyle: "medium" });
const counted = (table, how) => Object.entries(table).filter(([, number]) => number).map(([why, number]) => `${count(number)} ${how}: ${why}`);
const level = (share, warn, bad) => !known(share) || share < warn ? "" : share < bad ? "level-warn" : "level-bad";

// elements -----------------------------------------------------------------------------------------------------------

function el(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children.filter(known));
  return made;
}

function fill(place, ...children) {
  const chosen = getSelection();
  if (!chosen.isCollapsed && place.contains(chosen.anchorNode)) return; // somebody is copying from here
  place.replaceChildren(...children.filter(known));
}

function say(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

const quiet = text => el("span", "quiet", text);
const state = name => el("span", `state ${KINDS[name] ?? ""}`, name);

function meter(share, className) {
  const bar = el("i");
  bar.style.width = `${Math.min(100, 100 * share)}%`;
  const box = el("span", `meter ${className}`, bar);
  box.setAttribute("aria-hidden", "true");
  return box;
}

// A column is [title, class]; the first cell of a row is its heading. A stacked table has one line a cell on a narrow screen.
function table(columns, rows, stacked) {
  const head = columns.map(([title, className]) => {
    const cell = el("th", className, title);
    cell.scope = "col";
    return cell;
  });
  const body = rows.map(cells => el("tr", "", ...cells.map((content, at) => {
    const cell = el(at ? "td" : "th", columns[at][1], ...[content].flat());
    if (at) cell.dataset.label = columns[at][0];
    else cell.scope = "row";
    return cell;
  })));
  return el("div", "scroll", el("table", stacked, el("thead", "", el("tr", "", ...head)), el("tbody", "", ...body)));
}

const facts = pairs => pairs.filter(Boolean).flatMap(([name, ...told]) => [el("dt", "", name), el("dd", "", ...told)]);

function draw(tile, values, top) {
  const [area, line] = tile.querySelectorAll("path");
  const step = 120 / (HISTORY - 1), left = 120 - step * (values.length - 1);
  const points = values.map((value, at) => `${(left + at * step).toFixed(2)},${(31 - 29 * Math.min(1, value / top)).toFixed(2)}`);
  line.setAttribute("d", points.length > 1 ? `M${points.join("L")}` : "");
  area.setAttribute("d", points.length > 1 ? `M${left.toFixed(2)},32L${points.join("L")}L120,32Z` : "");
}

function tile(name, figure, unit, note, className, top) {
  const place = $(`tile-${name}`);
  place.className = `card tile ${className}`;
  fill(place.querySelector(".figure"), figure, unit ? el("small", "", ` ${unit}`) : null);
  say(place.querySelector(".note"), note);
  const values = history[name];
  draw(place, values, top ?? Math.max(1, ...values));
}

// the host -----------------------------------------------------------------------------------------------------------

const traffic = device => (device?.in_bytes_per_second ?? 0) + (device?.out_bytes_per_second ?? 0);
const measured = device => known(device?.in_bytes_per_second) || known(device?.out_bytes_per_second);

function keep(name, value) {
  if (!known(value)) return;
  history[name].push(value);
  if (history[name].length > HISTORY) history[name].shift();
}

function showDevice(name, device, inward, outward) {
  if (!device) return tile(name, "–", "", "none is read", "");
  if (!measured(device)) return tile(name, "–", "", SECOND, "");
  const [figure, unit] = rate(traffic(device)).split(" ");
  const note = `${device.device}: ${inward} ${rate(device.in_bytes_per_second)}, ${outward} ${rate(device.out_bytes_per_second)}`;
  return tile(name, figure, unit, note, "");
}

function showTiles(host) {
  const used = host.memory_total_bytes ? 1 - host.memory_available_bytes / host.memory_total_bytes : null;
  const disk = host.disks[0], network = host.networks.find(each => each.device !== "lo");
  if (host.at !== lastSample) {
    lastSample = host.at;
    keep("cpu", host.cpu_utilization);
    keep("memory", used);
    keep("load", host.load[0]);
    keep("disk", measured(disk) ? traffic(disk) : null);
    keep("network", measured(network) ? traffic(network) : null);
  }
  const cpus = known(host.cpus) ? `of ${plural(host.cpus, "CPU", "CPUs")}` : "not read";
  tile("cpu", percent(host.cpu_utilization), "", known(host.cpus) && !known(host.cpu_utilization) ? SECOND : cpus,
    level(host.cpu_utilization, 0.85, 0.95), 1);
  const swapUsed = host.swap_total_bytes - host.swap_free_bytes;
  const swap = host.swap_total_bytes ? `, swap ${size(swapUsed)} of ${size(host.swap_total_bytes)}` : "";
  tile("memory", percent(used), "", known(used) ? `${size(host.memory_available_bytes)} of ${size(host.memory_total_bytes)} free${swap}`
    : "not read", level(used, 0.85, 0.95), 1);
  const [now, five, fifteen] = host.load;
  tile("load", known(now) ? now.toFixed(2) : "–", "", known(fifteen) ? `5 min ${five.toFixed(2)}, 15 min ${fifteen.toFixed(2)}` : "not read",
    known(host.cpus) ? level(now, 2 * host.cpus, 5 * host.cpus) : "", Math.max(host.cpus ?? 1, ...history.load));
  showDevice("disk", disk, "read", "written");
  showDevice("network", network, "in", "out");
}

function showFilesystems(list) {
  $("filesystems-card").hidden = !list.length;
  const rows = list.slice(0, SHOWN).map(each => {
    const used = 1 - each.available_bytes / each.size_bytes;
    return [each.mountpoint, meter(used, level(used, 0.85, 0.95)), percent(used), size(each.available_bytes)];
  });
  fill($("filesystems"), table([["Mounted at"], [""], ["Used", "number"], ["Free", "number"]], rows), more(list.length));
}

function showGroups(list) {
  if (!list.length) {
    fill($("groups"), quiet("No process groups are configured (section processes), or none was found."));
    return;
  }
  const rows = list.slice(0, SHOWN).map(each => [each.name, count(each.processes), percent(each.cpu_cores), size(each.resident_bytes)]);
  fill($("groups"), table([["Group"], ["Processes", "number"], ["Of a core", "number"], ["Resident", "number"]], rows), more(list.length));
}

const more = length => length > SHOWN ? quiet(`and ${length - SHOWN} more`) : null;

function showHost(host) {
  say($("host-about"), `${known(host.uptime_seconds) ? `up ${span(host.uptime_seconds)}; ` : ""}charts show the last five minutes`);
  showTiles(host);
  showFilesystems(host.filesystems);
  showGroups(host.groups);
}

// the agent ----------------------------------------------------------------------------------------------------------

function showHead(status) {
  say($("host"), status.host);
  say($("about"), `Novel Engine Agent ${status.version}, up ${span(status.now - status.started_at)}`);
  showVerdict(status.health.status);
  document.title = `${status.health.status === "healthy" ? "" : "▲ "}${status.host} · Novel Engine Agent`;
}

function showVerdict(name) {
  $("verdict").dataset.state = name;
  say($("verdict"), name);
}

function showProblems(status) {
  const bad = status.health.checks.filter(check => check.status !== "healthy");
  $("problems").hidden = !bad.length;
  $("problems").dataset.state = status.health.status;
  fill($("problem-list"), ...bad.map(check => el("li", "", state(check.status), " ", el("b", "", check.name), check.message)));
}

function showReceivers(list) {
  if (!list.length) {
    fill($("receivers"), quiet("Nothing is taken over OTLP: no receiver is configured (section otlp_receiver)."));
    return;
  }
  const columns = [["OTLP over"], ["Connections", "number"], ["Requests", "number"], ["Accepted"], ["Refused"]];
  fill($("receivers"), table(columns, list.map(receiver), "stacked"));
}

const ITEMS = {metrics: "data points", logs: "log records", traces: "spans"};

function receiver(each) {
  const accepted = Object.entries(each.accepted_items).filter(([, number]) => number).map(([signal, number]) => `${count(number)} ${ITEMS[signal]}`);
  const refused = Object.entries(each.refused).map(([why, number]) => `${count(number)} ${why}`);
  return [
    [each.transport, el("div", "quiet endpoint", each.address)],
    count(each.connections),
    el("div", "", count(Object.values(each.requests).reduce((sum, number) => sum + number, 0)), el("div", "quiet", size(each.received_bytes))),
    accepted.length ? el("div", "", ...accepted.map(text => el("div", "", text))) : "0",
    refused.length ? el("div", "warn-text", ...refused.map(text => el("div", "", text))) : "0",
  ];
}

const SHOWN_FILES = 20;

function showLogs(list) {
  if (!list.length) {
    fill($("logs"), quiet("No file is read (section logs)."));
    return;
  }
  const columns = [["Name"], ["State"], ["Records", "number"], ["Read to"], ["Behind"], ["Not as configured"], ["Why", "why"]];
  const rows = list.flatMap(source => [logSource(source), ...source.files.slice(0, SHOWN_FILES).map(logFile), ...furtherFiles(source.files)]);
  fill($("logs"), table(columns, rows, "stacked"));
}

function logSource(each) {
  const errors = Object.entries(each.errors).map(([why, number]) => `${count(number)} ${why}`);
  return [
    each.name,
    state(each.state),
    el("div", "", count(each.records), el("div", "quiet", `${each.records_per_second.toFixed(1)}/s`)),
    size(each.read_bytes),
    behind(each),
    errors.length ? el("div", "warn-text", ...errors.map(text => el("div", "", text))) : "0",
    each.reason,
  ];
}

function logFile(each) {
  return [
    el("div", "quiet endpoint", each.path),
    each.state,
    count(each.records),
    `${count(each.committed_offset)} of ${count(each.size_bytes)}`,
    behind(each),
    count(each.errors),
    each.reason,
  ];
}

function furtherFiles(files) {
  return files.length > SHOWN_FILES ? [[quiet(`${count(files.length - SHOWN_FILES)} more files`), "", "", "", "", "", ""]] : [];
}

function behind(each) {
  return each.lag_bytes ? `${size(each.lag_bytes)}, ${span(each.lag_seconds)}` : "–";
}

function showDestinations(list, now) {
  if (!list.length) {
    fill($("destinations"), quiet("Nothing is sent anywhere: no destination is configured (section export)."));
    return;
  }
  const columns = [["Name"], ["State"], ["Waits"], ["Sent", "number"], ["Delivered"], ["Lost"], ["Last error", "why"]];
  fill($("destinations"), table(columns, list.map(each => destination(each, now)), "stacked"));
}

function destination(each, now) {
  const share = each.queue_capacity_bytes ? each.queue_bytes / each.queue_capacity_bytes : 0;
  const lost = [...counted(each.dropped_items, "dropped"), ...counted(each.rejected_items, "rejected")];
  const retry = known(each.retry_in_seconds) ? el("div", "quiet", `again in ${span(each.retry_in_seconds)}`) : null;
  return [
    [each.name, el("div", "quiet endpoint", each.endpoint)],
    el("div", "", state(each.state), retry),
    el("div", "whole", `${size(each.queue_bytes)} of ${size(each.queue_capacity_bytes)}`, meter(share, level(share, 0.5, 0.9)),
      each.queue_in_memory ? el("div", "bad-text", "in memory: the spool cannot be written") : each.queue_bytes ? el("div", "quiet", `for ${span(each.queue_oldest_age_seconds)}`) : null),
    el("div", "", count(Object.values(each.sent_items).reduce((sum, number) => sum + number, 0)), el("div", "quiet", size(each.sent_bytes))),
    ago(each.last_success_at, now),
    lost.length ? el("div", "bad-text", ...lost.map(text => el("div", "", text))) : "0",
    each.last_error ? el("div", "", each.last_error, el("div", "quiet", ago(each.last_error_at, now))) : quiet("none"),
  ];
}

function showInputs(list, now) {
  const bad = list.filter(each => !GOOD.includes(each.state) && each.state !== "no data")
    .sort((one, other) => BAD.indexOf(one.state) - BAD.indexOf(other.state) || one.name.localeCompare(other.name));
  const good = list.filter(each => GOOD.includes(each.state)), none = list.filter(each => each.state === "no data");
  say($("inputs-about"), bad.length ? `${bad.length} of ${list.length} not well` : `all ${good.length} well`);
  fill($("inputs-bad"), bad.length ? table([["Name"], ["State"], ["Why", "why"], ["Failed", "number"], ["Last good run"]], bad.map(each => [
    each.name, state(each.state), each.reason || "–", `${count(each.failures)} of ${count(each.runs)}`, ago(each.last_success_at, now)]), "stacked") : null);
  fold($("inputs-good"), `${good.length} well`, good, () => table(
    [["Name"], ["State"], ["Runs", "number"], ["Failed", "number"], ["Takes", "number"], ["Last run"]], good.map(each => [
      each.name, state(each.state), count(each.runs), count(each.failures),
      each.kind === "task" || !each.runs ? "–" : `${(1000 * each.seconds / each.runs).toFixed(2)} ms`,
      each.kind === "task" ? "–" : ago(each.last_run_at, now)]), "stacked"));
  fold($("inputs-none"), `${none.length} with no data: this host has none of it`, none, () => table(
    [["Name"], ["Why", "why"]], none.map(each => [each.name, each.reason || "–"])));
}

function fold(place, title, list, content) {
  place.hidden = !list.length;
  say(place.querySelector("summary"), title);
  if (place.open) fill(place.querySelector(".body"), content());
  place.ontoggle = () => place.open && fill(place.querySelector(".body"), content());
}

function showAgent(status) {
  const budget = status.budget, up = status.now - status.started_at;
  fill($("agent"), ...facts([
    ["CPU", `${percent(up > 0 ? status.cpu_seconds / up : null)} of a core since start, ${percent(budget.cpu_of_budget * budget.cpu_percent / 100)} lately; may use ${budget.cpu_percent} %`],
    ["Memory", `${size(status.resident_bytes)} resident; may use ${size(budget.memory_bytes)}`],
    ["Budget", budget.level ? el("span", "warn-text", budget.measure) : "kept: runs as configured"],
    ["Descriptors", count(status.open_descriptors)],
    status.left_behind ? ["Left behind", el("span", "bad-text", `${plural(status.left_behind, "call", "calls")} into the kernel that did not return`)] : null,
    ["Process", `${status.pid}, started ${clock(status.started_at)}`],
    ["State", el("code", "", status.state_dir)],
  ]));
}

function showConfiguration(config, now) {
  const refused = el("span", "bad-text", `refused ${ago(config.last_reload_at, now)}; what was in force stays in force`);
  const reload = !config.last_reload_ok ? refused : known(config.last_reload_at) ? `taken up ${ago(config.last_reload_at, now)}` : "none since start";
  const files = config.files.flatMap((file, at) => [at ? el("br") : null, el("code", "", file)]);
  fill($("configuration"), ...facts([
    ["Files", ...(files.length ? files : [quiet("none: everything by default")])],
    ["In force", `since ${clock(config.loaded_at)}`],
    ["Last reload", reload],
  ]));
  fill($("notices"), ...config.errors.map(text => el("li", "bad-text", text)), ...config.notices.map(text => el("li", "", text)));
}

function showStatus(status) {
  showHead(status);
  showProblems(status);
  showReceivers(status.receivers);
  showLogs(status.logs);
  showDestinations(status.destinations, status.now);
  showInputs(status.components, status.now);
  showAgent(status);
  showConfiguration(status.config, status.now);
  $("missing-section").hidden = !status.missing.length;
  fill($("missing"), ...status.missing.map(text => el("li", "", text)));
}

// asking -------------------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function ask(path) {
  const token = sessionStorage.getItem(TOKEN);
  const answer = await fetch(path, {
    cache: "no-store",
    headers: token ? { Authorization: `Bearer ${token}` } : {},
    signal: AbortSignal.timeout(DEADLINE_MS),
  });
  if (answer.ok) return answer.json();
  const told = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, told.error ?? answer.statusText);
}

async function refresh() {
  if (asking || document.hidden) return;
  asking = true;
  clearTimeout(timer);
  try {
    const [status, host] = await Promise.all([ask("api/v1/status"), ask("api/v1/system/overview")]);
    answered();
    showStatus(status);
    showHost(host);
  } catch (error) {
    failed(error);
  } finally {
    asking = false;
    if ($("token-form").hidden) timer = setTimeout(refresh, PERIOD_MS);
  }
}

function answered() {
  answeredAt = new Date();
  $("unreachable").hidden = $("token-form").hidden = true;
  $("content").hidden = false;
  $("content").classList.remove("stale");
  say($("updated"), `as of ${answeredAt.toLocaleTimeString()}`);
  offerLinks(sessionStorage.getItem(TOKEN) === null);
}

// A link cannot carry the token.
function offerLinks(shown) {
  for (const link of document.querySelectorAll("[data-needs-token]")) link.hidden = !shown;
}

function failed(error) {
  if (error.status === 401) {
    askForToken();
    return;
  }
  const since = answeredAt ? ` What is shown is from ${answeredAt.toLocaleTimeString()}.` : "";
  const what = error.status ? `The agent refuses: ${error.message}.` : "The agent does not answer.";
  showVerdict("unreachable");
  $("unreachable").hidden = false;
  say($("unreachable"), `${what}${since} Trying again every ${PERIOD_MS / 1000} seconds.`);
  $("content").classList.add("stale");
}

function askForToken() {
  const wrong = sessionStorage.getItem(TOKEN) !== null;
  sessionStorage.removeItem(TOKEN);
  showVerdict("unknown");
  say($("verdict"), "locked");
  say($("token-why"), wrong ? "The agent did not accept that token." : "It answers without one only over loopback, and only where no token is configured.");
  $("token-why").className = wrong ? "bad-text" : "";
  $("content").hidden = $("unreachable").hidden = true;
  $("token-form").hidden = false;
  offerLinks(false);
  $("token").focus();
}

$("token-form").addEventListener("submit", event => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value.trim());
  $("token").value = "";
  refresh();
});
document.addEventListener("visibilitychange", refresh);
refresh();
