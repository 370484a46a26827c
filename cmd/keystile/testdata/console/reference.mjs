// The test of the API's reference: node reference.mjs. It starts with a page that nobody has signed in to.
import assert from "node:assert/strict";
import { admin, run, whole } from "./browser.mjs";

await run(async (page) => {
  await page.goto(`${admin}/reference`);
  await whole(page, "reference");
  await page.getByRole("navigation", { name: "Calls" }).getByRole("link", { name: "Rotate the secret" }).click();
  const call = page.getByRole("region", { name: "Rotate the secret" });
  await call.getByText("/api/v1/keys/{key}/rotate").waitFor();
  assert.ok(await call.evaluate((section) => section.getBoundingClientRect().top < innerHeight), "the link does not lead to the call");
  await call.getByRole("link", { name: "overlap_running" }).click();
  assert.ok(await page.locator("#code-overlap_running").evaluate((line) => line.getBoundingClientRect().top < innerHeight), "the code is not explained");

  await page.setViewportSize({ width: 320, height: 640 });
  await page.goto(`${admin}/reference`);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter"); // skip to the reference
  assert.equal(await page.evaluate(() => document.activeElement.id), "main"); // and run looks at the whole page
});
