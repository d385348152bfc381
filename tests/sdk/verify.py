"""Verifies captured requests with the official Python libraries of Standard Webhooks and Stripe.

Reads one request a line, as JSON, from standard input; main.rs writes them. Each that has a library
here must verify as it was received, and no longer with another byte at its end. Prints how many did.
"""

import base64
import json
import sys

import standardwebhooks
import stripe

# Stripe's own default, in seconds.
TOLERANCE = 300


def verify_standard(secret, headers, body):
    standardwebhooks.Webhook(secret).verify(body, headers)


def verify_stripe(secret, headers, body):
    # Stripe's event objects have fields that these payloads lack, so only the signature is asked.
    header = headers["stripe-signature"]
    stripe.WebhookSignature.verify_header(body.decode(), header, secret, TOLERANCE)


LIBRARIES = {
    "standard": (verify_standard, standardwebhooks.WebhookVerificationError),
    "stripe": (verify_stripe, stripe.SignatureVerificationError),
}


def main():
    verified = 0
    for line in sys.stdin:
        request = json.loads(line)
        if request["profile"] not in LIBRARIES:
            continue
        verify, refusal = LIBRARIES[request["profile"]]
        secret, headers = request["secret"], request["headers"]
        body = base64.b64decode(request["body"])
        verify(secret, headers, body)
        try:
            verify(secret, headers, body + b" ")
        except refusal:
            verified += 1
        else:
            sys.exit(f"{headers}: a changed body verifies too")
    print(verified)


main()
