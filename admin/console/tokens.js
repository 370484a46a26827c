// The tokens of an account, for administrators.

import { $, call, notify, showDate, submits } from "./page.js";
import { confirmChange, showSecret } from "./dialogs.js";
import { notifyReach } from "./keys.js";

let account; // whose tokens the dialog shows

const path = () => `/accounts/${encodeURIComponent(account)}/tokens`;

/** Opens the dialog with the tokens of an account. */
export function showTokens(whose) {
  const dialog = $("tokens");
  account = whose;
  dialog.querySelector("h2 bdi").textContent = account;
  $("token-list").replaceChildren();
  submits(dialog, "token-name-error", create, { stays: true });
  dialog.querySelector("form").reset();
  dialog.showModal();
  return list();
}

async function list() {
  $("tokens-state").textContent = "Loading…";
  try {
    const { json } = await call("GET", path());
    $("token-list").replaceChildren(...json.tokens.map(tokenRow));
    $("tokens-state").textContent = json.tokens.length ? "" : "No tokens yet: create the first one, and give it to whoever is to manage this account’s keys.";
  } catch ({ message }) {
    $("tokens-state").textContent = message;
  }
}

function tokenRow(token) {
  const element = $("token-row").content.firstElementChild.cloneNode(true);
  const button = element.querySelector("button");
  element.querySelector("bdi").textContent = token.name ?? "";
  element.querySelector("code").textContent = `kac_${token.id}_…`;
  showDate(element.querySelector("time"), token.created);
  button.setAttribute("aria-label", `Revoke ${nameOf(token)}`);
  button.onclick = () => confirmRevoke(token);
  return element;
}

const nameOf = ({ id, name }) => name || `kac_${id}_…`;

async function create() {
  const name = $("token-name").value.trim();
  const { json } = await call("POST", path(), { body: name ? { name } : {} });
  $("token-name").value = "";
  await list();
  return () => showSecret({
    name: nameOf(json), secret: json.token,
    line: `curl ${location.origin}/api/v1/keys \\\n  -H 'Authorization: Bearer ${json.token}'`,
    hint: "It lists the keys of the account.",
  }, {
    title: "Your new token", what: "token",
    text: `manages the keys of “${account}”. Give it to whoever is to do so.`,
    next: () => $("token-name").focus(),
  });
}

function confirmRevoke(token) {
  confirmChange({
    title: "Revoke the token", name: nameOf(token), word: "Revoke",
    text: "Whoever uses it is refused and signed out at once.",
  }, async () => {
    try {
      const { json } = await call("DELETE", `${path()}/${token.id}`);
      notifyReach(json, `The token “${nameOf(token)}” is revoked`);
    } catch (refusal) {
      if (refusal.code !== "token_not_found") throw refusal;
      notify("The token was revoked elsewhere in the meantime.");
    }
    await list();
    return () => $("token-name").focus();
  });
}
