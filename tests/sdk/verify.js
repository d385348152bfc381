// Verifies captured requests with the official JavaScript libraries of Standard Webhooks and GitHub.
//
// Reads one request a line, as JSON, from standard input; main.rs writes them. Each that has a
// library here must verify as it was received, and no longer with another byte at its end. Prints
// how many did.

const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");
const { dirname, join } = require("node:path");
const { pathToFileURL } = require("node:url");

// The libraries are installed beside the target directory's other tools, not beside this file.
const installed = process.argv[2];
const standard = createRequire(installed)("standardwebhooks");

async function main() {
  const module = join(dirname(installed), "node_modules/@octokit/webhooks-methods/dist-node/index.js");
  const github = await import(pathToFileURL(module));

  const libraries = {
    standard: async (secret, headers, body) => {
      try {
        new standard.Webhook(secret).verify(body, headers);
        return true;
      } catch (error) {
        if (!(error instanceof standard.WebhookVerificationError)) throw error;
        return false;
      }
    },
    github: (secret, headers, body) =>
      github.verify(secret, body.toString("utf8"), headers["x-hub-signature-256"]),
  };

  let verified = 0;
  for (const line of readFileSync(0, "utf8").trimEnd().split("\n")) {
    const { profile, secret, headers, body: encoded } = JSON.parse(line);
    const verify = libraries[profile];
    if (!verify) continue;
    const body = Buffer.from(encoded, "base64");
    const name = JSON.stringify(headers);
    if (!(await verify(secret, headers, body))) throw new Error(`${name}: does not verify`);
    if (await verify(secret, headers, Buffer.concat([body, Buffer.from(" ")]))) {
      throw new Error(`${name}: a changed body verifies too`);
    }
    verified += 1;
  }
  console.log(verified);
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
