// Has pages of other origins attack a console that somebody is signed in to (attack.js has the attempts), and says what came
// of it. The attempts are first made at a server that guards nothing, so that each is known to do what it says.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import net from "node:net";
import { admin, api, listed, open, row, signIn } from "./browser.mjs";
import { withBrowser } from "./launch.mjs";

const page = `<!doctype html><title>Attack</title><body><script>${readFileSync("attack.js")}</script>`;

/** Starts a server on a free port, and returns it with the port. */
async function listen(server) {
  await once(server.listen(0, "127.0.0.1"), "listening");
  server.port = server.address().port;
  return server;
}

// What the server that guards nothing answers, by what the browser wants it for.
const bait = {
  image: ["image/svg+xml", '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'],
  script: ["text/javascript", "0"],
  style: ["text/css", "b{}"],
};

const attacker = await listen(createServer((request, response) => {
  response.writeHead(200, { "Content-Type": "text/html", Connection: "close" });
  response.end(page);
}));
const decoy = await listen(createServer((request, response) => {
  const [type, text] = bait[request.headers["sec-fetch-dest"]] ?? ["text/html", "bait"];
  response.writeHead(200, {
    "Content-Type": type,
    "Access-Control-Allow-Origin": request.headers.origin ?? "*",
    "Access-Control-Allow-Credentials": "true",
    "Access-Control-Allow-Methods": "PATCH, PUT, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-HTTP-Method-Override",
  });
  response.end(text);
}));

/** Follows what is sent to a target by others than the victim. */
function watch(context, victim, target) {
  const seen = { begun: 0, ended: 0, sockets: 0 };
  let wake = () => {};
  const isVictims = (request) => {
    try {
      return request.frame().page() === victim;
    } catch {
      return false; // of a window that is only about to open
    }
  };
  const count = (what) => (request) => {
    if (!request.url().startsWith(target) || isVictims(request)) return;
    seen[what]++;
    wake();
  };
  const listeners = { request: count("begun"), requestfinished: count("ended"), requestfailed: count("ended") };
  for (const [event, listener] of Object.entries(listeners)) context.on(event, listener);
  seen.answered = async () => {
    while (seen.begun === 0 || seen.ended < seen.begun) await new Promise((resolve) => (wake = resolve));
  };
  seen.stop = () => {
    for (const [event, listener] of Object.entries(listeners)) context.off(event, listener);
  };
  return seen;
}

/** Makes all attempts from a page at origin. Returns for each what was sent, what was read, and what was framed. */
async function attack(context, victim, origin, target, key, rebind) {
  const hostile = await context.newPage();
  let seen;
  await hostile.exposeFunction("answered", () => seen.answered());
  hostile.on("websocket", () => seen.sockets++);
  await hostile.goto(`${origin}/`);
  rebind?.();
  const attempts = await hostile.evaluate(() => window.attempts.map(({ run, ...facts }) => facts));
  const isOf = (page, frame) => frame !== page.mainFrame() && frame.url().startsWith(target);
  for (const attempt of attempts) {
    seen = watch(context, victim, target);
    attempt.read = await hostile.evaluate(([name, target, key]) => window.attempt(name, target, key), [attempt.name, target, key]);
    if (!attempt.silent && !seen.sockets) await seen.answered();
    seen.stop();
    attempt.sent = seen.begun + seen.sockets;
    attempt.shown = hostile.frames().filter((frame) => isOf(hostile, frame)).length;
    for (const page of context.pages()) if (page !== victim && page !== hostile) await page.close();
    await hostile.evaluate(() => document.body.replaceChildren());
  }
  await hostile.close();
  return attempts;
}

/** Starts what a name points to: at first the attacker, and the target from when it is told. */
async function rebinding() {
  let port = attacker.port;
  const server = net.createServer((near) => {
    const far = net.connect(port, "127.0.0.1");
    for (const [from, to] of [[near, far], [far, near]]) from.on("error", () => to.destroy()).pipe(to);
  });
  await listen(server);
  return { port: server.port, rebind: () => (port = new URL(admin).port), close: () => server.close() };
}

/** Checks that attempts do what they say where nothing is guarded. */
function works({ name, silent, reads, framed, sent, read, shown }) {
  assert.ok(silent || sent > 0, `${name}: nothing is sent`);
  assert.equal(read !== "", reads ?? false, `${name}: ${read} is read`);
  if (framed) assert.equal(shown, 1, `${name}: nothing is framed`);
}

/** Returns what was read, unless it only says that the name is not one of this listener. */
function stolen(read) {
  try {
    return JSON.parse(read).code === "unknown_host" ? "" : read;
  } catch {
    return read;
  }
}

const rebound = await rebinding();
await withBrowser(async (context) => {
  const { key } = await api("POST", "/keys", { name: "Kept" });
  const victim = await open(context);
  await signIn(victim);
  await row(victim, "Kept").waitFor();
  const state = async () => [await listed(), (await api("GET", "/proxies")).proxies.map(({ applied }) => applied)];
  const before = await state();

  const [elsewhere, neighbour, name] = [`attacker.test:${attacker.port}`, `127.0.0.1:${attacker.port}`, `rebound.test:${rebound.port}`];
  (await attack(context, victim, `http://${elsewhere}`, `http://127.0.0.1:${decoy.port}`, key)).forEach(works);
  const made = [
    ...await attack(context, victim, `http://${elsewhere}`, admin, key),
    ...await attack(context, victim, `http://${neighbour}`, admin, key), // to which the browser sends the cookie
    ...await attack(context, victim, `http://${name}`, `http://${name}`, key, rebound.rebind),
  ];
  assert.deepEqual(made.filter(({ read }) => stolen(read)), [], "something was read");
  assert.deepEqual(made.filter(({ framed, shown }) => framed && shown), [], "something was framed");
  assert.deepEqual(await state(), before, "something was changed");
  await victim.reload();
  await row(victim, "Kept").waitFor(); // nobody was signed out
  assert.deepEqual(victim.faults, []);
  console.log(`${made.length} attempts: 0 bytes read, 0 framed, 0 changes`);
});
for (const server of [attacker, decoy, rebound]) server.close();
