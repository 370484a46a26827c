// The page: calls of the API, sign-in, the views, dialogs, the secret that is shown once, results, copying, times.

export const $ = (id) => document.getElementById(id);

// What the API says to programs, said to people. Other codes come with a detail that suits both.
const words = {
  name_taken: "Another key has this name. Choose a different one.",
  no_answer: "Keystile does not answer.",
  overlap_running: "The old secret still works, and a key has two secrets at most.",
  store_unreachable: "The key store cannot be reached, or has not confirmed the change.",
  unauthorized: "This is not the administrator token.",
};

/** A call that was refused, or did not reach the server. The message is a sentence for people. */
export class Refusal extends Error {
  constructor(status, { code = "no_answer", detail = "" }) {
    super(words[code] ?? `${detail.charAt(0).toUpperCase()}${detail.slice(1)}.`);
    this.status = status; // 0: no answer
    this.code = code;
  }

  /** Whether the call may have been carried out all the same. */
  get unsure() {
    return this.status === 0 || this.status >= 500;
  }
}

/**
 * Calls the API. Without a session it waits until somebody has signed in and calls again, so that nothing on the page
 * is lost. Returns the response and its JSON; throws a Refusal.
 */
export async function call(method, path, { body, headers } = {}) {
  if (!entered) await enter();
  for (;;) {
    const [response, json] = await send(method, path, body, headers);
    if (response.ok || response.status === 304) return { response, json };
    if (response.status !== 401) throw new Refusal(response.status, json);
    await signIn();
  }
}

async function send(method, path, body, headers) {
  let response;
  try {
    response = await fetch("/api/v1" + path, {
      method,
      headers: { "Content-Type": "application/json", ...headers },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(20_000),
    });
    const text = await response.text();
    return [response, text ? JSON.parse(text) : {}];
  } catch {
    throw new Refusal(0, {});
  }
}

let entered = false; // somebody has been signed in

/** Asks for the session before anything else is: without one, other calls would count as failed authentications. */
async function enter() {
  const state = await askSession();
  [session, asked] = [Promise.resolve(state), performance.now()];
  if (!state.signed_in) await signIn();
  entered = true;
}

async function askSession() {
  const [response, json] = await send("GET", "/session");
  if (!response.ok) throw new Refusal(response.status, json);
  return json;
}

let signingIn; // for all calls that wait for it

function signIn() {
  signingIn ??= new Promise((resolve) => {
    const dialog = $("sign-in");
    submits(dialog, "token-error", async () => {
      const [response, json] = await send("POST", "/session", { token: $("token").value.trim() });
      if (!response.ok) throw new Refusal(response.status, json);
      [session, asked] = [Promise.resolve(json), performance.now()];
      $("token").value = "";
      $("sign-in-title").textContent = "Sign in again";
      $("sign-in-why").textContent = "Your session has ended. Nothing on the page is lost.";
      signingIn = undefined;
      resolve();
    });
    dialog.showModal();
  });
  return signingIn;
}

const presenceInterval = 60_000; // ms
let asked = -presenceInterval;
let session; // what the server said of it last

/** Tells the server, once in a while, that somebody is here, which keeps the session. Returns what it says of it. */
export function presence() {
  if (performance.now() - asked >= presenceInterval) {
    asked = performance.now();
    session = askSession().catch(() => ({}));
  }
  return session;
}

// The views

const pace = 3_000; // ms between two looks at what is shown
const views = { "#proxies": refreshProxies }; // what reads each again
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

/** Shows the page, with what reads the list of keys again, and keeps it up to date. */
export function startPage(refreshKeys) {
  views["#keys"] = refreshKeys;
  $("sign-out").onclick = signOut;
  $("saved").onchange = allowClosing;
  for (const [target, event] of [[$("added"), "cancel"], [window, "beforeunload"]]) target.addEventListener(event, keepUnsaved);
  for (const button of document.querySelectorAll("[data-copy]")) button.onclick = copyHalf;
  for (const button of document.querySelectorAll("[data-close]")) button.onclick = () => button.closest("dialog").close();
  $("retry").onclick = update;
  addEventListener("hashchange", showView);
  document.addEventListener("visibilitychange", look);
  for (const sign of ["pointerdown", "keydown"]) addEventListener(sign, presence, { passive: true });
  showView();
  setTimeout(watch, pace);
}

// Dialogs

/**
 * Gives the form of a dialog its work, which may return what to do when the dialog has closed. While it is done the form
 * cannot be sent again; what went wrong is said beside the field, and nothing typed is lost.
 */
export function submits(dialog, errorID, work) {
  const form = dialog.querySelector("form");
  const button = form.querySelector(".primary");
  const field = form.querySelector("input:not([hidden], [type=radio])");
  const say = (text) => {
    $(errorID).textContent = text;
    if (text) field?.setAttribute("aria-invalid", "true");
    else field?.removeAttribute("aria-invalid");
  };
  say("");
  form.onsubmit = async (event) => {
    event.preventDefault();
    if (button.ariaBusy === "true") return;
    button.ariaBusy = "true";
    say("");
    try {
      const next = await work();
      dialog.close();
      next?.();
    } catch (refusal) {
      say(refusal.message);
      field?.focus();
    } finally {
      button.ariaBusy = null;
    }
  };
}

// The secret that is shown once

/** Shows a new secret until somebody says that it is saved, and then does what comes next. */
export function showSecret({ key, name, secret, proxy }, { title, text, next }) {
  $("added-title").textContent = title;
  $("added-text").textContent = text;
  $("added-name").textContent = name;
  $("added-key").textContent = key;
  $("added-secret").textContent = secret;
  $("added-curl").textContent = `curl ${proxyAddress(proxy)}/v1/models \\\n  -H 'X-Key: Key ${key}' \\\n  -H 'X-Secret: Secret ${secret}'`;
  $("added-hint").textContent = proxy
    ? "The path is an example: take one that your service has."
    : "The address and the path are examples: take those of your proxy and service.";
  $("saved").checked = false;
  allowClosing();
  $("added").onclose = () => secretClosed(next);
  $("added").showModal();
}

/** Returns where the proxy is called from the browser's machine: loopback is another machine there. */
function proxyAddress(proxy) {
  if (!proxy) return "https://your-proxy";
  const url = new URL(proxy);
  if (["127.0.0.1", "[::1]"].includes(url.hostname)) url.hostname = location.hostname;
  return url.origin;
}

function allowClosing() {
  const saved = $("saved").checked;
  $("done").disabled = !saved;
  $("added").closedBy = saved ? "closerequest" : "none";
}

function keepUnsaved(event) {
  if ($("added").open && !$("saved").checked) event.preventDefault();
}

function secretClosed(next) {
  if (!$("saved").checked) { // a browser that closes it all the same
    $("added").showModal();
    return;
  }
  for (const id of ["added-key", "added-secret", "added-curl"]) $(id).textContent = "";
  next?.();
}

async function copyHalf({ currentTarget: button }) {
  const copied = await copy($(button.dataset.copy), button);
  const word = button.firstChild;
  word.data = copied ? "Copied" : "Copy";
  $("added").querySelector("[role=status]").textContent = copied ? "Copied" : "Selected: copy it with Ctrl+C";
  if (copied) setTimeout(() => (word.data = "Copy"), 2_000);
}

// Results, copying, times

/**
 * Shows a result at the foot of the page, for a while or until the next; one that is bad stays until it is dismissed. With
 * an action it offers to try again. Returns what takes it away.
 */
export function notify(text, { bad = false, stays = bad, action } = {}) {
  const notice = $("notice").content.firstElementChild.cloneNode(true);
  const [actionButton, dismiss] = notice.querySelectorAll("button");
  const remove = () => notice.remove();
  notice.classList.toggle("bad", bad);
  notice.classList.toggle("stays", stays);
  notice.querySelector("p").textContent = text;
  actionButton.hidden = !action;
  actionButton.onclick = () => {
    remove();
    action();
  };
  dismiss.onclick = remove;
  for (const old of document.querySelectorAll(".notice:not(.stays)")) old.remove();
  $("notices").append(notice);
  if (!stays) setTimeout(remove, 8_000);
  return remove;
}

/** Copies the text of an element, and says so on the button. Returns whether it did. */
export async function copy(element, button) {
  const copied = await copyText(element);
  button.classList.toggle("copied", copied);
  if (copied) setTimeout(() => button.classList.remove("copied"), 2_000);
  return copied;
}

async function copyText(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    // Without TLS browsers have no clipboard, except on this machine.
    getSelection().selectAllChildren(element);
    const copied = document.execCommand("copy");
    if (copied) getSelection().removeAllRanges();
    return copied;
  }
}

const locale = "en-GB";
const dates = new Intl.DateTimeFormat(locale, { dateStyle: "medium" });
const moments = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "medium" });
const minutes = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const times = new Intl.DateTimeFormat(locale, { timeStyle: "medium" });
const ages = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
const units = [["minute", 60], ["hour", 3_600], ["day", 86_400]];

export const clockTime = (iso) => times.format(new Date(iso));
export const momentOf = (iso) => minutes.format(new Date(iso));

/** Fills a time element with the date of a moment. */
export function showDate(element, iso) {
  stamp(element, iso, dates.format(new Date(iso)));
}

/** Fills a time element with a moment of these weeks, to the minute. */
export function showMoment(element, iso) {
  stamp(element, iso, momentOf(iso));
}

/** Fills a time element with how long ago a moment was; without one: never. */
export function showAge(element, iso) {
  if (!iso) {
    element.textContent = "Never";
    return;
  }
  const seconds = Math.max(0, (Date.now() - Date.parse(iso)) / 1_000);
  const [unit, size] = units.findLast(([, size]) => seconds >= size) ?? [];
  if (!unit) stamp(element, iso, "Just now");
  else if (seconds > 30 * 86_400) showDate(element, iso);
  else stamp(element, iso, ages.format(-Math.floor(seconds / size), unit));
}

function stamp(element, iso, text) {
  if (element.textContent !== text) element.textContent = text;
  element.dateTime = iso;
  element.title = moments.format(new Date(iso));
}
