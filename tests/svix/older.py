"""Drives the main resources with an SDK for Python from the time of the contract's file.

It knows one status for the success of each call and raises an error for any other: what has to
differ for it, such as the answer to a rotated secret, is seen here.
"""

import json
import os
from datetime import datetime, timedelta, timezone

from support import Receiver, Steps, raised, same, until
from svix.api import (
    AppPortalAccessIn,
    ApplicationIn,
    ApplicationListOptions,
    ApplicationPatch,
    EndpointHeadersIn,
    EndpointHeadersPatchIn,
    EndpointIn,
    EndpointPatch,
    EndpointSecretRotateIn,
    EndpointUpdate,
    EventExampleIn,
    EventTypeIn,
    EventTypePatch,
    EventTypeUpdate,
    MessageAttemptListOptions,
    MessageIn,
    MessageListOptions,
    RecoverIn,
    ReplayIn,
    Svix,
    SvixOptions,
)
from svix.exceptions import HTTPValidationError, HttpError
from svix.webhooks import Webhook, WebhookVerificationError

SERVER_URL = os.environ["SERVER_URL"]
LOSING_URL = os.environ["LOSING_URL"]
TOKEN = os.environ["TOKEN"]

EVENT_TYPE = "invoice.paid"
SUCCESS, FAIL = 0, 2

step = Steps()


def client(token=TOKEN, url=SERVER_URL):
    return Svix(token, SvixOptions(server_url=url, timeout=60.0))


def an_hour_ago():
    return datetime.now(timezone.utc) - timedelta(hours=1)


def message(n=1, **fields):
    return MessageIn(event_type=EVENT_TYPE, payload={"n": n}, **fields)


def customer(svix, receiver, name):
    app = svix.application.create(ApplicationIn(name=name, uid=name)).id
    endpoint = svix.endpoint.create(app, EndpointIn(url=receiver.url(f"/{name}")))
    return app, endpoint.id


def delivered(svix, app, published, status=SUCCESS):
    def look():
        found = svix.message_attempt.list_attempted_destinations(app, published.id).data
        return found and found[0].status == status

    until(f"{published.id} to be {status}", look)


@step
def event_types(svix, receiver):
    """event types"""
    api = svix.event_type
    schemas = {"1": {"examples": [{"n": 1}]}}
    made = api.create(EventTypeIn(name=EVENT_TYPE, description="Paid", schemas=schemas))
    same((made.name, made.description), (EVENT_TYPE, "Paid"))
    same(api.update("a.a", EventTypeUpdate(description="Put")).description, "Put")
    same(api.patch("a.a", EventTypePatch(description="Patched")).description, "Patched")
    same([one.name for one in api.list().data], ["a.a", EVENT_TYPE])
    same(api.delete("a.a"), None)
    same(api.get("a.a").archived, True)


@step
def applications(svix, receiver):
    """applications, and errors"""
    api = svix.application
    made = api.create(ApplicationIn(name="One", uid="one"))
    same(api.get_or_create(ApplicationIn(name="Other", uid="one")).id, made.id)
    same(api.patch("one", ApplicationPatch(name="Uno")).name, "Uno")
    same(api.update("one", ApplicationIn(name="Put", uid="one")).name, "Put")
    page = api.list(ApplicationListOptions(limit=1))
    same(([one.id for one in page.data], page.done), ([made.id], True))
    same(api.delete("one"), None)
    error = raised(HttpError, lambda: api.get("one"))
    same((error.status_code, error.code), (404, "not_found"))
    error = raised(HttpError, lambda: client("nonsense").application.list())
    same((error.status_code, error.code), (401, "authentication_failed"))
    error = raised(
        HTTPValidationError, lambda: api.list(ApplicationListOptions(limit=251))
    )
    same(error.detail[0].loc, ["query", "limit"])


@step
def endpoints(svix, receiver):
    """endpoints: headers, secrets, a rotation that is answered as it knows"""
    app, endpoint = customer(svix, receiver, "endpoints")
    api = svix.endpoint
    update = EndpointUpdate(url=receiver.url("/put"))
    same(api.update(app, endpoint, update).url, receiver.url("/put"))
    same(api.patch(app, endpoint, EndpointPatch(description="new")).description, "new")
    same(len(api.list(app).data), 1)
    api.update_headers(app, endpoint, EndpointHeadersIn(headers={"X-A": "1"}))
    api.patch_headers(app, endpoint, EndpointHeadersPatchIn(headers={"X-B": "2"}))
    same(len(api.get_headers(app, endpoint).headers), 2)
    key = api.get_secret(app, endpoint).key
    same(api.rotate_secret(app, endpoint, EndpointSecretRotateIn()), None)
    assert api.get_secret(app, endpoint).key != key
    sent = api.send_example(app, endpoint, EventExampleIn(event_type=EVENT_TYPE))
    same(sent.event_type, EVENT_TYPE)
    receiver.at("/put")
    same(api.delete(app, endpoint), None)


@step
def messages(svix, receiver):
    """messages: publish, verify, list with content, expunge"""
    app, endpoint = customer(svix, receiver, "messages")
    published = svix.message.create(app, message(7, tags=["spring"], event_id="e-1"))
    same(published.payload, {"n": 7}, "it does not say whether it wants content")
    request = receiver.at("/messages")[0]
    key = svix.endpoint.get_secret(app, endpoint).key
    Webhook(key).verify(request.body, request.headers)
    raised(
        WebhookVerificationError, lambda: Webhook(key).verify(request.body + b" ", request.headers)
    )
    same(json.loads(request.body), {"n": 7})
    same([one.payload for one in svix.message.list(app).data], [{"n": 7}])
    same(len(svix.message.list(app, MessageListOptions(tag="spring")).data), 1)
    same(len(svix.message.list(app, MessageListOptions(event_types=["a.a"])).data), 0)
    same(svix.message.get(app, published.id).event_id, "e-1")
    error = raised(HttpError, lambda: svix.message.create(app, message(event_id="e-1")))
    same((error.status_code, error.code), (409, "conflict"))
    delivered(svix, app, published)
    same(svix.message.expunge_content(app, published.id), None)


@step
def attempts(svix, receiver):
    """attempts: lists, resend, recover, replay, stats"""
    app, endpoint = customer(svix, receiver, "attempts")
    api = svix.message_attempt
    receiver.answers["/attempts"] = 500
    published = [svix.message.create(app, message(n)) for n in range(2)]
    for one in published:
        delivered(svix, app, one, FAIL)
    receiver.answers["/attempts"] = 200
    failed = api.list_by_msg(app, published[0].id).data
    same((len(failed), failed[0].response_status_code), (2, 500))
    same(failed[0].response, "seen /attempts", "it does not say whether it wants content")
    same(api.get(app, published[0].id, failed[0].id).id, failed[0].id)
    same(api.resend(app, published[0].id, endpoint), None)
    delivered(svix, app, published[0])
    svix.endpoint.recover(app, endpoint, RecoverIn(since=an_hour_ago()))
    delivered(svix, app, published[1])
    same(len(api.list_by_endpoint(app, endpoint, MessageAttemptListOptions(limit=3)).data), 3)
    same(len(api.list_attempted_messages(app, endpoint).data), 2)
    stats = svix.endpoint.get_stats(app, endpoint)
    # Both were delivered after they had failed: both count.
    same((stats.success, stats.fail), (2, 2))
    same(api.expunge_content(app, published[0].id, failed[0].id), None)
    late = svix.endpoint.create(app, EndpointIn(url=receiver.url("/attempts-late"))).id
    svix.endpoint.replay_missing(app, late, ReplayIn(since=an_hour_ago()))
    receiver.at("/attempts-late", 2)


@step
def credentials(svix, receiver):
    """portal access and logout"""
    app, endpoint = customer(svix, receiver, "portal")
    access = svix.authentication.app_portal_access(app, AppPortalAccessIn(feature_flags=[]))
    theirs = client(access.token)
    same([one.id for one in theirs.endpoint.list(app).data], [endpoint])
    same(theirs.authentication.logout(), None)
    same(raised(HttpError, lambda: theirs.endpoint.list(app)).status_code, 401)


@step
def lost_answers(svix, receiver):
    """a lost answer, with a key of one's own: it sends none by itself"""
    app, _ = customer(svix, receiver, "lost")
    from svix.api import PostOptions

    losing = client(url=LOSING_URL)
    losing.message.create(app, message(), PostOptions(idempotency_key="once"))
    same(len(svix.message.list(app).data), 1)


step.run(client(), Receiver())
