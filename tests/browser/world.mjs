// A platform with customers: what an operator would see after some days, made through the API.

import { answers, concurrently, customer, owner, requestsTo, url } from "./lib.mjs";

const schema = (properties, examples = []) => ({
  1: {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    type: "object",
    required: Object.keys(properties),
    properties,
    examples,
  },
});

const INVOICE = {
  invoice: { type: "integer", description: "The number of the invoice" },
  total: { type: "number", description: "What is to be paid, taxes included" },
  currency: { type: "string", enum: ["EUR", "USD", "GBP"] },
};
const ORDER = {
  order: { type: "string", description: "The order's id" },
  items: { type: "array", items: { type: "object" } },
};

/** Kept byte for byte, with its own spacing and spelling of numbers. */
export const INVOICE_EXAMPLE = `{"invoice": 17, "total": 99.90, "currency": "EUR"}`;

const EVENT_TYPES = [
  ["invoice.created", "An invoice was written", "Billing", INVOICE, INVOICE_EXAMPLE],
  ["invoice.paid", "An invoice was paid in full", "Billing", INVOICE, INVOICE_EXAMPLE],
  ["invoice.overdue", "An invoice is past its date", "Billing", INVOICE, INVOICE_EXAMPLE],
  ["invoice.refund.requested", "A customer wants their money back", "Billing"],
  ["invoice.refund.paid", "A refund was paid", "Billing"],
  ["order.created", "Somebody has ordered", "Orders", ORDER, `{"order": "o-1", "items": []}`],
  ["order.shipped", "An order has left the warehouse", "Orders", ORDER],
  ["order.returned", "An order has come back", "Orders"],
  ["customer.created", "A customer has signed up", "Customers"],
  ["customer.merged", "Two customers turned out to be one", "Customers"],
];

/** Names of the channels in which orders come: the form's entities. */
export const ENTITIES = ["Berlin", "Hamburg", "Leipzig", "Munich", "Rotterdam"];

export async function eventTypes() {
  await concurrently(8, EVENT_TYPES, async ([name, description, groupName, fields, example]) => {
    const body = JSON.stringify({
      name,
      description,
      groupName,
      ...(fields && { schemas: schema(fields) }),
      ...(name.startsWith("order.") && { channels: ENTITIES }),
    });
    // As a text: JSON.parse and JSON.stringify would spell numbers anew.
    const raw = example ? body.replace(/}$/, `,"example":${example}}`) : body;
    await owner.post("/event-type", raw);
  });
}

/** Acme's endpoints are in every state that there is; the other customers are there to be found. */
export async function world() {
  await eventTypes();
  const acme = await customer("Acme Inc.", "acme");
  const others = [
    ["Globex Corporation", "globex"],
    ["Initech", "initech"],
    ["Umbrella Analytics", "umbrella"],
    ["Wayne Enterprises, department of applied sciences", "wayne"],
  ];
  const [globex] = await Promise.all(others.map(([name, uid]) => customer(name, uid)));

  answers["/crm"] = (_, response) => {
    response.writeHead(500, { "content-type": "application/json", "x-request-id": "f00-17" });
    response.end(`{"error": "the database is read-only", "retry": true}`);
  };
  answers["/slow"] = (_, response) => setTimeout(() => response.end("done"), 700);
  const endpoints = {
    books: await acme.endpoint({
      uid: "books",
      url: url("/books"),
      description: "Bookkeeping",
      eventTypes: ["invoice.created", "invoice.paid", "invoice.overdue"],
      headers: { "X-Site": "7", "X-Api-Key": "not to be shown" },
    }),
    crm: await acme.endpoint({
      uid: "crm",
      url: url("/crm"),
      description: "Customer relations, the old system",
    }),
    slow: await acme.endpoint({
      uid: "warehouse",
      url: url("/slow"),
      description: "Warehouse",
      eventTypes: ["order.created", "order.shipped"],
      channels: ["Berlin", "Rotterdam"],
      basicAuth: { username: "northwind", password: "not to be shown either" },
    }),
    disabled: await acme.endpoint({
      uid: "pilot",
      url: url("/pilot/europe/warehouses/rotterdam/inbound/shipments/webhooks"),
      description: "A pilot that has ended",
      disabled: true,
    }),
    idle: await acme.endpoint({ uid: "idle", url: url("/idle"), eventTypes: ["customer.merged"] }),
  };
  await owner.post(`${acme.path}/endpoint/books/secret/rotate`);
  await globex.endpoint({ uid: "globex", url: url("/globex"), description: "Globex's gateway" });

  const names = ["invoice.paid", "invoice.created", "order.created", "customer.created"];
  const numbers = Array.from({ length: 48 }, (_, number) => number);
  const messages = [];
  await concurrently(8, numbers, async (number) => {
    const eventType = names[number % names.length];
    const order = eventType.startsWith("order.");
    const payload = order
      ? { order: `o-${number}`, items: [{ sku: "A-17", quantity: 2 }] }
      : { invoice: number, total: 99.9 + number, currency: "EUR" };
    const more = order ? { channels: [ENTITIES[number % ENTITIES.length]] } : { tags: ["spring"] };
    const target = number % 6 === 5 ? globex : acme;
    messages.push(await target.publish(eventType, payload, more));
  });
  await requestsTo("/crm", 40);
  const tokens = {};
  for (const [name, role, more] of [
    ["Billing backend", "publisher"],
    ["Support desk", "webhook_admin"],
    ["Acme's integrator", "webhook_user", { endpointIds: [endpoints.books.id] }],
    ["Acme's backend", "application", { applicationId: acme.id }],
  ]) {
    tokens[role] = await owner.post("/token", { name, role, ...more });
  }
  return { acme, globex, endpoints, messages, tokens };
}
