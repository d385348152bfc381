"""Verifies captured requests with the official Python library of Standard Webhooks.

Reads the secret and then one request a line, as JSON, from standard input; main.rs writes them.
Each must verify as it was received, and no longer with another byte at its end.
"""

import base64
import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError


def main():
    webhook = Webhook(json.loads(sys.stdin.readline())["secret"])
    verified = 0
    for line in sys.stdin:
        request = json.loads(line)
        headers = request["headers"]
        body = base64.b64decode(request["body"])
        webhook.verify(body, headers)
        try:
            webhook.verify(body + b" ", headers)
        except WebhookVerificationError:
            verified += 1
        else:
            sys.exit(f"{headers['webhook-id']}: a changed body verifies too")
    print(verified)


main()
