// What the five systems' documents tell their users to do in a web page, done as they tell it. main.rs
// starts the server with one system's settings and catalogue, and has the steps done that are named
// after it. The quotes are the documents' words.

import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import {
  answers,
  Api,
  assert,
  atConsole,
  atPortal,
  complaint,
  customer,
  open,
  openPortal,
  owner,
  requestsTo,
  run,
  settled,
  signIn,
  until,
  url,
} from "./lib.mjs";

const heading = (page, name, level = 1) => page.getByRole("heading", { level, name });
const button = (page, name, options = {}) => page.getByRole("button", { name, ...options });
const link = (page, name, options = {}) => page.getByRole("link", { name, ...options });
const group = (page, name) => page.getByRole("group", { name, exact: true });
const everything = (page, of) => group(page, of).getByRole("switch");
const urlField = (page) => page.getByLabel("URL", { exact: true });

/** The message that a system's example publishes, byte for byte. */
const example = (system) =>
  readFileSync(join(import.meta.dirname, `../../examples/${system}/message.json`), "utf8");
/** The payload's own text in it. */
const payload = (text) => text.slice(text.indexOf('"payload":') + 10, text.lastIndexOf("}")).trim();

/** The endpoint that the page has just made. */
const newest = async (app) =>
  (await owner.get(`/app/${app}/endpoint?limit=1&order=descending`)).data[0];

/** Answers as OVCODE's receivers must. */
const ok = (_, response) => response.writeHead(200, { "content-type": "text/plain" }).end("OK");

await run({
  "ovcode: the project's Webhooks tab, Add Webhook, URL, events, Save": async (step) => {
    answers["/ovcode"] = ok;
    const page = await step.page();
    // "Log in to the Enterprise Portal, navigate to the project component, and select the project."
    await signIn(page);
    await link(page, "Applications").click();
    await link(page, "The project Contracts").click();
    // "Click on the "Webhooks" tab and click the "Add Webhook" button."
    await page.getByRole("navigation").getByRole("link", { name: "Webhooks", exact: true }).click();
    await link(page, "Add Webhook").click();
    // "Enter the URL of the webhook API endpoint, select the events that should trigger the
    // webhook, and click "Save.""
    await urlField(page).fill(url("/ovcode"));
    await everything(page, "Events").uncheck();
    await page.getByLabel("document.succeeded").check();
    await button(page, "Save").click();
    await heading(page, url("/ovcode")).waitFor();
    const made = await newest("contracts");
    assert.deepEqual(made.eventTypes, ["document.succeeded"]);
    // "receives the webhook request with x-api-secret security"
    const { key } = await owner.get(`/app/contracts/endpoint/${made.id}/secret`);
    await owner.post("/app/contracts/msg", example("ovcode"));
    const [request] = await requestsTo("/ovcode");
    assert.equal(request.headers["x-api-secret"], key);
    assert.equal(request.body, payload(example("ovcode")));
    // "Monitor the logs to ensure that incoming webhook requests are received promptly and that the
    // response codes indicate success."
    await until("success in the log", async () => {
      await page.reload();
      await settled(page);
      return (await page.getByRole("table", { name: "Attempts" }).getByText("Succeeded").count()) > 0;
    });
    await page.getByText(/Promptness/).first().waitFor();
    // Only "HTTP Code: 200, Body: OK, Content-Type: text/plain" is a success.
    answers["/ovcode"] = 200;
    await owner.post("/app/contracts/msg", example("ovcode"));
    await until("a failure in the log", async () => {
      await page.reload();
      await settled(page);
      return (await page.getByRole("table", { name: "Attempts" }).getByText("Failed").count()) > 0;
    });
  },

  "ovcode: the same in the portal, and the API key from its section": async (step) => {
    const page = await step.page();
    await openPortal(page, await owner.post("/auth/app-portal-access/contracts"));
    await page.getByRole("navigation").getByRole("link", { name: "Webhooks", exact: true }).click();
    await link(page, "Add Webhook").first().click();
    await urlField(page).fill(url("/ovcode/portal"));
    await everything(page, "Events").uncheck();
    await page.getByLabel("document.failed").check();
    await button(page, "Save").click();
    await heading(page, url("/ovcode/portal")).waitFor();
    // "Obtain the API key by navigating to the API section of the account dashboard."
    await link(page, "API keys").click();
    await button(page, /API key/).first().click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Name").fill("OVCODE");
    await dialog.getByRole("button", { name: /^Create/ }).click();
    const key = (await dialog.getByText(/^pr_/).innerText()).trim();
    const listed = await new Api(key).get("/app/contracts/endpoint");
    assert(listed.data.some((one) => one.url === url("/ovcode/portal")));
  },

  "ioffice: + Create Webhook: payload URL, secret, event, method, entities": async (step) => {
    const site = await customer("Site 7", "site-7");
    const page = await atPortal(step, site);
    await open(page, "/portal");
    // "Next click Marketplace to display the Marketplace admin tools"
    await page.getByRole("navigation").getByRole("link", { name: "Marketplace", exact: true }).click();
    // "First Click the + Create Webhook at the upper right-hand corner."
    await link(page, "+ Create Webhook").first().click();
    // "Click the Payload URL field and enter the Payload URL."
    await page.getByLabel("Payload URL").fill(url("/ioffice"));
    // "Click the input field for the Secret key and enter the credentials."
    await page.getByLabel(/^Secret key/).first().fill("mySecret");
    // "Select the Event type and Method."
    await everything(page, "Events").uncheck();
    await page.getByLabel("CREATE").check();
    await page.getByLabel("Method").selectOption("GET");
    // "There are 140 points of data that can be specified. Use the toggle to turn off Send Me
    // Everything, and a list of data points will display. Select the data you would like to share
    // by clicking the checkbox next to the data point."
    await group(page, "Entities").getByRole("switch", { name: "Send Me Everything" }).uncheck();
    assert.equal(await page.getByRole("switch", { name: "Send Me Everything" }).count(), 1);
    const entities = group(page, "Entities");
    assert((await entities.getByRole("checkbox").count()) >= 140);
    await page.getByLabel("Search entities").fill("agree");
    await entities.getByLabel("Lease", { exact: true }).waitFor({ state: "detached" });
    await entities.getByLabel("Agreement", { exact: true }).check();
    await button(page, "Save").click();
    await heading(page, url("/ioffice")).waitFor();
    const made = await newest(site.id);
    assert.deepEqual(
      [made.eventTypes, made.channels, made.method],
      [["CREATE"], ["Agreement"], "GET"],
    );
    // "This will create a hash 6206491d…"
    await owner.post(`${site.path}/msg`, example("ioffice"));
    const [request] = await requestsTo("/ioffice");
    assert.deepEqual([request.method, request.path], ["GET", "/ioffice/CREATE/Agreement/25"]);
    assert.equal(
      request.headers["x-ioffice-signature"],
      "6206491ddab1218e7d6a9c8b3fbaa43da7858ee678dc6cd53a4dcabf0216568e",
    );
    // Send Me Everything again: the filter goes.
    await link(page, "Edit").click();
    await everything(page, "Entities").check();
    await page.getByLabel("Method").selectOption("POST");
    await button(page, "Save").click();
    await heading(page, url("/ioffice")).waitFor();
    assert.equal((await newest(site.id)).channels ?? null, null);
    await owner.post(`${site.path}/msg`, example("ioffice"));
    const [, second] = await requestsTo("/ioffice", 2);
    assert.deepEqual([second.method, second.body], ["POST", payload(example("ioffice"))]);
  },

  "okhi: the webhook URL in the settings, a header of one's own, and a test by hand": async (step) => {
    const bank = await customer("Another bank", "another-bank");
    const page = await atPortal(step, bank);
    await open(page, "/portal");
    // "access OkDash by logging in … select "settings" and proceed to enter your webhook URL"
    await page.getByRole("navigation").getByRole("link", { name: "Settings", exact: true }).click();
    await link(page, "Add Webhook").first().click();
    await page.getByLabel("Webhook URL").fill(url("/okhi"));
    // "To verify event notifications, add a custom header to your webhook."
    await button(page, "Add Header").click();
    await page.getByLabel("Name of headers 1").fill("okhi-authorization");
    await page.getByLabel("Value of okhi-authorization").fill("the customer's choice");
    await button(page, "Save").click();
    await heading(page, url("/okhi")).waitFor();
    // "Once you have configured your webhook, test it by making a POST request to your webhook."
    await link(page, "Send a test").first().click();
    await page.getByLabel("Event", { exact: true }).selectOption("address_verification.digital");
    const body = page.getByLabel("Payload");
    await until("the example", async () => (await body.inputValue()).includes("verified"));
    const edited = (await body.inputValue()).replace('"verified"', '"not_verified"');
    await body.fill(edited);
    await button(page, "Send the test").click();
    const [request] = await requestsTo("/okhi");
    assert.equal(request.method, "POST");
    assert.equal(request.body, edited);
    assert.equal(request.headers["okhi-authorization"], "the customer's choice");
    await page.getByRole("region", { name: "Result" }).getByText("Succeeded").waitFor();
    // The header's value is shown nowhere again.
    await link(page, /attempt/).last().click();
    await heading(page, /address_verification/).waitFor();
    await settled(page);
    assert(!(await page.content()).includes("the customer's choice"));
    // "the system logs a timeout error": told apart from other failures.
    answers["/okhi/late"] = () => {};
    const late = await bank.endpoint({ url: url("/okhi/late"), timeoutSeconds: 1 });
    await owner.post(`${bank.path}/endpoint/${late.id}/send-example`, {
      eventType: "address_verification.digital",
    });
    await requestsTo("/okhi/late");
    await until("the timeout in the log", async () => {
      await open(page, `/portal/endpoint/${late.id}`);
      return (await page.getByRole("table", { name: "Attempts" }).getByText(/timed out/i).count()) > 0;
    });
  },

  "ovation: the event log, for a webhook admin and a webhook user": async (step) => {
    step.allow(404);
    const template = await customer("Template 456", "456");
    // As Ovation's API makes them.
    const make = async (path) => {
      const answer = await fetch(
        `${process.env.SERVER_URL}/api/v3/project_templates/456/webhook_endpoints`,
        {
          method: "POST",
          headers: { authorization: `Bearer ${owner.token}`, "content-type": "application/json" },
          body: JSON.stringify({
            webhookEndpoint: {
              target_url: url(path),
              event: "report_signed",
              username: "someUser",
              password: "somePassword",
              requestHeaders: { "X-Lab": "any value" },
              authenticationHeaders: { "api-key": "1234" },
            },
          }),
        },
      );
      assert.equal(answer.status, 201);
      return newest(template.id);
    };
    answers["/ovation/broken"] = 500;
    const [own, other] = [await make("/ovation/own"), await make("/ovation/broken")];
    const admin = await owner.post("/token", { name: "Admin", role: "webhook_admin" });
    const user = await owner.post("/token", { name: "External", role: "webhook_user" });
    await owner.put(`/token/${user.id}/endpoint/${own.id}`);
    await owner.post(`${template.path}/msg`, example("ovation"));
    await requestsTo("/ovation/own");
    await requestsTo("/ovation/broken");

    const page = await step.page();
    await signIn(page, admin.token);
    await link(page, "Applications").click();
    await link(page, "Template 456").click();
    await link(page, url("/ovation/broken")).click();
    await heading(page, url("/ovation/broken")).waitFor();
    await settled(page);
    await page.getByLabel("Outcome", { exact: true }).selectOption("Failed");
    const table = page.getByRole("table", { name: "Attempts" });
    await table.getByRole("link", { name: /Failed/ }).first().click();
    await heading(page, /report_signed/).waitFor();
    await settled(page);
    const text = await page.getByRole("main").innerText();
    assert.match(text, /POST http:\/\/127\.0\.0\.1:\d+\/ovation\/broken/);
    assert.match(text, /x-lab: any value/i);
    assert.match(text, /"report_signed"/);
    assert.match(text, /500/);
    const html = await page.content();
    for (const secret of ["somePassword", btoa("someUser:somePassword"), "1234"]) {
      assert(!html.includes(secret), `${secret} is shown`);
    }

    // "Webhook User: for users meant to have access to specific webhook endpoints"
    const external = await atConsole(step, user.token);
    await open(external, "/console/applications");
    await link(external, "Template 456").click();
    await external.getByText(url("/ovation/own")).first().waitFor();
    await settled(external);
    assert.equal(await external.getByText(url("/ovation/broken")).count(), 0);
    await external.goto(`${process.env.SERVER_URL}/console/app/${template.id}/endpoint/${other.id}`);
    await external.getByText(/not exist|not found/i).first().waitFor();
  },

  "ocrolus: one endpoint for each API key, its events, and credentials": async (step) => {
    const account = await customer("Another lender", "another-lender");
    const page = await atPortal(step, account);
    await open(page, "/portal/keys");
    // "you can also create multiple API keys and register each API key to have its own webhook URL"
    const keys = [];
    for (const name of ["First", "Second"]) {
      await button(page, /API key/).first().click();
      const dialog = page.getByRole("dialog");
      await dialog.getByLabel("Name").fill(name);
      await dialog.getByRole("button", { name: /^Create/ }).click();
      keys.push((await dialog.getByText(/^pr_/).innerText()).trim());
      await dialog.getByRole("button", { name: /stored|copied/ }).click();
      await dialog.waitFor({ state: "detached" });
    }
    for (const [at, key] of keys.entries()) {
      const form = new FormData();
      form.set("webhook_endpoint", url(`/ocrolus/${at}`));
      form.set("event", "BOOK_VERIFIED");
      const where = `${process.env.SERVER_URL}/v1/account/settings/update/webhook_endpoint`;
      const headers = { authorization: `Bearer ${key}` };
      assert.equal((await fetch(where, { method: "POST", headers, body: form })).status, 200);
    }
    await page.getByRole("navigation").getByRole("link", { name: "Webhooks", exact: true }).click();
    for (const at of [0, 1]) await link(page, url(`/ocrolus/${at}`)).waitFor();

    // "they register a URL and credentials (optional) to authenticate with their HTTP server"
    await link(page, "Add Webhook").first().click();
    await urlField(page).fill(url("/ocrolus/by-hand"));
    await page.getByLabel("Authentication").selectOption("basic");
    await button(page, "Save").click();
    const username = page.getByRole("textbox", { name: "Username" });
    await until("what is missing", () => complaint(username));
    await username.fill("pennymae");
    await page.getByLabel("Password", { exact: true }).fill("of their own");
    // "you can see a list of event types supported"
    await everything(page, "Events").uncheck();
    await page.getByLabel("BOOK_VERIFIED").check();
    await page.getByLabel("ANALYTICS_COMPLETED").check();
    await button(page, "Save").click();
    await heading(page, url("/ocrolus/by-hand")).waitFor();
    const made = await newest(account.id);
    assert.deepEqual(made.eventTypes.toSorted(), ["ANALYTICS_COMPLETED", "BOOK_VERIFIED"]);
    await owner.post(`${account.path}/msg`, example("ocrolus"));
    const [{ headers, body }] = await requestsTo("/ocrolus/by-hand");
    assert.equal(headers.authorization, `Basic ${btoa("pennymae:of their own")}`);
    const { key } = await owner.get(`${account.path}/endpoint/${made.id}/secret`);
    const signed = `${headers["webhook-timestamp"]}.${headers["webhook-request-id"]}.${body}`;
    assert.equal(
      headers["webhook-signature"],
      createHmac("sha256", key).update(signed).digest("hex"),
    );
    for (const at of [0, 1]) await requestsTo(`/ocrolus/${at}`);
  },
});
