// Endpoints that fail: their notices at the console and in the portal, what one may do about them, and how lists, the
// overview, the form and the log of attempts tell of them.

import {
  answers,
  assert,
  atConsole,
  atPortal,
  complaint,
  customer,
  look,
  open,
  owner,
  received,
  requestsTo,
  run,
  seenAs,
  settled,
  until,
  url,
} from "./lib.mjs";
import { eventTypes } from "./world.mjs";

await eventTypes();
let customers = 0;
const somebody = () => customer(`Customer ${++customers}`, `customer-${customers}`);

const button = (page, name) => page.getByRole("button", { name, exact: true });
const dialog = (page) => page.getByRole("dialog");
const row = (page, text) => page.getByRole("row").filter({ hasText: text });
const notice = (page, name) => page.getByRole("region", { name });
const sentTo = (path) => received.filter((one) => one.path === path).length;
const hours = (count) => new Date(Date.now() + count * 3_600_000).toISOString();

const PAUSED = "Paused after failures";
const LEFT_ALONE = "Left alone, as its receiver asked";
const limit = (page) => dialog(page).getByLabel(/Send at most this many a second/);

const now = (app, endpoint) => owner.get(`${app.path}/endpoint/${endpoint.id}`);
const becomes = (app, endpoint, what, is) =>
  until(`an endpoint that ${what}`, async () => is(await now(app, endpoint)));

async function publish(app, count) {
  const messages = [];
  for (let n = 0; n < count; n += 1) messages.push(await app.publish("invoice.paid", { n }));
  return messages;
}

/** An endpoint whose breaker is open, with messages that wait. */
async function paused(app, path, fields = {}) {
  answers[path] = 500;
  const endpoint = await app.endpoint({ url: url(path), ...fields });
  await publish(app, 3);
  await becomes(app, endpoint, "is paused", ({ breaker }) => breaker.state === "open");
  return endpoint;
}

/** An endpoint that its receiver disabled by this answer. */
async function disabledBy(app, path, answer, reason, fields = {}) {
  answers[path] = answer;
  const endpoint = await app.endpoint({ url: url(path), ...fields });
  await publish(app, 1);
  await becomes(app, endpoint, "is disabled", ({ disabledReason }) => disabledReason === reason);
  return endpoint;
}

const asksToBeDisabled = (_, response) =>
  response.writeHead(200, { "webhook-delivery": "disable" }).end();
const asksForARest = (_, response) => response.writeHead(429, { "retry-after": "240" }).end();

const focusIsAtTheHeading = (page) =>
  until("the focus at the heading", () =>
    page.evaluate(() => document.activeElement.tagName === "H1"),
  );

await run({
  "a paused endpoint says why and since when, and a try that succeeds ends it": async (step) => {
    const app = await somebody();
    const endpoint = await paused(app, "/paused", { description: "Order desk" });
    const page = await atPortal(step, app);
    await open(page, `/portal/endpoint/${endpoint.id}`);
    const why = notice(page, PAUSED);
    await why.getByText(/because the last \d+ attempts failed, since/).waitFor();
    await why.getByText("3 messages wait.").waitFor();
    await why.getByText(/The next try is in/).waitFor();
    await page.getByText("Paused", { exact: true }).waitFor();
    await page.getByText("messages, until a try succeeds").waitFor();
    await page.getByText("Paused after 3 failures in a row", { exact: false }).waitFor();
    await look(page, "health-paused");
    // One that fails changes nothing but the time of the next.
    const before = sentTo("/paused");
    await button(why, "Try now").click();
    await page.getByText("The next message is tried at once.").first().waitFor();
    await until("a try", () => sentTo("/paused") === before + 1);
    await why.getByText(/The next try is in/).waitFor();
    answers["/paused"] = 200;
    await button(why, "Try now").click();
    await why.waitFor({ state: "detached" });
    await focusIsAtTheHeading(page);
    // One of the three is due in an hour.
    await requestsTo("/paused", before + 3);
    await page.getByText("Paused", { exact: true }).waitFor({ state: "detached" });
  },

  "a receiver that asked for a rest is left alone, and can be tried": async (step) => {
    const app = await somebody();
    answers["/rest"] = asksForARest;
    const endpoint = await app.endpoint({ url: url("/rest") });
    await publish(app, 2);
    await becomes(app, endpoint, "rests", ({ breaker }) => breaker.state === "resting");
    const page = await atConsole(step);
    await open(page, `/console/app/${app.id}/endpoint/${endpoint.id}`);
    await notice(page, LEFT_ALONE).getByText("Retry-After").waitFor();
    await page.getByText("Resting", { exact: true }).waitFor();
    await look(page, "health-resting", { twice: true });
    answers["/rest"] = 200;
    await button(page, "Try now").click();
    await focusIsAtTheHeading(page);
    // Those that were answered so are due after the rest.
    await publish(app, 1);
    await notice(page, LEFT_ALONE).waitFor({ state: "detached" });
    await becomes(app, endpoint, "is well", ({ breaker }) => breaker.state === "closed");
  },

  "an endpoint that its receiver disabled is enabled at a pace": async (step) => {
    const app = await somebody();
    step.allow(422);
    const endpoint = await disabledBy(app, "/gone", 410, "gone", { description: "Old shop" });
    await publish(app, 6);
    const page = await atPortal(step, app);
    await open(page, `/portal/endpoint/${endpoint.id}`);
    const why = notice(page, "Disabled: the receiver is gone");
    await why.getByText("410 Gone").waitFor();
    await why.getByText("7 messages wait.").waitFor();
    await look(page, "health-gone");
    assert.equal(await button(page, "Enable").count(), 1);
    answers["/gone"] = 200;
    await button(page, "Enable").click();
    await dialog(page).getByText("7 messages wait. They are sent now").waitFor();
    await look(page, "health-enable");
    for (const [wrong, says] of [["fast", /whole number/], ["0", /1 to 65535/]]) {
      await limit(page).fill(wrong);
      await button(dialog(page), "Enable").click();
      await until("a complaint", async () => says.test(await complaint(limit(page))));
    }
    await page.mouse.move(0, 0);
    await look(page, "health-enable-refused", { twice: true });
    await limit(page).fill("2");
    await button(dialog(page), "Enable").click();
    await why.waitFor({ state: "detached" });
    await focusIsAtTheHeading(page);
    await page.getByText("At most 2 messages a second of what was published before").waitFor();
    assert.equal((await now(app, endpoint)).catchUp.rate, 2);
    await requestsTo("/gone", 8);
  },

  "what waits is let go of after a question that says how much": async (step) => {
    const app = await somebody();
    const endpoint = await app.endpoint({ url: url("/let-go"), description: "Pilot", disabled: true });
    const messages = await publish(app, 3);
    const page = await atPortal(step, app);
    await open(page, `/portal/endpoint/${endpoint.id}`);
    const why = notice(page, "Disabled by hand");
    await button(why, "Let go of what waits…").click();
    await dialog(page).getByText("Let go of 3 messages?").waitFor();
    await dialog(page).getByText("The messages stay").waitFor();
    await look(page, "health-let-go");
    await button(dialog(page), "Cancel").click();
    await button(why, "Let go of what waits…").click();
    await button(dialog(page), "Let go of 3 messages").click();
    await page.getByText("3 messages were let go of.").first().waitFor();
    await button(why, "Let go of what waits…").waitFor({ state: "detached" });
    for (const message of messages) await app.delivered(message, 2);
    assert.equal(sentTo("/let-go"), 0);
    await page.reload();
    await page.getByRole("table").getByText("Canceled").first().waitFor();
    // With nothing that waits there is no question of a pace.
    await button(why, "Enable").click();
    await dialog(page).getByText("Nothing waits").waitFor();
    assert.equal(await limit(page).count(), 0);
    await button(dialog(page), "Enable").click();
    await why.waitFor({ state: "detached" });
  },

  "failures are warned of before they disable an endpoint, and said after it": async (step) => {
    const app = await somebody();
    answers["/failing"] = 500;
    const endpoint = await app.endpoint({ url: url("/failing") });
    await publish(app, 1);
    await becomes(app, endpoint, "fails", ({ failingSince }) => failingSince);
    const page = await atPortal(step, app);
    const at = `/portal/endpoint/${endpoint.id}`;
    await open(page, at);
    const fails = notice(page, "Attempts fail");
    await fails.getByText(/The last attempt failed|The last 2 attempts failed/).waitFor();
    assert.equal(await fails.getByText("is disabled").count(), 0);
    const failing = { failures: 240, failingSince: hours(-60) };
    await seenAs(page, endpoint, { ...failing, disablesAt: hours(60) });
    await page.reload();
    await fails.getByText("The last 240 attempts failed").waitFor();
    await fails.getByText("If nothing succeeds until").waitFor();
    await look(page, "health-failing", { twice: true });
    await page.unrouteAll();
    const disabled = { disabled: true, disabledReason: "failing", disabledAt: hours(-1) };
    await seenAs(page, endpoint, { ...failing, ...disabled });
    await page.reload();
    await notice(page, "Disabled after failures").getByText("because every attempt since").waitFor();
    await look(page, "health-disabled-failing", { twice: true });
  },

  "an endpoint that is disabled while its page is open says so": async (step) => {
    const app = await somebody();
    answers["/asked"] = 500;
    const endpoint = await paused(app, "/asked");
    const page = await atPortal(step, app);
    await open(page, `/portal/endpoint/${endpoint.id}`);
    await notice(page, PAUSED).waitFor();
    answers["/asked"] = asksToBeDisabled;
    await button(page, "Try now").click();
    await notice(page, "Disabled at its receiver’s request").waitFor();
    assert.equal(await notice(page, PAUSED).count(), 0);
    await page.getByRole("status").getByText("Disabled at its receiver’s request").waitFor();
    await button(page, "Enable").waitFor();
    assert.equal(await button(page, "Disable").count(), 0);
  },

  "one that was disabled and is held says both, and has one notice": async (step) => {
    const app = await somebody();
    const endpoint = await app.endpoint({ url: url("/both"), disabled: true });
    await owner.post(`${app.path}/endpoint/${endpoint.id}/hold`);
    await publish(app, 1);
    const page = await atConsole(step);
    await open(page, `/console/app/${app.id}/endpoint/${endpoint.id}`);
    await notice(page, "Disabled by hand").getByText("The operator holds it, too").waitFor();
    assert.equal(await notice(page, "Held by the operator").count(), 0);
    await button(page, "Enable").click();
    await dialog(page).getByText("stays held by the operator").waitFor();
    await button(dialog(page), "Enable").click();
    const held = notice(page, "Held by the operator");
    await held.getByText("1 message waits.").waitFor();
    await button(held, "Release").click();
    await limit(page).fill("3");
    await button(dialog(page), "Release").click();
    await held.waitFor({ state: "detached" });
    await requestsTo("/both");
  },

  "who may only look sees why, and no buttons": async (step) => {
    const app = await somebody();
    const endpoint = await paused(app, "/looked-at");
    const page = await atPortal(step, app, { readOnly: true });
    await open(page, `/portal/endpoint/${endpoint.id}`);
    await notice(page, PAUSED).waitFor();
    assert.equal(await notice(page, PAUSED).getByRole("button").count(), 0);
    await owner.patch(`${app.path}/endpoint/${endpoint.id}`, { disabled: true });
    await notice(page, "Disabled by hand").waitFor();
    assert.equal(await notice(page, "Disabled by hand").getByRole("button").count(), 0);
  },

  "lists tell each state with its reason, the overview how many, and lanes the next try": async (step) => {
    const app = await somebody();
    await disabledBy(app, "/list-gone", 410, "gone", { description: "Old shop" });
    await disabledBy(app, "/list-asked", asksToBeDisabled, "requested", { description: "Pilot" });
    answers["/list-rest"] = asksForARest;
    const rests = await app.endpoint({ url: url("/list-rest"), description: "Partner" });
    await app.endpoint({ url: url("/list-off"), description: "Warehouse", disabled: true });
    const held = await app.endpoint({ url: url("/list-held"), description: "Archive" });
    await owner.post(`${app.path}/endpoint/${held.id}/hold`);
    await app.endpoint({ url: url("/list-fine"), description: "Bookkeeping" });
    await paused(app, "/list-paused", { description: "Order desk" });
    answers["/list-failing"] = 500;
    await app.endpoint({ url: url("/list-failing"), breakerFailures: 0, eventTypes: ["order.created"] });
    await app.publish("order.created", {});
    await becomes(app, rests, "rests", ({ breaker }) => breaker.state === "resting");
    const page = await atPortal(step, app);
    await open(page, "/portal");
    for (const [path, ...texts] of [
      ["/list-gone", "Disabled", /by a 410/],
      ["/list-asked", "Disabled", /by its receiver/],
      ["/list-rest", "Resting", /asked by its receiver; next try/],
      ["/list-off", "Disabled", /by hand/],
      ["/list-held", "Held"],
      ["/list-fine", "Healthy"],
      ["/list-paused", "Paused", /after failures; next try/],
      ["/list-failing", "Failing", /since/],
    ]) {
      for (const text of texts) await row(page, url(path)).getByText(text, { exact: true }).first().waitFor();
    }
    await look(page, "health-list");
    answers["/list-gone"] = 200;
    await button(page, `Enable ${url("/list-gone")}`).click();
    await dialog(page).getByText("Enable “Old shop”?").waitFor();
    await button(dialog(page), "Enable").click();
    await row(page, url("/list-gone")).getByText("Healthy").waitFor();

    const operator = await atConsole(step);
    await open(operator, "/console");
    const { breakers, disabledAutomatically } = await owner.get("/status");
    assert(breakers.open >= 1 && disabledAutomatically.requested >= 1);
    const card = operator.locator(".card").filter({ hasText: "Registrations" });
    await card.getByText(/^\d+ paused$/).waitFor();
    await card.getByText(/^\d+ resting$/).waitFor();
    await card.getByText(/^\d+ disabled by receiver$/).waitFor();
    await look(operator, "health-overview");
    await open(operator, "/console/lanes");
    await row(operator, url("/list-paused")).getByText("Failed too often: probes only").waitFor();
    await row(operator, url("/list-rest")).getByText("The receiver asked for a rest").waitFor();
    assert.match(await row(operator, url("/list-rest")).innerText(), /in \d min/);
    await look(operator, "health-lanes", { twice: true });
  },

  "an endpoint's own numbers are set and taken back in the form": async (step) => {
    const app = await somebody();
    step.allow(422);
    const endpoint = await app.endpoint({ url: url("/numbers") });
    const page = await atPortal(step, app);
    const edit = `/portal/endpoint/${endpoint.id}/edit`;
    const failures = page.getByLabel("Pause after this many failures in a row");
    const disabling = page.getByLabel("Disable after this many hours of failures");
    const save = async () => {
      await button(page, "Save").click();
      await page.getByText("Saved").first().waitFor();
    };
    await open(page, edit);
    await page.getByText("Advanced", { exact: true }).click();
    await page.getByText("The profile’s is 3; 0 never pauses it.").waitFor();
    await page.getByText("The profile’s is 120; 0 never disables it.").waitFor();
    await failures.fill("25");
    await disabling.fill("100000");
    await button(page, "Save").click();
    await until("a complaint", async () => /0 to 8784/.test(await complaint(disabling)));
    await look(page, "health-form", { twice: true });
    await disabling.fill("0");
    await save();
    await page.getByText("Paused after 25 failures in a row", { exact: true }).waitFor();
    const { breakerFailures, disableAfterHours } = await now(app, endpoint);
    assert.deepEqual([breakerFailures, disableAfterHours], [25, 0]);
    await open(page, edit);
    assert.equal(await failures.inputValue(), "25");
    assert.equal(await disabling.inputValue(), "0");
    await failures.fill("");
    await disabling.fill("");
    await save();
    const after = await now(app, endpoint);
    assert.equal(after.breakerFailures ?? after.disableAfterHours ?? null, null);
  },

  "a message whose retries passed during a pause says that it was not sent": async (step) => {
    const app = await somebody();
    const endpoint = await paused(app, "/late", { retry: { delaysSeconds: [1] } });
    const late = await app.publish("invoice.paid", { late: true });
    await app.delivered(late, 2);
    const page = await atPortal(step, app);
    await open(page, `/portal/endpoint/${endpoint.id}`);
    await page.getByRole("table").getByText("Not sent", { exact: true }).first().waitFor();
    const { data } = await owner.get(`${app.path}/attempt/msg/${late.id}`);
    const [last] = data.filter(({ failure }) => failure.kind === "breaker_open");
    await open(page, `/portal/attempt/${late.id}/${last.id}`);
    await page.getByText("Not sent.").waitFor();
    await page.getByText("No request was made. It would have been:").waitFor();
    await page.getByText("until the last retry of this message would have been made").waitFor();
    await look(page, "health-not-sent", { twice: true });
    await settled(page);
  },
});
