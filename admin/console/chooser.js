// The account chooser above the list of keys, for administrators.

import { $, call } from "./page.js";

const shownAtMost = 100; // options; the rest is found by typing
const everybody = { account: "*", name: "All accounts" };
let accounts = [];
let present; // whose keys are listed
let active = 0; // the option that Enter chooses

/** Opens the chooser under its button. */
export async function chooseAccount(account) {
  const button = $("choose-account");
  const { left, right, bottom } = button.getBoundingClientRect();
  const { clientWidth } = document.documentElement;
  present = account;
  $("account-search").value = "";
  $("chooser").style.top = `${scrollY + bottom}px`;
  $("chooser").style.left = `${Math.max(8, Math.min(left, clientWidth - 328))}px`;
  $("chooser").style.minWidth = `${right - left}px`;
  $("chooser").showPopover({ source: button });
  $("account-search").focus();
  show();
  try {
    const { json } = await call("GET", "/accounts");
    accounts = json.accounts;
    show();
  } catch ({ message }) {
    $("account-search-state").textContent = message;
  }
}

/** Shows the accounts that have what was typed in their id or name. */
function show() {
  const typed = $("account-search").value.trim().toLowerCase();
  const found = [everybody, ...accounts].filter(({ account, name = "" }) => `${account}\n${name}`.toLowerCase().includes(typed));
  const options = found.slice(0, shownAtMost).map(option);
  $("account-options").replaceChildren(...options);
  $("account-options").hidden = options.length === 0;
  const more = found.length - options.length;
  $("account-search-state").textContent = more ? `${more} more: type to find them` : found.length ? "" : "No account has this in its id or name.";
  activate(Math.max(0, typed ? 0 : found.findIndex(({ account }) => account === present)));
}

function option({ account, name, active = true }, at) {
  const element = document.createElement("li");
  const title = document.createElement("bdi");
  const more = document.createElement("bdi");
  const all = account === everybody.account;
  title.textContent = all ? name : account;
  more.textContent = all ? "" : [name, !active && "suspended"].filter(Boolean).join(" · ");
  more.className = "muted";
  element.append(title, more);
  element.id = `account-option-${at}`;
  element.role = "option";
  element.ariaSelected = String(account === present);
  element.dataset.account = account;
  element.onclick = () => choose(element);
  element.onpointermove = () => activate(at);
  return element;
}

function activate(at) {
  const options = $("account-options").children;
  active = at;
  for (const element of options) element.classList.toggle("active", element === options[at]);
  $("account-search").setAttribute("aria-activedescendant", options[at]?.id ?? "");
  options[at]?.scrollIntoView({ block: "nearest" });
}

function choose(element) {
  if (!element) return;
  location.hash = `#keys/${element.dataset.account}`;
  $("chooser").hidePopover();
  $("choose-account").focus();
}

function onKey(event) {
  const { children: options, childElementCount: count } = $("account-options");
  const step = { ArrowDown: active + 1, ArrowUp: active - 1 + count }[event.key];
  if (event.key === "Tab") $("chooser").hidePopover();
  if (step === undefined && event.key !== "Enter") return;
  event.preventDefault();
  if (event.key === "Enter") choose(options[active]);
  else if (count) activate(step % count);
}

$("account-search").oninput = show;
$("account-search").onkeydown = onKey;
