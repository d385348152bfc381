// What customers do in the portal, from the first webhook to the last resort.

import { execFile } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import {
  answers,
  Api,
  assert,
  atPortal,
  complaint,
  customer,
  open,
  owner,
  received,
  requestsTo,
  run,
  SERVER_URL,
  settled,
  tabTo,
  until,
  url,
} from "./lib.mjs";
import { eventTypes } from "./world.mjs";

await eventTypes();
let customers = 0;

/** Has a sample judge a request that comes as JSON on standard input. */
const NODE_HARNESS = `
  import { text } from "node:stream/consumers";
  const { path, headers, body } = JSON.parse(await text(process.stdin));
  const { verify } = await import(process.cwd() + "/sample.mjs");
  console.log(String(verify({ url: path, headers }, Buffer.from(body))));
`;
const PYTHON_HARNESS = `
import inspect, json, sys
sys.path.insert(0, "")
from sample import verify
request = json.load(sys.stdin)
words = [request["headers"], request["body"].encode()]
if "path" in inspect.signature(verify).parameters:
    words.append(request["path"])
print(str(verify(*words)).lower())
`;

/** A customer of the step's own, and a page of theirs in the portal. */
async function arrive(step, fields = {}) {
  customers += 1;
  const app = await customer(`Customer ${customers}`, `customer-${customers}`);
  const page = await atPortal(step, app, fields);
  return { app, page };
}

/** The same with an endpoint at a path of the receiver; the page is at it. */
async function arriveAt(step, path, fields = {}) {
  const { app, page } = await arrive(step);
  const endpoint = await app.endpoint({ url: url(path), description: "Ours", ...fields });
  await open(page, `/portal/endpoint/${endpoint.id}`);
  return { app, page, endpoint, path: `${app.path}/endpoint/${endpoint.id}` };
}

const heading = (page, name, level = 1) => page.getByRole("heading", { level, name });
const button = (page, name, options = {}) => page.getByRole("button", { name, ...options });
const link = (page, name, options = {}) => page.getByRole("link", { name, ...options });
const dialog = (page) => page.getByRole("dialog");
const group = (page, name) => page.getByRole("group", { name, exact: true });
const everything = (page, of) => group(page, of).getByRole("switch");
const region = (page, name) => page.getByRole("region", { name, exact: true });

/** The one endpoint that the customer has, as the API shows it. */
async function onlyEndpoint(app) {
  const all = await until("an endpoint", async () => {
    const found = await app.endpoints();
    return found.length > 0 && found;
  });
  assert.equal(all.length, 1);
  return all[0];
}

/** What the page puts on the clipboard when this is pressed. */
async function copied(page, control) {
  await page.evaluate(() => navigator.clipboard.writeText(""));
  await control.click();
  return until("something on the clipboard", () =>
    page.evaluate(() => navigator.clipboard.readText()),
  );
}

await run({
  "the empty list says what to do; Add Webhook takes all that there is": async (step) => {
    const { app, page } = await arrive(step);
    await open(page, "/portal");
    await heading(page, "No webhooks yet", 2).waitFor();
    await link(page, "Add Webhook").first().click();
    await heading(page, "Add Webhook").waitFor();
    await page.getByLabel("URL", { exact: true }).fill(url("/all"));
    await page.getByLabel("Description").fill("Everything at once");

    // Events: everything at first, then what is searched for, then a group.
    await everything(page, "Events").uncheck();
    const search = page.getByLabel("Search events");
    await search.fill("refund");
    await group(page, "Events").getByLabel("order.created").waitFor({ state: "detached" });
    await page.getByLabel("invoice.refund.paid").check();
    await search.fill("");
    await page.getByLabel("Orders", { exact: true }).check();
    assert.equal(await page.getByLabel("order.shipped").isChecked(), true);
    const billing = page.getByLabel("Billing", { exact: true });
    assert.equal(await billing.evaluate((box) => box.indeterminate), true);
    await everything(page, "Entities").uncheck();
    await page.getByLabel("Rotterdam").check();

    await page.getByLabel("Authentication").selectOption("basic");
    await page.getByRole("textbox", { name: "Username" }).fill("northwind");
    await page.getByLabel("Password", { exact: true }).fill("pass:word");
    await button(page, "Add Header").click();
    await page.getByLabel("Name of headers 1").fill("X-Site");
    await page.getByLabel("Value of X-Site").fill("7");
    await button(page, "Add Header").click();
    await page.getByLabel("Name of headers 2").fill("X-Partner");
    await page.getByLabel("Value of X-Partner").fill("not to be shown");
    await page.getByRole("checkbox", { name: "Secret" }).nth(1).check();

    await button(page, "Save").click();
    await heading(page, "Everything at once").waitFor();
    const made = await onlyEndpoint(app);
    assert.equal(made.url, url("/all"));
    assert.deepEqual(made.eventTypes.toSorted(), [
      "invoice.refund.paid",
      "order.created",
      "order.returned",
      "order.shipped",
    ]);
    assert.deepEqual(made.channels, ["Rotterdam"]);
    await app.publish("order.shipped", { order: "o-1" }, { channels: ["Rotterdam"] });
    const [{ headers }] = await requestsTo("/all");
    assert.equal(headers["x-site"], "7");
    assert.equal(headers["x-partner"], "not to be shown");
    assert.equal(headers.authorization, `Basic ${btoa("northwind:pass:word")}`);
  },

  "the secret: generated, given, and shown on demand alone": async (step) => {
    const { app, page } = await arrive(step);
    await open(page, "/portal/new");
    await page.getByLabel("URL", { exact: true }).fill(url("/secret"));
    const field = page.getByLabel("Secret", { exact: true }).or(page.getByLabel("Secret (optional)"));
    await button(page, "Generate").click();
    const given = await field.first().inputValue();
    assert.match(given, /^whsec_/);
    await button(page, "Save").click();
    await heading(page, url("/secret")).waitFor();
    const made = await onlyEndpoint(app);
    const { key } = await owner.get(`${app.path}/endpoint/${made.id}/secret`);
    assert.equal(key, given);
    await settled(page);
    assert(!(await page.content()).includes(key), "the secret is in the page unasked");
    await button(page, "Reveal").click();
    await page.getByText(key).waitFor();
    await button(page, "Hide").click();
    await page.getByText(key).waitFor({ state: "detached" });
    assert.equal(await copied(page, button(page, "Copy secret")), key);
  },

  "a save that fails keeps what was typed, and says why beside the field": async (step) => {
    step.allow(422);
    const { app, page } = await arrive(step);
    await open(page, "/portal/new");
    const field = page.getByLabel("URL", { exact: true });
    await button(page, "Save").click();
    await until("a complaint", () => complaint(field));
    assert.equal(await field.evaluate((one) => one === document.activeElement), true);
    await field.fill("ftp://files.example.com");
    await page.getByLabel("Description").fill("Typed by hand");
    await everything(page, "Events").uncheck();
    await page.getByLabel("order.returned").check();
    await button(page, "Add Header").click();
    await page.getByLabel("Name of headers 1").fill("Content-Length");
    await page.getByLabel("Value of Content-Length").fill("17");
    await button(page, "Save").click();
    assert.match(await until("a complaint", () => complaint(field)), /http/i);
    assert.equal(await field.inputValue(), "ftp://files.example.com");
    assert.equal(await page.getByLabel("Description").inputValue(), "Typed by hand");
    assert.equal(await page.getByLabel("order.returned").isChecked(), true);
    await field.fill(url("/mended"));
    await button(page, "Save").click();
    // What is wrong with a header is said where the headers are.
    await group(page, "Headers").getByRole("alert").waitFor();
    assert.equal(await page.getByLabel("Value of Content-Length").inputValue(), "17");
    assert.equal((await app.endpoints()).length, 0);
    await button(page, "Remove Content-Length").click();
    await button(page, "Save").click();
    await heading(page, "Typed by hand").waitFor();
  },

  "a server that does not answer costs nothing that was typed": async (step) => {
    const { app, page } = await arrive(step);
    await open(page, "/portal/new");
    await page.getByLabel("URL", { exact: true }).fill(url("/offline"));
    const context = page.context();
    await context.setOffline(true);
    await button(page, "Save").click();
    await page.getByRole("alert").first().waitFor();
    step.problems = step.problems.filter((one) => !one.includes("ERR_INTERNET_DISCONNECTED"));
    await context.setOffline(false);
    assert.equal(await page.getByLabel("URL", { exact: true }).inputValue(), url("/offline"));
    await button(page, "Save").click();
    await heading(page, url("/offline")).waitFor();
    await onlyEndpoint(app);
  },

  "an edit sends what changed and keeps what is not shown": async (step) => {
    const { app, page, endpoint, path } = await arriveAt(step, "/edit", {
      basicAuth: { username: "ann", password: "stays" },
      headers: { "X-Site": "7", "X-Api-Key": "stays, too" },
      authHeaders: { "X-Pass": "and this" },
      eventTypes: ["invoice.paid"],
      metadata: { team: "red" },
    });
    await link(page, "Edit").click();
    await heading(page, "Edit Webhook").waitFor();
    await settled(page);
    const html = await page.content();
    for (const secret of ["stays", "and this"]) assert(!html.includes(secret), secret);
    assert.equal(await page.getByLabel("invoice.paid").isChecked(), true);
    await page.getByLabel("Description").fill("Other words");
    await page.getByLabel("Value of X-Site").fill("8");
    await button(page, "Save").click();
    await heading(page, "Other words").waitFor();
    const now = await owner.get(path);
    assert.deepEqual([now.eventTypes, now.metadata], [["invoice.paid"], { team: "red" }]);
    await app.publish("invoice.paid", { n: 1 });
    const [{ headers }] = await requestsTo("/edit");
    assert.equal(headers.authorization, `Basic ${btoa("ann:stays")}`);
    assert.deepEqual(
      [headers["x-site"], headers["x-api-key"], headers["x-pass"]],
      ["8", "stays, too", "and this"],
    );
    assert.equal(now.id, endpoint.id);
  },

  "another receiver: what only the former one knew is entered again": async (step) => {
    const { app, page, path } = await arriveAt(step, "/moved", {
      basicAuth: { username: "ann", password: "for the old one" },
      headers: { "X-Site": "7", "X-Api-Key": "for the old one, too" },
      authHeaders: { "X-Pass": "and this" },
    });
    await link(page, "Edit").click();
    await heading(page, "Edit Webhook").waitFor();
    const elsewhere = new URL(url("/moved-away"));
    elsewhere.hostname = elsewhere.hostname === "localhost" ? "127.0.0.1" : "localhost";
    await page.getByLabel("URL", { exact: true }).fill(elsewhere.href);
    await page.getByText("This is another receiver than before").waitFor();
    await button(page, "Save").click();
    await until("the password is asked for", () => complaint(page.getByLabel("Password", { exact: true })));
    await page.getByText(/Enter the values of secret headers again/).waitFor();
    await page.getByLabel("Password", { exact: true }).fill("new");
    await page.getByLabel("Value of X-Api-Key").fill("new, too");
    await button(page, "Remove X-Pass").click();
    await button(page, "Save").click();
    await heading(page, "Ours").waitFor();
    const now = await owner.get(path);
    assert.deepEqual([now.url, now.authHeaderNames], [elsewhere.href, []]);
    await app.publish("invoice.paid", { n: 1 });
    const [{ headers }] = await requestsTo("/moved-away");
    assert.equal(headers.authorization, `Basic ${btoa("ann:new")}`);
    assert.deepEqual([headers["x-site"], headers["x-api-key"]], ["7", "new, too"]);
  },

  "a form with something unsaved asks before it is left, by link, button or reload": async (step) => {
    const { app, page } = await arrive(step);
    await app.endpoint({ url: url("/dirty") });
    await open(page, "/portal");
    await link(page, "Add Webhook").first().click();
    await heading(page, "Add Webhook").waitFor();
    const field = page.getByLabel("URL", { exact: true });
    await field.fill("https://example.com/half");
    await link(page, "Messages", { exact: true }).click();
    await button(dialog(page), "Stay").click();
    await dialog(page).waitFor({ state: "detached" });
    assert.equal(await field.inputValue(), "https://example.com/half");
    await page.goBack();
    await button(dialog(page), "Stay").click();
    assert.equal(await field.inputValue(), "https://example.com/half");
    assert.equal(new URL(page.url()).pathname, `/portal/${app.id}/new`);
    // The browser's own question, in its own words.
    const asked = page.waitForEvent("dialog");
    const reloading = page.reload({ timeout: 3_000 }).catch(() => {});
    await (await asked).dismiss();
    await reloading;
    assert.equal(await field.inputValue(), "https://example.com/half");
    await link(page, "Messages", { exact: true }).click();
    await button(dialog(page), "Leave").click();
    await heading(page, "Messages").waitFor();
    assert.equal((await app.endpoints()).length, 1);
  },

  "deleting asks with the name": async (step) => {
    const { app, page } = await arriveAt(step, "/delete", { description: "The old shop" });
    await button(page, "Delete").click();
    const text = await dialog(page).innerText();
    assert.match(text, /The old shop/);
    assert(text.includes(url("/delete")));
    const act = dialog(page).getByRole("button", { name: /Delete.*The old shop/ });
    await act.waitFor();
    await page.keyboard.press("Escape");
    await dialog(page).waitFor({ state: "detached" });
    assert.equal((await app.endpoints()).length, 1);
    assert.equal(await button(page, "Delete").evaluate((one) => one === document.activeElement), true);
    await button(page, "Delete").click();
    await act.click();
    await heading(page, "Webhooks").waitFor();
    assert.equal((await app.endpoints()).length, 0);
  },

  "disabling holds what is published; enabling sends it": async (step) => {
    const { app, page, path } = await arriveAt(step, "/held");
    await button(page, "Disable").click();
    await button(dialog(page), "Disable").click();
    await page.getByText("Disabled", { exact: true }).first().waitFor();
    assert.equal((await owner.get(path)).disabled, true);
    const message = await app.publish("invoice.paid", { n: 1 });
    await button(page, "Enable").click();
    await button(dialog(page), "Enable").click();
    await app.delivered(message);
  },

  "the list: health in words, search and filter on the server": async (step) => {
    const { app, page } = await arrive(step);
    answers["/list/broken"] = 500;
    const broken = await app.endpoint({ url: url("/list/broken"), description: "Broken" });
    const healthy = await app.endpoint({ url: url("/list/healthy"), description: "Sound" });
    await app.endpoint({ url: url("/list/off"), description: "Off", disabled: true });
    await app.endpoint({ url: url("/list/idle"), eventTypes: ["order.returned"] });
    for (let n = 0; n < 4; n += 1) await app.publish("invoice.paid", { n });
    const last = await app.publish("invoice.paid", { n: 5 });
    await app.delivered(last, 0, healthy);
    await until("failures", async () => {
      const { fail } = await owner.get(`${app.path}/endpoint/${broken.id}/attempt-stats`);
      return fail >= 5;
    });
    await open(page, "/portal");
    const row = (text) => page.getByRole("row").filter({ hasText: text });
    await row("/list/broken").getByText("Failing", { exact: true }).waitFor();
    await row("/list/healthy").getByText("Healthy", { exact: true }).waitFor();
    await row("/list/off").getByText("Disabled", { exact: true }).waitFor();
    await row("/list/idle").getByText("Idle", { exact: true }).waitFor();
    await page.getByRole("searchbox").fill("soUND");
    await row("/list/broken").waitFor({ state: "detached" });
    await row("/list/healthy").waitFor();
    await page.getByRole("searchbox").fill("");
    await row("/list/broken").waitFor();
    await page.getByLabel("Which webhooks").selectOption("Disabled");
    await row("/list/broken").waitFor({ state: "detached" });
    await row("/list/off").waitFor();
    // Where one was survives a reload.
    await page.reload();
    await row("/list/off").waitFor();
    assert.equal(await row("/list/broken").count(), 0);
  },

  "the log of attempts: filters, search, pages": async (step) => {
    // A search for what there is not.
    step.allow(404);
    let failing = true;
    answers["/log"] = (_, response) => response.writeHead(failing ? 503 : 200).end();
    const { app, page, endpoint, path } = await arriveAt(step, "/log");
    const failed = await app.publish("invoice.overdue", { n: 0 });
    await requestsTo("/log", 2);
    failing = false;
    const messages = [];
    for (let n = 1; n <= 30; n += 1) messages.push(await app.publish("invoice.paid", { n }));
    await app.delivered(messages.at(-1));
    await until("all of them in the log", async () => {
      const { data } = await owner.get(`${app.path}/attempt/endpoint/${endpoint.id}?limit=250`);
      return data.length === 32;
    });
    await page.reload();
    const log = page.getByRole("table", { name: "Attempts" });
    const rows = log.locator("tbody").getByRole("row");
    await until("a page of attempts", async () => (await rows.count()) === 25);
    await button(page, "Next").click();
    await until("the rest of them", async () => (await rows.count()) === 7);
    await button(page, "Previous").click();
    await until("the first page again", async () => (await rows.count()) === 25);
    await page.getByLabel("Outcome", { exact: true }).selectOption("Failed");
    await until("the failures", async () => (await rows.count()) === 2);
    assert.match(await rows.first().innerText(), /Failed[\s\S]*503[\s\S]*invoice.overdue/);
    await page.getByLabel("Outcome", { exact: true }).selectOption("Any outcome");
    await page.getByLabel("Response", { exact: true }).selectOption("5xx");
    await until("the 5xx", async () => (await rows.count()) === 2);
    await page.getByLabel("Response", { exact: true }).selectOption("Any response");
    await page.getByLabel("Message id or event id").fill(failed.id);
    await until("one message's attempts", async () => (await rows.count()) === 2);
    await page.getByLabel("Message id or event id").fill("msg_nothing");
    await heading(page, "No such attempts", 2).waitFor();
    await page.getByLabel("Message id or event id").fill("");
    await page.getByText("More filters").click();
    const event = page.getByLabel("Event", { exact: true });
    await event.fill("invoice.overdue");
    await event.press("Enter");
    await event.blur();
    await until("an event type's attempts", async () => (await rows.count()) === 2);
    // The filter is in the address: it can be kept and sent to somebody.
    await page.reload();
    await until("the same after a reload", async () => (await rows.count()) === 2);
    assert.equal((await owner.get(path)).id, endpoint.id);
  },

  "new attempts are offered while one looks, and do not move the list": async (step) => {
    const { app, page } = await arriveAt(step, "/fresh");
    await app.delivered(await app.publish("invoice.paid", { n: 1 }));
    await page.reload();
    const rows = page.getByRole("table", { name: "Attempts" }).locator("tbody").getByRole("row");
    await until("the first", async () => (await rows.count()) === 1);
    await app.delivered(await app.publish("invoice.paid", { n: 2 }));
    await button(page, /newer attempt/).click();
    await until("the second", async () => (await rows.count()) === 2);
  },

  "raw payloads are shown and copied as they were sent": async (step) => {
    const { app, page, endpoint } = await arriveAt(step, "/raw");
    const publish = (rawPayload, type) =>
      owner.post(`${app.path}/msg`, {
        eventType: "invoice.paid",
        payload: {},
        transformationsParams: { rawPayload, headers: type && { "content-type": type } },
      });
    const attemptOf = async (message) => {
      const { data } = await owner.get(`${app.path}/attempt/msg/${message.id}`);
      return data[0];
    };
    const xml = `<paid id="17">it's \u20ac 1.10 & <b>100%</b></paid>\n`;
    for (const [text, type = "application/json"] of [
      [xml, "text/xml; charset=utf-8"],
      [`a\\b%d\0"c'`, "application/octet-stream"],
      [`["a",  1.10]\n`],
      [` {"a":  1.10} `],
      ["", "text/plain"],
    ]) {
      const message = await publish(text, type);
      await app.delivered(message, 0, endpoint);
      const sent = received.at(-1);
      assert.equal(sent.body, text);
      assert.equal(sent.headers["content-type"], type);

      await open(page, `/portal/message/${message.id}`);
      const facts = await region(page, "Facts").innerText();
      assert.equal(facts.includes("Content type") && facts.includes(type), true, facts);
      const attempt = await attemptOf(message);
      for (const path of [`/message/${message.id}`, `/attempt/${message.id}/${attempt.id}`]) {
        await open(page, `/portal${path}`);
        if (text === "") {
          await page.getByText("Empty: requests have no body.").waitFor();
          continue;
        }
        const asSent = button(page, "As sent");
        if (await asSent.count()) await asSent.first().click();
        assert.equal(await region(page, "Payload").textContent(), text);
        assert.equal(await page.getByText("made another body").count(), 0);
      }
      const curl = await copied(page, button(page, "Copy as curl"));
      const before = received.length;
      await promisify(execFile)("bash", ["-c", curl]);
      const again = received[before];
      assert.equal(again.body, text, curl);
      assert.equal(again.headers["content-type"], type);
      assert.equal(again.headers["webhook-signature"], sent.headers["webhook-signature"]);
    }

    // A payload that was deleted is not taken for the placeholder that clients are shown.
    const message = await publish(xml, "text/xml");
    await app.delivered(message, 0, endpoint);
    await owner.delete(`${app.path}/msg/${message.id}/content`);
    const attempt = await attemptOf(message);
    for (const path of [`/message/${message.id}`, `/attempt/${message.id}/${attempt.id}`]) {
      await open(page, `/portal${path}`);
      await page.getByText("The payload was deleted.").waitFor();
      assert.equal(await page.getByText("expired").count(), 0);
      assert.equal(await button(page, "Copy as curl").count(), 0);
    }
  },

  "one attempt: request and response, secrets masked, next retry, as curl": async (step) => {
    answers["/one"] = (_, response) => {
      response.writeHead(500, { "content-type": "application/json", "x-trace": "t-17" });
      response.end(`{"error": "no room"}`);
    };
    const { app, page, endpoint } = await arriveAt(step, "/one", {
      headers: { "X-Site": "7", "X-Api-Key": "top secret" },
      authHeaders: { "X-Pass": "secret as well" },
      basicAuth: { username: "ann", password: "pass-17" },
    });
    const payload = `{"total":  99.90, "note": "it's"}`;
    await owner.post(`${app.path}/msg`, `{"eventType":"invoice.paid","payload":${payload}}`);
    await requestsTo("/one", 2);
    await until("two attempts", async () => {
      const { data } = await owner.get(`${app.path}/attempt/endpoint/${endpoint.id}`);
      return data.length === 2;
    });
    await page.reload();
    const table = page.getByRole("table", { name: "Attempts" });
    await table.getByRole("link", { name: /Failed/ }).first().click();
    await heading(page, /invoice\.paid/).waitFor();
    await settled(page);
    const text = await page.getByRole("main").innerText();
    assert.match(text, /POST http:\/\/127\.0\.0\.1:\d+\/one/);
    assert.match(await region(page, "Request headers").innerText(), /x-site: 7/i);
    assert.match(await region(page, "Request headers").innerText(), /webhook-id: msg_/);
    assert.match(await region(page, "Response headers").innerText(), /x-trace: t-17/);
    assert.match(await region(page, "Response body").innerText(), /no room/);
    assert.match(await region(page, "Payload").innerText(), /99\.90/);
    assert.match(text, /Next attempt: in/);
    const html = await page.content();
    for (const secret of ["top secret", "secret as well", "pass-17", btoa("ann:pass-17")]) {
      assert(!html.includes(secret), `${secret} is shown`);
    }
    await button(page, "As sent").first().click();
    assert.equal((await region(page, "Payload").innerText()).trim(), payload);
    const curl = await copied(page, button(page, "Copy as curl"));
    assert(curl.includes(url("/one")) && curl.includes("99.90") && /^curl /.test(curl), curl);
    assert.doesNotMatch(curl, /top secret|secret as well|pass-17/);
    const before = received.length;
    await promisify(execFile)("bash", ["-c", curl]);
    assert.equal(received.length, before + 1);
    assert.equal(received.at(-1).body, payload);
    assert.equal(received.at(-1).headers["x-site"], "7");

    // An instant is exact on hover, in the reader's zone.
    const time = page.locator("time").first();
    assert.match(await time.getAttribute("title"), /\d{4}.*\d\d:\d\d:\d\d.*(CET|CEST|GMT\+[12])/);
    assert.match(await time.getAttribute("datetime"), /^\d{4}-\d\d-\d\dT.*Z$/);
  },

  "resend: asks, sends, and the log has one by hand": async (step) => {
    const { app, page, endpoint } = await arriveAt(step, "/resend");
    const message = await app.publish("invoice.paid", { n: 1 });
    await app.delivered(message);
    const attempts = async () =>
      (await owner.get(`${app.path}/attempt/endpoint/${endpoint.id}`)).data;
    const [first] = await until("it is in the log", async () => {
      const found = await attempts();
      return found.length > 0 && found;
    });
    await open(page, `/portal/attempt/${message.id}/${first.id}`);
    await button(page, "Send again").click();
    await button(dialog(page), "Send again").click();
    const requests = await requestsTo("/resend", 2);
    assert.equal(requests[1].headers["webhook-id"], message.id);
    const rows = page
      .getByRole("table", { name: "All attempts of this delivery" })
      .locator("tbody")
      .getByRole("row");
    await until("both attempts", async () => (await rows.count()) === 2);
    await rows.getByText("by hand").waitFor();
  },

  "recover sends again what failed, with progress": async (step) => {
    let failing = true;
    answers["/recover"] = (_, response) => response.writeHead(failing ? 500 : 200).end();
    const { app, page } = await arriveAt(step, "/recover", { retry: { delaysSeconds: [] } });
    const failed = [];
    for (let n = 0; n < 5; n += 1) failed.push(await app.publish("invoice.paid", { n }));
    for (const message of failed) await app.delivered(message, 2);
    failing = false;
    await link(page, "Recover and replay").click();
    await heading(page, "Recover and replay").waitFor();
    await page.getByRole("radio", { name: /^Recover failed/ }).check();
    await button(page, "Start").click();
    for (const message of failed) await app.delivered(message);
    const row = page.getByRole("table", { name: /Replays/ }).getByRole("row").nth(1);
    await row.getByText("Finished").waitFor();
    assert.match(await row.innerText(), /Recover failed[\s\S]*\b5 sent\b/);
  },

  "a replay shows its progress and can be canceled": async (step) => {
    answers["/replay"] = (_, response) => setTimeout(() => response.end(), 300);
    const { app, page } = await arriveAt(step, "/replay", { throttleRate: 20 });
    const messages = Array.from({ length: 150 }, (_, n) => ({
      eventType: n % 2 ? "invoice.paid" : "order.created",
      payload: { n },
    }));
    await owner.post(`${app.path}/msg/batch`, messages);
    await requestsTo("/replay", 30);
    await link(page, "Recover and replay").click();
    await page.getByRole("radio", { name: /^Replay All messages/ }).check();
    await page.getByLabel("Events").fill("invoice.paid");
    await button(page, "Start").click();
    const row = page.getByRole("table", { name: /Replays/ }).getByRole("row").nth(1);
    await row.getByRole("progressbar").waitFor();
    await button(page, "Cancel Replay").click();
    await button(dialog(page), "Let it run").click();
    await button(page, "Cancel Replay").click();
    await button(dialog(page), "Cancel “Replay”").click();
    await row.getByText("Canceled").waitFor();
    const { data } = await owner.get("/background-task?order=descending&limit=1");
    assert.equal(data[0].state, "canceled");
    await row.getByRole("progressbar").waitFor({ state: "detached" });
  },

  "rotating a secret: both count in the overlap, which is shown with its end": async (step) => {
    const { app, page, path } = await arriveAt(step, "/rotate");
    const before = (await owner.get(`${path}/secret`)).key;
    await link(page, "Signing secret").click();
    await heading(page, "Signing secret").waitFor();
    await page.getByLabel(/^Overlap/).selectOption("6 hours");
    await button(page, "Rotate the secret").click();
    await heading(dialog(page), "The secret is rotated", 2).waitFor();
    const { key } = await owner.get(`${path}/secret`);
    assert.notEqual(key, before);
    await dialog(page).getByText(key).waitFor();
    await button(dialog(page), "Close").click();
    await page.getByText(/The earlier secret counts until/).waitFor();
    const ends = Date.parse(await page.locator("main time").first().getAttribute("datetime"));
    assert(Math.abs(ends - Date.now() - 6 * 3_600_000) < 120_000);
    assert(!(await page.content()).includes(key), "the secret is in the page unasked");
    await app.publish("invoice.paid", { n: 1 });
    const [{ headers, body }] = await requestsTo("/rotate");
    const signed = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`;
    const expected = [key, before].map((secret) => {
      const bytes = Buffer.from(secret.replace("whsec_", ""), "base64");
      return `v1,${createHmac("sha256", bytes).update(signed).digest("base64")}`;
    });
    assert.deepEqual(headers["webhook-signature"].split(" ").toSorted(), expected.toSorted());
  },

  "a secret of one's own that does not fit is told beside its field, and kept": async (step) => {
    step.allow(422);
    const { page, path } = await arriveAt(step, "/rotate-own");
    const before = (await owner.get(`${path}/secret`)).key;
    await link(page, "Signing secret").click();
    await page.getByRole("radio", { name: /^Given/ }).check();
    const field = page.getByLabel("Secret", { exact: true });
    await field.fill("too short");
    await button(page, "Rotate the secret").click();
    await until("a complaint", () => complaint(field));
    assert.equal(await field.inputValue(), "too short");
    assert.equal((await owner.get(`${path}/secret`)).key, before);
    const own = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;
    await field.fill(own);
    await button(page, "Rotate the secret").click();
    await heading(dialog(page), "The secret is rotated", 2).waitFor();
    assert.equal((await owner.get(`${path}/secret`)).key, own);
  },

  "a test event: the example, edited, arrives as it was typed": async (step) => {
    step.allow(422);
    const { page, endpoint, app } = await arriveAt(step, "/test", { eventTypes: ["order.shipped"] });
    await link(page, "Send a test").first().click();
    await heading(page, "Send a test").waitFor();
    await settled(page);
    await page.getByLabel("Event", { exact: true }).selectOption("invoice.paid");
    const payload = page.getByLabel("Payload");
    await until("the example", async () => (await payload.inputValue()).includes("99.90"));
    await payload.fill("{ this is no JSON");
    await button(page, "Send the test").click();
    await until("a complaint", () => complaint(payload));
    assert.equal(await payload.inputValue(), "{ this is no JSON");
    const text = `{"invoice": 18,   "total": 100.00, "note": "Grüße 🚂"}`;
    await payload.fill(text);
    await button(page, "Send the test").click();
    const [request] = await requestsTo("/test");
    assert.equal(request.body, text);
    const result = region(page, "Result");
    await result.getByText("Succeeded").waitFor();
    await result.getByText("seen /test").waitFor();
    await result.getByRole("link", { name: /attempt/ }).click();
    await heading(page, /invoice\.paid/).waitFor();
    await page.getByText("test", { exact: false }).first().waitFor();
    const [attempt] = (await owner.get(`${app.path}/attempt/endpoint/${endpoint.id}`)).data;
    assert.equal(attempt.test, true);
    // A failure is told as one.
    answers["/test"] = 418;
    await open(page, `/portal/endpoint/${endpoint.id}/test`);
    await button(page, "Send the test").click();
    await result.getByText("418").first().waitFor();
    await result.getByText("Failed").waitFor();
  },

  "the code samples verify what arrives, whatever the scheme": async (step) => {
    const { app, page } = await arrive(step);
    const place = mkdtempSync(join(tmpdir(), "samples-"));
    const payload = { eventType: "CREATE", entityType: "Agreement", entityId: 25, text: "Grüße" };
    // Each with the secret that its receiver would have.
    const schemes = {
      standard: {},
      svix: {},
      github: {},
      stripe: {},
      shopify: {},
      slack: {},
      ovcode: {},
      ocrolus: {},
      ioffice: {},
      okhi: { headers: { "okhi-authorization": "their choice" }, known: "their choice" },
      ovation: { basicAuth: { username: "ann", password: "p4ss" }, known: "p4ss" },
    };
    for (const [profile, { known, ...fields }] of Object.entries(schemes)) {
      const path = `/samples/${profile}`;
      const endpoint = await app.endpoint({ url: url(path), profile, ...fields });
      const own = `${app.path}/endpoint/${endpoint.id}`;
      await app.publish("invoice.paid", payload);
      const [request] = await requestsTo(path);
      await owner.patch(own, { disabled: true });
      const WEBHOOK_SECRET = known ?? (await owner.get(`${own}/secret`)).key;
      const execute = (program, words, input) =>
        new Promise((resolve, reject) => {
          const env = { ...process.env, WEBHOOK_SECRET, PYTHONDONTWRITEBYTECODE: "1" };
          const child = execFile(program, words, { cwd: place, env }, (error, out, err) =>
            error ? reject(new Error(`${profile} in ${program}: ${err}`)) : resolve(out.trim()),
          );
          child.stdin.end(JSON.stringify(input));
        });
      for (const [language, label, program, file, harness] of [
        ["node", "Node.js", process.execPath, "sample.mjs", NODE_HARNESS],
        ["python", "Python", "python3", "sample.py", PYTHON_HARNESS],
      ]) {
        await open(page, `/portal/endpoint/${endpoint.id}/samples?language=${language}&by=hand`);
        const sample = page.getByRole("region", { name: `Sample in ${label}` });
        // Not innerText, which would lose what is indented with nothing else on the line.
        writeFileSync(join(place, file), await sample.evaluate((one) => one.textContent));
        const words = language === "node" ? ["--input-type=module", "-e", harness] : ["-c", harness];
        const judge = (body, headers = request.headers) =>
          execute(program, words, { path: request.path, headers, body });
        assert.equal(await judge(request.body), "true", `${profile} in ${label}`);
        // What the scheme does not sign may change: a static secret or a password stands alone.
        const header = Object.keys(request.headers).find((name) =>
          /signature|hmac|x-api-secret|authorization/.test(name),
        );
        const forged = { ...request.headers, [header]: request.headers[header].replace(/.{3}$/, "xxx") };
        assert.equal(await judge(request.body, forged), "false", `${profile}, forged, in ${label}`);
      }
    }
  },

  "messages: found by id and filter, one with its deliveries, and resent": async (step) => {
    step.allow(404);
    const { app, page } = await arriveAt(step, "/message");
    const message = await app.publish("order.created", { order: "o-1" }, { eventId: "order-17" });
    await app.publish("invoice.paid", { n: 1 }, { tags: ["spring"] });
    await app.delivered(message);
    await link(page, "Messages", { exact: true }).click();
    await heading(page, "Messages").waitFor();
    const table = page.getByRole("table", { name: "Messages" });
    const rows = table.locator("tbody").getByRole("row");
    await until("both", async () => (await rows.count()) === 2);
    await page.getByLabel("Message id or event id").fill("order-17");
    await until("the one", async () => (await rows.count()) === 1);
    await table.getByRole("link", { name: "order.created" }).click();
    await heading(page, "order.created").waitFor();
    await page.getByText(message.id).first().waitFor();
    await button(page, /^Send again to/).click();
    await button(dialog(page), "Send again").click();
    await requestsTo("/message", 3);
    await page.getByRole("table", { name: /Attempts/ }).getByText("by hand").waitFor();
  },

  "API keys: shown once, work, tell when they were used, and are revoked": async (step) => {
    const { app, page } = await arrive(step);
    await app.endpoint({ url: url("/keys") });
    await open(page, "/portal/keys");
    await heading(page, "No API keys yet", 2).waitFor();
    await button(page, /API key/).first().click();
    await dialog(page).getByLabel("Name").fill("Billing service");
    await dialog(page).getByRole("button", { name: /^Create/ }).click();
    const shown = dialog(page).getByText(/^pr_/);
    const key = (await shown.innerText()).trim();
    await dialog(page).getByRole("button", { name: /stored|copied/ }).click();
    await dialog(page).waitFor({ state: "detached" });
    const row = page.getByRole("row").filter({ hasText: "Billing service" });
    assert.match(await row.innerText(), /Never/);
    assert(!(await page.content()).includes(key), "the key is still in the page");
    // As OVCODE's users send it, and as everybody else does.
    const list = `${SERVER_URL}/api/v1${app.path}/endpoint`;
    const answer = await fetch(list, { headers: { "api-key": key } });
    assert.deepEqual((await answer.json()).data.map((one) => one.url), [url("/keys")]);
    const bearer = new Api(key);
    assert.equal((await bearer.fetch("GET", "/app")).status, 403);
    await until("when it was last used", async () => {
      await page.reload();
      await settled(page);
      return !/Never[\s\S]*Never/.test(await row.innerText());
    });
    await row.getByRole("button", { name: "Revoke Billing service" }).click();
    assert.match(await dialog(page).innerText(), /Billing service/);
    await dialog(page).getByRole("button", { name: /Revoke.*Billing service/ }).click();
    await row.waitFor({ state: "detached" });
    assert.equal((await bearer.fetch("GET", `${app.path}/endpoint`)).status, 401);
  },

  "the event catalogue: searched, with schema and example, and a way to subscribe": async (step) => {
    const { app, page } = await arrive(step);
    await open(page, "/portal");
    await link(page, "Event catalogue").click();
    await heading(page, "Event catalogue").waitFor();
    await heading(page, "Billing", 2).waitFor();
    await page.getByRole("searchbox").fill("paid");
    await link(page, "order.created").waitFor({ state: "detached" });
    await link(page, "invoice.paid").click();
    await heading(page, "invoice.paid").waitFor();
    const fields = page.getByRole("table", { name: "Fields of the payload" });
    assert.match(await fields.innerText(), /total[\s\S]*number[\s\S]*taxes included/);
    assert.match(await region(page, "Example").innerText(), /99\.90/);
    await link(page, "Add Webhook for this event").click();
    await heading(page, "Add Webhook").waitFor();
    await page.getByLabel("URL", { exact: true }).fill(url("/catalogue"));
    assert.equal(await page.getByLabel("invoice.paid").isChecked(), true);
    await button(page, "Save").click();
    await heading(page, url("/catalogue")).waitFor();
    assert.deepEqual((await onlyEndpoint(app)).eventTypes, ["invoice.paid"]);
  },

  "the endpoint's page: state, numbers, and charts that can be read as tables": async (step) => {
    const { app, page, endpoint } = await arriveAt(step, "/charts");
    for (let n = 0; n < 3; n += 1) await app.delivered(await app.publish("invoice.paid", { n }));
    await until("the statistics", async () => {
      const { success } = await owner.get(`${app.path}/endpoint/${endpoint.id}/attempt-stats`);
      return success === 3;
    });
    await page.reload();
    await page.getByText("Healthy", { exact: true }).waitFor();
    await page.getByText("3 of 3").waitFor();
    for (const title of [/^Attempts per hour/, /^Promptness/]) {
      const figure = page.getByRole("figure", { name: title }).or(page.getByRole("img", { name: title }));
      await figure.first().waitFor();
    }
    await button(page, "Last 7 days").click();
    await page.getByText("Attempts per 6 hours").first().waitFor();
  },

  "keyboard alone adds a webhook; the focus follows": async (step) => {
    const { app, page } = await arrive(step);
    await open(page, "/portal");
    const { keyboard } = page;
    const focused = () => page.evaluate(() => document.activeElement.innerText);
    await keyboard.press("Tab");
    assert.match(await focused(), /skip to content/i);
    await keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "main");
    await tabTo(page, link(page, "Add Webhook").first());
    await keyboard.press("Enter");
    await heading(page, "Add Webhook").waitFor();
    await until("the focus at the heading", async () => (await focused()) === "Add Webhook");
    await until("the title", async () => (await page.title()).startsWith("Add Webhook"));
    await tabTo(page, page.getByLabel("URL", { exact: true }));
    await keyboard.type(url("/keys-alone"));
    await tabTo(page, everything(page, "Events"));
    await keyboard.press("Space");
    await tabTo(page, page.getByLabel("Search events"));
    await keyboard.type("order");
    const tree = page.getByRole("group", { name: /Events, arrow keys/ });
    await tabTo(page, tree.getByRole("checkbox").first());
    await keyboard.press("ArrowDown");
    await keyboard.press("Space");
    await tabTo(page, button(page, "Save"));
    await keyboard.press("Enter");
    await heading(page, url("/keys-alone")).waitFor();
    await until("the focus at the heading", async () => (await focused()) === url("/keys-alone"));
    const made = await onlyEndpoint(app);
    assert.equal(made.eventTypes.length, 1);
    // Each stop is seen: something about it changes when it has the focus.
    await tabTo(page, link(page, "Edit"));
    const ring = await page.evaluate(() => {
      const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(document.activeElement);
      return (outlineStyle !== "none" && outlineWidth !== "0px") || boxShadow !== "none";
    });
    assert(ring, "the focus is not seen");
    // A dialog keeps the focus, and gives it back.
    await tabTo(page, button(page, "Delete"));
    await keyboard.press("Enter");
    await dialog(page).waitFor();
    for (let press = 0; press < 6; press += 1) {
      await keyboard.press("Tab");
      const inside = await page.evaluate(
        () => document.activeElement === document.body || !!document.activeElement.closest("dialog"),
      );
      assert(inside, "the focus left the dialog");
    }
    await keyboard.press("Escape");
    assert.equal(await focused(), "Delete");
  },
});
