// What a page of another origin tries with the listener at target, in the browser of somebody who is signed in there. An
// attempt returns the text that the page could read; what only an event tells is text too. Of those that say "silent" the
// browser sends nothing; those that say "reads" read something from a server that guards nothing; those that say "framed" show it inside
// the page; of those that say "unheard" the page does not learn that they were answered.
const list = "/api/v1/keys";
const creation = JSON.stringify({ name: "Made by an attack" });
const simple = { method: "POST", mode: "no-cors", credentials: "include", body: creation };

const text = async (response) => (await response).text();
const json = (method, body) => ({ method, body, credentials: "include", headers: { "Content-Type": "application/json" } });

/** Adds an element to the page and returns what its events tell. */
function add(name, properties, host = document.body) {
  const element = Object.assign(document.createElement(name), properties);
  return new Promise((resolve) => {
    element.onload = element.oncanplay = () => resolve("loaded");
    element.onerror = () => resolve("");
    host.append(element);
  });
}

/** Shows the target in a frame, an object or the like, and returns what can be read of the document inside. */
async function frame(name, properties) {
  const element = Object.assign(document.createElement(name), properties);
  const settled = new Promise((resolve) => (element.onload = element.onerror = resolve));
  document.body.append(element);
  await settled;
  try {
    return element.contentDocument?.documentElement.textContent ?? "";
  } catch {
    return "";
  }
}

/** Sends a form into a frame, as a page does that must not be seen. */
function send(action, fields, properties) {
  const inside = document.createElement("iframe");
  inside.name = `f${document.querySelectorAll("iframe").length}`;
  const form = Object.assign(document.createElement("form"), { action, method: "post", target: inside.name, ...properties });
  for (const [name, value] of Object.entries(fields)) form.append(Object.assign(document.createElement("input"), { name, value }));
  document.body.append(inside, form);
  const settled = new Promise((resolve) => (inside.onload = resolve));
  form.submit();
  return settled.then(() => {
    try {
      return inside.contentDocument.documentElement.textContent;
    } catch {
      return "";
    }
  });
}

function xhr(method, url, body, headers = {}) {
  const request = new XMLHttpRequest();
  request.open(method, url);
  request.withCredentials = true;
  for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
  return new Promise((resolve) => {
    request.onloadend = () => resolve(request.responseText);
    request.send(body);
  });
}

function inWorker(script) {
  return heard(new Worker(URL.createObjectURL(new Blob([script], { type: "text/javascript" }))));
}

function heard(worker) {
  return new Promise((resolve) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = () => resolve("");
  });
}

/** Opens the target in a window, and returns what of it can be read once something is there. */
async function look(url) {
  const other = window.open(url);
  await window.answered(); // by the harness: the window tells this page nothing
  try {
    return other.document.documentElement.textContent;
  } catch {
    return "";
  } finally {
    other.close();
  }
}

window.attempts = [
  // Reading
  { name: "fetch, mode cors", reads: true, run: (target) => text(fetch(target + list, { credentials: "include" })) },
  { name: "fetch, mode no-cors", run: (target) => text(fetch(target + list, { mode: "no-cors", credentials: "include" })) },
  { name: "fetch, mode same-origin", silent: true, run: (target) => text(fetch(target + list, { mode: "same-origin" })) },
  { name: "fetch of the session", reads: true, run: (target) => text(fetch(target + "/api/v1/session", { credentials: "include" })) },
  { name: "fetch of the page", reads: true, run: (target) => text(fetch(target + "/", { credentials: "include" })) },
  { name: "fetch of the metrics", reads: true, run: (target) => text(fetch(target + "/metrics", { credentials: "include" })) },
  { name: "fetch with a token", reads: true, run: (target) => text(fetch(target + list, { headers: { Authorization: "Bearer guessed" } })) },
  { name: "XMLHttpRequest", reads: true, run: (target) => xhr("GET", target + list) },
  {
    name: "EventSource", run: (target) => new Promise((resolve) => {
      const source = new EventSource(target + list, { withCredentials: true });
      source.onmessage = ({ data }) => resolve(data);
      source.onerror = () => {
        source.close();
        resolve("");
      };
    }),
  },
  {
    name: "WebSocket", run: (target) => new Promise((resolve) => {
      const socket = new WebSocket(target.replace("http", "ws") + list);
      socket.onopen = () => resolve("open");
      socket.onerror = () => resolve("");
    }),
  },
  { name: "image of the list", reads: true, run: (target) => add("img", { src: target + list }) },
  { name: "script of the list", reads: true, run: (target) => add("script", { src: target + list }) },
  { name: "script of the console", reads: true, run: (target) => add("script", { src: target + "/page.js" }) },
  { name: "module", reads: true, run: (target) => import(target + "/keys.js").then(() => "loaded") },
  { name: "style sheet", reads: true, run: (target) => add("link", { rel: "stylesheet", href: target + "/console.css" }) },
  {
    name: "preload", reads: true, run: async (target) => {
      const loaded = await add("link", { rel: "preload", as: "fetch", crossOrigin: "use-credentials", href: target + list });
      return loaded && text(fetch(target + list, { credentials: "include" }));
    },
  },
  { name: "video", run: (target) => add("video", { src: target + list }) },
  { name: "font", run: (target) => new FontFace("stolen", `url(${target}${list})`).load().then(() => "loaded") },
  { name: "worker", silent: true, run: (target) => heard(new Worker(target + "/page.js")) },
  { name: "script of a worker", reads: true, run: (target) => inWorker(`importScripts("${target}/page.js"); postMessage("loaded")`) },
  {
    name: "fetch of a worker", reads: true,
    run: (target) => inWorker(`fetch("${target}${list}", { credentials: "include" }).then((r) => r.text()).then(postMessage, () => postMessage(""))`),
  },
  { name: "frame of the console", framed: true, run: (target) => frame("iframe", { src: target + "/" }) },
  { name: "frame of the list", framed: true, run: (target) => frame("iframe", { src: target + list }) },
  { name: "sandboxed frame", framed: true, run: (target) => frame("iframe", { src: target + "/", sandbox: "allow-scripts allow-same-origin allow-forms" }) },
  { name: "object", framed: true, run: (target) => frame("object", { data: target + "/", type: "text/html" }) },
  { name: "embed", framed: true, run: (target) => frame("embed", { src: target + "/", type: "text/html" }) },
  { name: "window with the console", run: (target) => look(target + "/") },
  { name: "window with the list", run: (target) => look(target + list) },
  { name: "cookies", silent: true, run: () => document.cookie.match(/keystile[^;]*/)?.[0] ?? "" },

  // Changing
  { name: "form", run: (target) => send(target + list, { name: "Made by an attack" }) },
  { name: "form, multipart", run: (target) => send(target + list, { name: "x" }, { enctype: "multipart/form-data" }) },
  { name: "form of JSON", run: (target) => send(target + list, { '{"name":"Made by an attack","x': '":1}' }, { enctype: "text/plain" }) },
  { name: "empty form", run: (target) => send(target + list, {}) },
  { name: "form that would rotate", run: (target, key) => send(`${target}${list}/${key}/rotate`, {}) },
  { name: "form that would delete", run: (target, key) => send(`${target}${list}/${key}?_method=DELETE`, { _method: "DELETE" }) },
  { name: "form that would sign in", run: (target) => send(target + "/api/v1/session", { token: "x" }, { enctype: "text/plain" }) },
  { name: "simple fetch of text", run: (target) => text(fetch(target + list, simple)) },
  { name: "simple fetch without a type", run: (target) => text(fetch(target + list, { ...simple, body: new Blob([creation]) })) },
  { name: "simple fetch without a body", run: (target) => text(fetch(target + list, { ...simple, body: undefined })) },
  { name: "simple fetch, kept alive", run: (target) => text(fetch(target + list, { ...simple, keepalive: true })) },
  { name: "simple fetch that would rotate", run: (target, key) => text(fetch(`${target}${list}/${key}/rotate`, simple)) },
  { name: "fetch of JSON", reads: true, run: (target) => text(fetch(target + list, json("POST", creation))) },
  { name: "fetch, PATCH", reads: true, run: (target, key) => text(fetch(`${target}${list}/${key}`, json("PATCH", '{"active":false}'))) },
  { name: "fetch, PUT", reads: true, run: (target, key) => text(fetch(`${target}${list}/${key}`, json("PUT", creation))) },
  { name: "fetch, DELETE", reads: true, run: (target, key) => text(fetch(`${target}${list}/${key}`, json("DELETE"))) },
  { name: "fetch that would sign out", reads: true, run: (target) => text(fetch(target + "/api/v1/session", json("DELETE"))) },
  {
    name: "fetch that overrides the method", reads: true, change: true,
    run: (target, key) => text(fetch(`${target}${list}/${key}`, { ...json("POST"), headers: { "X-HTTP-Method-Override": "DELETE" } })),
  },
  { name: "XMLHttpRequest of text", reads: true, run: (target) => xhr("POST", target + list, creation) },
  { name: "XMLHttpRequest, DELETE", reads: true, run: (target, key) => xhr("DELETE", `${target}${list}/${key}`) },
  { name: "beacon", unheard: true, run: (target) => navigator.sendBeacon(target + list, creation) },
  { name: "beacon without a type", unheard: true, run: (target) => navigator.sendBeacon(target + list, new Blob([creation])) },
  { name: "beacon of JSON", unheard: true, run: (target) => navigator.sendBeacon(target + list, new Blob([creation], { type: "application/json" })) },
  { name: "beacon of a form", unheard: true, run: (target) => navigator.sendBeacon(target + list, new URLSearchParams({ name: "x" })) },
  {
    name: "ping of a link", unheard: true,
    run: (target) => Object.assign(document.createElement("a"), { href: "#", ping: target + list }).click(),
  },
];

/** Makes an attempt. Returns the text that it could read. */
window.attempt = async (name, target, key) => {
  const { run, unheard } = window.attempts.find((attempt) => attempt.name === name);
  const read = await Promise.resolve().then(() => run(target, key)).catch(() => "");
  if (unheard) await window.answered();
  return unheard ? "" : String(read ?? "");
};
