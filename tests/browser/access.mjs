// Who gets in and what they see: sign-in, sign-out, portal links, each role's limits, frames.

import {
  Api,
  assert,
  customer,
  openPortal,
  owner,
  run,
  SERVER_URL,
  settled,
  signIn,
  TOKEN,
  until,
  url,
} from "./lib.mjs";
import { world } from "./world.mjs";

const { acme, globex, endpoints, tokens } = await world();

/** The session's cookie, as the browser keeps it. */
async function cookie(page, surface = "console") {
  const cookies = await page.context().cookies(`${SERVER_URL}/api/v1/session`);
  // A portal's is named after its application.
  return cookies.find((one) => one.name.startsWith(`postrider_${surface}`));
}

/** A call with a cookie, from outside of any browser. */
function withCookie({ name, value }, path, headers = {}, method = "GET") {
  return fetch(`${SERVER_URL}/api/v1${path}`, {
    method,
    headers: { cookie: `${name}=${value}`, ...headers },
  });
}

const asConsole = { "x-postrider-surface": "console" };

/** Names of all links and buttons that a visitor could use. */
const controls = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll("a, button, input, select, textarea")]
      .filter((one) => one.checkVisibility())
      .map((one) => (one.getAttribute("aria-label") ?? one.innerText ?? "").trim())
      .filter((name) => name !== ""),
  );

/** Each path below the portal or console that this page's navigation leads to. */
const navigation = (page) =>
  page
    .getByRole("navigation")
    .getByRole("link")
    .evaluateAll((links) => links.map((link) => link.innerText.trim()));

await run({
  "what the browser complains of is noticed": async (step) => {
    const page = await step.page();
    await page.goto(`${SERVER_URL}/console`);
    await page.getByLabel("Token").waitFor();
    await page.evaluate(() => {
      document.body.insertAdjacentHTML("beforeend", `<p style="color: red">styled</p>`);
      fetch("http://127.0.0.1:1/").catch(() => {});
      console.error("spoken");
      setTimeout(() => {
        throw new Error("thrown");
      });
    });
    const expected = [/CSP violation: style-src/, /CSP violation: connect-src/, /spoken/, /thrown/];
    await until("all of it", () =>
      expected.every((one) => step.problems.some((problem) => one.test(problem))),
    );
    step.problems = [];
  },

  "a wrong token is told beside its field; the right one signs in": async (step) => {
    step.allow(401);
    const page = await step.page();
    await page.goto(`${SERVER_URL}/console`);
    const field = page.getByLabel("Token");
    await field.fill("pr_nonsense");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.locator("[aria-invalid=true]").waitFor();
    assert.equal(await field.getAttribute("aria-invalid"), "true");
    const told = await field.evaluate((input) =>
      (input.getAttribute("aria-describedby") ?? "")
        .split(" ")
        .map((id) => document.getElementById(id)?.innerText ?? "")
        .join(" "),
    );
    assert.match(told, /token/i);
    await signIn(page);
    const { httpOnly, sameSite, path } = await cookie(page);
    assert.deepEqual({ httpOnly, sameSite, path }, {
      httpOnly: true,
      sameSite: "Strict",
      path: "/api",
    });
    assert.equal(await page.evaluate(() => document.cookie), "");
    const kept = await page.evaluate(() =>
      JSON.stringify([Object.entries(localStorage), Object.entries(sessionStorage)]),
    );
    assert(!kept.includes(TOKEN), "the token is in the page's storage");
    await page.reload();
    await settled(page);
    await page.getByRole("button", { name: "Sign out" }).waitFor({ state: "attached" });
  },

  "signing in leads to the page that was asked for": async (step) => {
    const page = await step.page();
    await page.goto(`${SERVER_URL}/console/event-types`);
    await page.getByLabel("Token").fill(TOKEN);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("heading", { level: 1, name: "Event types" }).waitFor();
    assert.equal(new URL(page.url()).pathname, "/console/event-types");
  },

  "signing out ends the session on the server": async (step) => {
    const page = await step.page();
    await signIn(page);
    const old = await cookie(page);
    const before = await withCookie(old, "/session", asConsole);
    assert.equal((await before.json()).signedIn, true);
    await page.getByRole("link", { name: "Event types" }).click();
    await page.getByText("invoice.paid").first().waitFor();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Token").waitFor();
    assert.equal(await cookie(page), undefined);
    const after = await withCookie(old, "/session", asConsole);
    assert.deepEqual([after.status, await after.json()], [200, { signedIn: false }]);
    assert.equal((await withCookie(old, "/app", asConsole)).status, 401);
    // The token itself is as good as before.
    await owner.get("/app");
    await page.goBack();
    await page.getByLabel("Token").waitFor();
    assert.equal(await page.getByText("invoice.paid").count(), 0);
  },

  "a cookie alone is no credential, nor is one that another site's page sends": async (step) => {
    const page = await step.page();
    await signIn(page);
    const own = await cookie(page);
    assert.equal((await withCookie(own, "/app", asConsole)).status, 200);
    assert.equal((await withCookie(own, "/app")).status, 401);
    for (const site of ["cross-site", "same-site", "none"]) {
      const headers = { ...asConsole, "sec-fetch-site": site };
      const answer = await withCookie(own, "/app", headers);
      assert(answer.status === 401 || answer.status === 403, `${site}: ${answer.status}`);
    }
    const preflight = await fetch(`${SERVER_URL}/api/v1/app`, {
      method: "OPTIONS",
      headers: {
        origin: "https://evil.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-postrider-surface,content-type",
      },
    });
    const allowed = preflight.headers.get("access-control-allow-headers") ?? "";
    assert(!/x-postrider-surface|\*/i.test(allowed), `preflight allows ${allowed}`);
    assert.equal(preflight.headers.get("access-control-allow-credentials"), null);
  },

  "a revoked token ends the sessions made with it": async (step) => {
    step.allow(401);
    const made = await owner.post("/token", { name: "Night shift", role: "owner" });
    const page = await step.page();
    await signIn(page, made.token);
    await owner.delete(`/token/${made.id}`);
    await page.getByRole("link", { name: "Event types" }).click();
    await page.getByLabel("Token").waitFor();
  },

  "a portal link's token is nowhere once the page is there": async (step) => {
    const page = await step.page();
    const link = await acme.link();
    assert.match(link.url, /\/portal#token=/);
    const asked = [];
    page.context().on("request", (request) => asked.push(request.url()));
    await openPortal(page, link);
    assert.equal(new URL(page.url()).hash, "");
    assert.equal(new URL(page.url()).pathname, `/portal/${acme.id}`);
    assert(!asked.some((one) => one.includes(link.token)), "the token is in a request's URL");
    assert.equal(await page.evaluate(() => history.length), 2, "about:blank and the portal");
    const { httpOnly, sameSite, secure } = await cookie(page, "portal");
    // In the frame of another site nothing else would do.
    const expected = process.env.ALLOWED_FRAMES
      ? { httpOnly: true, sameSite: "None", secure: true }
      : { httpOnly: true, sameSite: "Strict", secure: false };
    assert.deepEqual({ httpOnly, sameSite, secure }, expected);
    await page.reload();
    await page.getByRole("heading", { level: 1, name: "Webhooks" }).waitFor();
    await page.getByText("Bookkeeping").first().waitFor();
  },

  "the portal is the operator's: name, logo and accent colour": async (step) => {
    const page = await step.page();
    await openPortal(page, await acme.link());
    assert.match(await page.title(), /Northwind/);
    await page.getByText("Northwind").first().waitFor();
    const logo = page.locator("img[src*='/portal/logo']").first();
    assert.equal(await logo.evaluate((image) => image.naturalWidth > 0), true);
    const accent = await page.evaluate(() =>
      getComputedStyle(document.documentElement).getPropertyValue("--accent").trim(),
    );
    assert.equal(accent.toLowerCase(), "#0f766e");
    // The operator's own page is not the customers'.
    const other = await step.page();
    await signIn(other);
    assert.equal(await other.locator("img[src*='/portal/logo']").count(), 0);
  },

  "signing out of the portal uses up the link, which says so": async (step) => {
    step.allow(401);
    const link = await acme.link();
    const page = await step.page();
    await openPortal(page, link);
    const old = await cookie(page, "portal");
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByText(/signed out/i).first().waitFor();
    const after = await withCookie(old, "/session", { "x-postrider-surface": "portal" });
    assert.deepEqual(await after.json(), { signedIn: false });
    assert.equal((await new Api(link.token).fetch("GET", acme.path)).status, 401);
    const again = await step.page();
    await again.goto(`${SERVER_URL}/portal#token=${link.token}`);
    await again.getByText(/link.*(expired|used|no longer|not valid)/i).first().waitFor();
    assert.equal(new URL(again.url()).hash, "");
  },

  "the portal without a link says where to get one": async (step) => {
    const page = await step.page();
    await page.goto(`${SERVER_URL}/portal`);
    await page.getByText(/link/i).first().waitFor();
    assert.equal(await page.getByLabel("Token").count(), 0);
  },

  "expired sessions end in the middle of things, with what to do": async (step) => {
    step.allow(401);
    const page = await step.page();
    await openPortal(page, await globex.link());
    await owner.post(`/auth/app/${globex.id}/expire-all`, { expiry: 0 });
    await page.getByRole("link", { name: "Messages" }).click();
    await page.getByText(/link.*(expired|ended|no longer|not valid)|session.*(ended|expired)/i)
      .first()
      .waitFor();
  },

  "a session that ends leaves what was entered; signing in again goes on with it": async (step) => {
    step.allow(401);
    const app = await customer("Forgetful", "forgetful");
    const key = await owner.post("/token", {
      name: "Theirs",
      role: "application",
      applicationId: app.id,
    });
    const page = await step.page();
    await openPortal(page, await app.link());
    await page.getByRole("link", { name: "Add Webhook" }).first().click();
    const field = page.getByLabel("URL", { exact: true });
    await field.fill(url("/forgetful"));
    await owner.post(`/auth/app/${app.id}/expire-all`, { expiry: 0 });
    await page.getByRole("button", { name: "Save" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("API key").fill(key.token);
    await dialog.getByRole("button", { name: "Sign in" }).click();
    await dialog.waitFor({ state: "detached" });
    assert.equal(await field.inputValue(), url("/forgetful"));
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByRole("heading", { level: 1, name: url("/forgetful") }).waitFor();
    assert.equal((await app.endpoints()).length, 1);
  },

  "a link of one customer shows nothing of another": async (step) => {
    step.allow(404, 403);
    const page = await step.page();
    await openPortal(page, await globex.link());
    await page.goto(`${SERVER_URL}/portal/endpoint/${endpoints.books.id}`);
    await page.getByText(/not found|no such|does not exist/i).first().waitFor();
    assert.equal(await page.getByText("Bookkeeping").count(), 0);
  },

  "a link that may only look has no control that changes": async (step) => {
    const page = await step.page();
    await openPortal(page, await acme.link({ readOnly: true }));
    const changing =
      /\b(add|edit|delete|disable|enable|rotate|reveal|send|recover|replay|create|revoke|save)\b/i;
    const { books } = endpoints;
    const [attempt] = (await owner.get(`${acme.path}/attempt/endpoint/${books.id}`)).data;
    for (const path of [
      "",
      `/endpoint/${books.id}`,
      `/endpoint/${books.id}/attempts`,
      `/attempt/${attempt.msgId}/${attempt.id}`,
      "/messages",
      `/message/${attempt.msgId}`,
      "/events",
    ]) {
      await page.goto(`${SERVER_URL}/portal${path}`);
      await settled(page);
      const found = (await controls(page)).filter((name) => changing.test(name));
      assert.deepEqual(found, [], `/portal${path}`);
    }
    assert(!(await navigation(page)).includes("API keys"));
    // A page that it may not use says so instead of showing a form.
    step.allow(403);
    for (const path of ["/new", `/endpoint/${books.id}/edit`, "/keys"]) {
      await page.goto(`${SERVER_URL}/portal${path}`);
      await settled(page);
      assert.equal(await page.getByRole("button", { name: /save|create/i }).count(), 0, path);
    }
  },

  "a link that may see secrets and send again has those controls and no others": async (step) => {
    const page = await step.page();
    const capabilities = ["ViewBase", "ViewEndpointSecret", "CreateAttempts"];
    await openPortal(page, await acme.link({ capabilities }));
    assert.equal(await page.getByRole("link", { name: "Add Webhook" }).count(), 0);
    assert.equal(await page.getByRole("button", { name: "Add Webhook" }).count(), 0);
    await page.goto(`${SERVER_URL}/portal/endpoint/${endpoints.books.id}`);
    await settled(page);
    const names = (await controls(page)).join("\n");
    assert.match(names, /reveal/i);
    assert.match(names, /recover|replay/i);
    assert.doesNotMatch(names, /rotate|edit|delete/i);
  },

  "webhook_user: granted endpoints and what was sent to them, no more": async (step) => {
    step.allow(404, 403);
    const page = await step.page();
    await signIn(page, tokens.webhook_user.token);
    await page.getByText("Acme Inc.").first().waitFor();
    const names = await navigation(page);
    for (const name of ["Tokens", "Lanes", "Overview"]) {
      assert(!names.some((one) => one.includes(name)), `${name} in ${names}`);
    }
    await page.goto(`${SERVER_URL}/console/app/${acme.id}`);
    await settled(page);
    await page.getByText("Bookkeeping").first().waitFor();
    assert.equal(await page.getByText("Customer relations").count(), 0);
    await page.goto(`${SERVER_URL}/console/app/${acme.id}/endpoint/${endpoints.crm.id}`);
    await page.getByText(/not found|no such|does not exist/i).first().waitFor();
    await page.goto(`${SERVER_URL}/console/app/${acme.id}/messages`);
    await settled(page);
    assert((await page.getByText("invoice.paid").count()) > 0);
    assert.equal(await page.getByText("customer.created").count(), 0);
    for (const path of ["/tokens", "/lanes"]) {
      await page.goto(`${SERVER_URL}/console${path}`);
      await settled(page);
      assert.equal(await page.getByText("Billing backend").count(), 0, path);
    }
    // A grant counts from the next request on.
    await owner.put(`/token/${tokens.webhook_user.id}/endpoint/${endpoints.crm.id}`);
    await page.goto(`${SERVER_URL}/console/app/${acme.id}`);
    await page.getByText("Customer relations").first().waitFor();
    await owner.delete(`/token/${tokens.webhook_user.id}/endpoint/${endpoints.crm.id}`);
  },

  "webhook_admin: every endpoint and grants, but applications and tokens stay": async (step) => {
    const page = await step.page();
    await signIn(page, tokens.webhook_admin.token);
    await page.goto(`${SERVER_URL}/console/applications`);
    await settled(page);
    await page.getByText("Globex Corporation").first().waitFor();
    const names = (await controls(page)).join("\n");
    assert.doesNotMatch(names, /add application|new application|create application|delete/i);
    await page.goto(`${SERVER_URL}/console/app/${globex.id}`);
    await settled(page);
    await page.getByRole("link", { name: "Add Webhook" }).waitFor();
    await page.goto(`${SERVER_URL}/console/event-types`);
    await settled(page);
    assert.doesNotMatch((await controls(page)).join("\n"), /add event type|new event type|import/i);
    await page.goto(`${SERVER_URL}/console/tokens`);
    await settled(page);
    await page.getByText("Acme's integrator").first().waitFor();
    assert.equal(await page.getByText("Billing backend").count(), 0);
    assert.doesNotMatch((await controls(page)).join("\n"), /create token|new token|revoke$/i);
  },

  "viewer: everything to look at, and nothing to change": async (step) => {
    const made = await owner.post("/token", { name: "Auditor", role: "viewer" });
    const page = await step.page();
    await signIn(page, made.token);
    const names = await navigation(page);
    for (const name of ["Overview", "Applications", "Tokens", "Lanes", "Operational webhooks"]) {
      assert(names.some((one) => one.includes(name)), `${name} in ${names}`);
    }
    const books = `/app/${acme.id}/endpoint/${endpoints.books.id}`;
    const [message] = (await owner.get(`${acme.path}/msg?limit=1`)).data;
    const pages = [
      ...["", "/applications", "/event-types", "/event-types/invoice.paid", "/tokens", "/profiles"],
      ...["/profiles/standard", "/lanes", "/jobs", "/operational", "/sessions"],
      ...Object.values(tokens).map(({ id }) => `/tokens/${id}`),
      ...["", "/messages", `/message/${message.id}`, "/keys", "/events"].map(
        (part) => `/app/${acme.id}${part}`,
      ),
      ...["", "/samples"].map((part) => books + part),
    ];
    // A request that is refused would be a complaint of the browser's.
    for (const path of pages) {
      await page.goto(`${SERVER_URL}/console${path}`);
      await settled(page);
      const offered = (await page.locator("button, a").allInnerTexts()).join("\n");
      assert.doesNotMatch(
        offered,
        /^(add|archive|create|delete|disable|edit|enable|cancel|grant|import|publish|revoke|save|send|sign everybody|replay|recover|reveal|rotate|portal access|take back)\b/im,
        `${path}: ${offered}`,
      );
      assert.equal(await page.getByText("may not").count(), 0, path);
    }
    await page.goto(`${SERVER_URL}/console${books}`);
    await page.getByText("Bookkeeping").first().waitFor();
    // What it may not open says so.
    for (const path of [`${books}/edit`, `${books}/test`, `/app/${acme.id}/new`]) {
      await page.goto(`${SERVER_URL}/console${path}`);
      await page.getByText("What you are signed in with does not allow this.").waitFor();
    }
  },

  "publisher: event types and nothing of the customers": async (step) => {
    step.allow(403);
    const page = await step.page();
    await signIn(page, tokens.publisher.token);
    const names = await navigation(page);
    for (const name of ["Applications", "Tokens", "Lanes", "Overview"]) {
      assert(!names.some((one) => one.includes(name)), `${name} in ${names}`);
    }
    await page.goto(`${SERVER_URL}/console/event-types`);
    await page.getByText("invoice.paid").first().waitFor();
    await page.goto(`${SERVER_URL}/console/app/${acme.id}`);
    await settled(page);
    assert.equal(await page.getByText("Bookkeeping").count(), 0);
  },

  "application: its own webhooks": async (step) => {
    step.allow(403, 404);
    const page = await step.page();
    await signIn(page, tokens.application.token);
    await page.goto(`${SERVER_URL}/console/app/${acme.id}`);
    await page.getByText("Bookkeeping").first().waitFor();
    await page.goto(`${SERVER_URL}/console/app/${globex.id}`);
    await settled(page);
    assert.equal(await page.getByText("Globex's gateway").count(), 0);
    assert(!(await navigation(page)).some((name) => /tokens|lanes|overview/i.test(name)));
  },

  "headers: a strict policy, and nothing that frames, sniffs or refers": async () => {
    for (const path of ["/console", "/console/applications", "/portal", "/portal/keys"]) {
      const answer = await fetch(SERVER_URL + path);
      assert.equal(answer.status, 200, path);
      const policy = answer.headers.get("content-security-policy");
      const directives = Object.fromEntries(
        policy.split(";").map((one) => {
          const [name, ...values] = one.trim().split(/\s+/);
          return [name, values.join(" ")];
        }),
      );
      assert.equal(directives["default-src"], "'none'", path);
      assert.equal(directives["script-src"], "'self'", path);
      assert.equal(directives["style-src"], "'self'", path);
      assert.equal(directives["base-uri"], "'none'", path);
      assert.doesNotMatch(policy, /unsafe|\*/, path);
      assert.equal(answer.headers.get("x-content-type-options"), "nosniff", path);
      assert.match(answer.headers.get("referrer-policy"), /no-referrer|same-origin/, path);
      const text = await answer.text();
      assert.doesNotMatch(text, /<script(?![^>]*\ssrc=)/i, `an inline script at ${path}`);
      assert.doesNotMatch(text, /<style|\sstyle=|\son[a-z]+=/i, `inline style or handler at ${path}`);
      assert.doesNotMatch(text, /https?:\/\//, `something external at ${path}`);
      const frames = directives["frame-ancestors"];
      const allowed = path.startsWith("/portal") ? process.env.ALLOWED_FRAMES : undefined;
      if (allowed) assert.match(frames, new RegExp(allowed.replaceAll(".", "\\.")), path);
      else assert.equal(frames, "'none'", path);
    }
  },

  "frames: the portal in the configured origin's, in no other; the console in none": async (step) => {
    const { ALLOWED_FRAMES, REFUSED_FRAMES } = process.env;
    if (!ALLOWED_FRAMES) return console.log("        (not without the pages that frame it)");
    const origins = [ALLOWED_FRAMES, REFUSED_FRAMES];
    const link = await acme.link();
    const page = await step.page({ origins });
    await page.goto(`${ALLOWED_FRAMES}/?${SERVER_URL}/portal#token=${link.token}`.replace("#", "%23"));
    const frame = page.frameLocator("iframe");
    await frame.getByText("Bookkeeping").first().waitFor();
    await frame.getByRole("link", { name: "Add Webhook" }).click();
    await frame.getByRole("heading", { level: 1, name: "Add Webhook" }).waitFor();
    // The session is kept, although the frame is another site's; the top of the page has none.
    await page.goto(`${ALLOWED_FRAMES}/?${SERVER_URL}/portal`);
    await frame.getByText("Bookkeeping").first().waitFor();
    await page.goto(`${SERVER_URL}/portal`);
    await page.getByLabel("API key").waitFor();

    for (const [framing, path] of [
      [REFUSED_FRAMES, "/portal"],
      [REFUSED_FRAMES, "/console"],
      [ALLOWED_FRAMES, "/console"],
    ]) {
      const refusing = await step.page({ origins });
      const complaint = refusing.waitForEvent("console", (one) => /frame/i.test(one.text()));
      await refusing.goto(`${framing}/?${SERVER_URL}${path}`);
      await complaint;
      await until("the frame to be an error page", () =>
        refusing.frames().some((one) => one.url().startsWith("chrome-error:")),
      );
      const before = step.problems.length;
      step.problems = step.problems.filter((one) => !/frame-ancestors/.test(one));
      assert(before > step.problems.length, "the browser says why");
    }
  },
});
