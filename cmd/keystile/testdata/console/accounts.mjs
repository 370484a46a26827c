// The tests of what administrators see besides keys, and of what the holder of an account sees: node accounts.mjs NAME.
// Each starts with a page that nobody has signed in to, no key, and the account that is always there.
import assert from "node:assert/strict";
import {
  add, admin, answer, api, button, choose, done, open, refuse, result, row, run, shown, signIn, storeDown, tabTo, tokenField, whole,
} from "./browser.mjs";

/** Opens a view of administrators. */
async function view(page, name) {
  await page.getByRole("link", { name, exact: true }).click();
  await page.locator(`#${name.toLowerCase()}-view`).waitFor();
}

/** Makes an account over the API, with keys of these names. Returns the keys. */
async function makeAccount(account, names = [], rest = {}) {
  assert.equal((await api("POST", "/accounts", { account, ...rest })).status, 201);
  const keys = [];
  for (const name of names) keys.push(await api("POST", "/keys", { account, name }));
  return keys;
}

const makeToken = async (account, name) => (await api("POST", `/accounts/${account}/tokens`, { name })).token;
const accountOf = (account) => api("GET", `/accounts/${account}`);
const optionNames = (page) => page.getByRole("option").locator("bdi:first-child").allTextContents();

/** Signs in with another token in a browser of its own. Returns the page, and what it has asked of the API. */
async function signInElsewhere(page, token) {
  const { width, height } = page.viewportSize();
  const context = await page.context().browser().newContext({ viewport: { width, height }, colorScheme: process.env.SCHEME, reducedMotion: "reduce" });
  const other = await open(context);
  const asked = [];
  other.on("response", (response) => {
    const { pathname } = new URL(response.url());
    if (pathname !== "/api/v1/session") asked.push({ pathname, status: response.status() });
  });
  await signIn(other, token);
  return { other, asked };
}

const tests = {
  async accountsAreCreatedAndChanged(page) {
    await signIn(page);
    await view(page, "Accounts");
    await row(page, "default").waitFor();
    await button(page, "Create account").click();
    const dialog = page.getByRole("dialog", { name: "Create account" });
    const [id, name, limit] = ["Id", "Name (optional)", "Keys allowed"].map((label) => dialog.getByLabel(label, { exact: true }));
    const create = dialog.getByRole("button", { name: "Create account" });
    await name.fill("Acme Ltd");
    for (const [field, typed, said] of [
      [id, "default", "There is an account with this id"], [id, "-x", "1 to 64 ASCII letters"], [limit, "ten", "a whole number from 1 to 1000"],
    ]) {
      await id.fill("acme");
      await limit.fill("3");
      await field.fill(typed);
      await create.click();
      await page.getByRole("alert").getByText(said).waitFor();
      assert.equal(await field.getAttribute("aria-invalid"), "true", said);
      assert.equal(await field.inputValue(), typed, "what was typed is lost");
      assert.equal(await name.inputValue(), "Acme Ltd", "what was typed is lost");
    }
    await whole(page, "account-create");
    await id.fill("acme");
    await limit.fill("3");
    const work = await refuse(page, "**/accounts", "POST", ...storeDown);
    await create.click();
    await page.getByRole("alert").getByText("The key store cannot be reached").waitFor();
    assert.deepEqual([await id.inputValue(), await name.inputValue(), await limit.inputValue()], ["acme", "Acme Ltd", "3"]);
    await work();
    await create.click();
    await row(page, "acme").getByText("3 keys").waitFor();
    await page.waitForFunction(() => document.activeElement.getAttribute("aria-label") === "Actions for acme");

    await choose(page, "acme", "Rename");
    await page.getByLabel("Name", { exact: true }).fill("Acme Limited");
    await button(page, "Rename").click();
    await row(page, "acme").getByText("Acme Limited").waitFor();
    await choose(page, "acme", "Change limit");
    await page.getByRole("textbox", { name: "Keys allowed" }).fill("");
    await whole(page, "account-limit");
    await button(page, "Change limit").click();
    await row(page, "acme").getByText("10 keys (default)").waitFor();
    const { name: kept, default_limit: isDefault } = await accountOf("acme");
    assert.deepEqual([kept, isDefault], ["Acme Limited", true]);
    await whole(page, "accounts");
  },

  async suspendedAccountShowsInItsKeys(page) {
    const [{ key, secret }] = await makeAccount("acme", ["Shop", "App"]);
    await api("POST", "/keys", { name: "Free" });
    await signIn(page);
    await view(page, "Accounts");
    const toggle = page.getByRole("switch", { name: "acme active" });
    const work = await refuse(page, "**/accounts/acme", "PATCH", ...storeDown);
    await toggle.click();
    await result(page, "“acme” could not be suspended. The key store cannot be reached").waitFor();
    assert.equal(await toggle.getAttribute("aria-checked"), "true");
    await work();
    await button(page, "Try again").click();
    await row(page, "acme").getByText("Suspended everywhere").waitFor();
    await result(page, "“acme” is suspended everywhere.").waitFor();
    await whole(page, "account-suspended");

    await page.getByRole("link", { name: "acme", exact: true }).click();
    await page.getByText("This account is suspended: all its keys are refused.").waitFor();
    await row(page, "Shop").getByText("Account suspended").waitFor();
    assert.equal(await page.getByRole("switch", { name: "Shop active" }).getAttribute("aria-checked"), "true", "the key's own switch is lost");
    await whole(page, "suspended");
    await page.goto(`${admin}/#keys/*`);
    await row(page, "Shop").getByText("Account suspended").waitFor();
    assert.equal(await row(page, "Free").getByText("Account suspended").isVisible(), false);

    await view(page, "Accounts");
    await toggle.click();
    await row(page, "acme").getByText("Active everywhere").waitFor();
    await page.getByRole("link", { name: "acme", exact: true }).click();
    await row(page, "Shop").waitFor();
    assert.equal(await row(page, "Shop").getByText("Account suspended").isVisible(), false);
    const { json } = await page.evaluate(async () => ({ json: await (await fetch("/api/v1/session")).json() }));
    assert.equal(await answer(`curl ${json.proxy}/v1/models`, secret), 200);
    assert.ok(key);
  },

  async accountIsDeletedWithItsKeys(page) {
    await makeAccount("acme", ["Shop", "App"]);
    await makeAccount("empty");
    await signIn(page);
    await view(page, "Accounts");
    await choose(page, "empty", "Delete");
    const dialog = page.getByRole("alertdialog");
    await dialog.getByText("This action cannot be undone.").waitFor();
    await api("POST", "/keys", { account: "empty" }); // somebody else, in the meantime
    await button(page, "Delete").click();
    await dialog.getByText("The account still has keys").waitFor();
    await button(page, "Delete with its 1 key").click();
    await result(page, "“empty” is deleted everywhere.").waitFor();

    await choose(page, "acme", "Delete");
    await page.getByRole("alertdialog", { name: "Delete the account “acme”?" }).waitFor();
    await whole(page, "account-delete");
    await button(page, "Cancel").click();
    assert.equal((await accountOf("acme")).status, 200, "a cancelled deletion deletes");
    await choose(page, "acme", "Delete");
    await api("PATCH", "/accounts/acme", { name: "Theirs" });
    await button(page, "Delete with its 2 keys").click();
    await dialog.getByText("“acme” was changed elsewhere in the meantime.").waitFor();
    await button(page, "Try again").click();
    await row(page, "acme").waitFor({ state: "detached" });
    await page.waitForFunction(() => document.activeElement.getAttribute("aria-label") === "Actions for default");
    assert.deepEqual((await api("GET", "/keys")).keys, []);
    await button(page, "Actions for default").click();
    await page.getByRole("menuitem", { name: "Rename" }).waitFor();
    assert.equal(await page.getByRole("menuitem", { name: "Delete" }).count(), 0, "the default account can be deleted");
  },

  async tokensAreShownOnceAndRevoked(page) {
    await makeAccount("acme", ["Shop"]);
    await signIn(page);
    await view(page, "Accounts");
    await choose(page, "acme", "Tokens");
    const dialog = page.getByRole("dialog", { name: "Tokens of “acme”" });
    await dialog.getByText("No tokens yet").waitFor();
    await whole(page, "tokens-none");
    const name = dialog.getByLabel("Name of a new token (optional)");
    await name.fill("Deployment");
    const work = await refuse(page, "**/tokens", "POST", ...storeDown);
    await button(page, "Create token").click();
    await page.getByRole("alert").getByText("The key store cannot be reached").waitFor();
    assert.equal(await name.inputValue(), "Deployment", "what was typed is lost");
    await work();
    await button(page, "Create token").click();
    const { secret: token, curl } = await shown(page, "Your new token");
    assert.match(token, /^kac_[A-Z2-7]{13}_[A-Z2-7]{52}$/);
    await page.getByText("The token will not be displayed again.").waitFor();
    await whole(page, "token");
    await page.keyboard.press("Escape");
    assert.ok(await button(page, "Done").isDisabled(), "Done works before the token is saved");
    await button(page, "Copy token").click();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), token);
    assert.equal(await answer(curl, token), 200, "the curl line does not work");
    await page.getByLabel("I have saved the token").check();
    await button(page, "Done").click();
    await dialog.getByText("Deployment").waitFor();
    assert.ok(!(await page.content()).includes(token), "the token is still on the page");

    const { other } = await signInElsewhere(page, token);
    await row(other, "Shop").waitFor();
    await button(page, "Revoke Deployment").click();
    await page.getByRole("alertdialog", { name: "Revoke the token “Deployment”?" }).waitFor();
    await whole(page, "token-revoke");
    await button(page, "Revoke").click();
    await dialog.getByText("No tokens yet").waitFor();
    await other.getByRole("dialog", { name: "Sign in again" }).waitFor();
    assert.equal((await api("GET", "/keys", undefined, token)).status, 401);
    await button(page, "Close").click();
    await page.waitForFunction(() => document.activeElement.getAttribute("aria-label") === "Actions for acme");
    assert.deepEqual(other.faults, []);
  },

  async administratorChoosesWhoseKeysAreShown(page) {
    await makeAccount("acme", ["Shop"], { name: "Tools", limit: 2 });
    for (let i = 0; i < 105; i++) await makeAccount(`many-${i}`);
    await api("POST", "/keys", { name: "Free" });
    await signIn(page);
    await row(page, "Free").waitFor();
    const chooser = page.getByRole("button", { name: /^Account / });
    await chooser.click();
    await page.getByText("8 more: type to find them").waitFor();
    assert.equal((await optionNames(page)).length, 100);
    await page.keyboard.type("tOOl");
    await page.waitForFunction(() => document.querySelectorAll("[role=option]").length === 1);
    await whole(page, "chooser");
    await page.keyboard.press("Enter");
    await page.getByText("1 of 2 keys").waitFor();
    await row(page, "Free").waitFor({ state: "detached" });
    await page.waitForFunction(() => document.activeElement.id === "choose-account");
    await add(page);
    await done(page);
    await page.getByText("2 of 2 keys: delete one to add another").waitFor();
    assert.ok(await button(page, "Add key").isDisabled());
    assert.equal((await api("GET", "/keys?account=acme")).keys.length, 2);

    await page.reload(); // the choice is in the address
    await page.getByText("2 of 2 keys").waitFor();
    await chooser.click();
    await page.getByRole("option", { name: "acme" }).waitFor();
    await page.keyboard.type("nothing like it");
    await page.getByText("No account has this").waitFor();
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => document.activeElement.id === "choose-account");
    await chooser.click();
    await page.getByRole("option", { name: "All accounts" }).click();
    await page.getByText("3 keys in all accounts: choose an account to add one").waitFor();
    assert.ok(await button(page, "Add key").isDisabled());
    await row(page, "Free").getByText("default").waitFor();
    await row(page, "Shop").getByText("acme").waitFor();
    await whole(page, "all");
    await page.getByRole("switch", { name: "Shop of acme active" }).click();
    await row(page, "Shop").getByText("Off everywhere").waitFor();
    await page.goto(`${admin}/#keys/gone`);
    await page.getByText("There is no account “gone”").waitFor();
    await whole(page, "no-account");
  },

  async holderSeesItsOwnKeysAndAsksForNothingElse(page) {
    await makeAccount("acme", ["Shop"], { limit: 2 });
    await api("POST", "/keys", { name: "Foreign" });
    const { other, asked } = await signInElsewhere(page, await makeToken("acme"));
    await other.getByText("1 of 2 keys").waitFor();
    await row(other, "Shop").waitFor();
    await whole(other, "holder");
    for (const name of ["Accounts", "Audit", "Proxies"]) assert.equal(await other.getByRole("link", { name }).count(), 0, name);
    assert.equal(await other.getByRole("button", { name: /^Account / }).count(), 0);
    await other.goto(`${admin}/#audit`);
    await other.goto(`${admin}/#keys/default`);
    await other.reload();
    await row(other, "Shop").waitFor();
    assert.equal(await row(other, "Foreign").count(), 0);
    await add(other);
    await done(other);
    await other.getByText("2 of 2 keys: delete one to add another").waitFor();
    await choose(other, "Shop", "Delete");
    await button(other, "Delete").click();
    await row(other, "Shop").waitFor({ state: "detached" });
    assert.deepEqual((await api("GET", "/keys?account=acme")).keys.map(({ account }) => account), ["acme"]);
    const beside = asked.filter(({ pathname, status }) => status >= 400 || /administrator|accounts|audit|proxies|chooser/.test(pathname));
    assert.deepEqual(beside, []);
    assert.deepEqual(other.faults, []);
  },

  async suspendedHolderIsToldWhy(page) {
    await makeAccount("acme", ["Shop"]);
    const { other } = await signInElsewhere(page, await makeToken("acme"));
    await api("PATCH", "/accounts/acme", { active: false });
    await other.getByText("This account is suspended: all its keys are refused.").waitFor();
    await other.getByText("Nothing can be changed until an administrator").waitFor();
    const toggle = other.getByRole("switch", { name: "Shop active" });
    await toggle.click();
    await result(other, "“Shop” could not be switched off. This account is suspended").waitFor();
    assert.equal(await toggle.getAttribute("aria-checked"), "true");
    await whole(other, "holder-suspended");
    await button(other, "Add key").click();
    await result(other, "The key could not be added. This account is suspended").waitFor();
    await api("PATCH", "/accounts/acme", { active: true });
    await other.getByText("This account is suspended: all its keys are refused.").waitFor({ state: "hidden" });
    assert.deepEqual(other.faults, []);
  },

  async auditTrailIsReadFromTheNewest(page) {
    const [{ key }] = await makeAccount("acme", ["Shop"]);
    for (let i = 0; i < 60; i++) await api("PATCH", `/keys/${key}`, { name: `Shop ${i}` });
    await signIn(page);
    await view(page, "Audit");
    const entries = page.locator("#entries > li");
    await entries.first().getByText("Key changed").waitFor();
    await entries.first().getByText("“Shop 58” → “Shop 59”").waitFor();
    await entries.first().getByText("Administrator").waitFor();
    assert.equal(await entries.count(), 50);
    await whole(page, "audit");
    await api("DELETE", `/keys/${key}`);
    await entries.first().getByText("Key deleted").waitFor(); // by itself
    const { head } = await api("GET", "/audit?limit=1");
    await page.getByText(`${head.number}:${head.hash}`).waitFor();
    await button(page, "Copy newest hash").click();
    await result(page, "The newest hash is in the clipboard.").waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `${head.number}:${head.hash}`);

    const work = await refuse(page, "**/audit?*", "GET", ...storeDown);
    await result(page, "What you see may be out of date.").waitFor();
    await page.keyboard.press("End");
    await button(page, "Load older").click();
    await result(page, "The older entries cannot be shown.").waitFor();
    await work();
    await button(page, "Try again").click();
    await page.waitForFunction((count) => document.querySelectorAll("#entries > li").length === count, head.number);
    await entries.last().getByText("Account created").waitFor();
    await button(page, "Load older").waitFor({ state: "hidden" });
    const versions = await entries.locator(".version span:last-child").allTextContents();
    assert.deepEqual(versions.map(Number), versions.map(Number).toSorted((a, b) => b - a));
  },

  async windowsDoNotOverwriteAccounts(page) {
    await makeAccount("acme");
    await signIn(page);
    await view(page, "Accounts");
    await choose(page, "acme", "Change limit");
    await page.getByRole("textbox", { name: "Keys allowed" }).fill("7");
    await api("PATCH", "/accounts/acme", { limit: 5 });
    await button(page, "Change limit").click();
    await page.getByRole("alert").getByText("“acme” was changed elsewhere in the meantime.").waitFor();
    assert.equal((await accountOf("acme")).limit, 5);
    assert.equal(await page.getByRole("textbox", { name: "Keys allowed" }).inputValue(), "7", "what was typed is lost");
    await button(page, "Change limit").click(); // now knowingly
    await row(page, "acme").getByText("7 keys").waitFor();
  },

  async anotherPrincipalStartsAfresh(page) {
    await makeAccount("acme", ["Shop"]);
    const { key } = await api("POST", "/keys", { name: "Secretive" });
    await signIn(page);
    await row(page, "Secretive").waitFor();
    await choose(page, "Secretive", "Rename");
    await page.getByLabel("Name", { exact: true }).fill("Changed");
    await page.context().clearCookies();
    await button(page, "Rename").click();
    await page.getByRole("dialog", { name: "Sign in again" }).waitFor();
    await tokenField(page).fill(await makeToken("acme"));
    await button(page, "Sign in").click();
    await row(page, "Shop").waitFor();
    assert.equal(await row(page, "Secretive").count(), 0, "the keys of who signed in before are shown");
    assert.equal((await api("GET", `/keys/${key}`)).name, "Secretive", "the call was made for another");
  },

  async lastUseTellsWhichSecretItWas(page) {
    const { key, secret } = await api("POST", "/keys", { name: "Shop" });
    await signIn(page);
    await choose(page, "Shop", "Rotate secret");
    await button(page, "Rotate secret").click();
    const { curl } = await shown(page, "Your new secret");
    assert.equal(await answer(curl, secret), 200);
    await done(page);
    await row(page, "Shop").getByText("with the old secret").waitFor();
    await whole(page, "used-old-secret");
    assert.equal((await api("GET", `/keys/${key}`)).last_used_secret, "previous");
  },

  async accountsByKeyboardAlone(page) {
    const press = async (...keys) => {
      for (const key of keys) await page.keyboard.press(key);
    };
    await tokenField(page).waitFor();
    await page.keyboard.type(process.env.TOKEN);
    await press("Enter");
    await page.getByText("No keys yet").waitFor();
    await tabTo(page, "Accounts");
    await press("Enter");
    await row(page, "default").waitFor();
    await tabTo(page, "Create account");
    await press("Enter");
    await page.getByRole("dialog", { name: "Create account" }).waitFor();
    await page.keyboard.type("acme");
    await press("Enter");
    await page.waitForFunction(() => document.activeElement.ariaLabel === "Actions for acme");
    await press("Enter");
    await page.waitForFunction(() => document.activeElement.textContent === "Rename");
    await press("ArrowDown", "ArrowDown", "Enter");
    await page.getByRole("dialog", { name: "Tokens of “acme”" }).waitFor();
    await tabTo(page, "Create token");
    await press("Enter");
    await page.getByRole("heading", { name: "Your new token" }).waitFor();
    await tabTo(page, "I have saved the token");
    await press("Space");
    await tabTo(page, "Done");
    await press("Enter");
    await page.waitForFunction(() => document.activeElement.id === "token-name");
    await press("Escape");
    await page.getByRole("dialog", { name: "Tokens of “acme”" }).waitFor({ state: "hidden" });
    await page.waitForFunction(() => document.activeElement.ariaLabel === "Actions for acme");

    await tabTo(page, "Keys");
    await press("Enter");
    await page.locator("#keys-view").waitFor();
    await tabTo(page, "Account default");
    await press("Enter");
    await page.getByRole("option", { name: "acme" }).waitFor();
    await press("ArrowUp", "Enter");
    await page.waitForFunction(() => location.hash === "#keys/acme");
    await page.waitForFunction(() => document.activeElement.id === "choose-account");
  },

  async viewsFitAWindowOf320Pixels(page) {
    await page.setViewportSize({ width: 320, height: 568 });
    await makeAccount("a".repeat(64), ["W".repeat(64), "Shop"], { name: "M".repeat(64) });
    await signIn(page);
    await whole(page, "narrow-empty");
    await page.goto(`${admin}/#keys/*`);
    await row(page, "Shop").waitFor();
    await whole(page, "narrow-all");
    for (const name of ["Accounts", "Audit", "Proxies"]) {
      await view(page, name);
      await page.getByText(/^Loading…$/).locator("visible=true").waitFor({ state: "detached" });
      await whole(page, `narrow-${name.toLowerCase()}`);
    }
    await view(page, "Accounts");
    await choose(page, "a".repeat(64), "Tokens");
    await page.getByText("No tokens yet").waitFor();
    await whole(page, "narrow-tokens");
    await button(page, "Create token").click();
    await shown(page, "Your new token");
    await whole(page, "narrow-token");
    await done(page);
  },

  async unreachableStoreIsSaidInEveryView(page) {
    await signIn(page);
    await row(page, "default").waitFor({ state: "detached" });
    for (const [name, path] of [["Accounts", "**/accounts"], ["Audit", "**/audit?*"], ["Proxies", "**/proxies"]]) {
      const work = await refuse(page, path, "GET", ...storeDown);
      await view(page, name);
      const state = page.locator(`#${name.toLowerCase()}-state`);
      await state.getByText("The key store cannot be reached, or has not confirmed the change. Trying again…").waitFor();
      await whole(page, `unreachable-${name.toLowerCase()}`);
      await work();
      await state.getByText("The key store cannot be reached").waitFor({ state: "hidden" }); // by itself
    }
    await view(page, "Keys");
    const work = await refuse(page, "**/administrator.html", "GET", 500, {});
    await page.reload();
    await page.getByText("No keys yet").waitFor();
    await page.getByRole("button", { name: /^Account / }).click();
    await result(page, "Keystile does not answer.").waitFor();
    await work();
    await page.getByRole("button", { name: /^Account / }).click();
    await page.getByRole("option", { name: "default" }).waitFor();
  },
};

await run(tests[process.argv[2]]);
