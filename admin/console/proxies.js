// The view of the proxies, for administrators.

import { $, call } from "./page.js";

/** Reads the proxies again. */
export async function refresh() {
  const { json } = await call("GET", "/proxies");
  const newest = Math.max(...json.proxies.map(({ applied }) => applied));
  $("proxies").replaceChildren(...json.proxies.map((proxy) => proxyRow(proxy, newest)));
  $("proxies-state").textContent = json.proxies.length ? "" : "No proxy is known.";
  $("proxies-state").hidden = json.proxies.length > 0;
}

function proxyRow({ proxy, applied, serving }, newest) {
  const row = document.createElement("tr");
  const cells = [proxy, applied, (serving ? "Serving" : "Not serving") + (applied < newest ? `, ${newest - applied} behind` : "")];
  row.append(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
  row.children[1].className = "number";
  row.children[2].className = serving ? "dot serving" : "dot";
  return row;
}
