// Verifies captured requests with the official JavaScript library of Standard Webhooks.
//
// Reads the secret and then one request a line, as JSON, from standard input; main.rs writes them.
// Each must verify as it was received, and no longer with another byte at its end.

const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");

// The library is installed beside the target directory's other tools, not beside this file.
const { Webhook, WebhookVerificationError } = createRequire(process.argv[2])("standardwebhooks");

const [first, ...lines] = readFileSync(0, "utf8").trimEnd().split("\n");
const webhook = new Webhook(JSON.parse(first).secret);
let verified = 0;
for (const line of lines) {
  const { headers, body: encoded } = JSON.parse(line);
  const body = Buffer.from(encoded, "base64");
  webhook.verify(body, headers);
  try {
    webhook.verify(Buffer.concat([body, Buffer.from(" ")]), headers);
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
    verified += 1;
    continue;
  }
  throw new Error(`${headers["webhook-id"]}: a changed body verifies too`);
}
console.log(verified);
