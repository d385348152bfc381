// Signed-in browsers: two portals beside each other, a restart of the server, the list, signing out
// elsewhere and everywhere.

import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import {
  assert,
  customer,
  look,
  open,
  openPortal,
  owner,
  run,
  SERVER_URL,
  settled,
  signIn,
  until,
  url,
} from "./lib.mjs";

const acme = await customer("Acme Inc.", "acme");
const globex = await customer("Globex", "globex");
await acme.endpoint({ url: url("/acme"), description: "Order desk of Acme" });
await globex.endpoint({ url: url("/globex"), description: "Order desk of Globex" });

/** Has main.rs stop the server and start it again at the same address. */
async function restart() {
  const asked = join(process.env.TMPDIR, "restart");
  writeFileSync(asked, "");
  await until("the server to start again", () => !existsSync(asked));
}

const pathOf = (page) => new URL(page.url()).pathname;
const button = (page, name) => page.getByRole("button", { name, exact: true });
const rows = (page) => page.getByRole("row").filter({ has: page.getByRole("rowheader") });
const signedOut = (page) => page.getByRole("heading", { level: 1, name: "Sign in" });

await run({
  "two portals of two customers are open beside each other in one browser": async (step) => {
    step.allow(401);
    const one = await step.page();
    const two = await one.context().newPage();
    await openPortal(one, await acme.link());
    await openPortal(two, await globex.link());
    assert.equal(pathOf(one), `/portal/${acme.id}`);
    assert.equal(pathOf(two), `/portal/${globex.id}`);
    for (const page of [one, two, one]) {
      const [own, other] = page === one ? ["Acme", "Globex"] : ["Globex", "Acme"];
      await page.reload();
      await page.getByText(`Order desk of ${own}`).first().waitFor();
      assert.equal(await page.getByText(`Order desk of ${other}`).count(), 0);
    }
    // Each can be changed, and the other does not notice.
    await one.getByRole("link", { name: "Add Webhook" }).first().click();
    await one.getByLabel("URL", { exact: true }).fill(url("/second"));
    await button(one, "Save").click();
    await one.getByRole("heading", { level: 1, name: url("/second") }).waitFor();
    assert.equal((await acme.endpoints()).length, 2);
    assert.equal((await globex.endpoints()).length, 1);
    // Another tab of the first, at a page of its own.
    const third = await one.context().newPage();
    await open(third, `/portal/${acme.id}/messages`);
    await third.getByRole("heading", { level: 1, name: "Messages" }).waitFor();
    // An address from before names no application: it leads to the portal that was opened last.
    await open(third, "/portal/messages");
    await third.getByRole("heading", { level: 1, name: "Messages" }).waitFor();
    assert.equal(pathOf(third), `/portal/${globex.id}/messages`);
    // Signing out of one leaves the other.
    await button(two, "Sign out").click();
    await signedOut(two).waitFor();
    await open(one, `/portal/${acme.id}`);
    await one.getByText("Order desk of Acme").first().waitFor();
    await two.reload();
    await signedOut(two).waitFor();
  },

  "the console and a portal are open in one browser": async (step) => {
    const page = await step.page();
    await openPortal(page, await acme.link());
    const console = await page.context().newPage();
    await signIn(console);
    await page.reload();
    await page.getByText("Order desk of Acme").first().waitFor();
    await open(console, "/console/applications");
    await console.getByText("Globex").first().waitFor();
  },

  "a restart of the server signs nobody out": async (step) => {
    const page = await step.page();
    await signIn(page);
    const portal = await page.context().newPage();
    await openPortal(portal, await acme.link());
    await restart();
    await page.getByRole("link", { name: "Event types" }).click();
    await page.getByRole("heading", { level: 1, name: "Event types" }).waitFor();
    await settled(page);
    await portal.reload();
    await portal.getByText("Order desk of Acme").first().waitFor();
    await button(page, "Sign out").waitFor();
  },

  "the portal lists the browsers of its link and signs them out": async (step) => {
    step.allow(401);
    const link = await acme.link({ sessionId: "anna" });
    const here = await step.page();
    await openPortal(here, link);
    const there = await step.page({
      userAgent: "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1",
    });
    await openPortal(there, link);
    const foreign = await step.page();
    await openPortal(foreign, await globex.link());
    await here.getByRole("link", { name: "Signed-in browsers" }).click();
    await here.getByRole("heading", { level: 1, name: "Signed-in browsers" }).waitFor();
    await settled(here);
    assert.equal(pathOf(here), `/portal/${acme.id}/sessions`);
    assert.equal(await rows(here).count(), 2);
    const current = rows(here).filter({ hasText: "This browser" });
    await current.getByText("Chrome on Linux").waitFor();
    await current.getByText("127.0.0.1").waitFor();
    await look(here, "sessions-portal");
    const phone = rows(here).filter({ hasText: "Safari on iOS" });
    await phone.getByRole("button", { name: "Sign out Safari on iOS, 127.0.0.1" }).click();
    await button(here.getByRole("dialog"), "Sign out Safari on iOS, 127.0.0.1").click();
    await phone.waitFor({ state: "detached" });
    await there.reload();
    await signedOut(there).waitFor();
    // The link works as before, until it is everywhere that one signs out.
    await openPortal(there, link);
    await here.reload();
    await settled(here);
    await button(here, "Sign out everywhere else").click();
    await button(here.getByRole("dialog"), "Sign out everywhere else").click();
    await here.getByText("You are signed out everywhere else.").first().waitFor();
    await there.reload();
    await signedOut(there).waitFor();
    await openPortal(there, link);
    await button(here, "Sign out everywhere").click();
    await here.getByRole("dialog").getByText(/the link ends/i).waitFor();
    await button(here.getByRole("dialog"), "Sign out everywhere").click();
    await signedOut(here).waitFor();
    await there.reload();
    await signedOut(there).waitFor();
    await foreign.reload();
    await foreign.getByText("Order desk of Globex").first().waitFor();
    await here.goto(`${SERVER_URL}/portal#token=${link.token}`);
    await here.getByText(/link.*(expired|ended)/i).first().waitFor();
  },

  "the console lists everybody and signs everybody else out": async (step) => {
    step.allow(401);
    const made = await owner.post("/token", { name: "Night shift", role: "webhook_admin" });
    const page = await step.page();
    await signIn(page);
    const colleague = await step.page();
    await signIn(colleague, made.token);
    const customers = await step.page();
    await openPortal(customers, await globex.link({ sessionId: "bob" }));
    await page.getByRole("link", { name: "Signed-in browsers" }).click();
    await page.getByRole("heading", { level: 1, name: "Signed-in browsers" }).waitFor();
    await settled(page);
    await rows(page).filter({ hasText: "Portal link (bob)" }).getByText("Globex").waitFor();
    await rows(page).filter({ hasText: "Night shift" }).getByText("Console").waitFor();
    await look(page, "sessions-console");
    await page.getByLabel("Signed in with").selectOption("My token");
    await button(page, "Sign out everywhere").waitFor();
    await settled(page);
    assert.equal(await rows(page).filter({ hasText: "Portal link" }).count(), 0);
    await page.getByLabel("Signed in with").selectOption("Any token or link");
    await button(page, "Sign everybody else out").click();
    await look(page, "sessions-console-asked", { twice: true });
    await button(page.getByRole("dialog"), "Sign everybody else out").click();
    await page.getByText("Everybody else is signed out.").first().waitFor();
    for (const other of [colleague, customers]) {
      await other.reload();
      await signedOut(other).waitFor();
    }
    await page.reload();
    await settled(page);
    assert.equal(await rows(page).count(), 1);
  },
});
