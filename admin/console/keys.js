// The list of keys: its rows, the switch and the menu of each, and the dialogs for adding, renaming and deleting.

import { $, call, clockTime, copy, notify, presence, showAge, showDate, showSecret, startPage, submits } from "./page.js";

const account = "default"; // the only one
const rows = new Map(); // by key, in the order of the list
let limit = 0;
let etag = "";
let changes = 0; // made from this page

/** Reads the list again if it has changed. */
async function refreshKeys() {
  const before = changes;
  const headers = etag ? { "If-None-Match": etag } : {};
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
  const { name, active, created, last_used } = row.record;
  row.name.textContent = name;
  row.element.classList.toggle("off", !active);
  row.copy.setAttribute("aria-label", `Copy key of ${name}`);
  row.switch.setAttribute("aria-label", `${name} active`);
  row.more.setAttribute("aria-label", `Actions for ${name}`);
  showDate(row.created, created);
  showAge(row.used, last_used);
  if (row.switch.ariaBusy !== "true") showActive(row, active, active ? "Active" : "Inactive");
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

/** Brings the list up to date when a refusal shows that it was not. Returns what to tell. */
async function explain(refusal, record) {
  if (refusal.code === "version_mismatch" || refusal.code === "key_not_found") {
    etag = "";
    await refreshKeys().catch(() => {}); // the next one will
  }
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
    tellReceipt(row, json, word);
  } catch (refusal) {
    row.switch.ariaBusy = null;
    fill(row);
    const text = await explain(refusal, record);
    const again = rows.get(record.key) === row && row.record.active !== active;
    notify(`“${record.name}” could not be switched ${word}. ${text}`, { bad: true, action: again && (() => setActive(row, active)) });
  }
}

function tellReceipt(row, receipt, word) {
  const waits = waitsFor(receipt);
  row.receipt.textContent = waits ? `Pending: ${waits}` : `${word === "on" ? "On" : "Off"} everywhere`;
  row.receipt.title = waits;
  if (waits) notify(`“${row.record.name}” is ${word}. Still pending: ${waits}.`, { stays: true });
  else notify(`“${row.record.name}” is ${word} everywhere.`);
}

// The menu, which all rows share

let chosen; // the row that it is about
const menuHeight = 96; // px

/** Puts the menu under the button of a row, or above it at the foot of the window, before the button opens it. */
function aimMenu(row) {
  chosen = row;
  const menu = $("menu");
  const button = row.more.getBoundingClientRect();
  const { clientWidth, clientHeight } = document.documentElement;
  const below = button.bottom + menuHeight < clientHeight;
  menu.style.right = `${clientWidth - button.right}px`;
  menu.style.top = `${scrollY + (below ? button.bottom : button.top - menuHeight)}px`;
  menu.setAttribute("aria-label", `Actions for ${row.record.name}`);
}

function menuKeys(event) {
  const items = [...$("menu").querySelectorAll("[role=menuitem]")];
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
    else showSecret({ ...record, secret, proxy }, () => $("add").disabled && row.more.focus());
  } catch (refusal) {
    if (!refusal.unsure) operation = "";
    etag = "";
    notify(`The key could not be added. ${refusal.message}`, { bad: true, action: add });
  } finally {
    button.ariaBusy = null;
  }
}

// Rename and delete

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
    return row.more;
  });
  $("name").value = row.record.name;
  $("rename").showModal();
  $("name").select();
}

function confirmDelete(row) {
  let { record } = row;
  const { key, name } = record;
  const button = $("delete").querySelector(".primary");
  button.textContent = "Delete";
  submits($("delete"), "delete-error", async () => {
    const next = neighbour(row);
    try {
      const { json } = await call("DELETE", `/keys/${key}`, { headers: { "If-Match": `"${record.version}"` } });
      const waits = waitsFor(json);
      notify(waits ? `“${name}” is deleted. Still pending: ${waits}.` : `“${name}” is deleted.`, { stays: waits !== "" });
    } catch (refusal) {
      refusal.message = await explain(refusal, record);
      record = row.record;
      button.textContent = "Try again";
      if (refusal.code !== "key_not_found") throw refusal;
      notify(refusal.message);
    }
    changes++;
    remove(key);
    showCount();
    return next;
  });
  $("delete-name").textContent = name;
  $("delete-key").textContent = key;
  $("delete").showModal();
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
$("menu-delete").onclick = () => choose(confirmDelete);
startPage(refreshKeys);
