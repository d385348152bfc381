// What every driver of this suite has: the server's API, the customer's receiver, a browser that is
// watched, and steps.
//
// main.rs starts the server and gives SERVER_URL, TOKEN (an owner's) and OUTPUT, where node_modules
// are and screenshots go. A driver can also be run by hand against a server that runs already:
//
//   SERVER_URL=http://127.0.0.1:8071 TOKEN=$(cat data/owner.token) OUTPUT=target/browser \
//     node tests/browser/portal.mjs [WORD…]     # only the steps whose names have all the words
//
// A page is watched from its first request to its last: an error on the console, an exception, a
// violation of the content security policy and a request to any other origin each fail the step.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

export { assert };

export const { TOKEN } = process.env;
export const SERVER_URL = process.env.SERVER_URL.replace(/\/$/, "");
const OUTPUT = resolve(process.env.OUTPUT);
mkdirSync(OUTPUT, { recursive: true });
const require = createRequire(join(OUTPUT, "package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

// For what the page or the server does next; a debug build on a busy machine takes seconds.
export const WITHIN_MS = Number(process.env.WITHIN_MS ?? 30_000);
export const WIDE = { width: 1280, height: 900 };
export const NARROW = { width: 360, height: 740 };

const ARGUMENTS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

// The server's API.

export class Api {
  constructor(token = TOKEN) {
    this.token = token;
  }

  /** The answer as it came: for what may be refused. */
  fetch(method, path, body) {
    const headers = { authorization: `Bearer ${this.token}` };
    if (body !== undefined) headers["content-type"] = "application/json";
    const text = typeof body === "string" ? body : JSON.stringify(body);
    return fetch(`${SERVER_URL}/api/v1${path}`, { method, headers, body: text });
  }

  async call(method, path, body) {
    const answer = await this.fetch(method, path, body);
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text === "" ? null : JSON.parse(text);
  }

  get = (path) => this.call("GET", path);
  post = (path, body = {}) => this.call("POST", path, body);
  put = (path, body) => this.call("PUT", path, body);
  patch = (path, body) => this.call("PATCH", path, body);
  delete = (path) => this.call("DELETE", path);
}

export const owner = new Api();

/** A customer with its own name, and the means to look at it from outside. */
export async function customer(name, uid) {
  const app = await owner.post("/app", { name, uid });
  return {
    ...app,
    path: `/app/${app.id}`,
    endpoint: (fields) => owner.post(`/app/${app.id}/endpoint`, fields),
    endpoints: async () => (await owner.get(`/app/${app.id}/endpoint?limit=250`)).data,
    publish: (eventType, payload = {}, more = {}) =>
      owner.post(`/app/${app.id}/msg`, { eventType, payload, ...more }),
    /** Waits until the message's only delivery, or that to `endpoint`, is as told: 0 is done. */
    delivered: (message, status = 0, endpoint = undefined) =>
      until(`${message.id} to have status ${status}`, async () => {
        const { data } = await owner.get(`/app/${app.id}/msg/${message.id}/endpoint`);
        return data.find((one) => (!endpoint || one.id === endpoint.id) && one.status === status);
      }),
    link: (fields = {}) => owner.post(`/auth/app-portal-access/${app.id}`, fields),
  };
}

/** Does them all, some at a time. */
export async function concurrently(count, inputs, act) {
  const queue = inputs[Symbol.iterator]();
  const worker = async () => {
    for (const input of queue) await act(input);
  };
  await Promise.all(Array.from({ length: count }, worker));
}

/** Looks again until `look` finds something. */
export async function until(what, look, within = WITHIN_MS) {
  const deadline = Date.now() + within;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`in vain for ${what}`);
    await later(30);
  }
}

export const later = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// The customer's server behind an endpoint.

export const received = [];
/** What a path answers: a status, or a function from request and response. Others answer 200. */
export const answers = {};

const receiver = createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const { method, url: path, headers } = request;
    const one = { method, path, headers, body: Buffer.concat(parts).toString() };
    received.push(one);
    const answer = answers[path.split("?")[0]] ?? 200;
    if (typeof answer === "function") answer(one, response);
    else response.writeHead(answer, { "content-type": "text/plain" }).end(`seen ${path}`);
  });
});
await new Promise((listening) => receiver.listen(0, "127.0.0.1", listening));
export const url = (path) => `http://127.0.0.1:${receiver.address().port}${path}`;

export const requestsTo = (path, count = 1) =>
  until(`${count} requests to ${path}`, () => {
    const found = received.filter((one) => one.path.startsWith(path));
    return found.length >= count && found;
  });

// The browser.

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ARGUMENTS,
  // Said here instead, as it stands above.
  headless: true,
});

/** One step's view of the world: the pages that it opens are watched and closed with it. */
class Step {
  #contexts = [];
  problems = [];
  #allowed = [];

  constructor(name) {
    this.name = name;
  }

  /**
   * Answers with these statuses are part of the step: Chromium writes each that is not a success
   * to the console.
   */
  allow(...statuses) {
    this.#allowed.push(...statuses);
  }

  /** A page in a browser profile of its own, which has no cookies. */
  async page({ viewport = WIDE, colorScheme = "light", origins = [], ...more } = {}) {
    const context = await browser.newContext({
      viewport,
      colorScheme,
      reducedMotion: "reduce",
      permissions: ["clipboard-read", "clipboard-write"],
      locale: "en-GB",
      timezoneId: "Europe/Berlin",
      ...more,
    });
    this.#contexts.push(context);
    context.setDefaultTimeout(WITHIN_MS);
    await this.#watch(context, origins);
    const page = await context.newPage();
    page.step = this;
    return page;
  }

  async #watch(context, origins) {
    const note = (what) => this.problems.push(what);
    const own = new URL(SERVER_URL).origin;
    await context.exposeBinding("__violation", (_, what) => note(`CSP violation: ${what}`));
    await context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => {
        const { effectiveDirective, blockedURI, sourceFile, lineNumber, sample } = event;
        const place = `${sourceFile}:${lineNumber}`;
        window.__violation(`${effectiveDirective} blocks ${blockedURI} ${sample} at ${place}`);
      });
    });
    context.on("request", (request) => {
      const { protocol, origin } = new URL(request.url());
      if (protocol === "data:" || protocol === "blob:") return;
      if (origin !== own && !origins.includes(origin)) note(`a request to ${request.url()}`);
    });
    context.on("weberror", (error) => note(`exception: ${error.error().stack}`));
    context.on("console", (message) => {
      if (message.type() !== "error" && message.type() !== "warning") return;
      const [, status] = /responded with a status of (\d+)/.exec(message.text()) ?? [];
      if (status && this.#allowed.includes(Number(status))) return;
      note(`console ${message.type()}: ${message.text()} (${message.location().url})`);
    });
  }

  get pages() {
    return this.#contexts.flatMap((context) => context.pages());
  }

  async close() {
    for (const context of this.#contexts) await context.close();
  }
}

/** The page has been drawn, and nothing on it says that it is still being loaded. */
export async function settled(page) {
  await page.locator("h1").first().waitFor();
  await page.waitForFunction(() => !document.querySelector("[aria-busy=true], .loading"));
}

/** Opens a path of the server. */
export async function open(page, path) {
  await page.goto(SERVER_URL + path);
  await settled(page);
}

/**
 * Gives the page's browser profile a session, as signing in would. Saves the time of the form, which
 * has steps of its own.
 */
export async function enter(page, surface, token) {
  const answer = await fetch(`${SERVER_URL}/api/v1/session`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-postrider-surface": surface },
    body: JSON.stringify({ token }),
  });
  assert(answer.ok, `signing in: ${answer.status} ${await answer.clone().text()}`);
  const [, name, value] = /^([^=]+)=([^;]+)/.exec(answer.headers.getSetCookie()[0]);
  const cookie = { name, value, domain: new URL(SERVER_URL).hostname, path: "/api" };
  await page.context().addCookies([{ ...cookie, httpOnly: true, sameSite: "Strict" }]);
}

/** A watched page with a session at the console, of the owner or of another token. */
export async function atConsole(step, token = TOKEN, options = {}) {
  const page = await step.page(options);
  await enter(page, "console", token);
  return page;
}

/** A watched page with a session at the portal, by a link with these fields. */
export async function atPortal(step, app, fields = {}, options = {}) {
  const page = await step.page(options);
  await enter(page, "portal", (await app.link(fields)).token);
  return page;
}

/** Lets the page see an endpoint with other fields, for what takes days. */
export async function seenAs(page, endpoint, fields) {
  const change = (one) => (one.id === endpoint.id ? { ...one, ...fields } : one);
  // The endpoint by itself, and in a list.
  await page.route(/\/endpoint(\/ep_[^/?]+)?(\?.*)?$/, async (route) => {
    if (route.request().resourceType() !== "fetch") return route.continue();
    const answer = await route.fetch();
    const body = await answer.json();
    await route.fulfill({
      json: body.data ? { ...body, data: body.data.map(change) } : change(body),
    });
  });
}

/** Signs in at the console by its form. */
export async function signIn(page, token = TOKEN) {
  await page.goto(`${SERVER_URL}/console`);
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("button", { name: "Sign out" }).waitFor({ state: "attached" });
  await settled(page);
}

/** Opens the portal by a link, as the customer gets it. */
export async function openPortal(page, link) {
  await page.goto(SERVER_URL + new URL(link.url).pathname + new URL(link.url).hash);
  await page.getByRole("heading", { level: 1, name: "Webhooks" }).waitFor();
  await settled(page);
}

/** Presses Tab until this has the focus, as somebody without a mouse would. */
export async function tabTo(page, locator, presses = 80) {
  for (let press = 0; press < presses; press += 1) {
    if (await locator.evaluate((one) => one === document.activeElement)) return;
    await page.keyboard.press("Tab");
  }
  const at = await page.evaluate(() => document.activeElement.outerHTML.slice(0, 200));
  throw new Error(`${presses} times Tab do not lead to ${locator}, but to ${at}`);
}

/** What is said to be wrong with a field, by the elements that describe it. */
export const complaint = (locator) =>
  locator.evaluate((field) => {
    if (field.getAttribute("aria-invalid") !== "true") return "";
    const ids = [field.getAttribute("aria-describedby"), field.getAttribute("aria-errormessage")];
    const described = ids.flatMap((list) => (list ?? "").split(" ").filter(Boolean));
    return described.map((id) => document.getElementById(id)?.innerText ?? "").join(" ");
  });

/** No rule of axe's may be violated. */
export async function accessible(page, what) {
  // Not by a script element, which the page's policy would refuse.
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe);
  const violations = await page.evaluate(
    async () => (await window.axe.run({ resultTypes: ["violations"] })).violations,
  );
  const told = violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${help}\n  ${html}\n  ${failureSummary}`),
  );
  if (told.length) throw new Error(`axe at ${what}:\n${told.join("\n")}`);
}

/** The page as a whole does not scroll sideways. Names what sticks out. */
export async function fits(page, what) {
  const wide = await page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth <= clientWidth) return [];
    const beyond = [...document.body.querySelectorAll("*")].filter(
      (one) => one.getBoundingClientRect().right > clientWidth + 1,
    );
    return [
      `${scrollWidth} of ${clientWidth} px`,
      ...beyond.slice(0, 8).map((one) => one.cloneNode().outerHTML),
    ];
  });
  if (wide.length) throw new Error(`${what} sticks out: ${wide.join("\n")}`);
}

/** A screenshot for the README. */
export async function picture(page, name, { height = 900, colorScheme = "light" } = {}) {
  await page.setViewportSize({ width: WIDE.width, height });
  await page.emulateMedia({ colorScheme });
  await page.evaluate(() => {
    scrollTo(0, 0);
    document.activeElement.blur();
  });
  await settled(page);
  await page.screenshot({ path: join(OUTPUT, `picture-${name}.png`) });
}

/**
 * Screenshots of the page at both widths and in both themes; each is accessible and fits. With `twice`
 * it is judged only wide and light, and narrow and dark: for pages that are judged elsewhere, too.
 */
export async function look(page, name, { viewports = [WIDE, NARROW], twice = false } = {}) {
  const problems = [];
  for (const viewport of viewports) {
    await page.setViewportSize(viewport);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      const what = `${name}-${viewport.width}-${colorScheme}`;
      await settled(page);
      await page.evaluate(() => scrollTo(0, 0));
      // What lies behind a dialog darkens the window, however long the page is.
      const fullPage = (await page.locator("dialog[open]").count()) === 0;
      await page.screenshot({ path: join(OUTPUT, `${what}.png`), fullPage });
      if (twice && (viewport === WIDE) !== (colorScheme === "light")) continue;
      for (const check of [accessible, fits]) {
        await check(page, what).catch((error) => problems.push(error.message));
      }
    }
  }
  await page.setViewportSize(WIDE);
  await page.emulateMedia({ colorScheme: "light" });
  if (problems.length) throw new Error(problems.join("\n"));
}

/**
 * Runs all steps, so that one look shows all that differs, and ends the process. Each is given a
 * `Step`. Of one that fails, OUTPUT has a screenshot of each page that was open.
 */
export async function run(steps) {
  const words = process.argv.slice(2);
  let failed = 0;
  let count = 0;
  for (const [name, act] of Object.entries(steps)) {
    if (!words.every((word) => name.includes(word))) continue;
    count += 1;
    const step = new Step(name);
    const begun = Date.now();
    try {
      await act(step);
      if (step.problems.length) throw new Error("the browser complained");
      console.log(`ok      ${name} (${Date.now() - begun} ms)`);
    } catch (error) {
      failed += 1;
      // Playwright colours what it says.
      const told = error.stack.replace(/\u001b\[\d+m/g, "");
      console.log(`FAILED  ${name} (${Date.now() - begun} ms): ${told}`);
      for (const problem of step.problems) console.log(`        ${problem}`);
      for (const [number, page] of step.pages.entries()) {
        const file = `failed-${name.replace(/[^a-z0-9]+/gi, "-").slice(0, 60)}-${number}.png`;
        await page.screenshot({ path: join(OUTPUT, file), fullPage: true }).catch(() => {});
        console.log(`        ${page.url()}: ${file}`);
      }
    }
    await step.close();
  }
  console.log(`${count - failed} of ${count} steps`);
  await browser.close();
  process.exit(failed === 0 ? 0 : 1);
}
