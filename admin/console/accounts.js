// The view of the accounts, for administrators: create, rename, change the limit, suspend, delete.

import { $, call, load, notify, showDate, submits } from "./page.js";
import { askName, confirmChange } from "./dialogs.js";
import { makeMenu, neighbour, newParts, notifyReach, showRecord, showState, using } from "./keys.js";

const rows = new Map(); // by account, in their order
let changes = 0; // made from this page

/** Reads the accounts again. */
export async function refresh() {
  const before = changes;
  const { json } = await call("GET", "/accounts");
  if (before !== changes) return; // it may be older than what is shown
  for (const account of rows.keys()) if (!json.accounts.some((record) => record.account === account)) remove(account);
  json.accounts.forEach(place);
  $("accounts-state").hidden = true;
}

/** Shows an account, in a new row at its place by id where there is none. */
function place(record) {
  let row = rows.get(record.account);
  if (!row) {
    row = newRow(record);
    rows.set(record.account, row);
    const next = [...$("accounts").children].find((element) => element.dataset.account > record.account);
    $("accounts").insertBefore(row.element, next ?? null);
  }
  showRecord(row, record);
  fill(row);
  return row;
}

function newRow(record) {
  const element = $("account-row").content.firstElementChild.cloneNode(true);
  const find = (selector) => element.querySelector(selector);
  const row = Object.assign(newParts(element, kind, record), {
    link: find("a"), name: find("bdi"), limit: find(".limit span:last-child"), created: find("time"),
  });
  element.dataset.account = record.account;
  row.link.textContent = record.account;
  row.link.href = `#keys/${record.account}`;
  row.switch.setAttribute("aria-label", `${record.account} active`);
  row.more.setAttribute("aria-label", `Actions for ${record.account}`);
  row.more.onclick = () => openMenu(row, record.account);
  return row;
}

function fill(row) {
  const { name = "", active, limit, default_limit: isDefault, created } = row.record;
  row.name.textContent = name;
  row.limit.textContent = `${limit === 1 ? "1 key" : `${limit} keys`}${isDefault ? " (default)" : ""}`;
  row.element.classList.toggle("off", !active);
  row.created.parentElement.classList.toggle("unknown", !created); // the default one, as long as nobody has changed it
  if (created) showDate(row.created, created);
  showState(row);
}

function remove(account) {
  rows.get(account)?.element.remove();
  rows.delete(account);
}

function changed(record) {
  changes++;
  return place(record);
}

const path = (account) => `/accounts/${encodeURIComponent(account)}`;

/** Changes an account, unless somebody else has since it was shown. */
function patch({ account, version }, body) {
  return call("PATCH", path(account), { body, headers: { "If-Match": `"${version}"` } });
}

/** Brings the view up to date when a refusal shows that it was not. Returns what to tell. */
async function explain(refusal, { account }) {
  if (["version_mismatch", "account_not_found"].includes(refusal.code)) await refresh().catch(() => {}); // the next one will
  switch (refusal.code) {
    case "version_mismatch":
      return `“${account}” was changed elsewhere in the meantime. The list shows how it is now.`;
    case "account_not_found":
      return `“${account}” was deleted elsewhere in the meantime.`;
    default:
      return refusal.message;
  }
}

/** What the rows of accounts have of their own. */
const kind = {
  patch, changed, explain,
  nameOf: ({ account }) => account,
  on: { now: "Resuming…", done: "Active", outcome: "is active", failed: "made active", state: "Active" },
  off: { now: "Suspending…", done: "Suspended", outcome: "is suspended", failed: "suspended", state: "Suspended" },
};

// Create, rename, change the limit

const fieldsAtFault = {
  account_exists: "new-account-id-error", invalid_account: "new-account-id-error", invalid_name: "new-account-name-error",
};

function create() {
  const dialog = $("new-account");
  submits(dialog, "new-account-id-error", async () => {
    const [account, name] = ["new-account-id", "new-account-name"].map((id) => $(id).value.trim());
    const limit = limitOf("new-account-limit");
    try {
      const { json } = await call("POST", "/accounts", { body: { account, ...name && { name }, ...limit && { limit } } });
      const row = changed(json);
      row.element.classList.add("new");
      notify(`“${account}” is created. Make a token for it, or open it to add keys.`);
      return () => row.more.focus();
    } catch (refusal) {
      refusal.at = fieldsAtFault[refusal.code];
      throw refusal;
    }
  });
  dialog.querySelector("form").reset();
  dialog.showModal();
}

/** Returns the limit in a field; null: empty, which stands for the default. Throws what is to be said of another text. */
function limitOf(id) {
  const text = $(id).value.trim();
  if (!text) return null;
  const limit = Number(text);
  if (Number.isInteger(limit) && limit >= 1 && limit <= 1000) return limit;
  throw Object.assign(new Error("Give a whole number from 1 to 1000, or leave it empty."), { at: `${id}-error` });
}

/** Gives a dialog about a row its work, which changes the account as it was when the dialog opened. */
function changing(row, work) {
  let { record } = row;
  return async (...input) => {
    try {
      await work(record, ...input);
    } catch (refusal) {
      if (refusal.code) refusal.message = await explain(refusal, record);
      record = row.record;
      throw refusal;
    }
    return () => row.more.focus();
  };
}

function rename(row) {
  const work = changing(row, async (record, name) => {
    const { json } = await patch(record, { name });
    changed(json);
    notify(json.name ? `“${json.account}” is now named “${json.name}”.` : `“${json.account}” has no name any more.`);
  });
  askName(`Rename account ${row.record.account}`, row.record.name ?? "", work, true);
}

function changeLimit(row) {
  const dialog = $("account-limit");
  submits(dialog, "limit-error", changing(row, async (record) => {
    const { json } = await patch(record, { limit: limitOf("limit") });
    changed(json);
    notifyReach(json, `The limit of “${json.account}” is now ${json.limit}`);
  }));
  dialog.querySelector("bdi").textContent = row.record.account;
  $("limit").value = row.record.default_limit ? "" : row.record.limit;
  dialog.showModal();
  $("limit").select();
}

// Delete

/** Asks before an account is deleted, with its keys where it has some. */
async function confirmDelete(row) {
  let { record } = row;
  const { account } = record;
  const count = async () => (await call("GET", `/keys?account=${encodeURIComponent(account)}`)).json.keys.length;
  const words = (keys) => keys ? `Delete with its ${keys === 1 ? "1 key" : `${keys} keys`}` : "Delete";
  let keys;
  try {
    keys = await count();
  } catch (refusal) {
    notify(`“${account}” cannot be deleted now. ${refusal.message}`, { bad: true, action: () => confirmDelete(row) });
    return;
  }
  confirmChange({
    title: "Delete the account", name: account, word: words(keys),
    text: keys ? "Its tokens and keys are deleted with it. Clients that use these keys will be refused." : "Its tokens are deleted with it.",
  }, async () => {
    const next = neighbour(row, $("create-account"));
    try {
      const { json } = await call("DELETE", path(account) + (keys ? "?with_keys=true" : ""), { headers: { "If-Match": `"${record.version}"` } });
      changes++;
      notifyReach(json, `“${account}” is deleted`);
    } catch (refusal) {
      if (refusal.code === "account_has_keys") refusal.word = words(keys = await count());
      refusal.message = await explain(refusal, record);
      record = row.record;
      if (refusal.code !== "account_not_found") throw refusal;
      notify(refusal.message);
    }
    remove(account);
    return () => next.focus();
  });
}

const aimAccountMenu = makeMenu($("account-menu"), {
  "menu-account-rename": rename,
  "menu-account-limit": changeLimit,
  "menu-account-tokens": (row) => using(load("tokens"), ({ showTokens }) => showTokens(row.record.account)),
  "menu-account-delete": confirmDelete,
});

function openMenu(row, account) {
  $("menu-account-delete").hidden = account === "default"; // it is always there
  aimAccountMenu(row, account);
}

$("create-account").onclick = create;
