// Every page of console and portal, and what opens on them, at both widths and in both themes: a
// screenshot of each in OUTPUT, nothing that axe finds, and nothing that sticks out.
//
// README's pictures are among them: `tests/browser/pictures` copies these into docs/.

import {
  atConsole,
  atPortal,
  customer,
  look,
  NARROW,
  open,
  owner,
  picture,
  run,
  settled,
  url,
} from "./lib.mjs";
import { world } from "./world.mjs";

const { acme, globex, endpoints, tokens } = await world();
const empty = await customer("An empty one", "empty");
const { crm, books } = endpoints;
const latest = async (endpoint) =>
  (await owner.get(`${acme.path}/attempt/endpoint/${endpoint.id}`)).data[0];
const [failed, delivered] = [await latest(crm), await latest(books)];
// Jobs: one that is over, one that is paused, one that was canceled.
const since = new Date(Date.now() - 3_600_000).toISOString();
await owner.post(`${acme.path}/endpoint/${books.id}/bulk-replay`, { since });
const replay = `${acme.path}/endpoint/${endpoints.disabled.id}/bulk-replay`;
const { id } = await owner.post(replay, { since });
await owner.post(`/background-task/${id}/cancel`);
await owner.post(replay, { since });
await owner.post("/operational-webhook/endpoint", {
  url: url("/operations"),
  description: "Tells the team on call",
  eventTypes: ["endpoint.disabled", "message.attempt.exhausted"],
});

// Somebody else's messages, for the charts of what goes on right now.
const traffic = setInterval(() => globex.publish("invoice.paid", { n: 1 }).catch(() => {}), 250);

const button = (page, name, options = {}) => page.getByRole("button", { name, ...options });
const dialog = (page) => page.getByRole("dialog");

/** Pages that both have: a name, the path behind the surface's own, and what is done there first. */
const SHARED = {
  webhooks: [""],
  "webhooks-not-found": ["?search=nothing+like+this"],
  "add-webhook": [
    "/new",
    async (page) => {
      await page.getByLabel("URL", { exact: true }).fill("https://acme.example/webhooks/in");
      await page.getByLabel("Description").fill("Order desk");
      for (const of of ["Events", "Entities"]) {
        const group = page.getByRole("group", { name: of, exact: true });
        await group.getByRole("switch").uncheck();
      }
      await page.getByLabel("Orders", { exact: true }).check();
      await page.getByLabel("invoice.paid").check();
      await page.getByLabel("Rotterdam").check();
    },
  ],
  "add-webhook-refused": [
    "/new",
    async (page) => {
      await page.getByLabel("URL", { exact: true }).fill("ftp://acme.example");
      await page.getByLabel("Authentication").selectOption("basic");
      await button(page, "Save").click();
      await page.locator("[aria-invalid=true]").first().waitFor();
    },
  ],
  "edit-webhook": [`/endpoint/${books.id}/edit`],
  endpoint: [`/endpoint/${crm.id}`],
  "endpoint-healthy": [`/endpoint/${books.id}`],
  "endpoint-disabled": [`/endpoint/${endpoints.disabled.id}`],
  "endpoint-idle": [`/endpoint/${endpoints.idle.id}`],
  "endpoint-delete": [
    `/endpoint/${crm.id}`,
    async (page) => {
      await button(page, "Delete").click();
      await dialog(page).waitFor();
    },
  ],
  "attempts-filtered": [`/endpoint/${crm.id}?status=2&event=invoice.paid`],
  filter: [`/endpoint/${books.id}/filter`],
  transformation: [`/endpoint/${books.id}/transformation`],
  test: [`/endpoint/${books.id}/test`],
  samples: [`/endpoint/${books.id}/samples`],
  secret: [`/endpoint/${books.id}/secret`],
  replay: [`/endpoint/${books.id}/replay`],
  attempt: [`/attempt/${failed.msgId}/${failed.id}`],
  "attempt-delivered": [`/attempt/${delivered.msgId}/${delivered.id}`],
  messages: ["/messages"],
  message: [`/message/${failed.msgId}`],
  keys: ["/keys"],
  "keys-made": [
    "/keys",
    async (page) => {
      await button(page, /API key/).first().click();
      await dialog(page).getByLabel("Name").fill("Billing service");
      await dialog(page).getByRole("button", { name: /^Create/ }).click();
      await dialog(page).getByText(/^pr_/).waitFor();
    },
  ],
  events: ["/events"],
  event: ["/events/invoice.paid"],
};

const CONSOLE = {
  overview: [""],
  applications: ["/applications"],
  "add-application": [
    "/applications",
    (page) => button(page, "Add application").click(),
  ],
  "portal-access": [
    "/applications",
    async (page) => {
      await button(page, "Portal access for Acme Inc.").click();
      await button(dialog(page), "Create link").click();
      await dialog(page).getByRole("region", { name: "Portal link" }).waitFor();
    },
  ],
  "delete-application": [
    "/applications",
    (page) => button(page, "Delete Acme Inc.").click(),
  ],
  "event-types": ["/event-types"],
  "event-type": ["/event-types/invoice.paid"],
  "import-openapi": ["/event-types", (page) => button(page, "Import OpenAPI").click()],
  tokens: ["/tokens"],
  token: [`/tokens/${tokens.webhook_user.id}`],
  "create-token": ["/tokens", (page) => button(page, "Create token").click()],
  profiles: ["/profiles"],
  profile: ["/profiles/ioffice"],
  lanes: ["/lanes"],
  jobs: ["/jobs"],
  operational: ["/operational"],
  "not-found": ["/nowhere"],
  "publish-message": [
    `/app/${acme.id}/messages`,
    (page) => button(page, "Publish a message").click(),
  ],
};

/** Opens a page, does what is to be done there, and looks. */
async function visit(page, name, path, act, options) {
  page.step.allow(422);
  await open(page, path);
  if (act) {
    await act(page);
    await settled(page);
  }
  await look(page, name, options);
}

const steps = {
  "console sign-in": async (step) => visit(await step.page(), "console-sign-in", "/console"),

  "portal without a link": async (step) =>
    visit(await step.page(), "portal-without-a-link", "/portal"),

  "portal empty": async (step) => {
    const page = await atPortal(step, empty);
    for (const [name, path] of Object.entries({ webhooks: "", messages: "/messages", keys: "/keys" })) {
      await visit(page, `portal-empty-${name}`, `/portal${path}`);
    }
  },

  "menu at 360 px": async (step) => {
    const page = await atConsole(step, undefined, { viewport: NARROW });
    await open(page, "/console");
    await button(page, "Menu").click();
    await look(page, "console-menu", { viewports: [NARROW] });
  },

};

for (const [name, [path, act]] of Object.entries(CONSOLE)) {
  steps[`console ${name}`] = async (step) =>
    visit(await atConsole(step), `console-${name}`, `/console${path}`, act);
}
for (const [name, [path, act]] of Object.entries(SHARED)) {
  steps[`console application's ${name}`] = async (step) => {
    const page = await atConsole(step);
    await visit(page, `console-app-${name}`, `/console/app/${acme.id}${path}`, act, { twice: true });
  };
  steps[`portal ${name}`] = async (step) =>
    visit(await atPortal(step, acme), `portal-${name}`, `/portal${path}`, act);
}

// Last: by now the charts have something to show.
steps["pictures for the README"] = async (step) => {
  const page = await atConsole(step);
  await open(page, "/console");
  await picture(page, "console-overview");
  clearInterval(traffic);
  const portal = await atPortal(step, acme);
  await open(portal, "/portal");
  await picture(portal, "portal-webhooks", { height: 640 });
  await open(portal, "/portal/new");
  await SHARED["add-webhook"][1](portal);
  await picture(portal, "portal-add-webhook", { height: 1200 });
  await open(portal, `/portal/endpoint/${books.id}`);
  await picture(portal, "portal-endpoint", { height: 1000, colorScheme: "dark" });
  await open(portal, `/portal/attempt/${failed.msgId}/${failed.id}`);
  await picture(portal, "portal-attempt", { height: 820 });
};

await run(steps);
