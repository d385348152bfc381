// Drives every resource with the newest official JavaScript SDK, unchanged but for the server's URL.
//
// main.rs starts the server and gives SERVER_URL, TOKEN (an owner's), MODULES (where the SDK is
// installed) and LOSING_URL, a way to the same server on which the first answer to each POST is
// lost.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

const installed = join(dirname(process.env.MODULES), "node_modules/svix/dist/index.mjs");
const {
  ApiException,
  BackgroundTaskStatus,
  BackgroundTaskType,
  MessageAttemptTriggerType,
  MessageStatus,
  Ordering,
  StatusCodeClass,
  Svix,
  Webhook,
  WebhookVerificationError,
  messageInRaw,
} = await import(pathToFileURL(installed));

const { SERVER_URL, LOSING_URL, TOKEN } = process.env;
const EVENT_TYPE = "invoice.paid";
// For what the server does in the background; a debug build on a busy machine takes seconds.
const WITHIN_MS = 60_000;

const client = (token = TOKEN, serverUrl = SERVER_URL) =>
  new Svix(token, { serverUrl, requestTimeout: WITHIN_MS });
const svix = client();
const anHourAgo = () => new Date(Date.now() - 3_600_000);

/** The customer's server behind an endpoint: answers 200, or what `answers` has for a path. */
const received = [];
const answers = {};
const receiver = createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const body = Buffer.concat(parts);
    received.push({ path: request.url, headers: request.headers, body });
    response.writeHead(answers[request.url] ?? 200).end(`seen ${request.url}`);
  });
});
await new Promise((listening) => receiver.listen(0, "127.0.0.1", listening));
const url = (path) => `http://127.0.0.1:${receiver.address().port}${path}`;

/** Looks again until `look` finds something; at most for WITHIN_MS. */
async function until(what, look) {
  const deadline = Date.now() + WITHIN_MS;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`in vain for ${what}`);
    await new Promise((later) => setTimeout(later, 20));
  }
}

const requestsTo = (path, count = 1) =>
  until(`${count} requests to ${path}`, () => {
    const found = received.filter((one) => one.path === path);
    return found.length >= count && found;
  });

/**
 * Every method of the SDK below an object, as `[name, class, method]`. The resources are what its getters
 * answer with.
 */
function* methodsOf(object, at = []) {
  const kind = Object.getPrototypeOf(object);
  for (const [name, { get, value }] of Object.entries(Object.getOwnPropertyDescriptors(kind))) {
    if (get) {
      yield* methodsOf(object[name], [...at, name]);
    } else if (name !== "constructor" && at.length > 0) {
      yield [[...at, name].join("."), kind, value];
    }
  }
}

/** Names of the methods that were called with success. */
const called = new Set();
const methods = new Map();
for (const [name, kind, method] of methodsOf(svix)) {
  methods.set(name, method.length);
  kind[name.split(".").at(-1)] = async function (...given) {
    const answer = await method.apply(this, given);
    called.add(name);
    return answer;
  };
}

/** The status that the call must fail with, and the body that the SDK parsed. */
async function refused(promise) {
  const error = await promise.then(
    (answer) => assert.fail(`no error, but ${JSON.stringify(answer)}`),
    (error) => error,
  );
  assert(error instanceof ApiException, `${error.stack}`);
  return { status: error.code, ...error.body };
}

/** All pages forwards by `iterator`, then back from the last by `prevIterator`: the same ones. */
async function pages(fetch) {
  const forwards = [];
  let page = { iterator: undefined };
  do {
    page = await fetch(page.iterator);
    forwards.push(page.data.map((one) => one.id ?? one.name));
  } while (!page.done);
  for (const wanted of forwards.slice(0, -1).reverse()) {
    page = await fetch(page.prevIterator);
    assert.deepEqual(page.data.map((one) => one.id ?? one.name), wanted);
  }
  return forwards.flat();
}

/** An application with an endpoint of its own at the receiver. */
async function customer(name, fields = {}) {
  const app = (await svix.application.create({ name, uid: name })).id;
  const endpoint = await svix.endpoint.create(app, { url: url(`/${name}`), ...fields });
  const publish = (payload = { n: 1 }, more = {}) =>
    svix.message.create(app, { eventType: EVENT_TYPE, payload, ...more });
  const delivered = (message, status = MessageStatus.Success) =>
    until(`${message.id} to be ${status}`, async () => {
      const found = await svix.messageAttempt.listAttemptedDestinations(app, message.id);
      return found.data[0]?.status === status && found.data[0];
    });
  return { app, endpoint: endpoint.id, publish, delivered };
}

async function finished(task) {
  const done = await until(`the end of ${task.id}`, async () => {
    const found = await svix.backgroundTask.get(task.id);
    return found.status !== BackgroundTaskStatus.Running && found;
  });
  assert.equal(done.status, BackgroundTaskStatus.Finished);
}

const steps = {
  health: async () => {
    await svix.health.get();
  },

  "event types: create, list both ways, patch, upsert, import, archive, expunge": async () => {
    const api = svix.eventType;
    const schemas = { 1: { examples: [{ n: 1 }] } };
    const name = EVENT_TYPE;
    const made = await api.create({ name, description: "Paid", schemas, featureFlags: ["beta"] });
    assert.deepEqual([made.name, made.schemas, made.featureFlags], [name, schemas, ["beta"]]);
    assert(made.createdAt instanceof Date);
    for (const name of ["a.a", "a.b", "a.c"]) await api.create({ name, description: name });
    const names = await pages((iterator) => api.list({ limit: 2, iterator }));
    assert.deepEqual(names, ["a.a", "a.b", "a.c", name]);
    const patched = await api.patch(name, { featureFlags: null });
    assert.deepEqual([patched.featureFlags ?? [], patched.schemas], [[], schemas]);
    assert.equal((await api.upsert("a.d", { description: "New" })).description, "New");
    const spec = {
      openapi: "3.1.0",
      info: { title: "Shop", version: "1" },
      webhooks: { "order.shipped": { post: { description: "Shipped" } } },
    };
    const dry = (await api.importOpenapi({ spec, dryRun: true })).data;
    assert.equal(dry.toModify[0].name, "order.shipped");
    assert.deepEqual((await api.importOpenapi({ spec })).data.modified, ["order.shipped"]);
    assert.deepEqual((await refused(api.importOpenapi({}))).detail[0].loc, ["body", "spec"]);
    await api.delete("a.b");
    assert.equal((await api.get("a.b")).archived, true);
    await api.delete("a.b", { expunge: true });
    assert.equal((await refused(api.get("a.b"))).status, 404);
  },

  "applications: create, getOrCreate, list both ways, patch, upsert, delete": async () => {
    const api = svix.application;
    const made = await api.create({ name: "One", uid: "one", throttleRate: 100 });
    assert.deepEqual(await api.get("one"), made);
    assert.equal((await api.getOrCreate({ name: "Other", uid: "one" })).id, made.id);
    for (const name of ["two", "three", "four", "five"]) await api.create({ name, uid: name });
    const ids = await pages((iterator) => api.list({ limit: 2, iterator }));
    assert.equal(ids.length, 5);
    const listed = await api.list({ order: Ordering.Descending });
    assert.deepEqual(listed.data.map((one) => one.id), ids.slice().reverse());
    const patched = await api.patch("one", { uid: null, name: "Uno" });
    assert.deepEqual([patched.uid ?? null, patched.name, patched.throttleRate], [null, "Uno", 100]);
    assert.equal((await api.upsert("two", { name: "Deux", uid: "two" })).name, "Deux");
    for (const id of ids) {
      await api.delete(id);
      assert.equal((await refused(api.get(id))).status, 404);
    }
  },

  "errors: 401, 404, 409, 422 with the place": async () => {
    const unknown = await refused(client("nonsense").application.list());
    assert.deepEqual([unknown.status, unknown.code], [401, "authentication_failed"]);
    const missing = await refused(svix.application.get("nobody"));
    assert.deepEqual([missing.status, missing.code], [404, "not_found"]);
    await svix.application.create({ name: "taken", uid: "taken" });
    const taken = await refused(svix.application.create({ name: "again", uid: "taken" }));
    assert.deepEqual([taken.status, taken.code], [409, "conflict"]);
    const invalid = await refused(svix.endpoint.create("taken", { url: "not a url" }));
    assert.deepEqual([invalid.status, invalid.detail[0].loc], [422, ["body", "url"]]);
    assert.equal((await refused(svix.application.list({ limit: 251 }))).status, 422);
  },

  "endpoints: create, list both ways, patch, upsert, headers, delete": async () => {
    const { app } = await customer("endpoints");
    const api = svix.endpoint;
    const made = await api.create(app, {
      url: url("/first"),
      uid: "first",
      channels: ["eu"],
      eventTypes: [EVENT_TYPE],
      throttleRate: 50,
      metadata: { team: "red" },
      headers: { "X-One": "1", Authorization: "secret" },
    });
    assert.deepEqual([made.channels, made.throttleRate], [["eu"], 50]);
    for (const uid of ["b", "c"]) await api.upsert(app, uid, { url: url(`/${uid}`), uid });
    const ids = await pages((iterator) => api.list(app, { limit: 2, iterator }));
    assert.equal(ids.length, 4);
    await api.patchHeaders(app, "first", { headers: { "X-Two": "2" }, deleteHeaders: ["X-One"] });
    const headers = await api.getHeaders(app, "first");
    assert.deepEqual([Object.values(headers.headers), headers.sensitive.length], [["2"], 1]);
    await api.setHeaders(app, "first", { headers: { "X-Three": "3" } });
    assert.deepEqual(Object.values((await api.getHeaders(app, "first")).headers), ["3"]);
    const patched = await api.patch(app, "first", { channels: null, throttleRate: null });
    assert.deepEqual([patched.channels ?? null, patched.throttleRate ?? null], [null, null]);
    assert.deepEqual([patched.eventTypes, patched.metadata], [[EVENT_TYPE], { team: "red" }]);
    await api.delete(app, "first");
    assert.equal((await refused(api.get(app, "first"))).status, 404);
  },

  "publish: what was received verifies, and no longer when changed; rotation": async () => {
    const { app, endpoint, publish } = await customer("publish");
    await publish({ text: "Grüße", n: 1.5 });
    const key = (await svix.endpoint.getSecret(app, endpoint)).key;
    const [first] = await requestsTo("/publish");
    new Webhook(key).verify(first.body, first.headers);
    const changed = Buffer.concat([first.body, Buffer.from(" ")]);
    assert.throws(() => new Webhook(key).verify(changed, first.headers), WebhookVerificationError);
    assert.deepEqual(JSON.parse(first.body), { text: "Grüße", n: 1.5 });
    assert.equal((await svix.endpoint.get(app, endpoint)).url, url("/publish"));
    await svix.endpoint.rotateSecret(app, endpoint, {});
    const rotated = (await svix.endpoint.getSecret(app, endpoint)).key;
    assert.notEqual(rotated, key);
    await publish();
    const [, second] = await requestsTo("/publish", 2);
    for (const one of [key, rotated]) new Webhook(one).verify(second.body, second.headers);

    const raw = [['{"key": "val",  "key1": ["list"]}'], ["<paid>Grüße</paid>", "text/xml"]];
    for (const [index, [payload, contentType]] of raw.entries()) {
      await svix.message.create(app, messageInRaw(EVENT_TYPE, payload, contentType));
      const { body, headers } = (await requestsTo("/publish", index + 3))[index + 2];
      assert.equal(body.toString(), payload);
      assert.equal(headers["content-type"], contentType ?? "application/json");
      // The SDK's own verification also reads the body as JSON, which the second one is not.
      if (!contentType) new Webhook(rotated).verify(body, headers);
    }
  },

  "messages: list both ways, filters, content, expunge, precheck": async () => {
    const { app, publish, delivered } = await customer("messages", { channels: ["eu"] });
    const api = svix.message;
    const more = { tags: ["spring"], channels: ["eu"], eventId: "e-1" };
    const first = await publish({ n: 1 }, more);
    assert.deepEqual([first.tags, first.channels, first.payload], [["spring"], ["eu"], {}]);
    for (const n of [2, 3, 4, 5]) await publish({ n }, { channels: ["us"] });
    const ids = await pages((iterator) => api.list(app, { limit: 2, iterator }));
    assert.deepEqual([ids.length, ids[4]], [5, first.id]);
    const now = new Date(Date.now() + 3_600_000);
    const eventTypes = [EVENT_TYPE, "a.a"];
    const filters = { tag: "spring", channel: "eu", after: anHourAgo(), before: now, eventTypes };
    const found = (await api.list(app, { ...filters, withContent: true })).data;
    assert.deepEqual(found.map((one) => [one.id, one.payload]), [[first.id, { n: 1 }]]);
    const again = await refused(publish({ n: 1 }, more));
    assert.deepEqual([again.status, again.code], [409, "conflict"]);
    await delivered(first);
    await api.expungeContent(app, first.id);
    const { results } = await api.bulkExpungeContent(app, { ids: [first.id, "unheard-of"] });
    assert.deepEqual(results, { [first.id]: "expunged", "unheard-of": "not-found" });
    const gone = await api.get(app, first.id, { withContent: true });
    assert.equal(gone.payload.n, undefined);
    const active = async (channel) =>
      (await api.precheck(app, { eventType: EVENT_TYPE, channels: [channel] })).active;
    assert.deepEqual([await active("eu"), await active("us")], [true, false]);
    const deliverAt = new Date(Math.floor(Date.now() / 1000) * 1000 + 7_200_000);
    const later = await publish({ n: 6 }, { channels: ["eu"], deliverAt });
    assert.deepEqual(later.deliverAt, deliverAt);
    const waiting = await delivered(later, MessageStatus.Pending);
    assert.deepEqual(waiting.nextAttempt, deliverAt);
  },

  "attempts: lists, filters, content, resend, attempted messages, stats": async () => {
    const { app, endpoint, publish, delivered } = await customer("attempts");
    const api = svix.messageAttempt;
    answers["/attempts"] = 500;
    const failed = await publish();
    await delivered(failed, MessageStatus.Fail);
    const attempts = (await api.listByMsg(app, failed.id, { withContent: true })).data;
    // main.rs has a schedule with one retry.
    assert.deepEqual(attempts.map((one) => one.responseStatusCode), [500, 500]);
    assert.equal(attempts[0].response, "seen /attempts");
    assert.equal((await api.get(app, failed.id, attempts[0].id)).id, attempts[0].id);
    answers["/attempts"] = 200;
    await api.resend(app, failed.id, endpoint);
    await delivered(failed);
    const [newest] = (await api.listByMsg(app, failed.id)).data;
    assert.equal(newest.triggerType, MessageAttemptTriggerType.Manual);
    const all = await pages((iterator) =>
      api.listByEndpoint(app, endpoint, { limit: 1, iterator }),
    );
    assert.equal(all.length, 3);
    const found = async (options) =>
      (await api.listByEndpoint(app, endpoint, options)).data.length;
    assert.equal(await found({ status: MessageStatus.Fail }), 2);
    assert.equal(await found({ status: MessageStatus.Success }), 1);
    assert.equal(await found({ statusCodeClass: StatusCodeClass.Code5xx }), 2);
    assert.equal(await found({ eventTypes: ["a.a"] }), 0);
    assert.equal(await found({ before: anHourAgo() }), 0);
    const [withMsg] = (await api.listByEndpoint(app, endpoint, { withMsg: true })).data;
    assert.equal(withMsg.msg.id, failed.id);
    const options = { withContent: true };
    const attempted = (await api.listAttemptedMessages(app, endpoint, options)).data;
    assert.deepEqual(attempted.map((one) => one.payload), [{ n: 1 }]);
    const stats = await svix.endpoint.getStats(app, endpoint);
    // It was delivered after it had failed: both count.
    assert.deepEqual([stats.success, stats.fail, stats.pending, stats.sending], [1, 1, 0, 0]);
    await api.expungeContent(app, failed.id, attempts[0].id);
    await svix.endpoint.sendExample(app, endpoint, { eventType: EVENT_TYPE });
  },

  "recover, replayMissing, bulkReplay and their background tasks": async () => {
    const { app, endpoint, publish, delivered } = await customer("recover");
    answers["/recover"] = 500;
    const failed = [await publish(), await publish()];
    for (const message of failed) await delivered(message, MessageStatus.Fail);
    answers["/recover"] = 200;
    const since = anHourAgo();
    const recover = await svix.endpoint.recover(app, endpoint, { since });
    assert.equal(recover.task, BackgroundTaskType.EndpointRecover);
    await finished(recover);
    for (const message of failed) await delivered(message);
    const late = (await svix.endpoint.create(app, { url: url("/late") })).id;
    await finished(await svix.endpoint.replayMissing(app, late, { since }));
    await requestsTo("/late", 2);
    const status = MessageStatus.Success;
    const bulk = await svix.endpoint.bulkReplay(app, endpoint, { since, status });
    await finished(bulk);
    const ids = await pages((iterator) => svix.backgroundTask.list({ limit: 2, iterator }));
    assert.equal(ids.length, 3);
    const task = BackgroundTaskType.EndpointBulkReplay;
    const listed = await svix.backgroundTask.list({ task, status: BackgroundTaskStatus.Finished });
    assert.deepEqual(listed.data.map((one) => one.id), [bulk.id]);
  },

  "portal access, what its token may, logout, expireAll": async () => {
    const { app, endpoint } = await customer("portal");
    const other = (await customer("other")).app;
    const access = () => svix.authentication.appPortalAccess(app, { featureFlags: ["beta"] });
    const theirs = client((await access()).token);
    assert.deepEqual((await theirs.endpoint.list(app)).data.map((one) => one.id), [endpoint]);
    assert.equal((await refused(theirs.endpoint.list(other))).status, 404);
    assert.equal((await refused(theirs.application.list())).status, 403);
    await theirs.authentication.logout();
    assert.equal((await refused(theirs.endpoint.list(app))).status, 401);
    const ended = client((await access()).token);
    await svix.authentication.expireAll(app, { expiry: 0 });
    assert.equal((await refused(ended.endpoint.list(app))).status, 401);
  },

  "operational webhooks: create, list, an event, headers, rotate, delete": async () => {
    const api = svix.operationalWebhook.endpoint;
    const eventTypes = ["endpoint.created"];
    const headers = { "X-One": "1" };
    const made = await api.create({ url: url("/operational"), uid: "ours", eventTypes, headers });
    assert.deepEqual((await api.list()).data, [made]);
    assert.deepEqual(await api.get("ours"), made);
    const { app } = await customer("watched");
    const [request] = await requestsTo("/operational");
    const key = (await api.getSecret(made.id)).key;
    new Webhook(key).verify(request.body, request.headers);
    const event = JSON.parse(request.body);
    assert.deepEqual([event.type, event.data.appId], ["endpoint.created", app]);
    await api.rotateSecret(made.id, {});
    assert.notEqual((await api.getSecret(made.id)).key, key);
    assert.deepEqual(Object.values((await api.getHeaders(made.id)).headers), ["1"]);
    await api.setHeaders(made.id, { headers: { "X-Two": "2" } });
    assert.equal((await api.upsert("ours", { url: url("/put"), uid: "ours" })).url, url("/put"));
    await api.delete(made.id);
    assert.equal((await refused(api.get(made.id))).status, 404);
  },

  "statistics of usage": async () => {
    const usage = { since: anHourAgo(), until: new Date(), appIds: ["messages", "unknown"] };
    const task = await svix.statistics.aggregateAppStats(usage);
    assert.deepEqual(task.unresolvedAppIds, ["unknown"]);
    await finished(task);
    await finished(await svix.statistics.aggregateEventTypes());
  },

  "retries: a lost answer, and a server killed before it answered, publish exactly once": async () => {
    const { app } = await customer("lost");
    const losing = client(TOKEN, LOSING_URL);
    const message = { eventType: EVENT_TYPE, payload: { n: 1 } };
    const published = await losing.message.create(app, message);
    const idempotencyKey = `RESTART-${app}`;
    const again = await losing.message.create(app, message, { idempotencyKey });
    const listed = (await svix.message.list(app)).data.map((one) => one.id);
    assert.deepEqual(listed, [again.id, published.id]);
  },

  "what postrider does not offer is a 404 that says so": async () => {
    const { app, endpoint } = await customer("beyond");
    for (const call of [
      () => svix.connector.list(),
      () => svix.integration.list(app),
      () => svix.ingest.source.list(),
      () => svix.streaming.stream.list(),
      () => svix.environment.export(),
      () => svix.endpoint.transformation.get(app, endpoint),
    ]) {
      const error = await refused(call());
      assert.deepEqual([error.status, error.code], [404, "not_offered"], `${call}`);
      assert.match(error.detail, /does not offer/, `${call}`);
    }
  },

  "every method of the SDK was called or is not offered": async () => {
    assert(methods.size > 100, `${methods.size} methods`);
    const leftOut = [];
    // An id, and a body without fields but for the one list that the SDK itself wants.
    const anything = Object.assign(Object("x"), { events: [] });
    for (const [name, count] of methods) {
      if (called.has(name)) continue;
      const path = name.split(".");
      const resource = path.slice(0, -1).reduce((at, part) => at[part], svix);
      const outcome = await resource[path.at(-1)](...Array(count).fill(anything)).then(
        () => "answered",
        (error) => error.body?.code ?? `${error}`,
      );
      if (outcome !== "not_offered") leftOut.push(`${name}: ${outcome}`);
    }
    assert.deepEqual(leftOut, []);
  },
};

// All of them run, so that one look shows all that differs.
let failed = 0;
for (const [name, step] of Object.entries(steps)) {
  try {
    await step();
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: ${error.stack}\n${JSON.stringify(error.body ?? null)}`);
  }
}
const count = Object.keys(steps).length;
console.log(`${count - failed} of ${count} steps`);
process.exit(failed === 0 ? 0 : 1);
