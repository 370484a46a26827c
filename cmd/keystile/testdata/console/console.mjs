// The tests of the console: node console.mjs NAME. Each starts with a page that nobody has signed in to, and no key.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  add, admin, answer, api, button, choose, done, listed, open, refuse, result, row, run, shown, signIn, storeDown, tabTo, token, tokenField, whole,
} from "./browser.mjs";

const tests = {
  async creatingTheFirstKey(page) {
    await whole(page, "sign-in");
    await signIn(page);
    await page.getByText("No keys yet").waitFor();
    await whole(page, "empty");
    const { key, secret, curl } = await add(page);
    await whole(page, "added");
    assert.match(key, /^kst_[0-9A-Za-z]{22}$/);
    assert.match(secret, new RegExp(`^kss_${key.slice(4)}_[0-9A-Za-z]{49}$`));
    await page.getByText("The secret will not be displayed again.").waitFor();
    for (const [half, text] of [["key", key], ["secret", secret], ["command", curl]]) {
      await button(page, `Copy ${half}`).click();
      await button(page, `Copied ${half}`).waitFor();
      assert.equal(await page.evaluate(() => navigator.clipboard.readText()), text);
    }
    const models = JSON.parse(execFileSync("sh", ["-c", curl.replace("curl ", "curl -s ")]));
    assert.ok(models.data.length, "the curl line does not work as it is shown");
    await done(page);

    const line = row(page, "API key 1");
    await line.getByText(key).waitFor();
    await line.getByText(new Intl.DateTimeFormat("en-GB", { dateStyle: "medium" }).format(new Date())).waitFor();
    await line.getByRole("switch", { name: "API key 1 active", checked: true }).waitFor();
    await button(page, "Actions for API key 1").waitFor();
    assert.ok(!(await page.content()).includes(secret), "the secret is still on the page");
    await page.reload();
    await line.getByText(key).waitFor();
    assert.ok(!(await page.content()).includes(secret), "the secret is displayed again");
  },

  async deletingAKey(page) {
    const { key } = await api("POST", "/keys", { name: "Old" });
    await api("POST", "/keys", { name: "Other" });
    await signIn(page);
    await choose(page, "Old", "Delete");
    const dialog = page.getByRole("alertdialog", { name: "Delete “Old”?" });
    await dialog.getByText("This action cannot be undone.").waitFor();
    await dialog.getByText(key).waitFor();
    await whole(page, "delete");
    await button(page, "Cancel").click();
    assert.equal((await listed()).length, 2, "a cancelled deletion deletes");

    await choose(page, "Old", "Delete");
    const work = await refuse(page, "**/keys/*", "DELETE", ...storeDown);
    await button(page, "Delete").click();
    await dialog.getByText("The key store cannot be reached").waitFor();
    await whole(page, "delete-error");
    await work();
    await button(page, "Try again").click();
    await result(page, "“Old” is deleted everywhere.").waitFor();
    await row(page, "Old").waitFor({ state: "detached" });
    assert.deepEqual((await listed()).map(({ name }) => name), ["Other"]);
    await page.waitForFunction(() => document.activeElement.getAttribute("aria-label") === "Actions for Other");

    await api("POST", "/keys", { name: "Third" });
    await row(page, "Third").waitFor();
    await choose(page, "Other", "Delete");
    await api("DELETE", `/keys/${(await listed())[0].key}`); // somebody else
    await button(page, "Delete").click();
    await result(page, "“Other” was deleted elsewhere in the meantime.").waitFor();
    await page.waitForFunction(() => document.activeElement.getAttribute("aria-label") === "Actions for Third");
  },

  async renamingAKey(page) {
    await api("POST", "/keys", { name: "First" });
    await api("POST", "/keys", { name: "Second" });
    await signIn(page);
    await choose(page, "Second", "Rename");
    const field = page.getByLabel("Name", { exact: true });
    assert.equal(await field.inputValue(), "Second");
    for (const [typed, reply] of [["First", "Another key has this name."], ["x".repeat(65), "64"]]) {
      await field.fill(typed);
      await button(page, "Rename").click();
      await page.getByRole("alert").getByText(reply).waitFor();
      assert.equal(await field.inputValue(), typed, "what was typed is lost");
      assert.equal(await field.getAttribute("aria-invalid"), "true");
    }
    await whole(page, "rename");
    await field.fill("  Build server ");
    await button(page, "Rename").click();
    await row(page, "Build server").waitFor();
    await result(page, "“Second” is now “Build server”.").waitFor();
    assert.deepEqual((await listed()).map(({ name }) => name), ["First", "Build server"]);
  },

  async strangersPageAsksOnlyForTheSession(page) {
    const asked = [];
    page.on("request", (request) => asked.push(new URL(request.url()).pathname));
    await page.reload();
    await page.getByRole("dialog", { name: "Sign in to Keystile" }).waitFor();
    await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange"))); // looks again, if it did
    assert.deepEqual(asked.filter((path) => path.startsWith("/api/")), ["/api/v1/session"]);
    await signIn(page);
    const metrics = await (await fetch(`${admin}/metrics`)).text();
    assert.match(metrics, /^keystile_admin_authentication_failures_total\{reason="missing"\} 0$/m);
  },

  async secretStaysUntilItIsSaved(page) {
    await signIn(page);
    const { secret } = await add(page);
    const dialog = page.getByRole("dialog", { name: "Your new key" });
    for (let i = 0; i < 3; i++) {
      await page.keyboard.press("Escape");
      await page.mouse.click(3, 3);
    }
    assert.ok(await dialog.isVisible(), "it closes by Escape or a click beside it");
    assert.ok(await button(page, "Done").isDisabled(), "Done works before the secret is saved");
    await dialog.getByText(secret, { exact: true }).waitFor();
    await page.evaluate(() => document.getElementById("added").close()); // as a browser may that does not know closedby
    await page.waitForFunction(() => document.getElementById("added").open);
    await page.getByLabel("I have saved the secret").check();
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "hidden" });
  },

  async copyingWorksWithoutTLS(page) {
    await page.addInitScript(() => Object.defineProperty(Navigator.prototype, "clipboard", { value: undefined })); // as on plain http
    await page.reload();
    await signIn(page);
    const { key, secret } = await add(page);
    await button(page, "Copy secret").click();
    await button(page, "Copied secret").waitFor();
    await done(page);
    const pasted = async () => {
      await choose(page, "API key 1", "Rename");
      const field = page.getByLabel("Name", { exact: true });
      await field.press("Control+a");
      await field.press("Control+v");
      const text = await field.inputValue();
      await button(page, "Cancel").click();
      return text;
    };
    assert.equal(await pasted(), secret);
    await button(page, "Copy key of API key 1").click();
    await result(page, "The key is in the clipboard.").waitFor();
    assert.equal(await pasted(), key);
  },

  async addKeyComesBackBelowTheLimit(page) {
    for (let i = 0; i < 9; i++) await api("POST", "/keys", {});
    await signIn(page);
    await add(page);
    await done(page);
    await page.getByText("10 of 10 keys: delete one to add another").waitFor();
    assert.ok(await button(page, "Add key").isDisabled());
    await page.waitForFunction(() => document.activeElement.getAttribute("aria-label") === "Actions for API key 10");
    await whole(page, "limit");
    await choose(page, "API key 4", "Delete");
    await button(page, "Delete").click();
    await page.getByText("9 of 10 keys").waitFor();
    await add(page);
    await done(page);
    await page.getByText("10 of 10 keys").waitFor();
    const [{ key }] = await listed();
    await api("DELETE", `/keys/${key}`); // somebody else
    await page.getByText("9 of 10 keys").waitFor();
    assert.ok(await button(page, "Add key").isEnabled());
  },

  async switchShowsItsReceiptAndGoesBackWhenItFails(page) {
    const { key } = await api("POST", "/keys", { name: "Shop" });
    await signIn(page);
    const toggle = page.getByRole("switch", { name: "Shop active" });
    let release;
    const held = new Promise((resolve) => (release = resolve));
    await page.route("**/keys/*", async (route) => {
      await held;
      await route.continue();
    });
    await toggle.click();
    await row(page, "Shop").getByText("Switching off…").waitFor();
    assert.equal(await toggle.getAttribute("aria-busy"), "true");
    assert.equal((await listed())[0].active, true);
    release();
    await row(page, "Shop").getByText("Off everywhere").waitFor();
    await result(page, "“Shop” is off everywhere.").waitFor();
    await whole(page, "list");
    await page.unroute("**/keys/*");
    assert.equal((await listed())[0].active, false);

    const work = await refuse(page, "**/keys/*", "PATCH", ...storeDown);
    await toggle.click();
    await result(page, "“Shop” could not be switched on. The key store cannot be reached").waitFor();
    assert.equal(await toggle.getAttribute("aria-checked"), "false");
    await row(page, "Shop").getByText("Inactive").waitFor();
    await whole(page, "error");
    await work();
    await button(page, "Try again").click();
    await row(page, "Shop").getByText("On everywhere").waitFor();

    const { status, ...record } = await api("GET", `/keys/${key}`);
    assert.equal(status, 200);
    await refuse(page, "**/keys/*", "PATCH", 200, {
      ...record, active: false, version: record.version + 1,
      pending: [{ proxy: "west", effective_by: "2026-05-04T10:12:31.204Z" }, { proxy: "east" }],
    });
    await page.route("**/keys?*", (route) => route.fulfill({ status: 304 })); // the list does not know of this change
    await toggle.click();
    await result(page, /“Shop” is off\. Still pending: west until \d\d:12:3\d and east\./).waitFor();
    await row(page, "Shop").getByText(/^Pending: west until/).waitFor();
    await whole(page, "pending");
  },

  async windowsDoNotOverwriteEachOther(page) {
    const { key } = await api("POST", "/keys", { name: "Shared" });
    await signIn(page);
    const other = await open(page.context());
    await row(other, "Shared").waitFor();

    await choose(page, "Shared", "Rename"); // while a dialog is open its window does not look
    await page.getByLabel("Name", { exact: true }).fill("Mine");
    await choose(other, "Shared", "Rename");
    await other.getByLabel("Name", { exact: true }).fill("Theirs");
    await button(other, "Rename").click();
    await row(other, "Theirs").waitFor();
    await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange"))); // back from the other window
    await button(page, "Rename").click();
    await page.getByRole("alert").getByText("was changed elsewhere in the meantime").waitFor();
    assert.equal(await page.getByLabel("Name", { exact: true }).inputValue(), "Mine", "what was typed is lost");
    assert.equal((await listed())[0].name, "Theirs");
    await button(page, "Rename").click(); // now knowingly
    await row(page, "Mine").waitFor();
    await row(other, "Mine").waitFor();

    await choose(page, "Mine", "Delete");
    await other.getByRole("switch", { name: "Mine active" }).click();
    await row(other, "Mine").getByText("Off everywhere").waitFor();
    await button(page, "Delete").click();
    await page.getByRole("alert").getByText("was changed elsewhere").waitFor();
    assert.equal((await listed())[0].key, key);
    await button(page, "Try again").click();
    await row(other, "Mine").waitFor({ state: "detached" });
    assert.deepEqual(other.faults, []);
  },

  async lostReplyMakesNoSecondKey(page) {
    await signIn(page);
    let lost = 0;
    await page.route("**/keys", async (route) => {
      if (route.request().method() !== "POST" || lost++) return route.fallback();
      await route.fetch(); // the server has done it
      return route.abort();
    });
    await button(page, "Add key").click();
    await result(page, "The key could not be added. Keystile does not answer.").waitFor();
    await button(page, "Try again").click();
    await result(page, "“API key 1” was added, but its secret was lost on the way.").waitFor();
    assert.equal((await listed()).length, 1);
  },

  async rotatingTheSecret(page) {
    const { key, secret: old } = await api("POST", "/keys", { name: "Shop" });
    await signIn(page);
    await choose(page, "Shop", "Rotate secret");
    assert.ok(await page.getByLabel("For 24 hours").isChecked());
    await whole(page, "rotate");
    await button(page, "Cancel").click();
    assert.equal((await listed())[0].version, 1, "a cancelled rotation rotates");
    await choose(page, "Shop", "Rotate secret");
    await button(page, "Rotate secret").click();
    const { secret, curl } = await shown(page, "Your new secret");
    assert.notEqual(secret, old);
    await page.getByText(/^has a new secret: give it to your client\. It works everywhere\. The old one works until \d+ \w+, \d\d:\d\d\.$/).waitFor();
    await whole(page, "rotate-secret");
    await page.keyboard.press("Escape");
    assert.ok(await button(page, "Done").isDisabled(), "Done works before the secret is saved");
    assert.deepEqual([await answer(curl, old), await answer(curl, secret)], [200, 200]);
    await done(page);
    assert.ok(!(await page.content()).includes(secret), "the secret is still on the page");

    const overlap = row(page, "Shop").getByText("Old secret works until");
    await row(page, "Shop").getByText("Rotated everywhere").waitFor();
    await overlap.waitFor();
    await page.reload();
    await overlap.waitFor();
    await whole(page, "overlap");
    await button(page, "Actions for Shop").click();
    await page.getByRole("menu").waitFor();
    await whole(page, "overlap-menu");
    await page.getByRole("menuitem", { name: "End old secret now" }).click();
    const dialog = page.getByRole("alertdialog", { name: "End the old secret of “Shop”?" });
    await dialog.getByText(key).waitFor();
    await whole(page, "overlap-end");
    const work = await refuse(page, "**/keys/*", "PATCH", ...storeDown);
    await button(page, "End old secret").click();
    await dialog.getByText("The key store cannot be reached").waitFor();
    assert.equal(await answer(curl, old), 200);
    await work();
    await button(page, "Try again").click();
    await result(page, "The old secret of “Shop” has ended everywhere.").waitFor();
    await row(page, "Shop").getByText("Ended everywhere").waitFor();
    await overlap.waitFor({ state: "hidden" });
    assert.deepEqual([await answer(curl, old), await answer(curl, secret)], [401, 200]);
    await button(page, "Actions for Shop").click();
    await page.getByRole("menuitem", { name: "Rename" }).waitFor();
    assert.equal(await page.getByRole("menuitem", { name: "End old secret now" }).count(), 0);
  },

  async oldSecretWorksAsLongAsChosen(page) {
    const choices = { "For 1 hour": 1, "For 24 hours": 24, "For 7 days": 168, "It ends at once": 0 };
    for (const name in choices) await api("POST", "/keys", { name });
    await signIn(page);
    for (const [name, hours] of Object.entries(choices)) {
      await choose(page, name, "Rotate secret");
      await page.getByLabel(name, { exact: true }).check();
      await button(page, "Rotate secret").click();
      await shown(page, "Your new secret");
      if (!hours) await page.getByText("The one before has ended everywhere.").waitFor();
      await done(page);
      const { previous_valid_until: until } = (await listed()).find((record) => record.name === name);
      const left = until ? (Date.parse(until) - Date.now()) / 3_600_000 : 0;
      assert.ok(Math.abs(left - hours) < 0.5, `${name}: ${left} hours`);
      assert.equal(await row(page, name).getByText("Old secret works until").isVisible(), hours > 0);
    }
  },

  async rotationDuringAnOverlapEndsThePresentSecret(page) {
    const { key, secret: oldest } = await api("POST", "/keys", { name: "Shop" });
    await signIn(page);
    await choose(page, "Shop", "Rotate secret");
    const { secret: present } = await api("POST", `/keys/${key}/rotate`, { overlap: "24h" }); // somebody else
    const mistaken = await refuse(page, "**/rotate", "POST", 409, { code: "overlap_running" });
    await button(page, "Rotate secret").click();
    await page.getByRole("alert").getByText("The old secret still works, and a key has two secrets at most.").waitFor();
    await mistaken();
    await page.getByText("now ends the present one at once").waitFor();
    assert.ok(await page.getByLabel("For 24 hours").isHidden());
    await whole(page, "rotate-overlap");
    await button(page, "Rotate secret").click();
    const { secret, curl } = await shown(page, "Your new secret");
    await page.getByText(/The one before has ended everywhere\. The old one works until/).waitFor();
    assert.deepEqual([await answer(curl, oldest), await answer(curl, present), await answer(curl, secret)], [200, 401, 200]);
    await done(page);
  },

  async lostReplyOfARotationIsToldAndRotatingAgainIsSafe(page) {
    const { secret: oldest } = await api("POST", "/keys", { name: "Shop" });
    await signIn(page);
    let lost = "";
    await page.route("**/rotate", async (route) => {
      if (lost) return route.fallback();
      lost = (await (await route.fetch()).json()).secret; // the server has done it
      return route.abort();
    });
    await choose(page, "Shop", "Rotate secret");
    await button(page, "Rotate secret").click();
    await page.getByRole("alert").getByText("the new one was lost on the way. Rotate again: that is safe").waitFor();
    await whole(page, "rotate-lost");
    await button(page, "Rotate secret").click();
    const { secret, curl } = await shown(page, "Your new secret");
    assert.deepEqual([await answer(curl, oldest), await answer(curl, lost), await answer(curl, secret)], [200, 401, 200]);
    await done(page);
  },

  async refusedRotationSaysWhyAndKeepsTheChoice(page) {
    const { key } = await api("POST", "/keys", { name: "Shop" });
    await signIn(page);
    await choose(page, "Shop", "Rotate secret");
    const choice = page.getByLabel("For 7 days");
    await choice.check();
    const works = [await refuse(page, "**/rotate", "POST", ...storeDown), await refuse(page, "**/keys?*", "GET", ...storeDown)];
    await button(page, "Rotate secret").click();
    await page.getByRole("alert").getByText("The key store cannot be reached").waitFor();
    await page.getByRole("alert").getByText("Whether the secret was rotated is not known. Rotate again: that is safe").waitFor();
    assert.ok(await choice.isChecked(), "the choice is lost");
    await whole(page, "rotate-unreachable");
    for (const work of works) await work();
    await button(page, "Cancel").click();

    await choose(page, "Shop", "Rotate secret");
    assert.ok(await page.getByLabel("For 24 hours").isChecked(), "a choice that was cancelled is kept");
    await choice.check();
    await api("PATCH", `/keys/${key}`, { name: "Shop of others" });
    await button(page, "Rotate secret").click();
    await page.getByRole("alert").getByText("“Shop” was changed elsewhere in the meantime.").waitFor();
    assert.ok(await choice.isChecked(), "the choice is lost");
    assert.equal((await listed())[0].version, 2, "it was rotated all the same");
    await button(page, "Rotate secret").click();
    await shown(page, "Your new secret");
    await done(page);
  },

  async overlapThatRunsOutIsNoLongerShown(page) {
    await api("POST", "/keys", { name: "Shop" });
    const early = async (route) => { // the list as it was a minute ago, with the ETag that it still has
      const response = await route.fetch();
      const json = await response.json();
      json.keys[0].previous_valid_until = new Date(Date.now() - 60_000).toISOString();
      await route.fulfill({ response, json });
    };
    await page.route("**/keys?*", early, { times: 1 });
    await signIn(page);
    await row(page, "Shop").getByText("Old secret works until").waitFor({ state: "hidden" });
  },

  async endedSessionLosesNothing(page) {
    await api("POST", "/keys", { name: "Kept" });
    await signIn(page);
    await choose(page, "Kept", "Rename");
    await page.getByLabel("Name", { exact: true }).fill("Typed before");
    await page.context().clearCookies();
    await button(page, "Rename").click();
    const again = page.getByRole("dialog", { name: "Sign in again" });
    await again.waitFor();
    await whole(page, "sign-in-again");
    await page.keyboard.press("Escape");
    await tokenField(page).fill("a wrong one");
    await button(page, "Sign in").click();
    await page.getByText("This token is not valid.").waitFor();
    await tokenField(page).fill(token);
    await button(page, "Sign in").click();
    await row(page, "Typed before").waitFor(); // the call was made in the end
    await button(page, "Sign out").click();
    await page.getByRole("heading", { name: "Sign in to Keystile" }).waitFor();
    assert.equal(await row(page, "Typed before").count(), 0, "the keys are shown after sign-out");
  },

  async unreachableStoreIsSaidAndNothingTypedIsLost(page) {
    await api("POST", "/keys", { name: "Kept" });
    let work = await refuse(page, "**/keys?*", "GET", ...storeDown);
    await tokenField(page).fill(token);
    await button(page, "Sign in").click();
    await page.getByRole("heading", { name: "The keys cannot be shown" }).waitFor();
    await whole(page, "unreachable");
    await work();
    await row(page, "Kept").waitFor(); // by itself

    work = await refuse(page, "**/keys?*", "GET", ...storeDown);
    await result(page, "What you see may be out of date.").waitFor();
    assert.ok(await row(page, "Kept").isVisible());
    const change = await refuse(page, "**/keys/*", "PATCH", ...storeDown);
    await choose(page, "Kept", "Rename");
    await page.getByLabel("Name", { exact: true }).fill("Typed");
    await button(page, "Rename").click();
    await page.getByRole("alert").getByText("The key store cannot be reached").waitFor();
    assert.equal(await page.getByLabel("Name", { exact: true }).inputValue(), "Typed");
    await work();
    await change();
    await button(page, "Rename").click();
    await row(page, "Typed").waitFor();
    await result(page, "What you see may be out of date.").waitFor({ state: "detached" });
  },

  async guideByKeyboardAlone(page) {
    const press = async (...keys) => {
      for (const key of keys) await page.keyboard.press(key);
    };
    const focused = (name) => tabTo(page, name);
    await tokenField(page).waitFor();
    await page.keyboard.type(token);
    await press("Enter");
    await page.getByText("No keys yet").waitFor();
    await focused("Add key");
    await press("Enter");
    await page.getByRole("heading", { name: "Your new key" }).waitFor();
    await focused("Copy secret");
    await press("Enter");
    await focused("I have saved the secret");
    await press("Space");
    await focused("Done");
    await press("Enter");
    await focused("API key 1 active");
    await press("Space");
    await row(page, "API key 1").getByText("Off everywhere").waitFor();

    await focused("Actions for API key 1");
    await press("Enter");
    await page.getByRole("menu").waitFor();
    await whole(page, "menu");
    await page.waitForFunction(() => document.activeElement.textContent === "Rename");
    await press("ArrowUp", "ArrowDown", "End", "Home", "Escape");
    await page.getByRole("menu").waitFor({ state: "hidden" });
    await focused("Actions for API key 1");
    await press("Enter");
    await page.waitForFunction(() => document.activeElement.textContent === "Rename");
    await press("Enter");
    await page.getByRole("dialog", { name: "Rename key" }).waitFor();
    await page.keyboard.type("By keyboard"); // over the old name, which is selected
    await press("Enter");
    await row(page, "By keyboard").waitFor();

    await focused("Actions for By keyboard");
    await press("Enter");
    await page.waitForFunction(() => document.activeElement.textContent === "Rename");
    await press("ArrowDown", "Enter");
    await page.getByRole("dialog", { name: "Rotate the secret of “By keyboard”" }).waitFor();
    await page.waitForFunction(() => document.activeElement.value === "24h");
    await press("ArrowUp", "Enter");
    await page.getByRole("heading", { name: "Your new secret" }).waitFor();
    await focused("I have saved the secret");
    await press("Space");
    await focused("Done");
    await press("Enter");
    await page.waitForFunction(() => document.activeElement.ariaLabel === "Actions for By keyboard");
    await press("Enter");
    await page.waitForFunction(() => document.activeElement.textContent === "Rename");
    await press("ArrowDown", "ArrowDown", "Enter");
    await page.getByRole("alertdialog", { name: "End the old secret of “By keyboard”?" }).waitFor();
    await focused("End old secret");
    await press("Enter");
    await row(page, "By keyboard").getByText("Ended everywhere").waitFor();

    await focused("Actions for By keyboard");
    await press("Enter");
    await page.waitForFunction(() => document.activeElement.textContent === "Rename");
    await press("End", "Enter");
    await page.getByRole("alertdialog", { name: "Delete “By keyboard”?" }).waitFor();
    await focused("Cancel");
    await focused("Delete");
    await press("Enter");
    await page.getByText("No keys yet").waitFor();
    assert.deepEqual(await listed(), []);
  },

  async proxiesAreShownWithTheirVersions(page) {
    await api("POST", "/keys", {});
    await signIn(page);
    await page.getByRole("link", { name: "Proxies" }).click();
    const { proxies } = await api("GET", "/proxies");
    assert.equal(proxies.length, 1);
    const line = page.getByRole("row").filter({ hasText: proxies[0].proxy });
    await line.getByText(String(proxies[0].applied), { exact: true }).waitFor();
    await line.getByText("Serving").waitFor();
    await whole(page, "proxies");
    await page.goBack();
    await page.getByRole("heading", { name: "API keys" }).waitFor();
  },

  // In this the keys are in the store before the process starts.
  async pictureForTheReadme(page) {
    await signIn(page);
    await page.getByRole("listitem").nth(4).waitFor();
    await page.mouse.move(0, 0);
    await page.screenshot({ path: process.env.PICTURE });
  },

  async firstPaintTakes6RequestsAnd60KB(page) {
    for (let i = 0; i < 10; i++) await api("POST", "/keys", {});
    await signIn(page);
    const replies = [];
    page.on("response", (response) => {
      if (response.status() !== 304) replies.push(response); // the next look at the list
    });
    // The list comes after the page is painted, as it does over a slow network: what moves then is seen.
    const painted = () => page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length > 0);
    await page.route("**/api/v1/keys*", async (route) => {
      await painted();
      await route.continue();
    });
    await page.reload();
    await row(page, "API key 10").waitFor();
    const sizes = await Promise.all(replies.map(async (reply) => (await reply.body()).length));
    const bytes = sizes.reduce((sum, size) => sum + size);
    assert.ok(replies.length <= 6 && bytes <= 60_000, `${bytes} bytes in ${replies.length} replies: ${replies.map((reply) => reply.url())}`);
    const shift = await page.evaluate(() => new Promise((resolve) => {
      // What has happened so far is told in one piece, after which there is a frame without a shift.
      new PerformanceObserver((list) => resolve(list.getEntries().reduce((sum, { value }) => sum + value, 0)))
        .observe({ type: "layout-shift", buffered: true });
      setTimeout(() => resolve(0), 1_000); // nothing is told where there was none
    }));
    assert.ok(shift < 0.01, `the layout shifts by ${shift}`);
  },
};

await run(tests[process.argv[2]]);
