// Who hears by e-mail of an application's endpoints: the page in the portal and on the console.

import {
  assert,
  atConsole,
  atPortal,
  complaint,
  customer,
  look,
  open,
  owner,
  run,
  settled,
  tabTo,
  until,
} from "./lib.mjs";

const ADDRESS = "ops@acme.example";
let customers = 0;
const somebody = () => customer(`Customer ${++customers}`, `customer-${customers}`);

const heading = (page, name, level = 1) => page.getByRole("heading", { level, name });
const button = (page, name) => page.getByRole("button", { name, exact: true });
const dialog = (page) => page.getByRole("dialog");
const card = (page) => page.getByRole("region", { name: "Address" });
const enter = (page) => page.getByRole("region", { name: "Enter the code" });
const address = (page) => page.getByLabel("E-mail address");
const inMenu = (page) => page.getByRole("navigation", { name: "Main" }).getByText("Notifications");
const contact = (app) => owner.get(`${app.path}/contact`);

/** The code is in nobody's reach here: verifying succeeds because the operator answers for the address. */
async function letVerify(page, app) {
  await page.route("**/contact/verify", async (route) => {
    const { address } = await contact(app);
    await route.fulfill({ json: await owner.put(`${app.path}/contact`, { address, verified: true }) });
  });
}

await run({
  "an address is given, verified by its code, changed and removed": async (step) => {
    step.allow(422);
    const app = await somebody();
    const page = await atPortal(step, app);
    await open(page, "/portal");
    await inMenu(page).click();
    await heading(page, "Notifications").waitFor();
    await page.getByText("We write when an endpoint keeps failing").waitFor();
    await look(page, "contact-none");
    await button(page, "Mail a code").click();
    assert.match(await complaint(address(page)), /Enter an address/);
    await address(page).fill("nobody");
    await button(page, "Mail a code").click();
    await page.locator("[aria-invalid=true]").first().waitFor();
    assert.match(await complaint(address(page)), /must be an e-mail address/);
    await look(page, "contact-refused", { twice: true });
    await address(page).fill(ADDRESS);
    await button(page, "Mail a code").click();
    await enter(page).getByText(`It is in a mail to ${ADDRESS}`).waitFor();
    await card(page).getByText("Not verified", { exact: true }).waitFor();
    assert.equal((await contact(app)).verified, false);
    await until("the focus at the heading", () =>
      page.evaluate(() => document.activeElement.tagName === "H1"),
    );
    await look(page, "contact-code");

    // It stays after a reload, and codes that are wrong are told.
    await page.reload();
    const code = enter(page).getByRole("textbox");
    await code.fill("12345");
    await button(page, "Verify").click();
    assert.match(await complaint(code), /Enter the six digits/);
    await page.route("**/contact/verify", (route) =>
      route.fulfill({
        status: 422,
        json: {
          detail: [
            { loc: ["body", "code"], msg: "is not the code that was mailed last; 4 tries are left", type: "value_error" },
          ],
        },
      }),
    );
    await code.fill("123 456");
    await button(page, "Verify").click();
    await page.getByText("4 tries are left").waitFor();
    await page.unroute("**/contact/verify");
    await letVerify(page, app);
    await code.fill("123 456");
    await code.press("Enter");
    await page.getByText("The address is verified.").first().waitFor();
    await card(page).getByText("Verified", { exact: true }).waitFor();
    assert.equal(await enter(page).count(), 0);
    await look(page, "contact-verified");

    await button(page, "Change the address").click();
    assert.equal(await address(page).inputValue(), ADDRESS);
    await button(page, "Cancel").click();
    await button(card(page), "Remove").click();
    await dialog(page).getByText(`Nothing is mailed to ${ADDRESS} any more`).waitFor();
    await look(page, "contact-remove", { twice: true });
    await button(dialog(page), "Remove").click();
    await address(page).waitFor();
    assert.equal((await contact(app)).address, null);
  },

  "a second code within the minute is refused with the time": async (step) => {
    step.allow(429);
    const app = await somebody();
    const page = await atPortal(step, app);
    await open(page, "/portal/notifications");
    await address(page).fill(ADDRESS);
    await address(page).press("Enter");
    await enter(page).getByText("The next can be mailed").waitFor();
    await tabTo(page, button(page, "Mail another code"));
    await page.keyboard.press("Enter");
    await page.getByText(/There can be one code a minute.*The next can be mailed in \d+ seconds/).waitFor();
    await button(page, "Change the address").click();
    await address(page).fill("other@acme.example");
    await button(page, "Mail a code").click();
    await page.getByRole("alert").getByText(/one code a minute/).waitFor();
    assert.equal((await contact(app)).address, ADDRESS);
  },

  "a code that does not count any more is said to be one": async (step) => {
    const app = await somebody();
    await owner.put(`${app.path}/contact`, { address: ADDRESS });
    for (const code of ["000000", "000001", "000002", "000003", "000004", "000005"]) {
      await owner.fetch("POST", `${app.path}/contact/verify`, { code });
    }
    const page = await atPortal(step, app);
    await open(page, "/portal/notifications");
    await page.getByRole("region", { name: "Ask for another code" }).waitFor();
    await page.getByText("The last code does not count any more").waitFor();
    assert.equal(await page.getByRole("textbox").count(), 0);
    await look(page, "contact-code-over", { twice: true });
  },

  "who may only look sees the address and changes nothing": async (step) => {
    const app = await somebody();
    await owner.put(`${app.path}/contact`, { address: ADDRESS, verified: true });
    const page = await atPortal(step, app, { readOnly: true });
    await open(page, "/portal/notifications");
    await card(page).getByText(ADDRESS).waitFor();
    for (const name of ["Change the address", "Remove", "Mail a code"]) {
      assert.equal(await button(page, name).count(), 0, name);
    }
    await owner.delete(`${app.path}/contact`);
    await page.reload();
    await heading(page, "Nobody hears of failures", 2).waitFor();
    await look(page, "contact-read-only", { twice: true });
  },

  "the operator answers for an address on the console": async (step) => {
    const app = await somebody();
    const page = await atConsole(step);
    await open(page, `/console/app/${app.id}`);
    await page.getByRole("navigation", { name: "Application" }).getByText("Notifications").click();
    await heading(page, "Notifications").waitFor();
    await address(page).fill(ADDRESS);
    await page.getByLabel("Without a code").check();
    await look(page, "contact-console");
    await button(page, "Save").click();
    await card(page).getByText("Verified", { exact: true }).waitFor();
    assert.equal((await contact(app)).verified, true);
  },

  "without mail there is no such page": async (step) => {
    const app = await somebody();
    const page = await atPortal(step, app);
    await page.route("**/api/v1/session", async (route) => {
      const answer = await route.fetch();
      await route.fulfill({ response: answer, json: { ...(await answer.json()), mail: false } });
    });
    await open(page, "/portal");
    await settled(page);
    assert.equal(await inMenu(page).count(), 0);
    await open(page, "/portal/notifications");
    await page.getByText("This server sends no e-mail.").waitFor();
  },
});
