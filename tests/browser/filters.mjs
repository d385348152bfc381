// What an endpoint gets, as customers say it: filters, patterns of event types, and schemas that payloads are held
// against.

import {
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
  SERVER_URL,
  until,
  url,
} from "./lib.mjs";
import { eventTypes } from "./world.mjs";

await eventTypes();
let customers = 0;

/** A customer of the step's own with an endpoint, and its page in the portal. */
async function arriveAt(step, path, fields = {}, rest = "") {
  customers += 1;
  const app = await customer(`Customer ${customers}`, `customer-${customers}`);
  const endpoint = await app.endpoint({ url: url(path), description: "Order desk", ...fields });
  const page = await atPortal(step, app);
  await open(page, `/portal/endpoint/${endpoint.id}${rest}`);
  return { app, page, endpoint };
}

const button = (page, name, options = {}) => page.getByRole("button", { name, ...options });
const filter = (page) => page.getByRole("textbox", { name: "Filter" });
const save = (page) => button(page, "Save").click();
const tried = (page) => page.getByRole("region", { name: "Try it" });
const tryIt = (page) => button(tried(page), "Try it").click();
const shown = async (app, endpoint) => (await owner.get(`${app.path}/endpoint/${endpoint.id}`)).filter;

await run({
  "a filter is mended where it is wrong, tried on messages, and in effect": async (step) => {
    step.allow(422);
    const { app, page, endpoint } = await arriveAt(step, "/large");
    const small = await app.publish("invoice.paid", { amount: 5 });
    await app.publish("invoice.paid", { amount: 500 });
    await requestsTo("/large", 2);
    await page.getByRole("link", { name: "Filter" }).click();
    await button(page, "More than").click();
    assert.match(await filter(page).inputValue(), /"\$gt": 100/);
    await filter(page).fill(`{"data": {"amount": {"$more": 100}}}`);
    await save(page);
    await until("what is wrong", async () => /data\.amount/.test(await complaint(filter(page))));
    await until("the focus", () => filter(page).evaluate((one) => one === document.activeElement));
    await look(page, "filter-refused");

    await filter(page).fill(`{"data": {"amount": {"$gt": 100}}}`);
    await tryIt(page);
    await tried(page).getByText("It matches.").waitFor();
    await look(page, "filter-matches", { twice: true });
    await page.getByLabel("Message", { exact: true }).selectOption(small.id);
    assert.equal(await tried(page).getByText("It matches.").count(), 0, "that was another message");
    await tryIt(page);
    await tried(page).getByText("It does not match.").waitFor();
    await tried(page).getByText(/data\.amount is 5\b/).waitFor();
    await look(page, "filter-does-not-match");
    await save(page);
    await page.getByText("The filter is saved.").waitFor();
    assert.deepEqual(await shown(app, endpoint), { data: { amount: { $gt: 100 } } });

    await app.publish("invoice.paid", { amount: 7 });
    await app.publish("invoice.paid", { amount: 700 });
    const bodies = (await requestsTo("/large", 3)).map(({ body }) => body);
    assert.deepEqual(bodies.toSorted(), [`{"amount":500}`, `{"amount":5}`, `{"amount":700}`]);
    await page.getByRole("link", { name: "Overview" }).click();
    await page.getByRole("link", { name: "By data" }).waitFor();
    await open(page, "/portal");
    await page.getByRole("row").filter({ hasText: url("/large") }).getByText("Filtered").waitFor();
    await look(page, "filter-list", { twice: true });
  },

  "a message is tried by its id, and the event type can be the reason": async (step) => {
    step.allow(404, 422);
    const { app, page } = await arriveAt(step, "/typed", { eventTypes: ["order.created"] }, "/filter");
    const message = await app.publish("invoice.paid", { n: 1 });
    await page.getByLabel("Message", { exact: true }).selectOption("id");
    await tryIt(page);
    await tried(page).getByText("Choose a message, or enter its ID.").waitFor();
    await page.getByLabel("Message ID").fill(message.id);
    await tryIt(page);
    await tried(page).getByText("The endpoint does not receive its event type.").waitFor();
  },

  "numbers of a filter stay as they are written, and an empty one is none": async (step) => {
    const { app, page, endpoint } = await arriveAt(step, "/exact", {}, "/filter");
    await filter(page).fill(`{"data": {"id": 9007199254740993}}`);
    await save(page);
    await page.getByText("The filter is saved.").waitFor();
    const where = `/app/${app.id}/endpoint/${endpoint.id}`;
    const text = await (await owner.fetch("GET", where)).text();
    assert.match(text, /"filter":\{"data":\s*\{"id":\s*9007199254740993\}\}/);
    // Another change in the form leaves it.
    await open(page, `/portal/endpoint/${endpoint.id}/edit`);
    assert.match(await filter(page).inputValue(), /9007199254740993/);
    await page.getByLabel("Description").fill("Renamed");
    await save(page);
    await page.getByRole("heading", { level: 1, name: "Renamed" }).waitFor();
    assert.match(await (await owner.fetch("GET", where)).text(), /9007199254740993/);
    await open(page, `/portal/endpoint/${endpoint.id}/filter`);
    await filter(page).fill("");
    await save(page);
    await page.getByText("The endpoint has no filter any more.").waitFor();
    assert.equal(await shown(app, endpoint), null);
  },

  "Add Webhook takes patterns and a filter, and says what is wrong with either": async (step) => {
    step.allow(422);
    const { app, page } = await arriveAt(step, "/other");
    await open(page, "/portal/new");
    await page.getByLabel("URL", { exact: true }).fill(url("/patterns"));
    const events = page.getByRole("group", { name: "Events", exact: true });
    await events.getByRole("switch").uncheck();
    const search = page.getByLabel("Search events");
    await search.fill("invoice.*");
    await events.getByText("It takes 3 of 10").waitFor();
    assert.equal(await events.getByLabel("invoice.refund.paid").count(), 0);
    await button(page, "Add the pattern invoice.*").click();
    await search.fill("inv*");
    await search.press("Enter");
    await page.getByLabel("order.created").check();
    await events.getByText("4 of 10 chosen").waitFor();
    await events.getByText("Taken by invoice.*.").first().waitFor();
    await page.locator("summary", { hasText: /^Filter$/ }).click();
    await filter(page).fill(`{"dta": 1}`);
    await save(page);
    await events.getByText(/inv\*.*whole segment/).waitFor();
    await until("the filter's fault", async () => /dta/.test(await complaint(filter(page))));
    await look(page, "patterns-refused");
    await button(page, "Remove inv*").click();
    await filter(page).fill("");
    await save(page);
    await page.getByRole("heading", { level: 1, name: url("/patterns") }).waitFor();
    await page.getByText("invoice.*, order.created").waitFor();
    const made = (await app.endpoints()).find((one) => one.url === url("/patterns"));
    assert.deepEqual(made.eventTypes, ["invoice.*", "order.created"]);
    await app.publish("invoice.refund.paid", { n: 1 });
    await app.publish("invoice.paid", { n: 2 });
    await requestsTo("/patterns");
    assert.equal(received.filter(({ path }) => path === "/patterns").length, 1);
    await open(page, `/portal/endpoint/${made.id}/test`);
    assert.match(await page.getByLabel("Event", { exact: true }).inputValue(), /^(invoice\.\w+|order\.created)$/);
  },

  "a schema warns of payloads, which the publisher is told and the event type counts": async (step) => {
    const app = await customer("Warned", "warned");
    const page = await atConsole(step);
    await open(page, "/console/event-types/invoice.paid");
    await page.getByRole("radio", { name: "Warn" }).check();
    await look(page, "validate");
    await save(page);
    await page.getByText("invoice.paid was saved.").waitFor();
    assert.equal((await owner.get("/event-type/invoice.paid")).validate, "warn");

    await open(page, `/console/app/${app.id}/messages`);
    await button(page, "Publish a message").click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Event", { exact: true }).fill("invoice.paid");
    await dialog.getByLabel("Payload").fill(`{"invoice": "17", "total": 1, "currency": "EUR"}`);
    await button(dialog, "Add Metadata").click();
    await dialog.getByLabel("Name of metadata 1").fill("priority");
    await dialog.getByLabel("Value of priority").fill("high");
    await look(page, "publish-metadata", { twice: true });
    await button(dialog, "Publish").click();
    await page.getByRole("heading", { level: 1, name: "invoice.paid" }).waitFor();
    await page.getByText(/payload\.invoice/).waitFor();
    await page.getByText("priority: high").waitFor();
    await look(page, "message-warned");
    await open(page, "/console/event-types/invoice.paid");
    await page.getByText("1 payload did not fit").waitFor();
  },

  "who only looks sees the filter and no button that changes it": async (step) => {
    const { app, endpoint } = await arriveAt(step, "/viewed", { filter: { data: { kind: "a" } } });
    const viewer = await owner.post("/token", { name: "Auditor", role: "viewer" });
    const page = await atConsole(step, viewer.token);
    await open(page, `/console/app/${app.id}/endpoint/${endpoint.id}/filter`);
    await page.getByRole("region", { name: "Filter" }).getByText(`"kind": "a"`).first().waitFor();
    assert.equal((await button(page, "Save").count()) + (await filter(page).count()), 0);
    assert.equal(new URL(page.url()).origin, SERVER_URL);
    await look(page, "filter-viewed", { twice: true });
  },
});
