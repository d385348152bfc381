"""Holds every input of the installed SDKs against the server: each call, query option, header and field.

A call is implemented, or answered 404 `not_offered`. What an implemented call takes is implemented, by
the server's own document; refused by its name with 422 `not_offered`; or one of the few in IGNORED.
"""

import json
import os
import pathlib
import re
import urllib.error
import urllib.request

import sdk

SERVER_URL = os.environ["SERVER_URL"]
TOKEN = os.environ["TOKEN"]
TOOLS = pathlib.Path(os.environ["MODULES"]).parent

SECRET = "An answer with a secret is never repeated: it would have to be kept."
SHOWN = "The server sets it, and answers show it: older clients send back what they read."

AGAIN = "Doing it again does no more than doing it once."
NO_STATUS_4 = "It shows the status 4, canceled, which no attempt has."
NO_SOONER = "Payloads are kept for store.retention_days; asking for less is refused."

# Inputs that are taken and have no effect, with the reason. A field is `Model.field`, an option or a header
# `METHOD path name`.
IGNORED = {
    "EndpointIn.version": SHOWN,
    "EndpointPatch.version": SHOWN,
    "EndpointUpdate.version": SHOWN,
    "MessageIn.payloadRetentionHours": NO_SOONER,
    "MessageIn.payloadRetentionPeriod": NO_SOONER,
    "GET /api/v1/app exclude_apps_with_svix_play_endpoints": "There is no Svix Play.",
    "GET /api/v1/app/{}/attempt/endpoint/{} expanded_statuses": NO_STATUS_4,
    "GET /api/v1/app/{}/attempt/msg/{} expanded_statuses": NO_STATUS_4,
    "GET /api/v1/app/{}/endpoint/{}/msg expanded_statuses": NO_STATUS_4,
    "GET /api/v1/app/{}/msg/{}/attempt/{} expanded_statuses": NO_STATUS_4,
    "POST /api/v1/app/{}/endpoint/{}/secret/rotate idempotency-key": SECRET,
    "POST /api/v1/auth/app-portal-access/{} idempotency-key": SECRET,
    "POST /api/v1/auth/dashboard-access/{} idempotency-key": SECRET,
    "POST /api/v1/operational-webhook/endpoint/{}/secret/rotate idempotency-key": SECRET,
    "POST /api/v1/app/{}/msg/bulk-expunge idempotency-key": AGAIN,
    "POST /api/v1/app/{}/msg/precheck/active idempotency-key": AGAIN,
    "POST /api/v1/auth/app/{}/expire-all idempotency-key": AGAIN,
    "POST /api/v1/auth/logout idempotency-key": AGAIN,
}


def ask(method, path, body=None):
    """Status and JSON of the answer."""
    request = urllib.request.Request(
        SERVER_URL + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {TOKEN}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    return status, json.loads(text) if text else None


def plain(path):
    """A path without the names of what is in it."""
    return re.sub(r"\{\w+\}", "{}", path)


class Document:
    """What the server says of itself."""

    def __init__(self):
        _, self.document = ask("GET", "/openapi.json")
        self.operations = {
            (method.upper(), plain(path)): operation
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
        }

    def at(self, call):
        return self.operations.get((call.method, plain(call.path)))

    def parameters(self, operation, place):
        found = (self.resolved(one) for one in operation.get("parameters", ()))
        return {one["name"]: one for one in found if one["in"] == place}

    def body(self, operation):
        body = self.resolved(operation.get("requestBody", {}))
        return self.resolved(body.get("content", {}).get("application/json", {}).get("schema", {}))

    def resolved(self, schema):
        """The schema itself, without references and without the choice of null."""
        while True:
            if "$ref" in schema:
                at = self.document
                for step in schema["$ref"].removeprefix("#/").split("/"):
                    at = at[step]
                schema = at
            choices = [
                one
                for one in schema.get("anyOf", schema.get("oneOf", ()))
                if one.get("type") != "null"
            ]
            if len(choices) == 1:
                schema = {**schema, **choices[0]}
                schema.pop("anyOf", None)
                schema.pop("oneOf", None)
            elif "$ref" not in schema:
                return schema


def real(path):
    """The path of something that is there."""
    names = {"app_id": "inputs", "endpoint_id": "inputs", "event_type_name": "inputs"}
    return re.sub(r"\{(\w+)\}", lambda name: names.get(name[1], "x"), path)


class Findings:
    def __init__(self):
        self.wrong = []
        self.refused = set()
        self.without_effect = set()
        self.seen = {"calls": 0, "not offered": set(), "query options": 0, "fields": 0}


def hold_call(call, sdk, document, findings):
    operation = document.at(call)
    findings.seen["calls"] += 1
    if operation is None:
        status, answer = ask(call.method, re.sub(r"\{\w+\}", "x", call.path))
        if (status, (answer or {}).get("code")) == (404, "not_offered"):
            findings.seen["not offered"].add(f"{call.method} {call.path}")
        else:
            findings.wrong.append(f"{sdk.name}: {call.method} {call.path} is a {status}: {answer}")
        return
    place = f"{call.method} {plain(call.path)}"
    for kind, names in [("query", call.query), ("header", call.headers)]:
        known = document.parameters(operation, kind)
        findings.seen["query options"] += len(names)
        for name in sorted(names):
            if name not in known:
                note_ignored(f"{place} {name}", sdk, findings)
            elif "x-without-effect" in known[name].get("schema", {}):
                note_ignored(f"{place} {name}", sdk, findings)
    if call.body:
        hold_model(call.body, document.body(operation), [], call, sdk, document, findings)


def hold_model(model, schema, place, call, sdk, document, findings):
    for name, inner in sdk.models[model].items():
        findings.seen["fields"] += 1
        known = schema.get("properties", {}).get(name)
        if known is None:
            if is_refused(call, [*place, name]):
                findings.refused.add(f"{model}.{name}")
            else:
                note_ignored(f"{model}.{name}", sdk, findings)
            continue
        known = document.resolved(known)
        if "x-without-effect" in known:
            note_ignored(f"{model}.{name}", sdk, findings)
        if inner in sdk.models and "properties" in known:
            hold_model(inner, known, [*place, name], call, sdk, document, findings)


def is_refused(call, place):
    """Whether the server refuses a field by its name, as something that it does not offer."""
    body = 1
    for name in reversed(place):
        body = {name: body}
    status, answer = ask(call.method, real(call.path), body)
    return status == 422 and any(
        (one["loc"], one["type"]) == (["body", *place], "not_offered") for one in answer["detail"]
    )


def note_ignored(name, sdk, findings):
    findings.without_effect.add(name)
    if name not in IGNORED:
        findings.wrong.append(f"{sdk.name}: {name} is neither implemented, refused nor ignored")


def main():
    ask("POST", "/api/v1/app", {"name": "inputs", "uid": "inputs"})
    endpoint = {"url": "https://receiver.invalid/", "uid": "inputs"}
    ask("POST", "/api/v1/app/inputs/endpoint", endpoint)
    ask("POST", "/api/v1/event-type", {"name": "inputs", "description": ""})
    document, findings = Document(), Findings()
    for one in sdk.installed(TOOLS):
        for call in one.calls:
            hold_call(call, one, document, findings)
    for name in sorted(set(IGNORED) - findings.without_effect):
        findings.wrong.append(f"{name} is on the list of the ignored, and no SDK has it")
    seen = findings.seen
    print(f"{seen['calls']} calls, {seen['query options']} options, {seen['fields']} fields")
    for name in sorted(seen["not offered"]):
        print(f"not offered: {name}")
    for name in sorted(findings.refused):
        print(f"refused by name: {name}")
    for name, reason in sorted(IGNORED.items()):
        print(f"ignored: {name}: {reason}")
    for wrong in sorted(set(findings.wrong)):
        print(f"WRONG  {wrong}")
    if findings.wrong:
        raise SystemExit(1)


main()
