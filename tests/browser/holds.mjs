// Endpoints that the operator holds: holding and releasing one, an application's and all, and what the
// customer sees of it.

import {
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
  seenAs,
  settled,
  until,
  url,
} from "./lib.mjs";
import { eventTypes } from "./world.mjs";

await eventTypes();
let customers = 0;
const somebody = () => customer(`Customer ${++customers}`, `customer-${customers}`);

const heading = (page, name, level = 1) => page.getByRole("heading", { level, name });
const button = (page, name) => page.getByRole("button", { name, exact: true });
const dialog = (page) => page.getByRole("dialog");
const row = (page, text) => page.getByRole("row").filter({ hasText: text });
const notice = (page) => page.getByRole("region", { name: "Held by the operator" });
// The filter above it has the same word.
const table = (page) => page.getByRole("table");
const badge = (place) => place.getByText("Held", { exact: true });
const sentTo = (path) => received.filter((one) => one.path === path).length;
/** Answers the question that the page asks. */
const confirm = (page, action) => button(dialog(page), action).click();

await run({
  "an endpoint is held and released on its page, and its messages wait": async (step) => {
    const app = await somebody();
    const endpoint = await app.endpoint({ url: url("/one"), description: "Order desk" });
    const page = await atConsole(step);
    await open(page, `/console/app/${app.id}/endpoint/${endpoint.id}`);
    await button(page, "Hold").click();
    await dialog(page).getByText("Hold “Order desk”?").waitFor();
    await look(page, "hold-question", { twice: true });
    await confirm(page, "Hold");
    await page.getByText("1 endpoint is held.").first().waitFor();
    await notice(page).getByText("Messages are accepted and wait.").waitFor();
    await badge(page).waitFor();
    assert.equal(await button(page, "Hold").count(), 0);
    await app.publish("invoice.paid", { n: 1 });
    await page.reload();
    await page.getByText("messages held until it is released").waitFor();
    await look(page, "hold-endpoint");
    assert.equal(sentTo("/one"), 0);
    await button(notice(page), "Release").click();
    await dialog(page).getByText("Release “Order desk”?").waitFor();
    await confirm(page, "Release");
    await notice(page).waitFor({ state: "detached" });
    await until("the focus at the heading", () =>
      page.evaluate(() => document.activeElement.tagName === "H1"),
    );
    await requestsTo("/one");
    await button(page, "Hold").waitFor();
  },

  "customers see a hold, and have no way to end it": async (step) => {
    const app = await somebody();
    const endpoint = await app.endpoint({ url: url("/seen") });
    await app.endpoint({ url: url("/free"), description: "Not held" });
    await owner.post(`${app.path}/endpoint/${endpoint.id}/hold`);
    const page = await atPortal(step, app);
    await open(page, "/portal");
    await badge(row(page, url("/seen"))).waitFor();
    assert.equal(await page.getByRole("button", { name: /^(Release|Hold)/ }).count(), 0);
    await look(page, "hold-portal-list");
    await page.getByLabel("Which webhooks").selectOption("held");
    await row(page, url("/free")).waitFor({ state: "detached" });
    await row(page, url("/seen")).waitFor();
    await open(page, `/portal/endpoint/${endpoint.id}`);
    await notice(page).getByText("Only the operator can release it.").waitFor();
    assert.equal(await page.getByRole("button", { name: /^(Release|Hold)/ }).count(), 0);
    await look(page, "hold-portal");
    // Enabling it is another thing.
    await button(page, "Disable").click();
    await confirm(page, "Disable");
    await button(page, "Enable").click();
    await dialog(page).getByText("stays held by the operator").waitFor();
    await confirm(page, "Enable");
    await notice(page).waitFor();
    await open(page, `/portal/endpoint/${endpoint.id}/test`);
    await heading(page, "This endpoint is held by the operator", 2).waitFor();
    assert.equal(await button(page, "Send the test").count(), 0);
  },

  "an application's endpoints are held and released together, and one by one in the list": async (step) => {
    const app = await somebody();
    for (const path of ["/a", "/b", "/c"]) await app.endpoint({ url: url(path) });
    const page = await atConsole(step);
    await open(page, `/console/app/${app.id}`);
    assert.equal(await button(page, "Release all").count(), 0);
    await button(page, "Hold all").click();
    await confirm(page, "Hold");
    await page.getByText("3 endpoints are held.").first().waitFor();
    await until("three badges", async () => (await badge(table(page)).count()) === 3);
    await button(page, "Release all").waitFor();
    await look(page, "hold-application");
    await button(page, `Release ${url("/b")}`).click();
    await confirm(page, "Release");
    await until("two badges", async () => (await badge(table(page)).count()) === 2);
    await button(page, "Release all").click();
    await confirm(page, "Release");
    await page.getByText("2 endpoints are released.").first().waitFor();
    await badge(table(page)).first().waitFor({ state: "detached" });
    await button(page, "Release all").waitFor({ state: "detached" });
  },

  "the overview says how many are held, and releases all after a question": async (step) => {
    const app = await somebody();
    await app.endpoint({ url: url("/all-a") });
    await app.endpoint({ url: url("/all-b") });
    await owner.post("/operational-webhook/endpoint", { url: url("/own") });
    assert((await owner.post("/hold")).changed >= 3);
    // Those of the steps before are among them.
    const { endpoints } = (await owner.get("/status")).holds;
    await app.publish("invoice.paid", { n: 2 });
    const page = await atConsole(step);
    await open(page, "/console");
    const all = page.getByRole("region", { name: `${endpoints} endpoints are held` });
    await all.getByText("until they are released").waitFor();
    assert.equal(await page.getByText("All is well").count(), 0);
    await look(page, "hold-overview");
    await open(page, "/console/lanes");
    await page.getByText("By the operator").first().waitFor();
    await look(page, "hold-lanes", { twice: true });
    await open(page, "/console/operational");
    await badge(row(page, url("/own"))).waitFor();
    await look(page, "hold-operational", { twice: true });

    const viewer = await owner.post("/token", { name: "Auditor", role: "viewer" });
    const looking = await atConsole(step, viewer.token);
    await open(looking, "/console");
    await looking.getByRole("region", { name: `${endpoints} endpoints are held` }).waitFor();
    assert.equal(await button(looking, "Release all").count(), 0);

    await open(page, "/console");
    await button(all, "Release all").click();
    await dialog(page).getByText(/wait are sent now|waits is sent now/).waitFor();
    await look(page, "hold-release-all", { twice: true });
    await confirm(page, "Release");
    await page.getByText(`${endpoints} endpoints are released.`).first().waitFor();
    await all.waitFor({ state: "detached" });
    await requestsTo("/all-a");
    await requestsTo("/all-b");
    assert.equal((await owner.get("/status")).holds, null);
    await settled(page);
  },

  "after a restore the page says why": async (step) => {
    const app = await somebody();
    const endpoint = await app.endpoint({ url: url("/restored") });
    const page = await atConsole(step);
    const hold = { since: new Date(Date.now() - 7_200_000).toISOString(), reason: "restored" };
    // It takes a restore.
    await seenAs(page, endpoint, { hold });
    await open(page, `/console/app/${app.id}/endpoint/${endpoint.id}`);
    await notice(page).getByText("when this server was restored from a copy").waitFor();
    await look(page, "hold-restored", { twice: true });
  },
});
