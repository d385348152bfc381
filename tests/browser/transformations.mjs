// Transformations of requests: begun from a starting point, seen before they are saved, and taken back.

import {
  assert,
  atConsole,
  atPortal,
  complaint,
  customer,
  look,
  open,
  owner,
  requestsTo,
  run,
  until,
  url,
} from "./lib.mjs";
import { eventTypes } from "./world.mjs";

await eventTypes();
let customers = 0;

async function arriveAt(step, path, fields = {}) {
  customers += 1;
  const app = await customer(`Customer ${customers}`, `customer-${customers}`);
  const endpoint = await app.endpoint({ url: url(path), description: "Order desk", ...fields });
  const page = await atPortal(step, app);
  await open(page, `/portal/endpoint/${endpoint.id}`);
  return { app, page, endpoint };
}

const button = (page, name, options = {}) => page.getByRole("button", { name, ...options });
const field = (page, name) => page.getByLabel(name, { exact: true });
const preview = (page) => page.getByRole("region", { name: /^Preview of/ });
const save = (page) => button(page, "Save").click();
const current = async (app, { id }) => (await owner.get(`${app.path}/endpoint/${id}`)).transformation;

await run({
  "from a starting point, seen before it is saved, sent, and taken back": async (step) => {
    const { app, page, endpoint } = await arriveAt(step, "/events");
    await app.publish("invoice.paid", { invoice: 17, total: 99.9 });
    await requestsTo("/events");
    await page.getByRole("link", { name: "Transformation" }).click();
    await page.getByLabel("Start from").selectOption("cloudevents-structured");
    await until("the body", async () => /specversion/.test(await field(page, "Body").inputValue()));
    await button(page, "Preview").click();
    await preview(page).getByText(/"specversion"/).first().waitFor();
    await preview(page).getByText("As it was published").waitFor();
    await look(page, "transformation-preview");
    assert.equal(await current(app, endpoint), null, "a preview saves nothing");
    await save(page);
    await page.getByText("The transformation is saved.").waitFor();
    const first = await current(app, endpoint);
    assert.match(first.body, /specversion/);

    const message = await app.publish("invoice.paid", { invoice: 18 });
    const [, sent] = await requestsTo("/events", 2);
    assert.equal(JSON.parse(sent.body).specversion, "1.0");
    assert.deepEqual(JSON.parse(sent.body).data, { invoice: 18 });
    await app.delivered(message);
    const [attempt] = (await owner.get(`${app.path}/attempt/endpoint/${endpoint.id}`)).data;
    await open(page, `/portal/attempt/${message.id}/${attempt.id}`);
    await page.getByText("made another body of it").waitFor();
    await button(page, "Show the body").click();
    await page.getByRole("region", { name: "Body as it is made today" }).getByText(/"specversion"/).waitFor();
    await look(page, "transformation-attempt", { twice: true });

    // A second version, and back to the first.
    await open(page, `/portal/endpoint/${endpoint.id}/transformation`);
    await field(page, "Body").fill(`{"number": {{ payload.invoice }}}`);
    await field(page, "Method").selectOption("PUT");
    await button(page, "Add Header").click();
    await page.getByLabel("Name of headers 1").fill("X-Kind");
    await page.getByLabel("Value of X-Kind").fill("{{ message.event_type }}");
    await save(page);
    await page.getByText("The transformation is saved.").waitFor();
    await page.getByRole("row").filter({ hasText: "In effect" }).getByText(/X-Kind/).waitFor();
    assert.deepEqual((await current(app, endpoint)).headers, { "X-Kind": "{{ message.event_type }}" });
    await look(page, "transformation-versions");
    await button(page, "View version 1").click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText(/specversion/).first().waitFor();
    await look(page, "transformation-version", { twice: true });
    await button(dialog, "Restore").click();
    await page.getByText("Version 1 is in effect again.").waitFor();
    assert.deepEqual(await current(app, endpoint), first);
    await until("the former body", async () => /specversion/.test(await field(page, "Body").inputValue()));
    await page.getByRole("link", { name: "Overview" }).click();
    await page.getByRole("link", { name: /^Of body/ }).waitFor();
  },

  "a template that is wrong is refused with its line, and one that fails shows it in the preview": async (step) => {
    step.allow(422);
    const { app, page } = await arriveAt(step, "/wrong");
    await app.publish("invoice.paid", { invoice: 17 });
    await requestsTo("/wrong");
    await page.getByRole("link", { name: "Transformation" }).click();
    await field(page, "Body").fill(`{\n  "a": {{ payload.invoice\n}`);
    await save(page);
    await until("the line", async () => /line \d/.test(await complaint(field(page, "Body"))));
    await look(page, "transformation-refused", { twice: true });
    await field(page, "Body").fill(`{\n  "a": {{ payload.customer.name }}\n}`);
    await button(page, "Preview").click();
    await preview(page).getByText(/^body, line 2: /).waitFor();
    await look(page, "transformation-fails");
  },

  "where the profile allows none, nothing offers it": async (step) => {
    const { page, endpoint } = await arriveAt(step, "/fixed", { profile: "ocrolus" });
    await page.getByText("profile ocrolus").waitFor();
    assert.equal(await page.getByRole("link", { name: "Transformation" }).count(), 0);
    await open(page, `/portal/endpoint/${endpoint.id}/transformation`);
    await page.getByRole("heading", { name: "Not allowed" }).waitFor();
  },

  "who only looks sees templates and versions, and no button": async (step) => {
    const transformation = { body: `{"id": {{ message.id }}}`, method: "PUT" };
    const { app, endpoint } = await arriveAt(step, "/viewed", { transformation });
    const viewer = await owner.post("/token", { name: "Auditor", role: "viewer" });
    const page = await atConsole(step, viewer.token);
    await open(page, `/console/app/${app.id}/endpoint/${endpoint.id}/transformation`);
    await page.getByRole("region", { name: "Transformation", exact: true }).getByText("message.id").waitFor();
    assert.equal(await button(page, "Save").count(), 0);
    await button(page, "View version 1").click();
    await page.getByRole("dialog").getByText("message.id").waitFor();
    assert.equal(await button(page.getByRole("dialog"), "Restore").count(), 0);
  },
});
