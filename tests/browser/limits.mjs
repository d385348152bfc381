// Requests that the server refuses for a while: the pages say so in the reader's words, and recover by
// themselves where nothing was entered.

import {
  Api,
  assert,
  atConsole,
  atPortal,
  customer,
  enter,
  look,
  open,
  owner,
  run,
  SERVER_URL,
  until,
  url,
} from "./lib.mjs";

const app = await customer("Acme Inc.", "acme");
const endpoint = await app.endpoint({ url: url("/acme"), description: "Order desk" });

const alert = (page, text) => page.getByRole("alert").filter({ hasText: text });
const button = (page, name) => page.getByRole("button", { name, exact: true });

/** Takes what a customer may ask for, until the function that this returns is called. */
function spend(token) {
  const theirs = new Api(token);
  let stopped = false;
  const ask = async () => {
    while (!stopped) await (await theirs.fetch("GET", app.path)).text();
  };
  const asking = Promise.all([ask(), ask()]);
  return () => {
    stopped = true;
    return asking;
  };
}

/** Tries credentials that are not valid, until it is said that there were too many. */
async function guess(page, label) {
  const refused = alert(page, "There were too many attempts to sign in.");
  const wrong = page.locator("[aria-invalid=true]");
  await until("a refusal", async () => {
    await page.getByLabel(label).fill(`pr_${Math.random()}`);
    await button(page, "Sign in").click();
    await wrong.or(refused).first().waitFor();
    return (await refused.count()) > 0;
  });
  assert.match(await refused.innerText(), /Try again in (a second|\d+ seconds)\.$/);
}

await run({
  "portal: what is beyond the customer's share is loaded when it may be": async (step) => {
    step.allow(429);
    const page = await atPortal(step, app);
    await open(page, `/portal/${app.id}`);
    const stop = spend((await app.link()).token);
    await page.getByRole("link", { name: endpoint.url }).click();
    const refused = alert(page, "There were too many requests at once. This page asks again in");
    await refused.first().waitFor();
    assert.doesNotMatch(await refused.first().innerText(), /limits\./);
    assert.equal(await button(page, "Try again").count(), 0);
    await look(page, "limits-share", { twice: true });
    await stop();
    await page.getByRole("heading", { level: 1, name: "Order desk" }).waitFor();
    await page.getByText("Nothing was sent yet").waitFor();
    await page.getByRole("figure").first().waitFor();
    await refused.first().waitFor({ state: "detached" });
  },

  "portal: a form that is refused keeps what was entered, and says when": async (step) => {
    step.allow(429);
    const page = await atPortal(step, app);
    await open(page, "/portal/new");
    const field = page.getByLabel("URL", { exact: true });
    await field.fill(url("/second"));
    let refusals = 0;
    await page.route(`**${app.path}/endpoint`, (route) => {
      if (route.request().method() !== "POST") return route.continue();
      refusals += 1;
      if (refusals > 1) return route.continue();
      const json = { code: "too_many", detail: "200 requests a second (limits.requests)" };
      return route.fulfill({ status: 429, headers: { "retry-after": "7" }, json });
    });
    await button(page, "Save").click();
    await alert(page, "There were too many requests at once. Try again in 7 seconds.").waitFor();
    assert.equal(await field.inputValue(), url("/second"));
    await button(page, "Save").click();
    await page.getByRole("heading", { level: 1, name: url("/second") }).waitFor();
    assert.equal((await app.endpoints()).length, 2);
  },

  "console: a read that is refused names the setting, and is made again": async (step) => {
    step.allow(429);
    const page = await atConsole(step);
    let refusals = 0;
    await page.route("**/api/v1/token?*", (route) => {
      refusals += 1;
      if (refusals > 2) return route.continue();
      return route.fulfill({
        status: 429,
        headers: { "retry-after": "1" },
        json: { code: "too_many", detail: "64 reads wait already (limits.reads_waiting_per_customer_max)" },
      });
    });
    await page.goto(`${SERVER_URL}/console/tokens`);
    const says = "64 reads wait already (limits.reads_waiting_per_customer_max). This page asks again in a second.";
    await alert(page, says).waitFor();
    await page.getByRole("table", { name: "Tokens" }).waitFor();
    assert.equal(await alert(page, says).count(), 0);
    assert.equal(refusals, 3);
  },

  "signing in too often is said in plain words; a valid credential signs in all the same": async (step) => {
    step.allow(401, 429);
    const key = await owner.post("/token", {
      name: "Theirs",
      role: "application",
      applicationId: app.id,
    });
    const portal = await step.page();
    await portal.goto(`${SERVER_URL}/portal`);
    await guess(portal, "API key");
    await look(portal, "limits-sign-in", { twice: true });
    await portal.getByLabel("API key").fill(key.token);
    await button(portal, "Sign in").click();
    await button(portal, "Sign out").waitFor();
    const console = await step.page();
    await console.goto(`${SERVER_URL}/console`);
    await guess(console, "Token");
  },

  "a link that is opened too often says so, and opens when it may": async (step) => {
    step.allow(429);
    const link = await app.link();
    const { pathname, hash } = new URL(link.url);
    const page = await step.page();
    for (let time = 0; time < 3; time += 1) await enter(page, "portal", link.token);
    await page.context().clearCookies();
    await page.goto(SERVER_URL + pathname + hash);
    await alert(page, /too many attempts to sign in\. This page asks again in/).waitFor();
    assert.equal(new URL(page.url()).hash, "");
    await look(page, "limits-link", { twice: true });
    // Of the wait only a second is waited for, and the server takes another link meanwhile.
    const other = await step.page();
    const another = await app.link();
    let asked = 0;
    await other.route("**/api/v1/session", (route) => {
      if (route.request().method() !== "POST") return route.continue();
      asked += 1;
      if (asked > 1) return route.continue();
      const json = { code: "too_many", detail: "this credential signed in 3 times within a minute" };
      return route.fulfill({ status: 429, headers: { "retry-after": "1" }, json });
    });
    await other.goto(SERVER_URL + pathname + new URL(another.url).hash);
    await alert(other, /This page asks again in a second/).waitFor();
    await other.getByRole("heading", { level: 1, name: "Webhooks" }).waitFor();
    assert.equal(asked, 2);
  },
});
