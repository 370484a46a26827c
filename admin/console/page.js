// What every part of the page needs: calls of the API, sign-in, results, dialogs, copying, times.

export const $ = (id) => document.getElementById(id);

// What the API says to programs, said to people. Other codes come with a detail that suits both.
const words = {
  name_taken: "Another key has this name. Choose a different one.",
  no_answer: "Keystile does not answer.",
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
    session = send("GET", "/session").then(([, json]) => json, () => ({}));
  }
  return session;
}

/**
 * Gives the form of a dialog its work, which may return what to focus afterwards. While it is done the form cannot be
 * sent again; what went wrong is said beside the field, and nothing typed is lost.
 */
export function submits(dialog, errorID, work) {
  const form = dialog.querySelector("form");
  const button = form.querySelector(".primary");
  const field = form.querySelector("input:not([hidden])");
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
      next?.focus();
    } catch (refusal) {
      say(refusal.message);
      field?.focus();
    } finally {
      button.ariaBusy = null;
    }
  };
}

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
const times = new Intl.DateTimeFormat(locale, { timeStyle: "medium" });
const ages = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
const units = [["minute", 60], ["hour", 3_600], ["day", 86_400]];

export const clockTime = (iso) => times.format(new Date(iso));

/** Fills a time element with the date of a moment. */
export function showDate(element, iso) {
  stamp(element, iso, dates.format(new Date(iso)));
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
