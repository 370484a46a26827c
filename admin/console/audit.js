// The view of the audit trail, for administrators: the newest entries first.

import { $, call, copy, momentOf, notify, showTime } from "./page.js";

const batch = 50; // entries
let newest = 0; // the numbers of the entries that are shown
let oldest = 1;

/** Reads what is new. */
export async function refresh() {
  if (!newest) return start();
  const { json } = await page(newest, 2 * batch);
  if (json.head.number < newest) return start(); // another trail: a restored store
  add(json);
}

/** Shows the newest entries. */
async function start() {
  const { json: { head, anchor } } = await page(0, 1);
  const after = Math.max(anchor.number, head.number - batch);
  const { json } = await page(after, batch);
  $("entries").replaceChildren();
  [newest, oldest] = [after, after + 1];
  add(json);
  $("audit-state").hidden = newest > 0;
  $("audit-state").textContent = "Nothing has been changed yet.";
}

function page(after, limit) {
  return call("GET", `/audit?after=${after}&limit=${limit}`);
}

/** Shows entries that follow those that are there, above them. */
function add({ entries, head, anchor }) {
  $("entries").prepend(...entries.map(entryRow).reverse());
  newest = entries.at(-1)?.entry.number ?? newest;
  $("audit-state").hidden = newest > 0;
  $("audit-head").hidden = newest === 0;
  $("audit-head").querySelector("code").textContent = `${head.number}:${head.hash}`;
  showOlder(anchor);
}

function showOlder(anchor) {
  $("load-older").hidden = oldest <= anchor.number + 1;
}

async function loadOlder() {
  const button = $("load-older");
  if (button.ariaBusy === "true") return;
  button.ariaBusy = "true";
  try {
    const after = Math.max(0, oldest - 1 - batch);
    const { json } = await page(after, oldest - 1 - after);
    const older = json.entries.filter(({ entry }) => entry.number < oldest).map(entryRow).reverse();
    $("entries").append(...older);
    oldest = json.entries[0]?.entry.number ?? oldest;
    showOlder(older.length ? json.anchor : { number: oldest });
    older[0]?.focus();
  } catch (refusal) {
    notify(`The older entries cannot be shown. ${refusal.message}`, { bad: true, action: loadOlder });
  } finally {
    button.ariaBusy = null;
  }
}

const actions = {
  "key.create": "Key created", "key.update": "Key changed", "key.rotate": "Secret rotated", "key.delete": "Key deleted",
  "account.create": "Account created", "account.update": "Account changed", "account.delete": "Account deleted",
  "token.create": "Token created", "token.delete": "Token revoked",
};

function entryRow({ entry }) {
  const element = $("entry").content.firstElementChild.cloneNode(true);
  const find = (selector) => element.querySelector(selector);
  const [who, token] = find(".who").querySelectorAll("span:last-of-type, code");
  element.tabIndex = -1;
  if (!entry.action) { // not as Keystile writes them: somebody has edited it
    find(".what p").append(text("strong", "Entry that cannot be read: run keystile audit verify"));
    return element;
  }
  const { action, account, subject, before, after, keys } = entry;
  showTime(find("time"), entry.time);
  who.textContent = whoIs(entry.principal);
  token.textContent = entry.token ? `kac_${entry.token}_…` : "";
  find(".what p").append(text("strong", actions[action] ?? action), " ", text("bdi", (after ?? before)?.name ?? ""), " in ", text("bdi", account));
  if (action.startsWith("account.")) find(".what p").replaceChildren(text("strong", actions[action] ?? action), " ", text("bdi", account));
  find(".what code").textContent = action.startsWith("token.") ? `kac_${subject}_…` : subject ?? "";
  find(".what").append(...differences(before, after), ...(keys ?? []).map((key) => text("code", key)));
  find(".from span:last-child").textContent = (entry.peer ?? "this machine").replace(/:\d+$/, "");
  find(".version span:last-child").textContent = entry.version;
  return element;
}

function whoIs(principal) {
  const names = { administrator: "Administrator", keystile: "Keystile" };
  return names[principal] ?? principal.replace(/^account:/, "");
}

function text(tag, content) {
  return Object.assign(document.createElement(tag), { textContent: content });
}

// What is said of each member of a state, and how.
const members = {
  name: ["Name", (name) => name ? `“${name}”` : "none"],
  active: ["Active", (active) => active ? "yes" : "no"],
  limit: ["Limit", (limit) => limit || "default"],
  rate: ["Rate", (rate) => rate ? `${rate.per_second} a second, ${rate.burst} at once` : "default"],
  previous_valid_until: ["Old secret", (until, after) => until ? `until ${momentOf(until)}` : after ? "ended" : "none"],
};

/** Returns a line for each member in which two states differ. */
function differences(before, after) {
  if (!before || !after) return [];
  return Object.entries(members)
    .filter(([member]) => JSON.stringify(before[member]) !== JSON.stringify(after[member]))
    .map(([member, [word, say]]) => {
      const line = text("p", `${word}: `);
      line.className = "difference";
      line.append(text("bdi", say(before[member])), " → ", text("bdi", say(after[member], true)));
      return line;
    });
}

$("load-older").onclick = loadOlder;
$("audit-head").querySelector("button").onclick = async ({ currentTarget: button }) => {
  const copied = await copy($("audit-head").querySelector("code"), button);
  notify(copied ? "The newest hash is in the clipboard." : "The hash is selected: copy it with Ctrl+C.");
};
