// What the menu of a key offers: rename, rotate, end the old secret, delete.

import { $, call, momentOf, notify, presence, submits } from "./page.js";
import { askName, clientLine, confirmChange, showSecret } from "./dialogs.js";
import { changed, explain, gone, neighbour, notifyReach, patch, reach, readAgain, recordOf, showOverlap, tellReceipt } from "./keys.js";

export function rename(row) {
  let { record } = row; // as it was when the dialog opened: what others change is not overwritten unseen
  askName("Rename key", record.name, async (name) => {
    try {
      const { json } = await patch(record, { name });
      changed(json);
      notify(`“${record.name}” is now “${json.name}”.`);
    } catch (refusal) {
      refusal.message = await explain(refusal, record);
      record = row.record;
      throw refusal;
    }
    return () => row.more.focus();
  });
}

/** Asks before a change of a key that cannot be undone. */
function confirmKey(row, words, change) {
  let { record } = row;
  confirmChange({ name: record.name, code: record.key, end: "will be refused.", ...words }, async () => {
    const next = neighbour(row);
    try {
      return await change(record);
    } catch (refusal) {
      refusal.message = await explain(refusal, record);
      record = row.record;
      if (refusal.code !== "key_not_found") throw refusal;
      notify(refusal.message);
      return gone(row, next);
    }
  });
}

export function confirmDelete(row) {
  confirmKey(row, { title: "Delete", text: "Clients that use", word: "Delete" }, async ({ key, name, version }) => {
    const { json } = await call("DELETE", `/keys/${key}`, { headers: { "If-Match": `"${version}"` } });
    notifyReach(json, `“${name}” is deleted`);
    return gone(row);
  });
}

export function confirmEnd(row) {
  const words = {
    title: "End the old secret of",
    text: "The present secret goes on, but requests with the old one of",
    word: "End old secret",
  };
  confirmKey(row, words, async (record) => {
    const { json } = await patch(record, { previous_secret: null });
    changed(json);
    tellReceipt(row, json, "Ended", `The old secret of “${json.name}” has ended`);
  });
}

/** Asks how long the old secret is to go on, rotates, and shows the new one. */
export function rotate(row) {
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
  const now = recordOf(key);
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
  showSecret({ ...record, secret, ...clientLine(record.key, secret, proxy) }, {
    title: "Your new secret",
    text: `has a new secret: give it to your client. ${reach(record, effect)}${old}`,
    next: () => row.more.focus(),
  });
}
