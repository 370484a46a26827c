// Has two windows and two command lines change the same keys at once for SECONDS, each by what a person does there, and
// compares what each was told with what became of the keys.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { admin, api, listed, open, row, signIn, token } from "./browser.mjs";
import { withBrowser } from "./launch.mjs";

const names = ["Shop", "App", "Photos", "Voice", "Search", "Export"];
const pick = (list) => list[Math.floor(Math.random() * list.length)];

/** Notes the changes that the page asks for and what is answered, and says what the page shows. */
function note() {
  window.state = () => [...document.querySelectorAll("#keys > li")].map((row) => [
    row.querySelector("code").textContent, row.querySelector("bdi").textContent, row.querySelector(".switch").ariaChecked,
  ]);
  window.calls = [];
  const real = window.fetch;
  window.fetch = async (path, options) => {
    const response = await real(path, options);
    const { method = "GET", headers } = options ?? {};
    if (method !== "GET" && path.startsWith("/api/v1/keys")) {
      window.calls.push({ method, ifMatch: headers["If-Match"], status: response.status, reply: await response.clone().json() });
    }
    return response;
  };
}

/** Makes one change in a window after the other. Returns what the window told of each. */
async function useWindow({ names, until }) {
  const $ = (id) => document.getElementById(id);
  const pick = (list) => list[Math.floor(Math.random() * list.length)];
  const shown = (find) => new Promise((resolve) => {
    const observer = new MutationObserver(look);
    function look() {
      const found = find();
      if (!found) return;
      observer.disconnect();
      resolve(found);
    }
    observer.observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
    look();
  });
  const told = (known, error) => {
    const notice = [...document.querySelectorAll(".notice")].find((notice) => !known.has(notice) && !notice.textContent.includes("may be out of date"));
    return notice?.querySelector("p").textContent || (error && $(error).textContent) || ($("added").open && "added");
  };
  /** Does something that leads to a result, and returns the result. */
  const result = (act, error) => {
    const known = new Set(document.querySelectorAll(".notice"));
    act();
    return shown(() => told(known, error));
  };
  const menu = async (row, item, dialog) => {
    row.querySelector(".more").click();
    $(item).click();
    await shown(() => $(dialog).open);
  };
  const send = async (dialog, error) => {
    const text = await result(() => $(dialog).querySelector("form").requestSubmit(), error);
    await shown(() => $(dialog).querySelector(".primary").ariaBusy !== "true");
    if ($(dialog).open) $(dialog).close(); // this person gives up
    return text;
  };
  const acts = {
    switch: (row) => result(() => row.querySelector(".switch").click()),
    async rename(row) {
      await menu(row, "menu-rename", "rename");
      $("name").value = pick(names.filter((name) => name !== $("name").value));
      return send("rename", "name-error");
    },
    async delete(row) {
      await menu(row, "menu-delete", "confirm");
      return send("confirm", "confirm-error");
    },
    async add() {
      const text = await result(() => $("add").click());
      await shown(() => $("add").ariaBusy !== "true");
      if ($("added").open) {
        $("saved").click();
        $("done").click();
        await shown(() => !$("added-secret").textContent);
      }
      return text;
    },
  };
  const results = [];
  while (Date.now() < until) {
    const rows = [...document.querySelectorAll("#keys > li")];
    const kind = rows.length < 3 ? "add" : pick(["switch", "switch", "switch", "rename", "rename", "rename", "delete", "add"]);
    if (kind === "add" && $("add").disabled) continue;
    results.push({ kind, text: await acts[kind](pick(rows)) });
    for (const notice of document.querySelectorAll(".notice")) notice.querySelector("[aria-label=Dismiss]").click();
  }
  return results;
}

/** Runs keystile. Returns whether it did what it was told, and what it said. */
function run(...args) {
  const env = { KEYSTILE_ADMIN_ADDRESS: admin, KEYSTILE_ADMIN_TOKEN: token };
  return new Promise((resolve) => {
    execFile(process.env.KEYSTILE, ["keys", ...args], { env }, (error, stdout, stderr) => resolve({ done: !error, text: stderr, stdout }));
  });
}

/** Makes one change by command after the other. Returns what each said. */
async function useCommands(until) {
  const results = [];
  for (let keys = await listed(); Date.now() < until; keys = await listed()) {
    const key = pick(keys)?.key;
    const args = keys.length < 3 ? ["create"] : pick([
      ["disable", key], ["enable", key], ["rename", key, pick(names)], ["rename", key, pick(names)], ["rename", key, pick(names)],
      ["delete", key, "--yes"], ["create"],
    ]);
    results.push({ kind: args[0], ...await run(...args, "-o", "json") });
  }
  return results;
}

const refusals = [
  ["changed", /changed elsewhere in the meantime|somebody has just changed the key/],
  ["deleted", /deleted elsewhere in the meantime|there is no such key/],
  ["taken", /[Aa]nother key has this name/],
  ["full", /has all the (\d+ )?keys it may have/],
];

/** Says why a change was refused, by what its person read. */
function why({ kind, text }) {
  const found = refusals.find(([, words]) => words.test(text));
  assert.ok(found, `${kind}: a person reads only ${text}`);
  return found[0];
}

await withBrowser(async (context) => {
  await context.addInitScript(note);
  for (const name of names.slice(0, 4)) await api("POST", "/keys", { name });
  const version = async () => Math.max(...(await api("GET", "/proxies")).proxies.map(({ applied }) => applied));
  const first = await version();
  const windows = [await open(context)];
  await signIn(windows[0]);
  windows.push(await open(context));
  for (const page of windows) await row(page, "Voice").waitFor();

  const until = Date.now() + process.env.SECONDS * 1_000;
  const work = [...windows.map((page) => page.evaluate(useWindow, { names, until })), useCommands(until), useCommands(until)];
  const results = await Promise.all(work);
  const changes = []; // that were acknowledged: of which key, over which version, to which
  const refused = {};
  for (const [i, page] of windows.entries()) {
    const calls = await page.evaluate(() => window.calls);
    assert.equal(calls.length, results[i].length, "a call has told nothing, or a result has no call");
    calls.forEach(({ method, ifMatch, status, reply }, n) => {
      const { kind, text } = results[i][n];
      const done = /everywhere\.$|^“.*” is now “|^added$/.test(text);
      assert.equal(status < 300, done, `${kind} was answered ${status}, and a person reads ${text}`);
      assert.ok(ifMatch || method === "POST", `${kind} would overwrite what it has not seen`);
      if (done) changes.push({ key: reply.key, over: Number(ifMatch?.replaceAll('"', "")), reply });
      else refused[why(results[i][n])] = (refused[why(results[i][n])] ?? 0) + 1;
    });
  }
  for (const result of results.slice(2).flat()) {
    if (result.done) changes.push({ key: JSON.parse(result.stdout).key, reply: JSON.parse(result.stdout) });
    else refused[why(result)] = (refused[why(result)] ?? 0) + 1;
  }

  // Nothing was overwritten unseen, and the last that was acknowledged of each key is what there is.
  for (const { key, over, reply } of changes) {
    const between = changes.filter((other) => other.key === key && other.reply.version > over && other.reply.version < reply.version);
    assert.deepEqual(between, [], "a window has overwritten a change that it had not seen");
  }
  const versions = new Set(changes.map(({ reply }) => reply.version).filter((version) => version > first)); // some changed nothing
  assert.equal(await version() - first, versions.size, "changes that nobody was told of, or that have gone");
  const records = await listed();
  for (const key of new Set(changes.map(({ key }) => key))) {
    const { reply } = changes.filter((change) => change.key === key).reduce((a, b) => (a.reply.version > b.reply.version ? a : b));
    const record = records.find((record) => record.key === key);
    assert.deepEqual(record && [record.name, record.active, record.version], "name" in reply ? [reply.name, reply.active, reply.version] : undefined);
  }
  const state = records.map(({ key, name, active }) => [key, name, String(active)]);
  for (const page of windows) {
    const isShown = page.waitForFunction((state) => JSON.stringify(state) === JSON.stringify(window.state()), state);
    await isShown.catch(async () => assert.deepEqual(await page.evaluate(() => window.state()), state));
    assert.deepEqual(page.faults, []);
  }
  console.log(JSON.stringify({ by: results.map(({ length }) => length), accepted: changes.length, refused }));
});
