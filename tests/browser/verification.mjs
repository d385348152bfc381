// Endpoints that are not verified yet, where the server verifies them, and the addresses that requests
// come from, where the operator states them.

import {
  answers,
  assert,
  atConsole,
  atPortal,
  customer,
  look,
  open,
  owner,
  received,
  requestsTo,
  run,
  settled,
  until,
  url,
} from "./lib.mjs";
import { eventTypes } from "./world.mjs";

const ADDRESSES = process.env.SOURCE_ADDRESSES.split(",");

await eventTypes();
let customers = 0;
const somebody = () => customer(`Customer ${++customers}`, `customer-${customers}`);

const isChallenge = ({ body }) => body.includes(`"postrider.verification"`);
/** Answers a challenge as it should be; other requests, too. */
const echo = ({ body }, response) => response.end(JSON.parse(body).challenge ?? "thanks");

/** Leaves requests to a path without an answer, until the function that this returns is called. */
function holdAnswers(path) {
  const held = [];
  answers[path] = (...one) => held.push(one);
  return () => {
    answers[path] = echo;
    for (const one of held) echo(...one);
  };
}

const heading = (page, name, level = 1) => page.getByRole("heading", { level, name });
const button = (page, name) => page.getByRole("button", { name, exact: true });
const notice = (page) => page.getByRole("region", { name: "Not verified yet" });
const badge = (page) => page.getByText("Not verified", { exact: true });
const ask = (page) => button(notice(page), "Send a challenge now");
const status = async (app) => (await app.endpoints())[0].verification.status;

await run({
  "a new webhook is not verified until its URL answers, and the page says both": async (step) => {
    const app = await somebody();
    const release = holdAnswers("/new");
    const page = await atPortal(step, app);
    await open(page, "/portal/new");
    await page.getByLabel("URL", { exact: true }).fill(url("/new"));
    await button(page, "Save").click();
    await heading(page, url("/new")).waitFor();
    await notice(page).getByText("A challenge is on its way.").waitFor();
    await notice(page).getByText("Messages are held").waitFor();
    await notice(page).getByText(`"type": "postrider.verification"`).waitFor();
    await badge(page).waitFor();
    await look(page, "verification-new", { twice: true });
    await app.publish("invoice.paid", { n: 1 });
    await page.reload();
    await page.getByText("messages held until it is verified").waitFor();
    assert((await requestsTo("/new")).every(isChallenge));
    release();
    await page.getByText("The endpoint is verified.").first().waitFor();
    await notice(page).waitFor({ state: "detached" });
    await badge(page).waitFor({ state: "detached" });
    assert.equal(await status(app), "verified");
    await until("the message", () =>
      received.some((one) => one.path === "/new" && one.body === `{"n":1}`),
    );
    await page.reload();
    await settled(page);
    assert.equal(await notice(page).count(), 0);
  },

  "why a challenge failed is said, and the button sends another": async (step) => {
    const app = await somebody();
    answers["/asked"] = 404;
    const endpoint = await app.endpoint({ url: url("/asked"), description: "Order desk" });
    const page = await atPortal(step, app);
    await open(page, `/portal/endpoint/${endpoint.id}`);
    await notice(page).getByText("The last challenge failed").waitFor();
    await notice(page).getByText(/status is 404/).waitFor();
    await look(page, "verification-failed-challenge");
    const release = holdAnswers("/asked");
    const asked = page.waitForResponse((one) => one.url().endsWith(`${endpoint.id}/verify`));
    await ask(page).click();
    assert.equal((await asked).status(), 202);
    await notice(page).getByText("A challenge is on its way.").waitFor();
    release();
    await notice(page).waitFor({ state: "detached" });
    // The button that had the focus is gone.
    await until("the focus at the heading", () =>
      page.evaluate(() => document.activeElement.tagName === "H1"),
    );
    assert.equal(await status(app), "verified");
  },

  "after the last challenge somebody must ask": async (step) => {
    const app = await somebody();
    const endpoint = await app.endpoint({ url: url("/given-up") });
    const page = await atPortal(step, app);
    const verification = {
      status: "failed",
      attempts: 5,
      lastAttemptAt: new Date(Date.now() - 7_200_000).toISOString(),
      nextAttemptAt: null,
      lastError: "The connection was refused: nobody listens at the host's port.",
    };
    // It takes an hour and more.
    await page.route(`**/endpoint/${endpoint.id}`, async (route) => {
      if (route.request().resourceType() !== "fetch") return route.continue();
      const answer = await route.fetch();
      await route.fulfill({ json: { ...(await answer.json()), verification } });
    });
    await open(page, `/portal/endpoint/${endpoint.id}`);
    await notice(page).getByText("No more challenges are sent until you ask for one.").waitFor();
    await notice(page).getByText("nobody listens").waitFor();
    await ask(page).waitFor();
    await look(page, "verification-given-up", { twice: true });
  },

  "a disabled one is not challenged, and the button is not there": async (step) => {
    const app = await somebody();
    answers["/disabled"] = echo;
    const endpoint = await app.endpoint({ url: url("/disabled"), disabled: true });
    const page = await atPortal(step, app);
    await open(page, `/portal/endpoint/${endpoint.id}`);
    const disabled = page.getByRole("region", { name: "Disabled by hand" });
    await disabled.getByText("challenges are sent once it is enabled").waitFor();
    assert.equal(await notice(page).count() + (await ask(page).count()), 0);
    await button(page, "Enable").click();
    await page.getByRole("dialog").getByText("A challenge is sent").waitFor();
    await button(page.getByRole("dialog"), "Enable").click();
    await disabled.waitFor({ state: "detached" });
    await until("an answered challenge", async () => (await status(app)) === "verified");
    await notice(page).waitFor({ state: "detached" });
  },

  "lists show it, and a test waits for it": async (step) => {
    const app = await somebody();
    const endpoint = await app.endpoint({ url: url("/listed") });
    const page = await atPortal(step, app);
    await open(page, "/portal");
    const row = page.getByRole("row").filter({ hasText: url("/listed") });
    await badge(row).waitFor();
    await look(page, "verification-list", { twice: true });
    await open(page, `/portal/endpoint/${endpoint.id}/test`);
    await heading(page, "This endpoint is not verified yet", 2).waitFor();
    assert.equal(await button(page, "Send the test").count(), 0);
  },

  "the console has the same; who only looks has no button": async (step) => {
    const app = await somebody();
    answers["/console"] = 500;
    const endpoint = await app.endpoint({ url: url("/console") });
    const path = `/console/app/${app.id}/endpoint/${endpoint.id}`;
    const viewer = await owner.post("/token", { name: "Auditor", role: "viewer" });
    const looking = await atConsole(step, viewer.token);
    await open(looking, path);
    await notice(looking).getByText(/status is 500/).waitFor();
    assert.equal(await ask(looking).count(), 0);
    const page = await atConsole(step);
    await open(page, path);
    await notice(page).getByText(/status is 500/).waitFor();
    await look(page, "verification-console", { twice: true });
    answers["/console"] = echo;
    await ask(page).click();
    for (const one of [page, looking]) await notice(one).waitFor({ state: "detached" });
  },

  "an operational webhook that is not verified says why": async (step) => {
    answers["/operations"] = 403;
    await owner.post("/operational-webhook/endpoint", { url: url("/operations") });
    await requestsTo("/operations");
    const page = await atConsole(step);
    const row = page.getByRole("row").filter({ hasText: url("/operations") });
    await until("the reason", async () => {
      await open(page, "/console/operational");
      return (await row.getByText(/status is 403/).count()) > 0;
    });
    await badge(row).waitFor();
    await look(page, "verification-operational", { twice: true });
  },

  "the addresses of requests: in the form under the URL, and on the endpoint's page": async (step) => {
    const app = await somebody();
    answers["/from"] = echo;
    const endpoint = await app.endpoint({ url: url("/from") });
    const portal = await atPortal(step, app);
    const console = await atConsole(step);
    for (const [page, base] of [[portal, "/portal"], [console, `/console/app/${app.id}`]]) {
      await open(page, `${base}/new`);
      const hint = await page.getByLabel("URL", { exact: true }).evaluate((field) =>
        document.getElementById(field.getAttribute("aria-describedby")).innerText,
      );
      assert(hint.includes(`They come from ${ADDRESSES.join(", ")}.`), hint);
      await open(page, `${base}/endpoint/${endpoint.id}`);
      await page.getByText("Requests come from").waitFor();
      for (const address of ADDRESSES) await page.getByText(address, { exact: true }).waitFor();
      await button(page, "Copy addresses").click();
      const copied = await until("something on the clipboard", () =>
        page.evaluate(() => navigator.clipboard.readText()),
      );
      assert.deepEqual(copied.split("\n"), ADDRESSES);
      await page.evaluate(() => navigator.clipboard.writeText(""));
    }
    await open(portal, "/portal/new");
    await look(portal, "verification-form", { twice: true });
  },
});
