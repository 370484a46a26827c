// Starts a browser for what needs more of it than one page of console.mjs.
import { chromium } from "playwright-core";

/** Calls test with a context of a new browser, and ends the browser. Names that end with .test are this machine. */
export async function withBrowser(test) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ["--no-sandbox", "--disable-background-networking", "--host-resolver-rules=MAP *.test 127.0.0.1"], // containers run as root
  });
  try {
    const context = await browser.newContext();
    context.setDefaultTimeout(60_000);
    await test(context);
  } finally {
    await browser.close();
  }
}
