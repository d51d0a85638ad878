"use strict";
// Everything shown is put in as text, never as HTML: paths, hosts and names come from strangers.

const key = location.hash.slice(1) || sessionStorage.getItem("key") || "";
sessionStorage.setItem("key", key);
history.replaceState(null, "", "/");
const at = (id) => document.getElementById(id);
let seconds = Number(sessionStorage.getItem("seconds")) || 60;
let paused = false;

function make(name, attributes, ...inside) {
  const svg = ["svg", "path", "rect", "line", "g", "title", "text"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [each, value] of Object.entries(attributes || {})) made.setAttribute(each, value);
  made.append(...inside.map((one) => one instanceof Node ? one : String(one ?? "")));
  return made;
}
const chip = (text, kind) => make("span", {class: `chip ${kind || ""}`}, text);
const none = (text) => make("p", {class: "none"}, text);
const rate = (one) => one >= 100 ? one.toFixed(0) : one >= 10 ? one.toFixed(1) : one.toFixed(2);
const ms = (one) => one === null || one === undefined ? "–" : one >= 1000 ? `${(one / 1000).toFixed(1)} s` : `${one} ms`;
const share = (part, whole) => whole ? `${(100 * part / whole).toFixed(part && part < whole / 10 ? 1 : 0)} %` : "–";
const health = (one) => one.errors > one.requests / 100 ? "bad" : one.refused > one.requests / 20 ? "warn" : "good";

// a table: columns are [title, value of a row, "n" for numbers, or a class]; values may be nodes
function table(id, rows, columns, empty) {
  const target = at(id);
  if (!rows.length) return target.replaceChildren(make("tbody", {}, make("tr", {}, make("td", {class: "none"}, empty))));
  const head = make("tr", {}, ...columns.map(([title, , kind]) => make("th", {class: kind === "n" ? "n" : "", scope: "col"}, title)));
  const body = rows.map((row) => make("tr", {}, ...columns.map(([, value, kind]) => {
    const found = value(row);
    return make("td", {class: kind || ""}, ...(Array.isArray(found) ? found : [found]));
  })));
  target.replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
}
const numbers = [
  ["req/s", (r) => rate(r.rate), "n"],
  ["errors", (r) => make("span", {class: r.errors ? "bad" : "soft"}, share(r.errors, r.requests)), "n"],
  ["refused", (r) => make("span", {class: r.refused ? "warn" : "soft"}, share(r.refused, r.requests)), "n"],
  ["p50", (r) => ms(r.p50), "n"], ["p95", (r) => ms(r.p95), "n"],
];

function tiles(now) {
  const all = now.whole;
  const apis = new Set(now.routes_known.map((one) => one.Api)).size;
  const told = [["requests a second", rate(all.rate)], ["errors", share(all.errors, all.requests), all.errors && "bad"],
    ["refused", share(all.refused, all.requests), all.refused && "warn"], ["half within", ms(all.p50)],
    ["95 % within", ms(all.p95)], ["services", apis], ["routes", now.routes_known.length]];
  at("tiles").replaceChildren(...told.map(([name, value, kind]) =>
    make("div", {class: "tile"}, make("b", {class: kind || ""}, value), make("span", {}, name))));
}

function curve(now) {
  const [wide, high] = [1400, 120];
  const top = Math.max(1, ...now.curve.map(([all]) => all));
  const x = (i) => (i * wide / (now.curve.length - 1)).toFixed(1);
  const y = (n) => (high - 6 - n * (high - 26) / top).toFixed(1);
  const line = now.curve.map(([all], i) => `${x(i)},${y(all)}`).join(" L");
  const bars = now.curve.map(([, bad], i) => bad ? make("rect", {class: "fault", x: x(i) - 5, width: 10, y: y(bad), height: high - 6 - y(bad)}) : "");
  const per = now.seconds / now.curve.length;
  at("curve").replaceChildren(make("svg", {viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": "Requests over time, failed and refused ones in red"},
    make("path", {class: "area", d: `M0,${high - 6} L${line} L${wide},${high - 6} Z`}), make("path", {class: "rise", d: `M${line}`}),
    ...bars.filter(Boolean), make("line", {class: "axis", x1: 0, x2: wide, y1: high - 6, y2: high - 6}),
    make("text", {class: "soft", x: 2, y: 13}, `at most ${rate(top / per)} a second; red: refused or failed`)));
}

// callers, services, what runs behind them: lines as thick as they are busy
function graph(now) {
  const place = at("graph");
  if (!now.calls.length) return place.replaceChildren(none("Nobody has called in this time."));
  const most = 14;
  const callers = [...new Set(now.calls.map((one) => one.caller))].slice(0, most);
  const apis = [...new Set([...now.calls, ...now.ends].map((one) => one.api))].slice(0, most);
  const ends = [...new Set(now.ends.map((one) => one.backend))].slice(0, most);
  const rows = Math.max(callers.length, apis.length, ends.length, 1);
  const [wide, step, box] = [1100, 38, 250];
  const high = rows * step + 22;
  const columns = [[0, callers], [(wide - box) / 2, apis], [wide - box, ends]];
  const y = (list, name) => 22 + (rows - list.length) * step / 2 + list.indexOf(name) * step + step / 2;
  const edges = (list, from, to, left, fromKey, toKey) => list.filter((one) => from.includes(one[fromKey]) && to.includes(one[toKey])).map((one) => {
    const [a, b, end] = [y(from, one[fromKey]), y(to, one[toKey]), left + (wide - 3 * box) / 2];
    const [x1, x2] = [left, end];
    const middle = (x1 + x2) / 2;
    return make("path", {class: `edge ${health(one)}`, "stroke-width": Math.min(12, 1.5 + 2 * Math.log1p(one.rate)).toFixed(1),
      d: `M${x1},${a} C${middle},${a} ${middle},${b} ${x2},${b}`},
      make("title", {}, `${one[fromKey]} → ${one[toKey] || "no route"}: ${rate(one.rate)} a second, ${one.errors} errors, ${one.refused} refused, p95 ${ms(one.p95)}`));
  });
  const nodes = columns.flatMap(([x, list], column) => list.map((name) => make("g", {},
    make("rect", {class: `node ${column === 2 ? "end" : ""}`, x: x + .5, y: y(list, name) - 13, width: box - 1, height: 26, rx: 7}),
    make("text", {x: x + 12, y: y(list, name) + 4}, name === "" ? "no route" : name.length > 32 ? `${name.slice(0, 31)}…` : name))));
  const titles = ["callers", "services", "behind them"].map((text, i) => make("text", {class: "soft", x: columns[i][0] + 2, y: 12}, text));
  place.replaceChildren(make("svg", {viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": "Who calls whom; the table below says the same"},
    ...edges(now.calls, callers, apis, box, "caller", "api"), ...edges(now.ends, apis, ends, (wide + box) / 2, "api", "backend"), ...nodes, ...titles));
}

function routes(now) {
  const by = new Map(now.routes.map((one) => [one.route, one]));
  const still = {requests: 0, rate: 0, errors: 0, refused: 0, p50: null, p95: null};
  table("routes", now.routes_known.map((one) => ({...still, ...by.get(one.Name), ...one})), [
    ["service", (r) => make("b", {}, r.Api)], ["route", (r) => r.Match, "mono"],
    ["behind it", (r) => r.Backends.length ? r.Backends.map((b) => b.Endpoints.length ? chip(`${b.Containers.join(", ") || b.Endpoints.join(", ")}${r.Backends.length > 1 ? ` · ${b.Version || "-"} · ${share(b.Weight, r.Backends.reduce((sum, one) => sum + one.Weight, 0))}` : ""}`) : chip("nothing runs", "bad")) : chip(r.Action)],
    ["functions", (r) => r.Functions.length ? r.Functions.map((name) => chip(name)) : "–"], ...numbers], "Nothing is registered.");
}

function versions(now) {
  at("versions").replaceChildren(...(now.versions.length ? now.versions.map((one) => {
    const days = one.Sunset ? Math.ceil((Date.parse(one.Sunset) / 1000 - now.now) / 86400) : null;
    const state = {off: "bad", deprecated: "warn", served: "good"}[one.State];
    return make("div", {class: "version"}, make("p", {}, make("b", {}, `${one.Api} ${one.Name}`), chip(one.State, state),
      ...(days === null ? [] : [chip(days >= 0 ? `ends in ${days} days` : `ended ${-days} days ago`, days < 30 ? "bad" : "")])),
    make("p", {class: "soft"}, one.Requests ? `${one.Requests} requests, the last ${one.Last.replace("T", " ").slice(0, 19)}, by` : "Nobody asks for it any more."),
    make("p", {}, ...Object.entries(one.Callers).map(([who, count]) => chip(`${who} · ${count}`))));
  }) : [none("There are no Version documents.")]));
}

function circuits(now) {
  const state = (one) => one.Open ? ["bad", "open"] : one.Ejected ? ["warn", `${one.Ejected} ejected`] : !one.Endpoints.length ? ["bad", "nothing runs"] : ["good", "closed"];
  table("circuits", now.backends, [["behind", (r) => [make("b", {}, r.Api), r.Version ? ` ${r.Version}` : ""]],
    ["circuit", (r) => [make("span", {class: `dot ${state(r)[0]}`}), " ", state(r)[1]]],
    ["healthy", (r) => `${r.Healthy}/${r.Members}`, "n"], ["under way", (r) => r.Active, "n"],
    ["turned away", (r) => make("span", {class: r.Overflows ? "bad" : "soft"}, r.Overflows), "n"],
    ["retries", (r) => r.Retries, "n"], ["timeouts", (r) => r.Timeouts, "n"]], "There are no backends.");
}

function trust(now) {
  at("trust").hidden = !now.trust.some((one) => one.Level !== "full");
  table("members", now.trust, [["service", (r) => make("b", {}, r.Service)], ["container", (r) => r.Container],
    ["level", (r) => chip(r.Level, {zero: "good", half: "warn"}[r.Level])], ["identity", (r) => r.Identity || "–", "mono"],
    ["state", (r) => make("span", {class: r.State === "revoked" ? "bad" : ""}, r.State || "–")],
    ["certificate until", (r) => r.Expires ? new Date(r.Expires * 1000).toISOString().slice(0, 16).replace("T", " ") : "–"]], "");
}

function refused(now) {
  table("refused", now.refused, [["why", (r) => r.reason], ["who", (r) => [r.caller, " ", make("span", {class: "soft"}, r.by)]],
    ["route", (r) => r.route, "mono"], ["status", (r) => r.status, "n"], ["requests", (r) => r.requests, "n"]], "Nothing was refused in this time.");
  table("latest", now.latest, [["time", (r) => String(r.time).slice(11, 19)], ["who", (r) => [r.caller, " ", make("span", {class: "soft"}, r.by)]],
    ["request", (r) => `${r.method ?? "–"} ${r.host ?? ""}${r.path ?? ""}`, "mono"], ["status", (r) => r.status, "n"],
    ["why", (r) => r.reason], ["in Envoy's words", (r) => r.why, "mono"]], "None.");
}

function show(now) {
  const {status} = now;
  const running = status.Running;
  at("state").firstElementChild.className = `dot ${running ? "good" : status.Routes ? "bad" : ""}`;
  at("said").textContent = running ? `listens on ${status.Http}${status.Restarts ? `, started again ${status.Restarts} times` : ""}` : status.Routes ? "does not run" : "rests: nothing is registered";
  for (const part of [tiles, curve, graph, routes, versions, circuits, trust, refused]) part(now);
  table("calls", now.calls, [["caller", (r) => r.caller], ["known by", (r) => r.by, "soft"], ["service", (r) => r.api || "no route"], ...numbers], "");
  at("calls").hidden = !now.calls.length;
  document.body.dataset.shown = String(now.whole.requests);
}

async function ask(target) {
  const answer = await fetch(target, {headers: {"X-Corten-Key": key}});
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}
async function round() {
  if (!paused && !document.hidden) {
    try {
      const now = await ask(`/now?seconds=${seconds}`);
      show(now);
      at("trouble").hidden = true;
    } catch (error) {
      at("trouble").textContent = error.message === "Failed to fetch" ? "corten gateway ui does not run any more." : error.message;
      at("trouble").hidden = false;
      at("state").firstElementChild.className = "dot bad";
    }
  }
  setTimeout(round, 2000);
}

function choose(name) {
  document.documentElement.dataset.theme = name;
  at("theme").textContent = name === "dark" ? "Light" : "Dark";
}
const dark = matchMedia("(prefers-color-scheme: dark)");
choose(localStorage.getItem("theme") || (dark.matches ? "dark" : "light"));
dark.addEventListener("change", () => localStorage.getItem("theme") || choose(dark.matches ? "dark" : "light"));
at("theme").addEventListener("click", () => {
  const name = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", name);
  choose(name);
});
at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", String(paused));
  at("pause").textContent = paused ? "Go on" : "Pause";
});
for (const [many, text] of [[60, "1 min"], [300, "5 min"], [900, "15 min"], [3600, "1 h"]]) {
  const button = make("button", {type: "button", "aria-pressed": String(many === seconds)}, text);
  button.addEventListener("click", () => {
    seconds = many;
    sessionStorage.setItem("seconds", String(many));
    for (const one of at("windows").children) one.setAttribute("aria-pressed", String(one === button));
    ask(`/now?seconds=${seconds}`).then(show, () => 0);
  });
  at("windows").append(button);
}
at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const url = at("url").value.includes("://") ? at("url").value : `http://${at("url").value}`;
  ask(`/explain?${new URLSearchParams({method: at("method").value, url})}`).then(
    (found) => at("steps").replaceChildren(...found.Steps.map((step) => make("li", {}, step))),
    (error) => at("steps").replaceChildren(make("li", {class: "bad"}, error.message)));
});
round();
