// Shows the console a store whose keys have the names in the file NAMES, which try to be more than text.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { admin, listed, open, signIn } from "./browser.mjs";
import { withBrowser } from "./launch.mjs";

const stored = JSON.parse(readFileSync(process.env.NAMES));

/** Notes in the page what a name that is more than text would do. */
function guard() {
  window.violations = [];
  document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => window.violations.push(`${violatedDirective} ${blockedURI}`));
}

const some = (all) => all.filter((_, i) => i % 8 === 0); // with these is done what takes long

/** Returns the names that the rows show, and the dialogs that can be opened for some, in the order of the rows. */
async function shownNames() {
  const some = (all) => all.filter((_, i) => i % 8 === 0);
  const text = (selector) => document.querySelector(selector).textContent;
  const rows = [...document.querySelectorAll("#keys > li")];
  const opened = async (row, item, id, read) => {
    const dialog = document.getElementById(id);
    row.querySelector(".more").click();
    document.getElementById(item).click();
    while (!dialog.open) await new Promise(requestAnimationFrame); // its module may have to be loaded
    const name = read();
    dialog.close();
    return name;
  };
  const openedEach = async (rows, ...how) => {
    const names = [];
    for (const row of rows) names.push(await opened(row, ...how));
    return names;
  };
  const label = (row, selector, frame) => row.querySelector(selector).getAttribute("aria-label").replace(frame, "");
  return {
    row: rows.map((row) => row.querySelector("bdi").textContent),
    switch: rows.map((row) => label(row, ".switch", / active$/)),
    copy: rows.map((row) => label(row, ".copy", /^Copy key of /)),
    more: rows.map((row) => label(row, ".more", /^Actions for /)),
    "delete dialog": await openedEach(some(rows), "menu-delete", "confirm", () => text("#confirm bdi")),
    "rotate dialog": await openedEach(some(rows), "menu-rotate", "rotate", () => text("#rotate-name")),
  };
}

/** Switches off some keys, and returns the results that are told. */
async function switchOff() {
  const results = [];
  for (const row of document.querySelectorAll("#keys > li:nth-child(8n + 1)")) {
    const notices = document.getElementById("notices");
    const told = new Promise((resolve) => {
      const observer = new MutationObserver((records) => {
        const [notice] = records.flatMap(({ addedNodes }) => [...addedNodes]);
        if (!notice) return;
        observer.disconnect();
        resolve(notice.querySelector("p").textContent);
      });
      observer.observe(notices, { childList: true });
    });
    row.querySelector(".switch").click();
    results.push(await told);
  }
  return results;
}

/** Returns of how many elements each row consists, each number once. */
function sizes() {
  const of = (element) => element.querySelectorAll("*").length;
  return [...new Set([document.getElementById("row").content.firstElementChild, ...document.querySelectorAll("#keys > li")].map(of))];
}

await withBrowser(async (context) => {
  const elsewhere = [];
  context.on("request", (request) => request.url().startsWith(`${admin}/`) || /^(data|blob):/.test(request.url()) || elsewhere.push(request.url()));
  await context.addInitScript(guard);
  const page = await open(context);
  await signIn(page);
  await page.waitForFunction((count) => document.querySelectorAll("#keys > li").length === count, stored.length);
  const names = (await listed()).map(({ name }) => name);
  assert.deepEqual(names.toSorted(), stored.toSorted());
  for (const [where, shown] of Object.entries(await page.evaluate(shownNames))) assert.deepEqual(shown, where.endsWith("dialog") ? some(names) : names, where);
  assert.deepEqual(await page.evaluate(switchOff), some(names).map((name) => `“${name}” is off everywhere.`));
  assert.equal((await page.evaluate(sizes)).length, 1, "a name has made elements");
  for (const width of [1280, 320]) {
    await page.setViewportSize({ width, height: 800 });
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(overflow, 0, "a name makes the page wider than its window");
  }
  const left = await page.evaluate(() => [String(window.hostile), String({}.hostile), document.title, Object.keys(Object.prototype), window.violations]);
  assert.deepEqual(left, ["undefined", "undefined", "API keys · Keystile", [], []]);
  assert.deepEqual([page.faults, elsewhere], [[], []]);
  console.log(`${names.length} names: 0 dialogs, 0 reports of the policy, 0 errors, shown as text in the list and the dialogs`);
});
