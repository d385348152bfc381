// What operators do in the console beyond what their customers can.

import {
  answers,
  Api,
  assert,
  atConsole,
  complaint,
  customer,
  look,
  NARROW,
  open,
  owner,
  received,
  requestsTo,
  run,
  SERVER_URL,
  settled,
  until,
  url,
} from "./lib.mjs";
import { INVOICE_EXAMPLE, world } from "./world.mjs";

const heading = (page, name, level = 1) => page.getByRole("heading", { level, name });
const button = (page, name, options = {}) => page.getByRole("button", { name, ...options });
const link = (page, name, options = {}) => page.getByRole("link", { name, ...options });
const dialog = (page) => page.getByRole("dialog");
const row = (page, text) => page.getByRole("row").filter({ hasText: text });
const region = (page, name) => page.getByRole("region", { name, exact: true });

const steps = {
  "overview: a server that has just started has nothing wrong": async (step) => {
    const page = await atConsole(step);
    await open(page, "/console");
    // But what --dev allows, without which there would be no receivers here.
    const problems = page.getByRole("listitem").filter({ hasText: /Critical|Warning/ });
    assert.equal(await problems.count(), 1);
    assert.match(await problems.innerText(), /private addresses/);
    await page.route("**/api/v1/status", async (route) => {
      const answer = await route.fetch();
      await route.fulfill({ json: { ...(await answer.json()), problems: [] } });
    });
    await page.reload();
    await page.getByText("All is well").waitFor();
    assert((await page.getByRole("figure").count()) >= 2, "charts of throughput and latency");
    for (const name of ["Store", "Registrations", "Server"]) await heading(page, name, 2).waitFor();
    await page.getByText("Threads", { exact: true }).click();
    await page.getByText("writes every change to the disk").waitFor();
    const text = await page.getByRole("main").innerText();
    assert.match(text, /Queue\s+[\d.]+ (bytes|[KMG]iB)/);
    assert.match(text, /Free\s+[\d.]+ [KMGT]iB/);
  },
};

let made;
/** The world is made after the step that wants none. */
const seeded = async () => (made ??= await world());

Object.assign(steps, {
  "overview: what is wrong right now, and live charts": async (step) => {
    const { acme, endpoints } = await seeded();
    const page = await atConsole(step);
    await open(page, "/console");
    await heading(page, "What is wrong right now", 2).waitFor();
    const problems = page.getByRole("listitem").filter({ hasText: /Critical|Warning/ });
    await problems.filter({ hasText: url("/crm") }).first().waitFor();
    // The charts are live: a sample every five seconds.
    const charts = () => page.getByRole("figure").allInnerTexts();
    await until("a sample", async () => !/nothing yet/i.test((await charts()).join("\n")));
    const before = (await charts()).join("\n");
    await until("another", async () => (await charts()).join("\n") !== before);
    await problems.filter({ hasText: url("/crm") }).first().getByRole("link").first().click();
    await heading(page, "Customer relations, the old system").waitFor();
    assert(new URL(page.url()).pathname.includes(`/console/app/${acme.id}/endpoint/`));
    assert(new URL(page.url()).pathname.includes(endpoints.crm.id));
  },

  "applications: add, find, change, delete with the name": async (step) => {
    step.allow(409, 422);
    await seeded();
    const page = await atConsole(step);
    await open(page, "/console");
    await link(page, "Applications").first().click();
    await heading(page, "Applications").waitFor();
    await button(page, "Add application").click();
    await button(dialog(page), "Add application").click();
    await until("what is missing", () => complaint(dialog(page).getByLabel("Name")));
    await dialog(page).getByLabel("Name").fill("Stark Industries");
    await dialog(page).getByLabel(/^UID/).fill("acme");
    await button(dialog(page), "Add application").click();
    await dialog(page).getByRole("alert").waitFor();
    assert.equal(await dialog(page).getByLabel("Name").inputValue(), "Stark Industries");
    await dialog(page).getByLabel(/^UID/).fill("stark");
    await button(dialog(page), "Add application").click();
    await dialog(page).waitFor({ state: "detached" });
    await page.getByRole("searchbox").fill("STARK");
    await row(page, "Acme Inc.").waitFor({ state: "detached" });
    await button(page, "Edit Stark Industries").click();
    await dialog(page).getByLabel("Name").fill("Stark & Sons");
    await dialog(page).getByLabel(/^Rate limit/).fill("50");
    await button(dialog(page), "Save").click();
    await row(page, "Stark & Sons").waitFor();
    const app = await owner.get("/app/stark");
    assert.deepEqual([app.name, app.throttleRate], ["Stark & Sons", 50]);
    await button(page, "Delete Stark & Sons").click();
    assert.match(await dialog(page).innerText(), /Stark & Sons \(stark\)/);
    await button(dialog(page), "Cancel").click();
    await button(page, "Delete Stark & Sons").click();
    await button(dialog(page), "Delete Stark & Sons").click();
    await row(page, "Stark & Sons").waitFor({ state: "detached" });
    assert.equal((await owner.fetch("GET", "/app/stark")).status, 404);
  },

  "endpoints: warnings of a saved one are shown until dismissed or left": async (step) => {
    const app = await customer("Warned", "warned");
    const page = await atConsole(step);
    const warning = page.getByRole("status").filter({ hasText: "not registered" });
    const says = "eventTypes[0]: invoice.piad is not registered";
    await open(page, `/console/app/${app.id}/new?event=invoice.piad`);
    await page.getByLabel("URL").fill(url("/warned"));
    await button(page, "Save").click();
    await warning.waitFor();
    assert((await warning.innerText()).includes(says));
    const [endpoint] = await app.endpoints();
    assert.deepEqual(endpoint.eventTypes, ["invoice.piad"]);
    await look(page, "console-endpoint-warned");
    await button(warning, "Dismiss").click();
    await warning.waitFor({ state: "detached" });
    await link(page, "Edit").click();
    await page.getByLabel("Description").fill("Changed");
    await button(page, "Save").click();
    await heading(page, "Changed").waitFor();
    await warning.waitFor();
    assert((await warning.innerText()).includes(says));
    await page.reload();
    await heading(page, "Changed").waitFor();
    assert.equal(await warning.count(), 0);
  },

  "applications: a link to the portal, and the end of all of them": async (step) => {
    step.allow(401);
    const { acme } = await seeded();
    const page = await atConsole(step);
    await open(page, "/console/applications");
    await button(page, "Portal access for Acme Inc.").click();
    await dialog(page).getByLabel("It allows").selectOption("Looking only, without secrets");
    await dialog(page).getByLabel("The link works for").selectOption("1 day");
    await button(dialog(page), "Create link").click();
    const shown = await dialog(page).getByRole("region", { name: "Portal link" }).innerText();
    const at = new URL(shown.trim());
    assert.equal(at.pathname, "/portal");
    const customers = await step.page();
    await customers.goto(SERVER_URL + at.pathname + at.hash);
    await heading(customers, "Webhooks").waitFor();
    await settled(customers);
    assert.equal(await link(customers, "Add Webhook").count(), 0);
    const theirs = new Api(new URLSearchParams(at.hash.slice(1)).get("token"));
    assert.equal((await theirs.fetch("GET", acme.path)).status, 200);
    await button(dialog(page), "Another link").click();
    await button(dialog(page), "End all links").click();
    const question = dialog(page).filter({ hasText: "signed out at once" });
    assert.match(await question.innerText(), /Acme Inc\./);
    await question.getByRole("button", { name: /End all links of.*Acme Inc\./ }).click();
    await page.getByText(/have ended/).first().waitFor();
    assert.equal((await theirs.fetch("GET", acme.path)).status, 401);
  },

  "webhooks of every customer: added, tested and deleted by the operator": async (step) => {
    const { globex } = await seeded();
    const page = await atConsole(step);
    await open(page, "/console/applications");
    await link(page, "Globex Corporation").click();
    await heading(page, "Webhooks").waitFor();
    await link(page, "Add Webhook").click();
    await page.getByLabel("URL", { exact: true }).fill(url("/by-the-operator"));
    await page.getByText("Advanced").click();
    await page.getByLabel(/^UID/).fill("operators");
    await page.getByLabel("Retries").selectOption("Own waits");
    await page.getByLabel("Waits, in seconds").fill("1, 2, 3");
    await page.getByLabel(/^Timeout/).fill("7");
    await button(page, "Save").click();
    await heading(page, url("/by-the-operator")).waitFor();
    const endpoint = await owner.get(`${globex.path}/endpoint/operators`);
    assert.deepEqual([endpoint.retry.delaysSeconds, endpoint.timeoutSeconds], [[1, 2, 3], 7]);
    await link(page, "Send a test").first().click();
    await heading(page, "Send a test").waitFor();
    await settled(page);
    await button(page, "Send the test").click();
    await requestsTo("/by-the-operator");
    await link(page, "Overview").last().click();
    await button(page, "Delete").click();
    await dialog(page).getByRole("button", { name: /Delete.*by-the-operator|Delete.*127/ }).click();
    await heading(page, "Webhooks").waitFor();
    assert.equal((await owner.fetch("GET", `${globex.path}/endpoint/operators`)).status, 404);
  },

  "a message is published by hand, and seen through": async (step) => {
    const { globex } = await seeded();
    const page = await atConsole(step);
    await open(page, `/console/app/${globex.id}/messages`);
    await button(page, "Publish a message").click();
    await dialog(page).getByLabel("Event", { exact: true }).fill("order.created");
    const text = `{"order":  "o-99", "price": 1.50}`;
    await dialog(page).getByLabel("Payload").fill(text);
    await button(dialog(page), "Publish").click();
    await heading(page, "order.created").waitFor();
    await until("the message", () =>
      received.some((one) => one.path === "/globex" && one.body === text),
    );
    await row(page, url("/globex")).getByText("Succeeded").first().waitFor();
  },

  "event types: added, with a schema, an example and a new version": async (step) => {
    await seeded();
    const page = await atConsole(step);
    await open(page, "/console/event-types");
    await heading(page, "Billing", 2).waitFor();
    await button(page, "Add event type").click();
    await dialog(page).getByLabel("Name").fill("parcel.lost");
    await dialog(page).getByLabel("Description").fill("Nobody knows where it is");
    await dialog(page).getByLabel(/^Group/).fill("Parcels");
    await button(dialog(page), "Add event type").click();
    await heading(page, "parcel.lost").waitFor();
    await settled(page);
    await button(page, "Add version").click();
    const schema = page.getByLabel("JSON Schema, version 1");
    await schema.fill(`{"type": "object", "properties": {`);
    await until("what is wrong with it", () => complaint(schema));
    await schema.fill(`{"type": "text"}`);
    await page.getByText(/“text” is no type/).waitFor();
    const given = `{"type": "object", "properties": {"parcel": {"type":   "string"}}}`;
    await schema.fill(given);
    const example = page.getByLabel("Example payload");
    await example.fill(`[17]`);
    await button(page, "Save").click();
    await until("what is wrong with it", () => complaint(example));
    await example.fill(`{"parcel":   "p-1", "value": 10.00}`);
    await button(page, "Save").click();
    await page.getByText("parcel.lost was saved.").waitFor();
    const answer = await owner.fetch("GET", "/event-type/parcel.lost");
    const text = await answer.text();
    assert(text.includes(`{"parcel":   "p-1", "value": 10.00}`), text);
    assert.deepEqual(JSON.parse(text).schemas, { 1: JSON.parse(given) });
    await settled(page);
    await button(page, "Add version").click();
    await page.getByLabel("JSON Schema, version 2").waitFor();
    await button(page, "Save").click();
    await until("two versions", async () => {
      const { schemas } = await owner.get("/event-type/parcel.lost");
      return Object.keys(schemas).length === 2;
    });
    await settled(page);
    await button(page, "Archive").click();
    await page.getByText("Archived", { exact: true }).first().waitFor();
    await button(page, "Delete").click();
    assert.match(await dialog(page).innerText(), /parcel\.lost/);
    await button(dialog(page), "Delete parcel.lost").click();
    await heading(page, "Event types").waitFor();
    assert.equal((await owner.fetch("GET", "/event-type/parcel.lost")).status, 404);
  },

  "event types: an edit keeps example and schemas byte for byte": async (step) => {
    await seeded();
    const page = await atConsole(step);
    await open(page, "/console/event-types/invoice.overdue");
    assert.equal(await page.getByLabel("Example payload").inputValue(), INVOICE_EXAMPLE);
    await page.getByLabel("Description").fill("Its date is past");
    await button(page, "Save").click();
    await page.getByText("invoice.overdue was saved.").waitFor();
    const text = await (await owner.fetch("GET", "/event-type/invoice.overdue")).text();
    assert(text.includes(INVOICE_EXAMPLE), text);
    assert.equal(JSON.parse(text).description, "Its date is past");
  },

  "event types: an OpenAPI document is imported after it was seen what it does": async (step) => {
    step.allow(422);
    await seeded();
    const page = await atConsole(step);
    await open(page, "/console/event-types");
    await button(page, "Import OpenAPI").click();
    const text = dialog(page).getByLabel(/^Document/);
    await text.fill("openapi: [");
    await button(dialog(page), "Show the changes").click();
    await until("what is wrong with it", async () =>
      (await complaint(text)) || (await dialog(page).getByRole("alert").count()),
    );
    await text.fill(
      JSON.stringify({
        openapi: "3.1.0",
        info: { title: "Shop", version: "1" },
        webhooks: { "basket.forgotten": { post: { description: "Somebody left it" } } },
      }),
    );
    await button(dialog(page), "Show the changes").click();
    await dialog(page).getByText("basket.forgotten").waitFor();
    assert.equal((await owner.fetch("GET", "/event-type/basket.forgotten")).status, 404);
    await dialog(page).getByRole("button", { name: /^Import/ }).click();
    await link(page, "basket.forgotten").waitFor();
    assert.equal((await owner.get("/event-type/basket.forgotten")).description, "Somebody left it");
  },

  "tokens: made for a role, shown once, granted endpoints, revoked": async (step) => {
    const { endpoints } = await seeded();
    const page = await atConsole(step);
    await open(page, "/console/tokens");
    await row(page, "Billing backend").getByText("Publisher").waitFor();
    await button(page, "Create token").click();
    await dialog(page).getByLabel("Name").fill("A partner");
    await dialog(page).getByRole("radio", { name: /^Webhook user/ }).check();
    await button(dialog(page), "Create token").click();
    const shown = dialog(page).getByRole("region", { name: "Token" });
    const token = (await shown.innerText()).trim();
    assert.match(token, /^pr_/);
    await link(dialog(page), "Grant endpoints").click();
    await heading(page, "A partner").waitFor();
    await settled(page);
    assert(!(await page.content()).includes(token), "the token is still in the page");
    await page.getByLabel("Application", { exact: true }).fill("acme");
    await button(page, `Grant ${url("/books")}`).click();
    const granted = page.getByRole("table", { name: "Granted endpoints" });
    await granted.getByText(url("/books")).or(granted.getByText(endpoints.books.id)).first().waitFor();
    const theirs = new Api(token);
    assert.deepEqual((await theirs.get("/app/acme/endpoint")).data.map((one) => one.uid), ["books"]);
    await granted.getByRole("button", { name: /^Take back/ }).click();
    await granted.waitFor({ state: "detached" });
    assert.equal((await theirs.fetch("GET", "/app/acme/endpoint")).status, 404);
    // With the application it may make endpoints there.
    const application = page.getByLabel("Grant an application");
    await application.fill("acme");
    await button(page, "Grant it").click();
    const applications = page.getByRole("table", { name: "Granted applications" });
    await applications.getByRole("link").waitFor();
    assert.deepEqual((await theirs.get("/app/acme/endpoint")).data, []);
    await applications.getByRole("button", { name: /^Take back/ }).click();
    await applications.waitFor({ state: "detached" });
    assert.equal((await theirs.fetch("GET", "/app/acme/endpoint")).status, 404);
    await open(page, "/console/tokens");
    await button(page, "Revoke A partner").click();
    assert.match(await dialog(page).innerText(), /A partner/);
    await button(dialog(page), "Revoke A partner").click();
    await row(page, "A partner").waitFor({ state: "detached" });
    assert.equal((await theirs.fetch("GET", "/app/acme/endpoint")).status, 401);

    // One of an application: the application is looked for by its name.
    step.allow(404, 422);
    await button(page, "Create token").click();
    await dialog(page).getByLabel("Name").fill("A customer's backend");
    await dialog(page).getByRole("radio", { name: /^Application/ }).check();
    const own = dialog(page).getByRole("combobox", { name: /^Application/ });
    await own.fill("nobody at all");
    await button(dialog(page), "Create token").click();
    await until("what is wrong with it", () => complaint(own));
    await own.fill("globex");
    await button(dialog(page), "Create token").click();
    await dialog(page).getByRole("region", { name: "Token" }).waitFor();
  },

  "tokens: limited to operations, applications and networks": async (step) => {
    await seeded();
    const page = await atConsole(step);
    await open(page, "/console/tokens");
    await button(page, "Create token").click();
    await dialog(page).getByLabel("Name", { exact: true }).fill("Nightly job");
    await dialog(page).getByLabel("Description").fill("Runs on the build machine");
    await dialog(page).getByText("Limits").click();
    // A publisher can use two scopes; one that was chosen before is refused, and not left out: without
    // any the token could do all that a publisher may.
    const checkboxes = dialog(page).getByRole("checkbox");
    const eventTypes = dialog(page).getByLabel("Change event types");
    step.allow(422);
    await dialog(page).getByRole("radio", { name: /^Owner/ }).check();
    await eventTypes.check();
    await dialog(page).getByRole("radio", { name: /^Publisher/ }).check();
    assert.equal(await checkboxes.count(), 3);
    await button(dialog(page), "Create token").click();
    await until("what is wrong with the scope", () => complaint(eventTypes));
    await eventTypes.click(); // It goes with that.
    await eventTypes.waitFor({ state: "detached" });
    assert.equal(await checkboxes.count(), 2);
    await look(page, "console-create-token-limits", { twice: true });
    await dialog(page).getByLabel("Publish messages").check();
    await dialog(page).getByLabel("Only these applications").fill("acme");
    const networks = dialog(page).getByLabel("Only from these networks");
    await networks.fill("192.0.2.0/24\n192.0.2.7/24");
    await button(dialog(page), "Create token").click();
    const wrong = await until("what is wrong with the network", () => complaint(networks));
    assert.match(wrong, /192\.0\.2\.7\/24: must/);
    await networks.fill("192.0.2.0/24");
    await button(dialog(page), "Create token").click();
    await dialog(page).getByRole("region", { name: "Token" }).waitFor();
    await button(dialog(page), "I have copied it").click();
    await row(page, "Nightly job").getByText("from 192.0.2.0/24").waitFor();
    await link(page, "Nightly job").click();
    for (const text of ["Runs on the build machine", "Publish messages", "192.0.2.0/24"]) {
      await page.getByText(text).first().waitFor();
    }
    const made = (await owner.get("/token?limit=250")).data.find((one) => one.name === "Nightly job");
    assert.deepEqual([made.scopes, made.allowedIps], [["publish"], ["192.0.2.0/24"]]);
  },

  "profiles: each with what it does, and a preview while one types": async (step) => {
    step.allow(422);
    await seeded();
    const page = await atConsole(step);
    await open(page, "/console/profiles");
    await row(page, "standard").getByText("Default").waitFor();
    await link(page, "ioffice").click();
    await heading(page, "ioffice").waitFor();
    await settled(page);
    const preview = region(page, "Request");
    await until("a request", async () => /POST|GET/.test(await preview.innerText()));
    await page.getByLabel("URL", { exact: true }).fill("https://customer.example/in");
    await page.getByLabel("Method").selectOption("GET");
    await page.getByLabel(/^Secret/).fill("mySecret");
    await page
      .getByLabel(/^Payload/)
      .fill(`{"eventType": "CREATE", "entityType": "Agreement", "entityId": 25}`);
    await until("the request as it would be", async () => {
      const text = await preview.innerText();
      return (
        /GET \/in\/CREATE\/Agreement\/25/.test(text) &&
        text.includes("6206491ddab1218e7d6a9c8b3fbaa43da7858ee678dc6cd53a4dcabf0216568e")
      );
    });
    const payload = page.getByLabel(/^Payload/);
    await payload.fill(`{"eventType": "CREATE", `);
    await until("what is wrong with it", () => complaint(payload));
  },

  "lanes: depth, head age and what is in flight": async (step) => {
    const { acme, endpoints } = await seeded();
    const hanging = [];
    answers["/hangs"] = (_, response) => hanging.push(response);
    const slow = await acme.endpoint({ url: url("/hangs"), eventTypes: ["customer.merged"] });
    await acme.publish("customer.merged", { n: 1 });
    await requestsTo("/hangs");
    const page = await atConsole(step);
    await open(page, "/console/lanes");
    const table = page.getByRole("table", { name: "Lanes with work" });
    const failing = table.getByRole("row").filter({ hasText: url("/crm") });
    assert.match(await failing.innerText(), /\b4\d\b[\s\S]*\b0\b/);
    const now = table.getByRole("row").filter({ hasText: url("/hangs") });
    await until("one in flight", async () => /\b1\b/.test(await now.innerText()));
    await failing.getByRole("link").first().click();
    await heading(page, /Customer relations/).waitFor();
    assert(page.url().includes(endpoints.crm.id));
    for (const response of hanging) response.end();
    await owner.delete(`${acme.path}/endpoint/${slow.id}`);
  },

  "jobs: progress, and cancel with the name": async (step) => {
    const { globex } = await seeded();
    answers["/job"] = (_, response) => setTimeout(() => response.end(), 200);
    const endpoint = await globex.endpoint({ url: url("/job"), throttleRate: 5 });
    const since = new Date(Date.now() - 3_600_000).toISOString();
    const messages = Array.from({ length: 100 }, (_, n) => ({ eventType: "a.a", payload: { n } }));
    await owner.patch(`${globex.path}/endpoint/${endpoint.id}`, { disabled: true });
    await owner.post(`${globex.path}/msg/batch`, messages);
    await owner.post(`${globex.path}/endpoint/${endpoint.id}/bulk-replay`, { since });
    const page = await atConsole(step);
    await open(page, "/console/jobs");
    const job = page.getByRole("row").filter({ hasText: url("/job") }).or(row(page, endpoint.id));
    await job.first().getByText("Paused").waitFor();
    await owner.patch(`${globex.path}/endpoint/${endpoint.id}`, { disabled: false });
    await job.first().getByText("Running").waitFor();
    await job.first().getByRole("progressbar").waitFor();
    await job.first().getByRole("button", { name: /^Cancel/ }).click();
    await dialog(page).getByRole("button", { name: /Cancel “Replay”/ }).click();
    await job.first().getByText("Canceled").waitFor();
    await owner.delete(`${globex.path}/endpoint/${endpoint.id}`);
  },

  "operational webhooks: added, told, changed, their secret, and deleted": async (step) => {
    const { globex } = await seeded();
    const page = await atConsole(step);
    await open(page, "/console/operational");
    await heading(page, "No endpoints", 2).waitFor();
    await button(page, "Add endpoint").click();
    await dialog(page).getByLabel("URL").fill(url("/operations"));
    await dialog(page).getByLabel("An endpoint was added").check();
    await button(dialog(page), "Add endpoint").click();
    await row(page, url("/operations")).getByText("endpoint.created").waitFor();
    const endpoint = await globex.endpoint({ url: url("/told") });
    const [request] = await requestsTo("/operations");
    assert.equal(JSON.parse(request.body).data.endpointId, endpoint.id);
    await button(page, `Attempts ${url("/operations")}`).click();
    await dialog(page).getByText("endpoint.created").waitFor();
    await button(dialog(page), "Close").click();
    await button(page, `Secret ${url("/operations")}`).click();
    await button(dialog(page), "Reveal").click();
    await dialog(page).getByText(/^whsec_/).waitFor();
    await button(dialog(page), "Done").click();
    await button(page, `Edit ${url("/operations")}`).click();
    await dialog(page).getByLabel("Disabled", { exact: true }).check();
    await button(dialog(page), "Save").click();
    await row(page, url("/operations")).getByText("Disabled", { exact: true }).waitFor();
    await button(page, `Edit ${url("/operations")}`).click();
    await dialog(page).getByLabel("Profile").selectOption("to-slack");
    await button(dialog(page), "Save").click();
    await row(page, url("/operations")).getByText("Profile to-slack").waitFor();
    await button(page, `Delete ${url("/operations")}`).click();
    assert.match(await dialog(page).innerText(), /\/operations/);
    await dialog(page).getByRole("button", { name: /Delete.*operations/ }).click();
    await row(page, url("/operations")).waitFor({ state: "detached" });
    await owner.delete(`${globex.path}/endpoint/${endpoint.id}`);
  },

  "at 360 px the menu opens, leads on and closes": async (step) => {
    await seeded();
    const page = await atConsole(step, undefined, { viewport: NARROW });
    await open(page, "/console");
    assert.equal(await link(page, "Event types").isVisible(), false);
    const menu = button(page, "Menu");
    await menu.click();
    assert.equal(await menu.getAttribute("aria-expanded"), "true");
    await link(page, "Event types", { exact: true }).first().click();
    await heading(page, "Event types").waitFor();
    assert.equal(await menu.getAttribute("aria-expanded"), "false");
    await button(page, "Menu").click();
    await button(page, "Sign out").click();
    await page.getByLabel("Token").waitFor();
  },

  "each page has its own title, and takes the focus": async (step) => {
    await seeded();
    const page = await atConsole(step);
    await open(page, "/console");
    for (const name of ["Applications", "Event types", "Tokens", "Profiles", "Lanes", "Jobs"]) {
      await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name }).click();
      await heading(page, name).waitFor();
      await until(`the title of ${name}`, async () => (await page.title()).startsWith(name));
      await until(`the focus at ${name}`, () =>
        page.evaluate((text) => document.activeElement.innerText === text, name),
      );
      const landmarks = await page.evaluate(() =>
        ["header", "nav", "main"].map((tag) => document.querySelectorAll(tag).length > 0),
      );
      assert.deepEqual(landmarks, [true, true, true]);
    }
    await page.goBack();
    await heading(page, "Lanes").waitFor();
  },
});

await run(steps);
