// What every test of the console does with the browser: start it, sign in, look at the page with axe, and say which
// expectation failed. The server and what to do come from the environment.
import assert from "node:assert/strict";
import { AxeBuilder } from "@axe-core/playwright";
import { chromium } from "playwright-core";

const { ADMIN, TOKEN, CHROMIUM, SIZE, SCHEME, SHOTS } = process.env;
const [width, height] = SIZE.split("x").map(Number);

export const admin = ADMIN;
export const token = TOKEN;

/** Runs a test in a page of its own, and fails on what no page of ours may do. */
export async function run(test) {
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: ["--no-sandbox", "--disable-background-networking"], // containers run as root
  });
  try {
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: SCHEME, reducedMotion: "reduce" });
    context.setDefaultTimeout(20_000);
    await context.grantPermissions(["clipboard-read", "clipboard-write"]);
    const page = await open(context);
    await test(page);
    await whole(page, "end");
    assert.deepEqual(page.faults, []);
  } finally {
    await browser.close();
  }
}

/** Opens another window of the same person. */
export async function open(context) {
  const page = await context.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(`error: ${error.message}`));
  page.on("console", (message) => {
    if (/Content.Security.Policy|Trusted/i.test(message.text())) page.faults.push(message.text());
  });
  page.on("dialog", (dialog) => {
    page.faults.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  await page.goto(`${admin}/`);
  return page;
}

export const tokenField = (page) => page.getByLabel("Token", { exact: true });

/** Signs in: as the administrator, or with the token of an account. */
export async function signIn(page, text = token) {
  await tokenField(page).fill(text);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText(/\d+ of \d+ keys/).waitFor();
}

/** Holds the page against axe and against its window; keeps a picture where one is wanted. */
export async function whole(page, state) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target, failureSummary }) => `${target} ${failureSummary}`).join("; ")}`);
  assert.deepEqual(found, [], `axe in the state ${state}`);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(overflow, 0, `the page is wider than the window in the state ${state}`);
  if (SHOTS) await page.screenshot({ path: `${SHOTS}/${state}-${SIZE}-${SCHEME}.png` });
}

/** Calls the API as a script does, as the administrator or with another token. Returns the status and the JSON. */
export async function api(method, path, body, text = token) {
  const response = await fetch(`${admin}/api/v1${path}`, {
    method,
    headers: { Authorization: `Bearer ${text}`, "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  return { status: response.status, ...(await response.json()) };
}

/** Returns the status of the curl line's call when it is made with a secret. */
export async function answer(curl, secret) {
  const { status } = await fetch(curl.match(/http\S+/)[0], { headers: { Authorization: `Bearer ${secret}` } });
  return status;
}

/** Moves on by Tab until what has this name has the focus. */
export async function tabTo(page, name) {
  for (let i = 0; i < 40; i++) {
    const found = await page.evaluate(() => {
      const { ariaLabel, textContent, labels } = document.activeElement;
      return (ariaLabel ?? labels?.[0]?.textContent ?? textContent).trim().replace(/\s+/g, " ");
    });
    if (found === name) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`Tab does not reach ${name}`);
}

export async function listed() {
  return (await api("GET", "/keys")).keys;
}

export const row = (page, name) => page.getByRole("listitem").filter({ has: page.getByRole("heading", { name, exact: true }) });
export const button = (page, name) => page.getByRole("button", { name, exact: true });
export const result = (page, text) => page.getByRole("log").getByText(text);

/** Opens the menu of a key and chooses an action. */
export async function choose(page, name, action) {
  await button(page, `Actions for ${name}`).click();
  await page.getByRole("menuitem", { name: action }).click();
  await page.locator("dialog[open]").waitFor();
}

/** Adds a key as the guide says, and returns what the dialog shows. */
export async function add(page) {
  await button(page, "Add key").click();
  return shown(page, "Your new key");
}

/** Returns what the dialog with a new secret shows. */
export async function shown(page, title) {
  await page.getByRole("heading", { name: title }).waitFor();
  const [key, secret, curl] = await Promise.all(["#added-key", "#added-secret", "#added-curl"].map((id) => page.locator(id).textContent()));
  return { key, secret, curl };
}

export async function done(page) {
  await page.getByLabel("I have saved the").check(); // secret, or token
  await button(page, "Done").click();
  await page.waitForFunction(() => !document.getElementById("added-secret").textContent);
}

/** Makes the server refuse calls until the returned function is called. */
export async function refuse(page, path, method, status, problem) {
  const handler = (route) => route.request().method() === method
    ? route.fulfill({ status, contentType: "application/problem+json", body: JSON.stringify(problem) })
    : route.fallback();
  await page.route(path, handler);
  return () => page.unroute(path, handler);
}

export const storeDown = [503, { code: "store_unreachable", detail: "the key store cannot be reached" }];
