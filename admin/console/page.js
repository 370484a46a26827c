// The page: calls of the API, sign-in, the views, dialogs, results, copying, times.

export const $ = (id) => document.getElementById(id);

// What the API says to programs, said to people. Other codes come with a detail that suits both.
const words = {
  name_taken: "Another key has this name. Choose a different one.",
  no_answer: "Keystile does not answer.",
  overlap_running: "The old secret still works, and a key has two secrets at most.",
  store_unreachable: "The key store cannot be reached, or has not confirmed the change.",
  unauthorized: "This token is not valid.",
  account_inactive: "This account is suspended, so nothing of it can be changed.",
};

/** A call that was refused, or did not reach the server. The message is a sentence for people. */
class Refusal extends Error {
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
  await principal();
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

let who; // has signed in: the principal, and the account where it is one

/** Returns who has signed in, as soon as somebody has: { principal, account }. */
export async function principal() {
  if (!who) await enter();
  return who;
}

export const isAdministrator = () => who?.principal === "administrator";

/** Asks for the session before anything else is: without one, other calls would count as failed authentications. */
async function enter() {
  const state = await askSession();
  [session, asked] = [Promise.resolve(state), performance.now()];
  if (!state.signed_in) await signIn();
}

async function askSession() {
  const [response, json] = await send("GET", "/session");
  if (!response.ok) throw new Refusal(response.status, json);
  if (json.signed_in) recognize(json);
  return json;
}

/** Takes note of who has signed in. Another one than before starts afresh, and gets nothing of what is on the page. */
function recognize({ principal, account }) {
  const other = who && (who.principal !== principal || who.account !== account);
  if (other) location.reload();
  who ??= { principal, account };
  document.body.classList.add(who.principal); // the style shows each what is theirs
  $("who").textContent = who.account ?? "Administrator";
  return !other;
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
      if (!recognize(json)) return;
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
export function presence(now = false) {
  if (now || performance.now() - asked >= presenceInterval) {
    asked = performance.now();
    session = askSession().catch(() => ({}));
  }
  return session;
}

// The views

const pace = 3_000; // ms between two looks at what is shown
const reads = {}; // what reads a view again, by its name; those of administrators as they are needed
const shown = new Set(); // the views that have been there once
let recovered; // takes the notice of an outage away

function view() {
  const name = location.hash.slice(1).split("/")[0];
  return isAdministrator() && ["accounts", "audit", "proxies"].includes(name) ? name : "keys";
}

/** Reads what is shown again. */
async function update() {
  try {
    await principal();
    const name = view();
    reads[name] ??= (await loadForAdministrator(name)).refresh;
    reveal(name);
    await reads[name]();
    shown.add(name);
    recovered?.();
    recovered = undefined;
  } catch (refusal) {
    showOutage(refusal);
  }
}

/** Shows a view, unless somebody has gone on to another. */
function reveal(name) {
  if (name !== view()) return;
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== `${name}-view`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${$(`${name}-title`).textContent} · Keystile`;
}

function showOutage({ message, status }) {
  if ([403, 404].includes(status)) presence(true); // somebody else may have signed in, in another window
  if (shown.has(view())) {
    recovered ??= notify(`${message} What you see may be out of date. Trying again…`, { bad: true });
    return;
  }
  if (view() === "keys") showFailure(message);
  else if ($(`${view()}-state`)) $(`${view()}-state`).textContent = `${message} Trying again…`;
  else recovered ??= notify(`${message} Trying again…`, { bad: true });
}

/** Says instead of the keys why they cannot be shown. */
export function showFailure(message) {
  $("loading").hidden = true;
  $("failed").hidden = false;
  $("failure").textContent = message;
  $("count").textContent = "Not known";
}

// What is not needed at first is loaded when it is

const modules = {}; // that are there, by name
let failures = 0; // of loading one, which browsers remember by its address
let markup; // of administrators: there, or on its way

/** Loads a module of the console. */
export async function load(name) {
  try {
    return (modules[name] ??= await import(`/${name}.js${failures ? `?${failures}` : ""}`));
  } catch {
    failures++;
    throw new Refusal(0, {});
  }
}

/** Loads a module that needs the views and dialogs of administrators on the page. */
export async function loadForAdministrator(name) {
  markup ??= loadMarkup();
  try {
    await markup;
  } catch (refusal) {
    markup = undefined;
    throw refusal;
  }
  return load(name);
}

/** Puts that markup on the page, styled. It comes as a document, so that no string has to become markup here. */
function loadMarkup() {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", "/administrator.html");
    request.responseType = "document";
    request.onloadend = () => {
      const style = request.response?.querySelector("link");
      if (request.status !== 200 || !style) return reject(new Refusal(0, {}));
      style.onerror = () => reject(new Refusal(0, {}));
      style.onload = () => {
        $("notices").before(...request.response.querySelectorAll("section, .menu"));
        document.body.append(...request.response.body.children);
        prepareDialogs();
        resolve();
      };
      document.head.append(style);
    };
    request.send();
  });
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
  reads.keys = refreshKeys;
  $("sign-out").onclick = signOut;
  $("retry").onclick = update;
  prepareDialogs();
  addEventListener("hashchange", update);
  document.addEventListener("visibilitychange", look);
  for (const sign of ["pointerdown", "keydown"]) addEventListener(sign, () => presence(), { passive: true });
  update();
  setTimeout(watch, pace);
}

/** Gives the buttons that close a dialog what they do. */
function prepareDialogs() {
  for (const button of document.querySelectorAll("[data-close]")) button.onclick = () => button.closest("dialog").close();
}

// Dialogs

/**
 * Gives the form of a dialog its work, which may return what to do when the dialog has closed. While it is done the form
 * cannot be sent again; what went wrong is said beside the field, which is that of errorID unless the refusal says at
 * another, and nothing typed is lost. One that stays is closed by its own button.
 */
export function submits(dialog, errorID, work, { stays = false } = {}) {
  const form = dialog.querySelector("form");
  const button = form.querySelector(".primary");
  const clear = () => {
    for (const error of form.querySelectorAll(".error")) error.textContent = "";
    for (const field of form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  };
  clear();
  form.onsubmit = async (event) => {
    event.preventDefault();
    if (button.ariaBusy === "true") return;
    button.ariaBusy = "true";
    clear();
    try {
      const next = await work();
      if (!stays) dialog.close();
      next?.();
    } catch (refusal) {
      const id = refusal.at ?? errorID;
      const field = form.querySelector(`[aria-describedby~="${id}"]`);
      $(id).textContent = refusal.message;
      field?.setAttribute("aria-invalid", "true");
      field?.focus();
    } finally {
      button.ariaBusy = null;
    }
  };
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
const seconds = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "medium" });
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

/** Fills a time element with a moment, to the second. */
export function showTime(element, iso) {
  stamp(element, iso, seconds.format(new Date(iso)));
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
