// The page: which view is shown, and that it is kept up to date.

import { $, call, notify, presence } from "./page.js";
import { refreshKeys, startKeys } from "./keys.js";

const pace = 3_000; // ms between two looks at what is shown
const views = { "#keys": refreshKeys, "#proxies": refreshProxies };
let shown = false; // the list has been there once
let recovered; // takes the notice of an outage away

const view = () => (location.hash in views ? location.hash : "#keys");

function showView() {
  for (const link of document.querySelectorAll("nav a")) {
    const current = link.hash === view();
    if (current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    $(`${link.hash.slice(1)}-view`).hidden = !current;
    if (current) document.title = `${$(`${link.hash.slice(1)}-title`).textContent} · Keystile`;
  }
  update();
}

async function update() {
  try {
    await views[view()]();
    shown = true;
    recovered?.();
    recovered = undefined;
  } catch (refusal) {
    showOutage(refusal);
  }
}

function showOutage({ message }) {
  if (shown) {
    recovered ??= notify(`${message} What you see may be out of date. Trying again…`, { bad: true });
    return;
  }
  $("loading").hidden = true;
  $("failed").hidden = false;
  $("failure").textContent = message;
  $("count").textContent = "Not known";
}

async function refreshProxies() {
  const { json } = await call("GET", "/proxies");
  const newest = Math.max(...json.proxies.map(({ applied }) => applied));
  $("proxies").replaceChildren(...json.proxies.map((proxy) => proxyRow(proxy, newest)));
  $("no-proxies").textContent = json.proxies.length ? "" : "No proxy is known.";
  $("no-proxies").hidden = json.proxies.length > 0;
}

function proxyRow({ proxy, applied, serving }, newest) {
  const row = document.createElement("tr");
  const cells = [proxy, applied, (serving ? "Serving" : "Not serving") + (applied < newest ? `, ${newest - applied} behind` : "")];
  row.append(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
  row.children[1].className = "number";
  row.children[2].className = serving ? "dot serving" : "dot";
  return row;
}

async function signOut() {
  try {
    await call("DELETE", "/session");
    location.reload();
  } catch (refusal) {
    notify(`You are still signed in. ${refusal.message}`, { bad: true, action: signOut });
  }
}

/** Looks again, but not while nobody can see it or somebody is busy in a dialog. */
async function look() {
  if (!document.hidden && !document.querySelector("dialog[open]")) await update();
}

async function watch() {
  await look();
  setTimeout(watch, pace);
}

startKeys();
$("sign-out").onclick = signOut;
$("retry").onclick = update;
addEventListener("hashchange", showView);
document.addEventListener("visibilitychange", look);
for (const sign of ["pointerdown", "keydown"]) addEventListener(sign, presence, { passive: true });
showView();
setTimeout(watch, pace);
