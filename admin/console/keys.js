// The list of keys: its rows, the switch and the menu of each, and the dialogs for adding, renaming, rotating and deleting.

import {
  $, call, clockTime, copy, momentOf, notify, presence, showAge, showDate, showMoment, showSecret, startPage, submits,
} from "./page.js";

const account = "default"; // the only one
const rows = new Map(); // by key, in the order of the list
let limit = 0;
let etag = "";
let changes = 0; // made from this page

/** Reads the list again if it has changed. */
async function refreshKeys() {
  const before = changes;
  const headers = etag && !overlapIsOver() ? { "If-None-Match": etag } : {};
  const { response, json } = await call("GET", `/keys?account=${account}`, { headers });
  if (response.status === 200 && before === changes) { // else the list may be older than what is shown
    etag = response.headers.get("ETag");
    limit = json.limit;
    for (const key of rows.keys()) if (!json.keys.some((record) => record.key === key)) remove(key);
    json.keys.forEach(place);
    showCount();
  }
  for (const row of rows.values()) showAge(row.used, row.record.last_used);
}

/** Reports whether an old secret has ended by itself, which the ETag of the list does not tell. */
function overlapIsOver() {
  return [...rows.values()].some(({ record }) => Date.parse(record.previous_valid_until) <= Date.now());
}

function showCount() {
  const full = rows.size >= limit;
  $("count").textContent = `${rows.size} of ${limit} keys${full ? ": delete one to add another" : ""}`;
  $("add").disabled = full;
  $("loading").hidden = true;
  $("failed").hidden = true;
  $("empty").hidden = rows.size > 0;
  $("columns").hidden = rows.size === 0;
}

/** Shows a record, in a new row where there is none. */
function place(record) {
  let row = rows.get(record.key);
  if (!row) {
    row = newRow(record);
    rows.set(record.key, row);
    $("keys").append(row.element);
  }
  if (row.record.version !== record.version) row.receipt.textContent = ""; // it was for another change
  row.record = record;
  fill(row);
  return row;
}

function newRow(record) {
  const element = $("row").content.firstElementChild.cloneNode(true);
  const find = (selector) => element.querySelector(selector);
  const row = {
    record, element, name: find("bdi"), code: find("code"), copy: find(".copy"), created: find(".created time"), used: find(".used time"),
    overlap: find(".overlap"),
    switch: find(".switch"), word: find(".state-word"), receipt: find(".receipt"), more: find(".more"),
  };
  row.code.textContent = record.key;
  row.copy.onclick = async () => {
    const copied = await copy(row.code, row.copy);
    notify(copied ? "The key is in the clipboard." : "The key is selected: copy it with Ctrl+C.");
  };
  row.switch.onclick = () => setActive(row, !row.record.active);
  row.more.onclick = () => aimMenu(row);
  return row;
}

function fill(row) {
  const { name, active, created, last_used, previous_valid_until: until } = row.record;
  row.name.textContent = name;
  row.element.classList.toggle("off", !active);
  row.copy.setAttribute("aria-label", `Copy key of ${name}`);
  row.switch.setAttribute("aria-label", `${name} active`);
  row.more.setAttribute("aria-label", `Actions for ${name}`);
  showDate(row.created, created);
  showAge(row.used, last_used);
  showOverlap(row.overlap, until);
  if (row.switch.ariaBusy !== "true") showActive(row, active, active ? "Active" : "Inactive");
}

/** Says until when the old secret works, where it does. */
function showOverlap(element, until) {
  element.hidden = !until;
  if (until) showMoment(element.querySelector("time"), until);
}

function showActive(row, active, word) {
  row.switch.ariaChecked = String(active);
  row.word.textContent = word;
}

function remove(key) {
  rows.get(key)?.element.remove();
  rows.delete(key);
}

/** Shows what a change made from this page has led to. */
function changed(record) {
  changes++;
  const row = place(record);
  showCount();
  return row;
}

/** Changes a key, unless somebody else has since it was shown. */
function patch({ key, version }, body) {
  return call("PATCH", `/keys/${key}`, { body, headers: { "If-Match": `"${version}"` } });
}

async function readAgain() {
  etag = "";
  await refreshKeys().catch(() => {}); // the next one will
}

/** Brings the list up to date when a refusal shows that it was not. Returns what to tell. */
async function explain(refusal, record) {
  if (["version_mismatch", "key_not_found", "overlap_running"].includes(refusal.code)) await readAgain();
  switch (refusal.code) {
    case "version_mismatch":
      return `“${record.name}” was changed elsewhere in the meantime. The list shows how it is now.`;
    case "key_not_found":
      return `“${record.name}” was deleted elsewhere in the meantime.`;
    default:
      return refusal.message;
  }
}

const lists = new Intl.ListFormat("en-GB");

/** Returns what a change still waits for; empty: it is effective everywhere. */
function waitsFor({ pending = [], replicas }) {
  const names = pending.map(({ proxy, effective_by: by }) => by ? `${proxy} until ${clockTime(by)}` : proxy);
  if (replicas) names.push(`${replicas.want - replicas.have} of ${replicas.want} replicas of the store`);
  return lists.format(names);
}

async function setActive(row, active) {
  if (row.switch.ariaBusy === "true") return;
  const { record } = row;
  const word = active ? "on" : "off";
  row.switch.ariaBusy = "true";
  row.receipt.textContent = "";
  showActive(row, active, `Switching ${word}…`);
  try {
    const { json } = await patch(record, { active });
    row.switch.ariaBusy = null;
    changed(json);
    tellReceipt(row, json, active ? "On" : "Off", `“${json.name}” is ${word}`);
  } catch (refusal) {
    row.switch.ariaBusy = null;
    fill(row);
    const text = await explain(refusal, record);
    const again = rows.get(record.key) === row && row.record.active !== active;
    notify(`“${record.name}” could not be switched ${word}. ${text}`, { bad: true, action: again && (() => setActive(row, active)) });
  }
}

/** Says how far a change has reached: in a word or two on the row, in a sentence at the foot of the page. */
function tellReceipt(row, receipt, words, sentence) {
  const waits = waitsFor(receipt);
  row.receipt.textContent = waits ? `Pending: ${waits}` : `${words} everywhere`;
  row.receipt.title = waits;
  notifyReach(receipt, sentence);
}

function notifyReach(receipt, sentence) {
  notify(reach(receipt, sentence), { stays: waitsFor(receipt) !== "" });
}

/** Completes a sentence about a change by how far it has reached. */
function reach(receipt, sentence) {
  const waits = waitsFor(receipt);
  return waits ? `${sentence}. Still pending: ${waits}.` : `${sentence} everywhere.`;
}

// The menu, which all rows share

let chosen; // the row that it is about
const menuHeight = 176; // px, at most

/** Puts the menu under the button of a row, or above it at the foot of the window, before the button opens it. */
function aimMenu(row) {
  chosen = row;
  const menu = $("menu");
  const button = row.more.getBoundingClientRect();
  const { clientWidth, clientHeight } = document.documentElement;
  const below = button.bottom + menuHeight < clientHeight;
  menu.style.right = `${clientWidth - button.right}px`;
  menu.style.top = below ? `${scrollY + button.bottom}px` : "auto";
  menu.style.bottom = below ? "auto" : `${clientHeight - scrollY - button.top}px`;
  $("menu-end").hidden = !row.record.previous_valid_until;
  menu.setAttribute("aria-label", `Actions for ${row.record.name}`);
}

function menuKeys(event) {
  const items = [...$("menu").querySelectorAll("[role=menuitem]:not([hidden])")];
  const at = items.indexOf(document.activeElement);
  const step = { ArrowDown: at + 1, ArrowUp: at - 1 + items.length, Home: 0, End: items.length - 1 }[event.key];
  if (step !== undefined) {
    event.preventDefault();
    items[step % items.length].focus();
  } else if (event.key === "Tab") {
    $("menu").hidePopover(); // and on from the button
  }
}

function choose(act) {
  $("menu").hidePopover();
  act(chosen);
}

// Add

let operation = ""; // of a creation of which the outcome is not known

async function add() {
  const button = $("add");
  if (button.ariaBusy === "true") return;
  button.ariaBusy = "true";
  operation ||= Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("-");
  try {
    const creation = call("POST", "/keys", { body: { account }, headers: { "Idempotency-Key": operation } });
    const [{ json }, { proxy }] = await Promise.all([creation, presence()]);
    operation = "";
    const { secret, replayed, ...record } = json;
    const row = changed(record);
    row.element.classList.add("new");
    if (replayed) notify(`“${record.name}” was added, but its secret was lost on the way. Delete it, and add another.`, { bad: true });
    else showSecret({ ...record, secret, proxy }, {
      title: "Your new key",
      text: "is active. Give its key and its secret to your client.",
      next: () => $("add").disabled && row.more.focus(),
    });
  } catch (refusal) {
    if (!refusal.unsure) operation = "";
    etag = "";
    notify(`The key could not be added. ${refusal.message}`, { bad: true, action: add });
  } finally {
    button.ariaBusy = null;
  }
}

// Rotate

function rotate(row) {
  let { record } = row; // as it was when the dialog opened, or as it is known since
  let lost = false; // the outcome of an attempt
  const dialog = $("rotate");
  const show = () => {
    const until = record.previous_valid_until;
    $("overlap").hidden = Boolean(until);
    showOverlap($("overlap-runs"), until);
  };
  submits(dialog, "rotate-error", async () => {
    const overlap = record.previous_valid_until ? "0s" : new FormData(dialog.querySelector("form")).get("overlap");
    try {
      const rotation = call("POST", `/keys/${record.key}/rotate`, { body: { overlap }, headers: { "If-Match": `"${record.version}"` } });
      const [{ json }, { proxy }] = await Promise.all([rotation, presence()]);
      return () => rotated(json, proxy, overlap === "0s" ? "The one before has ended" : "It works");
    } catch (refusal) {
      lost ||= refusal.unsure;
      refusal.message = lost ? await explainLost(refusal, record) : await explain(refusal, record);
      record = row.record;
      show();
      throw refusal;
    }
  });
  dialog.querySelector("form").reset();
  $("rotate-name").textContent = record.name;
  show();
  dialog.showModal();
}

/** Tells what to do when nobody knows whether the secret has been rotated: the reply may be what was lost. */
async function explainLost(refusal, { key, version }) {
  await readAgain();
  const now = rows.get(key)?.record;
  if (!now) return "The key was deleted elsewhere in the meantime.";
  if (now.version !== version) {
    return "The key has changed: its secret seems to be rotated, but the new one was lost on the way. Rotate again: that is safe, and makes another.";
  }
  return `${refusal.message} Whether the secret was rotated is not known. Rotate again: that is safe, and if it was, you are told.`;
}

/** Shows what a rotation has led to: the new secret, and what becomes of the others. */
function rotated({ secret, ...record }, proxy, effect) {
  const row = changed(record);
  const until = record.previous_valid_until;
  const old = until ? ` The old one works until ${momentOf(until)}.` : "";
  tellReceipt(row, record, "Rotated", `The secret of “${record.name}” is rotated`);
  showSecret({ ...record, secret, proxy }, {
    title: "Your new secret",
    text: `has a new secret: give it to your client. ${reach(record, effect)}${old}`,
    next: () => row.more.focus(),
  });
}

// Rename, delete, end the old secret

function rename(row) {
  let { record } = row; // as it was when the dialog opened: what others change is not overwritten unseen
  submits($("rename"), "name-error", async () => {
    try {
      const { json } = await patch(record, { name: $("name").value });
      changed(json);
      notify(`“${record.name}” is now “${json.name}”.`);
    } catch (refusal) {
      refusal.message = await explain(refusal, record);
      record = row.record;
      throw refusal;
    }
    return () => row.more.focus();
  });
  $("name").value = row.record.name;
  $("rename").showModal();
  $("name").select();
}

/** Asks before a change that cannot be undone. */
function confirmChange(row, { title, text, word }, change) {
  let { record } = row;
  const { key, name } = record;
  const dialog = $("confirm");
  const button = dialog.querySelector(".primary");
  button.textContent = word;
  submits(dialog, "confirm-error", async () => {
    const next = neighbour(row);
    try {
      return await change(record);
    } catch (refusal) {
      refusal.message = await explain(refusal, record);
      record = row.record;
      button.textContent = "Try again";
      if (refusal.code !== "key_not_found") throw refusal;
      notify(refusal.message);
      return gone(row, next);
    }
  });
  dialog.querySelector("h2 span").textContent = title;
  dialog.querySelector("bdi").textContent = name;
  dialog.querySelector("p span").textContent = text;
  dialog.querySelector("code").textContent = key;
  dialog.showModal();
}

function confirmDelete(row) {
  confirmChange(row, { title: "Delete", text: "Clients that use", word: "Delete" }, async ({ key, name, version }) => {
    const { json } = await call("DELETE", `/keys/${key}`, { headers: { "If-Match": `"${version}"` } });
    notifyReach(json, `“${name}” is deleted`);
    return gone(row);
  });
}

function confirmEnd(row) {
  const words = {
    title: "End the old secret of",
    text: "The present secret goes on, but requests with the old one of",
    word: "End old secret",
  };
  confirmChange(row, words, async (record) => {
    const { json } = await patch(record, { previous_secret: null });
    changed(json);
    tellReceipt(row, json, "Ended", `The old secret of “${json.name}” has ended`);
  });
}

/** Takes away the row of a key that there is no more. Returns what moves the focus on. */
function gone(row, next = neighbour(row)) {
  changes++;
  remove(row.record.key);
  showCount();
  return () => next.focus();
}

/** Returns what to focus when a row has gone. */
function neighbour(row) {
  const beside = row.element.nextElementSibling ?? row.element.previousElementSibling;
  return beside?.querySelector(".more") ?? $("add");
}

$("add").onclick = add;
$("menu").onkeydown = menuKeys;
$("menu").ontoggle = ({ newState }) => {
  if (newState === "open") $("menu-rename").focus();
};
$("menu-rename").onclick = () => choose(rename);
$("menu-rotate").onclick = () => choose(rotate);
$("menu-end").onclick = () => choose(confirmEnd);
$("menu-delete").onclick = () => choose(confirmDelete);
startPage(refreshKeys);
