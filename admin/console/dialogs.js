// Dialogs that several parts of the page open: for a name, before what cannot be undone, with a secret that is shown once.

import { $, copy, submits } from "./page.js";

/** Asks for a new name. An optional one may be empty. */
export function askName(title, name, work, optional = false) {
  submits($("rename"), "name-error", () => work($("name").value));
  $("rename-title").textContent = title;
  $("name").required = !optional;
  $("name").value = name;
  $("rename").showModal();
  $("name").select();
}

/** Asks before a change that cannot be undone. When it failed, the button offers to try again. */
export function confirmChange({ title, name, text, code = "", end = "", word }, change) {
  const dialog = $("confirm");
  const button = dialog.querySelector(".primary");
  submits(dialog, "confirm-error", async () => {
    try {
      return await change();
    } catch (refusal) {
      button.textContent = refusal.word ?? "Try again";
      throw refusal;
    }
  });
  const [before, after] = dialog.querySelectorAll("p span");
  button.textContent = word;
  dialog.querySelector("h2 span").textContent = title;
  dialog.querySelector("bdi").textContent = name;
  before.textContent = text;
  dialog.querySelector("code").textContent = code;
  after.textContent = end;
  dialog.showModal();
}

// The secret that is shown once

/**
 * Shows a new secret, or token, until somebody says that it is saved, and then does what comes next. Without
 * a key there is none to show.
 */
export function showSecret({ key = "", name, secret, line, hint }, { title, text, what = "secret", next }) {
  const dialog = $("added");
  for (const element of dialog.querySelectorAll(".what")) element.textContent = what;
  for (const element of dialog.querySelectorAll(".of-key")) element.hidden = !key;
  const texts = { title, name, text, key, secret, hint, curl: line };
  for (const part in texts) $(`added-${part}`).textContent = texts[part];
  $("saved").checked = false;
  allowClosing();
  dialog.onclose = () => secretClosed(next);
  dialog.showModal();
}

/** Returns a command that uses a key, and what is to be said of it. */
export function clientLine(key, secret, proxy) {
  const hint = proxy
    ? "The path is an example: take one that your service has."
    : "The address and the path are examples: take those of your proxy and service.";
  return { line: `curl ${proxyAddress(proxy)}/v1/models \\\n  -H 'X-Key: Key ${key}' \\\n  -H 'X-Secret: Secret ${secret}'`, hint };
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

$("saved").onchange = allowClosing;
for (const [target, event] of [[$("added"), "cancel"], [window, "beforeunload"]]) target.addEventListener(event, keepUnsaved);
for (const button of document.querySelectorAll("[data-copy]")) button.onclick = copyHalf;
