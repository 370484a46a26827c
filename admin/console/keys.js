// The list of keys, and adding one. Also what rows of all lists have: a switch with its receipt, and a menu.

import {
  $, call, clockTime, copy, isAdministrator, load, loadForAdministrator, momentOf, notify, presence, principal, showAge,
  showDate, showFailure, showMoment, startPage,
} from "./page.js";

const everybody = "*"; // stands for all accounts in the address
const rows = new Map(); // by key
let account; // whose keys are listed
let limit = 0;
let etag = "";
let changes = 0; // made from this page

/** Returns whose keys to list: those of the account that has signed in, or that an administrator has chosen. */
async function chosenAccount() {
  const { account: own } = await principal();
  return own ?? (location.hash.split("/")[1] || "default");
}

/** Reads the list again if it has changed. */
async function refreshKeys() {
  const wanted = await chosenAccount();
  if (wanted !== account) showAccount(wanted);
  const before = changes;
  const headers = etag && !overlapIsOver() ? { "If-None-Match": etag } : {};
  try {
    const { response, json } = await call("GET", account === everybody ? "/keys" : `/keys?account=${encodeURIComponent(account)}`, { headers });
    // Else the list may be older than what is shown.
    if (response.status === 200 && before === changes && wanted === account) showList(json, response.headers.get("ETag"));
  } catch (refusal) {
    if (refusal.code !== "account_not_found" || wanted !== account) throw refusal;
    showAccount(wanted);
    showFailure(isAdministrator() ? `There is no account “${wanted}”: choose another.` : "This account has been deleted.");
  }
  for (const row of rows.values()) showAge(row.used, row.record.last_used);
}

/** Turns to the keys of an account, which are read next. */
function showAccount(wanted) {
  account = wanted;
  etag = operation = "";
  changes++;
  for (const key of rows.keys()) remove(key);
  $("account-shown").textContent = account === everybody ? "All accounts" : account;
  $("keys").classList.toggle("all", account === everybody);
  $("count").textContent = "Loading…";
  $("add").disabled = true;
  for (const id of ["empty", "columns", "failed", "suspended"]) $(id).hidden = true;
  $("loading").hidden = false;
}

function showList(json, tag) {
  etag = tag;
  limit = json.limit;
  const present = new Set(json.keys.map((record) => record.key));
  for (const key of rows.keys()) if (!present.has(key)) remove(key);
  json.keys.forEach(placeAt);
  showCount();
}

/** Reports whether an old secret has ended by itself, which the ETag of the list does not tell. */
function overlapIsOver() {
  return [...rows.values()].some(({ record }) => Date.parse(record.previous_valid_until) <= Date.now());
}

function showCount() {
  const all = account === everybody;
  const full = rows.size >= limit;
  const keys = rows.size === 1 ? "1 key" : `${rows.size} keys`;
  $("count").textContent = all
    ? `${keys} in all accounts: choose an account to add one`
    : `${rows.size} of ${limit} keys${full ? ": delete one to add another" : ""}`;
  $("add").disabled = all || full;
  $("loading").hidden = true;
  $("failed").hidden = true;
  $("empty").hidden = rows.size > 0;
  $("columns").hidden = rows.size === 0;
  $("suspended").hidden = all || ![...rows.values()].some(({ record }) => record.suspended);
}

/** Shows a record as the row of this index: others may have added keys before one that was added here. */
function placeAt(record, index) {
  const { element } = place(record);
  const there = $("keys").children[index];
  if (there !== element) there.before(element);
}

/** Shows a record, in a new row where there is none. */
function place(record) {
  let row = rows.get(record.key);
  if (!row) {
    row = newRow(record);
    rows.set(record.key, row);
    $("keys").append(row.element);
  }
  showRecord(row, record);
  fill(row);
  return row;
}

function newRow(record) {
  const element = $("row").content.firstElementChild.cloneNode(true);
  const find = (selector) => element.querySelector(selector);
  const row = Object.assign(newParts(element, kind, record), {
    name: find("bdi"), owner: find(".owner"), code: find("code"), copy: find(".copy"), created: find(".created time"),
    used: find(".used time"), usedSecret: find(".used-secret"), overlap: find(".overlap"), suspended: find(".suspended"),
  });
  row.code.textContent = record.key;
  row.copy.onclick = async () => {
    const copied = await copy(row.code, row.copy);
    notify(copied ? "The key is in the clipboard." : "The key is selected: copy it with Ctrl+C.");
  };
  row.more.onclick = () => openMenu(row, row.record.name);
  return row;
}

function fill(row) {
  const { name, active, suspended, created, last_used, last_used_secret: used, previous_valid_until: until } = row.record;
  const who = account === everybody ? `${name} of ${row.record.account}` : name;
  row.name.textContent = name;
  row.owner.textContent = row.record.account;
  row.element.classList.toggle("off", !active || Boolean(suspended));
  row.copy.setAttribute("aria-label", `Copy key of ${who}`);
  row.switch.setAttribute("aria-label", `${who} active`);
  row.more.setAttribute("aria-label", `Actions for ${who}`);
  row.suspended.hidden = !suspended;
  row.usedSecret.hidden = !until || !used;
  row.usedSecret.textContent = used === "previous" ? "with the old secret" : "with the new secret";
  showDate(row.created, created);
  showAge(row.used, last_used);
  showOverlap(row.overlap, until);
  showState(row);
}

/** Says until when the old secret works, where it does. */
export function showOverlap(element, until) {
  element.hidden = !until;
  if (until) showMoment(element.querySelector("time"), until);
}

function remove(key) {
  rows.get(key)?.element.remove();
  rows.delete(key);
}

/** Shows what a change made from this page has led to. */
export function changed(record) {
  changes++;
  if (![record.account, everybody].includes(account)) etag = ""; // shown in a list that is not its own, until that is read again
  const row = place(record);
  showCount();
  return row;
}

export const recordOf = (key) => rows.get(key)?.record;

/** Changes a key, unless somebody else has since it was shown. */
export function patch({ key, version }, body) {
  return call("PATCH", `/keys/${key}`, { body, headers: { "If-Match": `"${version}"` } });
}

export async function readAgain() {
  etag = "";
  await refreshKeys().catch(() => {}); // the next one will
}

/** Brings the list up to date when a refusal shows that it was not. Returns what to tell. */
export async function explain(refusal, record) {
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

/** What the rows of keys have of their own. */
const kind = {
  patch, changed, explain,
  nameOf: ({ name }) => name,
  on: { now: "Switching on…", done: "On", outcome: "is on", failed: "switched on", state: "Active" },
  off: { now: "Switching off…", done: "Off", outcome: "is off", failed: "switched off", state: "Inactive" },
};

// Add

let operation = ""; // of a creation of which the outcome is not known

async function add() {
  const button = $("add");
  if (button.ariaBusy === "true") return;
  button.ariaBusy = "true";
  operation ||= Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("-");
  try {
    const { clientLine, showSecret } = await load("dialogs");
    const creation = call("POST", "/keys", { body: { account }, headers: { "Idempotency-Key": operation } });
    const [{ json }, { proxy }] = await Promise.all([creation, presence()]);
    operation = "";
    const { secret, replayed, ...record } = json;
    const row = changed(record);
    row.element.classList.add("new");
    if (replayed) notify(`“${record.name}” was added, but its secret was lost on the way. Delete it, and add another.`, { bad: true });
    else showSecret({ ...record, secret, ...clientLine(record.key, secret, proxy) }, {
      title: "Your new key",
      text: "is active. Give its key and its secret to your client.",
      next: () => $("add").disabled && row.more.focus(),
    });
  } catch (refusal) {
    if (!refusal.unsure) operation = "";
    if (["account_inactive", "key_limit_reached"].includes(refusal.code)) await readAgain();
    etag = "";
    notify(`The key could not be added. ${refusal.message}`, { bad: true, action: add });
  } finally {
    button.ariaBusy = null;
  }
}

/** Takes away the row of a key that there is no more. Returns what moves the focus on. */
export function gone(row, next = neighbour(row)) {
  changes++;
  remove(row.record.key);
  showCount();
  return () => next.focus();
}

/** Returns what to focus when a row has gone. */
export function neighbour(row, otherwise = $("add")) {
  const beside = row.element.nextElementSibling ?? row.element.previousElementSibling;
  return beside?.querySelector(".more") ?? otherwise;
}

// What rows of all lists have

/** Returns what every row has. Its kind is what the rows of its list have of their own: how they change, and the words for it. */
export function newParts(element, kind, record) {
  const find = (selector) => element.querySelector(selector);
  const row = { kind, record, element, switch: find(".switch"), word: find(".state-word"), receipt: find(".receipt"), more: find(".more") };
  row.switch.onclick = () => flip(row, !row.record.active);
  return row;
}

/** Gives a row another record, whose receipt it has not seen. */
export function showRecord(row, record) {
  if (row.record.version !== record.version) row.receipt.textContent = "";
  row.record = record;
}

export function showState(row) {
  const { record: { active }, kind } = row;
  if (row.switch.ariaBusy !== "true") showActive(row, active, (active ? kind.on : kind.off).state);
}

function showActive(row, active, word) {
  row.switch.ariaChecked = String(active);
  row.word.textContent = word;
}

/** Switches what a row is about on or off: pending at first, then the receipt; back, with a message, when it failed. */
async function flip(row, active) {
  if (row.switch.ariaBusy === "true") return;
  const { record, kind } = row;
  const words = active ? kind.on : kind.off;
  row.switch.ariaBusy = "true";
  row.receipt.textContent = "";
  showActive(row, active, words.now);
  try {
    const { json } = await kind.patch(record, { active });
    row.switch.ariaBusy = null;
    kind.changed(json);
    tellReceipt(row, json, words.done, `“${kind.nameOf(json)}” ${words.outcome}`);
  } catch (refusal) {
    row.switch.ariaBusy = null;
    showState(row);
    const text = await kind.explain(refusal, record);
    const again = row.element.isConnected && row.record.active !== active;
    notify(`“${kind.nameOf(record)}” could not be ${words.failed}. ${text}`, { bad: true, action: again && (() => flip(row, active)) });
  }
}

const lists = new Intl.ListFormat("en-GB");

/** Returns what a change still waits for; empty: it is effective everywhere. */
function waitsFor({ pending = [], replicas }) {
  const names = pending.map(({ proxy, effective_by: by }) => by ? `${proxy} until ${clockTime(by)}` : proxy);
  if (replicas) names.push(`${replicas.want - replicas.have} of ${replicas.want} replicas of the store`);
  return lists.format(names);
}

/** Says how far a change has reached: in a word or two on the row, in a sentence at the foot of the page. */
export function tellReceipt(row, receipt, words, sentence) {
  const waits = waitsFor(receipt);
  row.receipt.textContent = waits ? `Pending: ${waits}` : `${words} everywhere`;
  row.receipt.title = waits;
  notifyReach(receipt, sentence);
}

export function notifyReach(receipt, sentence) {
  notify(reach(receipt, sentence), { stays: waitsFor(receipt) !== "" });
}

/** Completes a sentence about a change by how far it has reached. */
export function reach(receipt, sentence) {
  const waits = waitsFor(receipt);
  return waits ? `${sentence}. Still pending: ${waits}.` : `${sentence} everywhere.`;
}

/** Gives a menu its items' work, by their ids. Returns what aims it at a row before the button of that opens it. */
export function makeMenu(menu, work) {
  let chosen; // the row that it is about
  menu.onkeydown = menuKeys;
  menu.ontoggle = ({ newState }) => {
    if (newState === "open") menu.querySelector("[role=menuitem]").focus();
  };
  for (const [id, act] of Object.entries(work)) {
    $(id).onclick = () => {
      menu.hidePopover();
      act(chosen);
    };
  }
  return (row, name) => {
    chosen = row;
    menu.setAttribute("aria-label", `Actions for ${name}`);
    aim(menu, row.more);
  };
}

const menuHeight = 176; // px, at most

/** Puts a menu under a button, or above it at the foot of the window. */
function aim(menu, element) {
  const button = element.getBoundingClientRect();
  const { clientWidth, clientHeight } = document.documentElement;
  const below = button.bottom + menuHeight < clientHeight;
  menu.style.right = `${clientWidth - button.right}px`;
  menu.style.top = below ? `${scrollY + button.bottom}px` : "auto";
  menu.style.bottom = below ? "auto" : `${clientHeight - scrollY - button.top}px`;
}

function menuKeys(event) {
  const menu = event.currentTarget;
  const items = [...menu.querySelectorAll("[role=menuitem]:not([hidden])")];
  const at = items.indexOf(document.activeElement);
  const step = { ArrowDown: at + 1, ArrowUp: at - 1 + items.length, Home: 0, End: items.length - 1 }[event.key];
  if (step !== undefined) {
    event.preventDefault();
    items[step % items.length].focus();
  } else if (event.key === "Tab") {
    menu.hidePopover(); // and on from the button
  }
}

// The page

/** Does something with a module as soon as it is loaded, or says that it cannot be. */
export async function using(loading, use) {
  try {
    await loading;
  } catch (refusal) {
    notify(refusal.message, { bad: true });
    return;
  }
  use(await loading);
}

const act = (action, row) => using(load("actions"), (actions) => actions[action](row));

const aimKeyMenu = makeMenu($("menu"), {
  "menu-rename": (row) => act("rename", row),
  "menu-rotate": (row) => act("rotate", row),
  "menu-end": (row) => act("confirmEnd", row),
  "menu-delete": (row) => act("confirmDelete", row),
});

function openMenu(row, name) {
  load("actions").catch(() => {}); // tried again when an action is chosen
  $("menu-end").hidden = !row.record.previous_valid_until;
  aimKeyMenu(row, name);
}

$("add").onclick = add;
$("choose-account").onclick = () => using(loadForAdministrator("chooser"), ({ chooseAccount }) => chooseAccount(account));
startPage(refreshKeys);
