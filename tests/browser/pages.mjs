// Every page of console and portal, at both widths and in both themes: a screenshot of each in
// OUTPUT, nothing that axe finds, and nothing that sticks out. README's pictures are among them.

import { atConsole, atPortal, look, open, owner, run } from "./lib.mjs";
import { world } from "./world.mjs";

const { acme, endpoints, messages } = await world();
const { crm, books } = endpoints;
const [attempt] = (await owner.get(`${acme.path}/attempt/endpoint/${crm.id}`)).data;
// Jobs: one that is over, and one that is canceled.
const since = new Date(Date.now() - 3_600_000).toISOString();
await owner.post(`${acme.path}/endpoint/${books.id}/bulk-replay`, { since });

/** Pages that both have: a name, and the path behind the surface's own. */
const SHARED = {
  webhooks: "",
  "add-webhook": "/new",
  endpoint: `/endpoint/${crm.id}`,
  "endpoint-healthy": `/endpoint/${books.id}`,
  "edit-webhook": `/endpoint/${books.id}/edit`,
  attempts: `/endpoint/${crm.id}/attempts`,
  test: `/endpoint/${books.id}/test`,
  samples: `/endpoint/${books.id}/samples`,
  secret: `/endpoint/${books.id}/secret`,
  attempt: `/attempt/${attempt.msgId}/${attempt.id}`,
  messages: "/messages",
  message: `/message/${attempt.msgId}`,
  keys: "/keys",
  events: "/events",
};

const CONSOLE = {
  overview: "",
  applications: "/applications",
  "event-types": "/event-types",
  "event-type": "/event-types/invoice.paid",
  tokens: "/tokens",
  profiles: "/profiles",
  profile: "/profiles/standard",
  lanes: "/lanes",
  jobs: "/jobs",
};

const steps = {
  "console sign-in": async (step) => {
    const page = await step.page();
    await open(page, "/console");
    await look(page, "console-sign-in");
  },

  "portal without a link": async (step) => {
    const page = await step.page();
    await open(page, "/portal");
    await look(page, "portal-without-a-link");
  },

  "console not found": async (step) => {
    const page = await atConsole(step);
    await open(page, "/console/nowhere");
    await look(page, "console-not-found");
  },
};

for (const [name, path] of Object.entries(CONSOLE)) {
  steps[`console ${name}`] = async (step) => {
    const page = await atConsole(step);
    await open(page, `/console${path}`);
    await look(page, `console-${name}`);
  };
}
for (const [name, path] of Object.entries(SHARED)) {
  steps[`console application's ${name}`] = async (step) => {
    const page = await atConsole(step);
    await open(page, `/console/app/${acme.id}${path}`);
    await look(page, `console-app-${name}`);
  };
  steps[`portal ${name}`] = async (step) => {
    const page = await atPortal(step, acme);
    await open(page, `/portal${path}`);
    await look(page, `portal-${name}`);
  };
}

await run(steps);
