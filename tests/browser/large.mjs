// Ten thousand endpoints, and the clock: how fast the first page is there, how large the scripts
// are, and that lists stay a page long.

import { readdirSync, readFileSync } from "node:fs";
import { Agent, get } from "node:http";
import { join } from "node:path";
import { brotliDecompressSync, gunzipSync } from "node:zlib";

import {
  assert,
  concurrently,
  customer,
  openPortal,
  owner,
  run,
  SERVER_URL,
  settled,
  signIn,
  TOKEN,
  url,
} from "./lib.mjs";
import { eventTypes } from "./world.mjs";

const ENDPOINTS = Number(process.env.ENDPOINTS ?? 10_000);
/** Generous: what a list or an answer to a search may take in a debug build. */
const LIST_WITHIN_MS = 3_000;
const ASSETS = join(import.meta.dirname, "../../src/console/assets");

await eventTypes();
const large = await customer("Large", "large");
const small = await customer("Small", "small");
await small.endpoint({ url: url("/small"), description: "The only one" });
const begun = Date.now();
const numbers = Array.from({ length: ENDPOINTS }, (_, number) => number);
await concurrently(64, numbers, (number) =>
  large.endpoint({
    uid: `branch-${number}`,
    url: url(`/branch/${number}`),
    description: `Branch ${number}`,
    eventTypes: ["order.created"],
    disabled: number % 10 === 0,
  }),
);
console.log(`${ENDPOINTS} endpoints in ${Date.now() - begun} ms`);

const agent = new Agent({ keepAlive: true });
/** An answer as it comes over the wire. */
const raw = (path) =>
  new Promise((resolve, reject) => {
    const headers = { "accept-encoding": "gzip, deflate, br" };
    get(SERVER_URL + path, { agent, headers }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("end", () => {
        const { statusCode: status, headers: answered } = response;
        resolve({ status, headers: answered, body: Buffer.concat(parts) });
      });
    }).on("error", reject);
  });

/** What the browser measured of the page that it just loaded, in milliseconds. */
const timings = (page) =>
  page.evaluate(async () => {
    const paint = await new Promise((seen) =>
      new PerformanceObserver((list, observer) => {
        const [first] = list.getEntriesByName("first-contentful-paint");
        if (!first) return;
        observer.disconnect();
        seen(first.startTime);
      }).observe({ type: "paint", buffered: true }),
    );
    const entries = [
      ...performance.getEntriesByType("navigation"),
      ...performance.getEntriesByType("resource"),
    ];
    const paths = entries.map(({ name, responseEnd }) => ({
      path: new URL(name).pathname,
      at: responseEnd,
    }));
    return { paint, paths: paths.filter(({ path }) => !path.startsWith("/api/")) };
  });

/** Counts what the list shows, and how long it took to show it. */
async function timed(act) {
  const start = Date.now();
  await act();
  return Date.now() - start;
}

await run({
  "all scripts together have less than 100 KiB on their way": async () => {
    const names = readdirSync(ASSETS, { recursive: true }).filter((name) => name.endsWith(".js"));
    let written = 0;
    let sent = 0;
    for (const name of names) {
      const { status, headers, body } = await raw(`/console/assets/${name}`);
      assert.equal(status, 200, name);
      assert.match(headers["content-type"], /^text\/javascript/, name);
      assert.match(headers.vary, /accept-encoding/i, name);
      // What is served is what lies there, but for our own comments.
      const open = { gzip: gunzipSync, br: brotliDecompressSync }[headers["content-encoding"]];
      const bytes = open ? open(body) : body;
      const source = readFileSync(join(ASSETS, name));
      if (name.startsWith("vendor")) assert(bytes.equals(source), name);
      const lines = source.toString().split("\n");
      const served = bytes.toString().split("\n");
      assert.equal(served.length, lines.length, name);
      const differing = lines.filter((line, at) => line !== served[at]);
      for (const line of differing) assert.match(line, /^ *(\/\/|\/\*| \*)/, name);
      written += bytes.length;
      sent += body.length;
    }
    const kib = (bytes) => `${(bytes / 1024).toFixed(1)} KiB`;
    console.log(`        ${names.length} scripts: ${kib(written)} as written, ${kib(sent)} as sent`);
    assert(sent < 100 * 1024);
    // Third parties' are unmodified, with their licences beside them.
    const vendor = readdirSync(join(ASSETS, "vendor"));
    for (const name of ["LICENSE-preact", "LICENSE-htm"]) assert(vendor.includes(name), name);
  },

  "the first page is there in 100 ms": async (step) => {
    for (const [surface, enter] of [
      ["console", (page) => signIn(page, TOKEN)],
      ["portal", async (page) => openPortal(page, await small.link())],
    ]) {
      const page = await step.page();
      await enter(page);
      const client = await page.context().newCDPSession(page);
      const loads = [];
      for (let load = 0; load < 5; load += 1) {
        await client.send("Network.clearBrowserCache");
        await page.goto(`${SERVER_URL}/${surface}`);
        await settled(page);
        loads.push(await timings(page));
      }
      const paint = Math.min(...loads.map((one) => one.paint));
      const end = Math.min(...loads.map((one) => Math.max(...one.paths.map(({ at }) => at))));
      // How busy the machine is with the browser is not the server's doing, so what is asserted is
      // what it takes to fetch all that the browser fetched, one after the other.
      const paths = loads[0].paths.map((one) => one.path);
      const fetches = [];
      for (let turn = 0; turn < 5; turn += 1) {
        const start = performance.now();
        for (const path of paths) assert.equal((await raw(path)).status, 200, path);
        fetches.push(performance.now() - start);
      }
      const served = Math.min(...fetches);
      console.log(
        `        ${surface}: shell and assets, ${paths.length} requests, are served in ` +
          `${served.toFixed(0)} ms; in the browser the last is there after ${end.toFixed(0)} ms, ` +
          `and the first paint after ${paint.toFixed(0)} ms`,
      );
      assert(served < 100, `shell and assets take ${served} ms`);
    }
  },

  "a list of ten thousand is shown a page at a time, and found in by the server": async (step) => {
    for (const [surface, enter] of [
      ["console", (page) => signIn(page, TOKEN)],
      ["portal", async (page) => openPortal(page, await large.link())],
    ]) {
      const page = await step.page();
      await enter(page);
      const path = surface === "console" ? `/console/app/${large.id}` : "/portal";
      const rows = page.getByRole("main").getByRole("link", { name: /Branch \d+|\/branch\/\d+/ });
      const shown = await timed(async () => {
        await page.goto(SERVER_URL + path);
        await rows.first().waitFor();
      });
      const count = await rows.count();
      assert(count > 5 && count <= 100, `${count} rows`);
      const first = await rows.first().innerText();
      const turned = await timed(async () => {
        await page.getByRole("button", { name: "Next" }).click();
        // Exactly: one branch's address may begin as another's.
        await page.getByRole("link", { name: first, exact: true }).waitFor({ state: "detached" });
      });
      const found = await timed(async () => {
        await page.getByRole("searchbox").first().fill("branch-7777");
        await page.getByText("Branch 7777").first().waitFor();
        await page.waitForFunction(() => !document.body.innerText.includes("Branch 1\n"));
      });
      const nothing = await timed(async () => {
        await page.getByRole("searchbox").first().fill("no such branch");
        await page.getByText(/no .*(match|found|webhook|endpoint)/i).first().waitFor();
      });
      console.log(`        ${surface}: ${JSON.stringify({ shown, turned, found, nothing })} ms`);
      for (const [what, took] of Object.entries({ shown, turned, found, nothing })) {
        assert(took < LIST_WITHIN_MS, `${surface}: ${what} took ${took} ms`);
      }
    }
  },

  "a customer beside it notices nothing": async (step) => {
    const page = await step.page();
    await openPortal(page, await small.link());
    await page.getByText("The only one").first().waitFor();
    const applications = await owner.get("/app?limit=2");
    assert.equal(applications.data.length, 2);
  },
});
