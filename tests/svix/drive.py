"""Drives every resource with the newest official Python SDK, unchanged but for the server's URL.

main.rs starts the server and gives SERVER_URL, TOKEN (an owner's), and LOSING_URL, a way to the
same server on which the first answer to each POST is lost: RESTART there kills the server before.
"""

import asyncio
import json
from datetime import datetime, timedelta, timezone

from support import Receiver, Steps, raised, same, until
from svix.api import (
    AppPortalAccessIn,
    AppUsageStatsIn,
    ApplicationIn,
    ApplicationListOptions,
    ApplicationPatch,
    ApplicationTokenExpireIn,
    BackgroundTaskListOptions,
    BulkReplayIn,
    EndpointHeadersIn,
    EndpointHeadersPatchIn,
    EndpointIn,
    EndpointListOptions,
    EndpointPatch,
    EndpointSecretRotateIn,
    EndpointUpsertIn,
    EventExampleIn,
    EventTypeImportOpenApiIn,
    EventTypeIn,
    EventTypeListOptions,
    EventTypePatch,
    EventTypeUpsertIn,
    MessageAttemptListAttemptedMessagesOptions,
    MessageAttemptListByEndpointOptions,
    MessageAttemptListByMsgOptions,
    MessageCreateOptions,
    MessageGetOptions,
    MessageIn,
    MessageListOptions,
    MessagePrecheckIn,
    OperationalWebhookEndpointHeadersIn,
    OperationalWebhookEndpointIn,
    OperationalWebhookEndpointSecretIn,
    OperationalWebhookEndpointUpsertIn,
    RecoverIn,
    ReplayIn,
    SvixAsync,
)
from svix.api.event_type import EventTypeDeleteOptions
from svix.api.message import message_in_raw
from svix.exceptions import HTTPValidationError, HttpError
from svix.models import (
    BackgroundTaskStatus,
    BackgroundTaskType,
    MessageAttemptTriggerType,
    MessageStatus,
    MessageStatusText,
    Ordering,
    StatusCodeClass,
)
from svix.webhooks import Webhook, WebhookVerificationError

import driven
import models
import rest
from world import EVENT_TYPE, LOSING_URL, Customer, an_hour_ago, client, pages

step = Steps()
watch = models.Watch()
watched = driven.Driven()


@step
def health(svix, receiver):
    """health"""
    same(svix.health.get(), None)


@step
def event_types(svix, receiver):
    """event types: create, list both ways, get, patch, upsert, archive, expunge"""
    api = svix.event_type
    schemas = {"1": {"type": "object", "examples": [{"n": 1}, {"n": 2}]}}
    made = api.create(
        EventTypeIn(
            name=EVENT_TYPE,
            description="Paid",
            schemas=schemas,
            group_name="invoice",
            feature_flags=["beta"],
        )
    )
    same((made.name, made.description, made.archived), (EVENT_TYPE, "Paid", False))
    same((made.schemas, made.group_name, made.feature_flags), (schemas, "invoice", ["beta"]))
    for name in ["a.a", "a.b", "a.c", "a.d"]:
        api.create(EventTypeIn(name=name, description=name))
    names = pages(lambda at: api.list(EventTypeListOptions(limit=2, iterator=at)))
    same(names, ["a.a", "a.b", "a.c", "a.d", EVENT_TYPE])
    listed = api.list(EventTypeListOptions(order=Ordering.DESCENDING, with_content=True))
    same([one.name for one in listed.data], names[::-1])
    same(listed.data[0].schemas, schemas, "schemas with content")
    patched = api.patch(EVENT_TYPE, EventTypePatch(feature_flags=None, description="Paid up"))
    same((patched.feature_flags or None, patched.description), (None, "Paid up"))
    same(patched.schemas, schemas, "what the patch does not name")
    same(api.upsert("a.a", EventTypeUpsertIn(description="Put")).description, "Put")
    same(api.upsert("a.e", EventTypeUpsertIn(description="New", deprecated=True)).deprecated, True)
    same(api.delete("a.b"), None)
    same(api.get("a.b").archived, True, "archived")
    assert "a.b" not in [one.name for one in api.list().data]
    archived = api.list(EventTypeListOptions(include_archived=True)).data
    assert "a.b" in [one.name for one in archived]
    same(api.create(EventTypeIn(name="a.b", description="back")).archived, False, "unarchived")
    api.delete("a.b", EventTypeDeleteOptions(expunge=True))
    same(raised(HttpError, lambda: api.get("a.b")).status_code, 404)
    error = raised(HttpError, lambda: api.create(EventTypeIn(name="a.c", description="")))
    same((error.status_code, error.code), (409, "conflict"))


@step
def import_openapi(svix, receiver):
    """event types from an OpenAPI document: dry run, as JSON, as YAML, and the error for neither"""
    api = svix.event_type
    body = {
        "description": "Shipped",
        "x-svix-group-name": "order",
        "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}},
    }
    spec = {
        "openapi": "3.1.0",
        "info": {"title": "Shop", "version": "1"},
        "webhooks": {"order.shipped": {"post": body}},
    }
    dry = api.import_openapi(EventTypeImportOpenApiIn(spec=spec, dry_run=True)).data
    same((dry.modified, [one.name for one in dry.to_modify]), ([], ["order.shipped"]), "a dry run")
    same(raised(HttpError, lambda: api.get("order.shipped")).status_code, 404)
    same(api.import_openapi(EventTypeImportOpenApiIn(spec=spec)).data.modified, ["order.shipped"])
    same(api.get("order.shipped").description, "Shipped")
    raw = """
openapi: 3.1.0
info: {title: Shop, version: '1'}
webhooks:
  order.returned:
    post: {description: Returned}
"""
    raw_in = EventTypeImportOpenApiIn(spec_raw=raw)
    same(api.import_openapi(raw_in).data.modified, ["order.returned"], "from YAML")
    neither = EventTypeImportOpenApiIn()
    error = raised(HTTPValidationError, lambda: api.import_openapi(neither))
    same(error.detail[0].loc, ["body", "spec"])


@step
def applications(svix, receiver):
    """applications: create, get_or_create, list both ways, patch, upsert, delete"""
    api = svix.application
    made = api.create(
        ApplicationIn(name="One", uid="one", throttle_rate=100, metadata={"plan": "gold"})
    )
    same((made.name, made.uid, made.throttle_rate), ("One", "one", 100))
    same(made.metadata, {"plan": "gold"})
    same(api.get("one"), api.get(made.id), "by its uid and by its id")
    same(api.get_or_create(ApplicationIn(name="Other", uid="one")).id, made.id)
    same(api.get("one").name, "One", "get_or_create changes nothing")
    for name in ["two", "three", "four", "five"]:
        api.create(ApplicationIn(name=name, uid=name))
    ids = pages(lambda at: api.list(ApplicationListOptions(limit=2, iterator=at)))
    same(len(ids), 5)
    listed = api.list(ApplicationListOptions(order=Ordering.DESCENDING)).data
    same([one.id for one in listed], ids[::-1])
    patched = api.patch("one", ApplicationPatch(uid=None, throttle_rate=None, name="Uno"))
    same((patched.uid, patched.throttle_rate, patched.name), (None, None, "Uno"), "null clears")
    same(patched.metadata, {"plan": "gold"}, "what the patch does not name")
    same(api.upsert("two", ApplicationIn(name="Deux", uid="two")).name, "Deux")
    fresh = api.upsert("six", ApplicationIn(name="Six", uid="six"))
    assert fresh.id not in ids
    for one in [*ids, fresh.id]:
        same(api.delete(one), None)
        same(raised(HttpError, lambda: api.get(one)).status_code, 404)


@step
def errors(svix, receiver):
    """errors: 401, 404, 409, 422 with the place"""
    error = raised(HttpError, lambda: client("nonsense").application.list())
    same((error.status_code, error.code), (401, "authentication_failed"))
    assert error.detail, "the error says nothing"
    error = raised(HttpError, lambda: svix.application.get("app_1srOrx2ZWZBpBUvZwXKQmoEYga2"))
    same((error.status_code, error.code), (404, "not_found"))
    svix.application.create(ApplicationIn(name="taken", uid="taken"))
    error = raised(
        HttpError, lambda: svix.application.create(ApplicationIn(name="again", uid="taken"))
    )
    same((error.status_code, error.code), (409, "conflict"))
    error = raised(
        HTTPValidationError,
        lambda: svix.endpoint.create("taken", EndpointIn(url="not a url")),
    )
    same((error.status_code, error.detail[0].loc), (422, ["body", "url"]))
    assert error.detail[0].msg and error.detail[0].type
    error = raised(
        HTTPValidationError, lambda: svix.application.list(ApplicationListOptions(limit=251))
    )
    same(error.detail[0].loc, ["query", "limit"])
    svix.application.delete("taken")


@step
def endpoints(svix, receiver):
    """endpoints: create, list both ways, patch, upsert, headers, delete"""
    app = svix.application.create(ApplicationIn(name="endpoints")).id
    api = svix.endpoint
    made = api.create(
        app,
        EndpointIn(
            url=receiver.url("/endpoints"),
            description="first",
            uid="first",
            throttle_rate=50,
            event_types=[EVENT_TYPE],
            channels=["eu"],
            metadata={"team": "red"},
            headers={"X-Custom": "one", "Authorization": "secret"},
            secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ),
    )
    same((made.description, made.uid, made.throttle_rate), ("first", "first", 50))
    same((made.event_types, made.channels), ([EVENT_TYPE], ["eu"]))
    same((made.metadata, made.disabled), ({"team": "red"}, False))
    same(api.get(app, "first"), api.get(app, made.id), "by its uid and by its id")
    same(api.get_secret(app, "first").key, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = api.get_headers(app, made.id)
    same({name.lower(): value for name, value in headers.headers.items()}, {"x-custom": "one"})
    same([name.lower() for name in headers.sensitive], ["authorization"])
    api.patch_headers(
        app, made.id, EndpointHeadersPatchIn(headers={"X-Two": "2"}, delete_headers=["X-Custom"])
    )
    headers = api.get_headers(app, made.id)
    same({name.lower() for name in headers.headers}, {"x-two"})
    same([name.lower() for name in headers.sensitive], ["authorization"], "kept by a patch")
    api.set_headers(app, made.id, EndpointHeadersIn(headers={"X-Three": "3"}))
    headers = api.get_headers(app, made.id)
    same((list(headers.headers.values()), headers.sensitive), (["3"], []))
    for name in ["b", "c", "d", "e"]:
        api.create(app, EndpointIn(url=receiver.url(f"/{name}"), uid=name))
    ids = pages(lambda at: api.list(app, EndpointListOptions(limit=2, iterator=at)))
    same(len(ids), 5)
    patched = api.patch(
        app,
        made.id,
        EndpointPatch(uid=None, throttle_rate=None, channels=None, event_types=None, disabled=True),
    )
    same((patched.uid, patched.throttle_rate), (None, None), "null clears")
    same((patched.channels, patched.event_types, patched.disabled), (None, None, True))
    same(patched.metadata, {"team": "red"}, "what the patch does not name")
    put = api.upsert(app, "b", EndpointUpsertIn(url=receiver.url("/put"), uid="b"))
    # Those of the same few milliseconds are in no order but that of their ids.
    same(ids, sorted(ids, reverse=True), "the newest is listed first")
    same((put.id, put.url), (api.get(app, "b").id, receiver.url("/put")))
    assert put.id in ids
    fresh = api.upsert(app, "f", EndpointUpsertIn(url=receiver.url("/f"), uid="f"))
    assert fresh.id not in ids
    same(api.delete(app, "f"), None)
    same(raised(HttpError, lambda: api.get(app, "f")).status_code, 404)
    svix.application.delete(app)


@step
def publishing(svix, receiver):
    """publish: the received request verifies, and no longer when changed; secrets rotate"""
    customer = Customer(svix, receiver, "publish", headers={"X-Custom": "one"})
    api = svix.endpoint
    message = customer.publish({"text": "Grüße", "n": 1.5})
    request = customer.receiver.at("/publish")[0]
    key = api.get_secret(customer.app, customer.endpoint).key
    Webhook(key).verify(request.body, request.headers)
    raised(
        WebhookVerificationError, lambda: Webhook(key).verify(request.body + b" ", request.headers)
    )
    same(json.loads(request.body), {"text": "Grüße", "n": 1.5})
    same({name.lower(): value for name, value in request.headers.items()}["x-custom"], "one")
    same(message.event_type, EVENT_TYPE)

    # The newest SDK reads the new key from the answer.
    rotated = api.rotate_secret(customer.app, customer.endpoint, EndpointSecretRotateIn()).key
    same(api.get_secret(customer.app, customer.endpoint).key, rotated)
    customer.publish()
    request = customer.receiver.at("/publish", 2)[1]
    for one in [key, rotated]:
        Webhook(one).verify(request.body, request.headers)
    given = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    answer = api.rotate_secret(
        customer.app, customer.endpoint, EndpointSecretRotateIn(key=given, grace_period_seconds=0)
    )
    same(answer.key, given)
    customer.publish()
    request = customer.receiver.at("/publish", 3)[2]
    Webhook(given).verify(request.body, request.headers)
    raised(
        WebhookVerificationError, lambda: Webhook(rotated).verify(request.body, request.headers)
    )

    for number, (payload, content_type) in enumerate(
        [('{"key": "val",  "key1": ["list"]}', None), ("<paid>Grüße</paid>", "text/xml")], start=4
    ):
        svix.message.create(customer.app, message_in_raw(EVENT_TYPE, payload, content_type))
        request = customer.receiver.at("/publish", number)[number - 1]
        same(request.body, payload.encode())
        headers = {name.lower(): value for name, value in request.headers.items()}
        same(headers["content-type"], content_type or "application/json")
        # The SDK's own verification also reads the body as JSON, which the second one is not.
        if content_type is None:
            Webhook(given).verify(request.body, request.headers)


@step
def messages(svix, receiver):
    """messages: list both ways, filters, tags, channels, event ids, content, expunge, precheck"""
    customer = Customer(svix, receiver, "messages", channels=["eu"])
    api = svix.message
    app = customer.app
    first = customer.publish({"n": 1}, channels=["eu", "vip"], tags=["spring"], event_id="e-1")
    same((first.event_id, sorted(first.channels), first.tags), ("e-1", ["eu", "vip"], ["spring"]))
    same(first.payload, {}, "the newest SDK asks without content")
    ids = [first.id] + [customer.publish({"n": n}, channels=["us"]).id for n in range(4)]
    listed = pages(lambda at: api.list(app, MessageListOptions(limit=2, iterator=at)))
    same(listed, ids[::-1], "the newest first")

    def found(**options):
        return [one.id for one in api.list(app, MessageListOptions(**options)).data]

    same(found(tag="spring"), [first.id])
    same(found(tag="autumn"), [])
    same(found(channel="eu"), [first.id])
    same(found(event_types=[EVENT_TYPE, "a.a"]), ids[::-1])
    same(found(event_types=["a.a"]), [])
    same(found(after=datetime.now(timezone.utc)), [])
    same(found(before=datetime.now(timezone.utc), after=an_hour_ago()), ids[::-1])
    with_content = MessageListOptions(with_content=True, tag="spring")
    same(api.list(app, with_content).data[0].payload, {"n": 1})
    same(api.get(app, first.id, MessageGetOptions(with_content=True)).payload, {"n": 1})
    same(api.get(app, first.id).payload, {}, "without content")
    shown = api.create(
        app,
        MessageIn(event_type=EVENT_TYPE, payload={"n": 9}),
        MessageCreateOptions(with_content=True),
    )
    same(shown.payload, {"n": 9})
    error = raised(HttpError, lambda: customer.publish(event_id="e-1"))
    same((error.status_code, error.code), (409, "conflict"))

    precheck = MessagePrecheckIn(event_type=EVENT_TYPE, channels=["eu"])
    same(api.precheck(app, precheck).active, True)
    precheck = MessagePrecheckIn(event_type=EVENT_TYPE, channels=["us"])
    same(api.precheck(app, precheck).active, False)

    customer.delivered(first)
    same(api.expunge_content(app, first.id), None)
    gone = api.get(app, first.id, MessageGetOptions(with_content=True))
    assert "n" not in gone.payload, f"expunged: {gone.payload}"

    soon = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=2)
    later = customer.publish(channels=["eu"], deliver_at=soon, event_id="later")
    same(later.deliver_at, soon)
    waiting = customer.delivered(later, MessageStatus.PENDING)
    same(waiting.next_attempt, soon)
    pending = MessageAttemptListAttemptedMessagesOptions(status=MessageStatus.PENDING)
    attempted = svix.message_attempt.list_attempted_messages(app, customer.endpoint, pending)
    found = attempted.data[0]
    same((found.event_id, found.deliver_at, found.next_attempt), ("later", soon, soon))

    created = api.create(
        "from-message",
        MessageIn(
            event_type=EVENT_TYPE,
            payload={},
            application=ApplicationIn(name="made while publishing", uid="from-message"),
        ),
    )
    same(api.get("from-message", created.id).id, created.id)
    error = raised(HttpError, lambda: api.get("from-message", first.id))
    same(error.status_code, 404)


@step
def attempts(svix, receiver):
    """attempts: by message and by endpoint, filters, content, resend, attempted messages, stats"""
    customer = Customer(
        svix, receiver, "attempts", uid="e", throttle_rate=50, event_types=[EVENT_TYPE]
    )
    app, endpoint = customer.app, customer.endpoint
    api = svix.message_attempt
    receiver.answers[customer.path] = 500
    failed = customer.publish({"n": 1}, tags=["red"], channels=["eu"])
    destination = customer.delivered(failed, MessageStatus.FAIL)
    same((destination.id, destination.status_text), (endpoint, MessageStatusText.FAIL))
    same((destination.next_attempt, destination.uid), (None, "e"))
    same((destination.throttle_rate, destination.event_types), (50, [EVENT_TYPE]))

    listed = api.list_by_msg(app, failed.id, MessageAttemptListByMsgOptions(with_content=True))
    # main.rs has a schedule with one retry.
    same(len(listed.data), 2)
    newest = listed.data[0]
    same((newest.status, newest.response_status_code), (MessageStatus.FAIL, 500))
    same((newest.response, newest.url), (f"seen {customer.path}", receiver.url(customer.path)))
    same((newest.msg_id, newest.endpoint_id), (failed.id, endpoint))
    same(newest.trigger_type, MessageAttemptTriggerType.SCHEDULED)
    assert newest.response_duration_ms >= 0
    same(api.list_by_msg(app, failed.id).data[0].response, "", "without content")
    same(api.get(app, failed.id, newest.id).id, newest.id)

    receiver.answers[customer.path] = 200
    api.resend(app, failed.id, endpoint)
    customer.delivered(failed)
    newest = api.list_by_msg(app, failed.id).data[0]
    same((newest.trigger_type, newest.status), (MessageAttemptTriggerType.MANUAL, MessageStatus.SUCCESS))
    delivered = customer.publish({"n": 2})
    customer.delivered(delivered)

    by_endpoint = pages(
        lambda at: api.list_by_endpoint(
            app, endpoint, MessageAttemptListByEndpointOptions(limit=2, iterator=at)
        )
    )
    same(len(by_endpoint), 4)

    def found(**options):
        options = MessageAttemptListByEndpointOptions(**options)
        return [one.id for one in api.list_by_endpoint(app, endpoint, options).data]

    same(found(status=MessageStatus.SUCCESS), by_endpoint[:2])
    same(found(status=MessageStatus.FAIL), by_endpoint[2:])
    same(found(status_code_class=StatusCodeClass.CODE5XX), by_endpoint[2:])
    same(found(status_code_class=StatusCodeClass.CODE2XX), by_endpoint[:2])
    same(found(status_code_class=StatusCodeClass.CODE_NONE), [])
    same(found(channel="eu"), by_endpoint[1:])
    same(found(tag="red"), by_endpoint[1:])
    same(found(event_types=["a.a"]), [])
    same(found(after=datetime.now(timezone.utc)), [])
    same(found(before=an_hour_ago()), [])
    with_msg = MessageAttemptListByEndpointOptions(limit=1, with_msg=True)
    listed = api.list_by_endpoint(app, endpoint, with_msg).data[0]
    same((listed.msg.id, listed.msg.event_type), (delivered.id, EVENT_TYPE))
    of_endpoint = MessageAttemptListByMsgOptions(endpoint_id=endpoint)
    same(len(api.list_by_msg(app, failed.id, of_endpoint).data), 3)

    attempted = api.list_attempted_messages(
        app, endpoint, MessageAttemptListAttemptedMessagesOptions(with_content=True)
    ).data
    same([one.id for one in attempted], [delivered.id, failed.id])
    same((attempted[0].status, attempted[0].payload), (MessageStatus.SUCCESS, {"n": 2}))
    tagged = MessageAttemptListAttemptedMessagesOptions(tag="red")
    same([one.id for one in api.list_attempted_messages(app, endpoint, tagged).data], [failed.id])
    of_status = MessageAttemptListAttemptedMessagesOptions(status=MessageStatus.FAIL)
    same(api.list_attempted_messages(app, endpoint, of_status).data, [])
    stats = svix.endpoint.get_stats(app, endpoint)
    # One was delivered after it had failed: both count.
    same((stats.success, stats.fail, stats.pending, stats.sending), (2, 1, 0, 0))
    stats = svix.endpoint.get_attempt_stats(app, endpoint)
    same((stats.success, stats.fail, stats.canceled), (2, 2, 0))

    same(api.expunge_content(app, failed.id, by_endpoint[3]), None)
    with_content = MessageAttemptListByMsgOptions(with_content=True)
    expunged = api.list_by_msg(app, failed.id, with_content).data[-1]
    assert "seen" not in expunged.response, expunged.response


@step
def recovering(svix, receiver):
    """recover, replay-missing, bulk-replay and their background tasks"""
    customer = Customer(svix, receiver, "recover")
    app, endpoint = customer.app, customer.endpoint
    receiver.answers[customer.path] = 500
    failed = [customer.publish({"n": n}) for n in range(3)]
    for message in failed:
        customer.delivered(message, MessageStatus.FAIL)
    receiver.answers[customer.path] = 200
    before = len(receiver.at(customer.path))
    task = svix.endpoint.recover(app, endpoint, RecoverIn(since=an_hour_ago()))
    same(task.task, BackgroundTaskType.ENDPOINT_RECOVER)
    same(customer.finished(task).status, BackgroundTaskStatus.FINISHED)
    for message in failed:
        customer.delivered(message)
    same(len(receiver.at(customer.path, before + 3)), before + 3, "each once")

    late = svix.endpoint.create(app, EndpointIn(url=receiver.url("/recover-late"))).id
    task = svix.endpoint.replay_missing(app, late, ReplayIn(since=an_hour_ago()))
    same(task.task, BackgroundTaskType.ENDPOINT_REPLAY)
    same(customer.finished(task).status, BackgroundTaskStatus.FINISHED)
    receiver.at("/recover-late", 3)
    until("the replayed to be delivered", lambda: svix.endpoint.get_stats(app, late).success == 3)

    replay = BulkReplayIn(
        since=an_hour_ago(), event_types=[EVENT_TYPE], status=MessageStatus.SUCCESS
    )
    task = svix.endpoint.bulk_replay(app, late, replay)
    same(task.task, BackgroundTaskType.ENDPOINT_BULK_REPLAY)
    done = customer.finished(task)
    same((done.status, done.id), (BackgroundTaskStatus.FINISHED, task.id))
    receiver.at("/recover-late", 6)

    api = svix.background_task
    ids = pages(lambda at: api.list(BackgroundTaskListOptions(limit=2, iterator=at)))
    same(len(ids), 3)
    replays = BackgroundTaskListOptions(
        task=BackgroundTaskType.ENDPOINT_BULK_REPLAY, status=BackgroundTaskStatus.FINISHED
    )
    same([one.id for one in api.list(replays).data], [task.id])
    error = raised(HttpError, lambda: api.get("qtask_1srOrx2ZWZBpBUvZwXKQmoEYga2"))
    same(error.status_code, 404)
    error = raised(
        HTTPValidationError,
        lambda: svix.endpoint.recover(
            app, endpoint, RecoverIn(since=datetime.now(timezone.utc) + timedelta(days=1))
        ),
    )
    assert error.detail[0].loc[0] == "body", error.detail


@step
def test_events(svix, receiver):
    """send_example delivers the event type's example"""
    customer = Customer(svix, receiver, "example")
    sent = svix.endpoint.send_example(
        customer.app, customer.endpoint, EventExampleIn(event_type=EVENT_TYPE, example_index=1)
    )
    same(sent.event_type, EVENT_TYPE)
    same(json.loads(receiver.at(customer.path)[0].body), {"n": 2})


@step
def credentials(svix, receiver):
    """portal access, what its token may, logout, expire_all"""
    customer = Customer(svix, receiver, "portal")
    other = svix.application.create(ApplicationIn(name="other portal", uid="other-portal")).id
    api = svix.authentication
    access = api.app_portal_access(customer.app, AppPortalAccessIn(feature_flags=["beta"]))
    assert access.url and access.token
    theirs = client(access.token)
    same([one.id for one in theirs.endpoint.list(customer.app).data], [customer.endpoint])
    same(raised(HttpError, lambda: theirs.endpoint.list(other)).status_code, 404)
    same(raised(HttpError, lambda: theirs.application.list()).status_code, 403)
    same(theirs.authentication.logout(), None)
    same(raised(HttpError, lambda: theirs.endpoint.list(customer.app)).status_code, 401)

    kept = client(api.app_portal_access(customer.app, AppPortalAccessIn(session_id="kept")).token)
    ended = client(api.app_portal_access(customer.app, AppPortalAccessIn(session_id="end")).token)
    ended.endpoint.list(customer.app)
    api.expire_all(customer.app, ApplicationTokenExpireIn(expiry=0, session_ids=["end"]))
    same(raised(HttpError, lambda: ended.endpoint.list(customer.app)).status_code, 401)
    kept.endpoint.list(customer.app)
    api.expire_all(customer.app, ApplicationTokenExpireIn(expiry=0))
    same(raised(HttpError, lambda: kept.endpoint.list(customer.app)).status_code, 401)
    made = api.app_portal_access(
        "made-by-portal",
        AppPortalAccessIn(application=ApplicationIn(name="Made", uid="made-by-portal")),
    )
    same(client(made.token).application.get("made-by-portal").name, "Made")


@step
def operational(svix, receiver):
    """operational webhooks: create, list both ways, upsert, headers, rotate, an event, delete"""
    api = svix.operational_webhook.endpoint
    made = api.create(
        OperationalWebhookEndpointIn(
            url=receiver.url("/operational"),
            description="ours",
            uid="ours",
            throttle_rate=10,
            event_types=["endpoint.created"],
            metadata={"a": "b"},
            headers={"X-Custom": "one"},
        )
    )
    same((made.description, made.uid, made.metadata), ("ours", "ours", {"a": "b"}))
    same(made.event_types, ["endpoint.created"])
    same(api.get("ours"), api.get(made.id), "by its uid and by its id")
    for name in ["x", "y"]:
        url = receiver.url(f"/operational-{name}")
        api.create(OperationalWebhookEndpointIn(url=url, uid=name, disabled=True))
    from svix.api.operational_webhook_endpoint import OperationalWebhookEndpointListOptions

    ids = pages(
        lambda at: api.list(OperationalWebhookEndpointListOptions(limit=2, iterator=at))
    )
    same(len(ids), 3)
    customer = Customer(svix, receiver, "watched")
    request = receiver.at("/operational")[0]
    key = api.get_secret(made.id).key
    Webhook(key).verify(request.body, request.headers)
    event = json.loads(request.body)
    same((event["type"], event["data"]["appId"]), ("endpoint.created", customer.app))
    same((event["data"]["appUid"], event["data"]["endpointId"]), ("watched", customer.endpoint))
    same(api.rotate_secret(made.id, OperationalWebhookEndpointSecretIn()), None)
    assert api.get_secret(made.id).key != key
    headers = {name.lower(): value for name, value in api.get_headers(made.id).headers.items()}
    same(headers, {"x-custom": "one"})
    api.set_headers(made.id, OperationalWebhookEndpointHeadersIn(headers={"X-Two": "2"}))
    same(list(api.get_headers(made.id).headers.values()), ["2"])
    put = OperationalWebhookEndpointUpsertIn(url=receiver.url("/put"), uid="x", disabled=True)
    same(api.upsert("x", put).url, receiver.url("/put"))
    for one in ids:
        same(api.delete(one), None)
    same(raised(HttpError, lambda: api.get("ours")).status_code, 404)


@step
def statistics(svix, receiver):
    """statistics of usage"""
    customer = Customer(svix, receiver, "usage")
    customer.delivered(customer.publish())
    usage = AppUsageStatsIn(
        since=an_hour_ago(), until=datetime.now(timezone.utc), app_ids=["usage", "unknown"]
    )
    task = svix.statistics.aggregate_app_stats(usage)
    same((task.task, task.unresolved_app_ids), (BackgroundTaskType.APPLICATION_STATS, ["unknown"]))
    same(customer.finished(task).status, BackgroundTaskStatus.FINISHED)
    task = svix.statistics.aggregate_event_types()
    same(task.task, BackgroundTaskType.EVENT_TYPE_AGGREGATE)
    same(customer.finished(task).status, BackgroundTaskStatus.FINISHED)
    unknown = AppUsageStatsIn(since=an_hour_ago(), until=datetime.now(timezone.utc), app_ids=["no"])
    raised(HTTPValidationError, lambda: svix.statistics.aggregate_app_stats(unknown))


@step
def idempotency(svix, receiver):
    """idempotency keys: the same answer again, and a 409 for another body"""
    customer = Customer(svix, receiver, "idempotent")
    key = MessageCreateOptions(idempotency_key="key-of-ours")
    message = MessageIn(event_type=EVENT_TYPE, payload={"n": 1})
    first = svix.message.create(customer.app, message, key)
    same(svix.message.create(customer.app, message, key).id, first.id)
    changed = MessageIn(event_type=EVENT_TYPE, payload={"n": 2})
    error = raised(HttpError, lambda: svix.message.create(customer.app, changed, key))
    same((error.status_code, error.code), (409, "conflict"))
    same(len(svix.message.list(customer.app).data), 1)


@step
def lost_answers(svix, receiver):
    """retries: a lost answer, and a server killed before it answered, publish exactly once"""
    customer = Customer(svix, receiver, "lost")
    losing = client(url=LOSING_URL)
    message = MessageIn(event_type=EVENT_TYPE, payload={"n": 1})
    published = losing.message.create(customer.app, message)
    same([one.id for one in svix.message.list(customer.app).data], [published.id])
    key = f"RESTART-{customer.app}"
    again = losing.message.create(customer.app, message, MessageCreateOptions(idempotency_key=key))
    listed = [one.id for one in svix.message.list(customer.app).data]
    same(listed, [again.id, published.id])
    for one in [published, again]:
        customer.delivered(one)
    losing.application.create(ApplicationIn(name="once", uid="once"))


@step
def asynchronous(svix, receiver):
    """the asynchronous client: create, publish, list, errors, a lost answer"""

    async def drive():
        ours = client(kind=SvixAsync)
        app = (await ours.application.create(ApplicationIn(name="async", uid="async"))).id
        url = receiver.url("/async")
        endpoint = (await ours.endpoint.create(app, EndpointIn(url=url))).id
        message = MessageIn(event_type=EVENT_TYPE, payload={"n": 1})
        published = await asyncio.gather(*[ours.message.create(app, message) for _ in range(20)])
        same(len({one.id for one in published}), 20)
        request = receiver.at("/async", 20)[-1]
        secret = await ours.endpoint.get_secret(app, endpoint)
        Webhook(secret.key).verify(request.body, request.headers)
        same(len((await ours.message.list(app)).data), 20)
        losing = client(url=LOSING_URL, kind=SvixAsync)
        await losing.message.create(app, message)
        same(len((await ours.message.list(app)).data), 21)
        try:
            await ours.application.get("nobody")
            raise AssertionError("no error for an unknown application")
        except HttpError as error:
            same(error.status_code, 404)

    asyncio.run(drive())


@step
def not_offered(svix, receiver):
    """what postrider does not offer is a 404 that says so"""
    app = svix.application.create(ApplicationIn(name="beyond", uid="beyond")).id
    endpoint = svix.endpoint.create(app, EndpointIn(url=receiver.url("/beyond"))).id
    calls = {
        "connectors": lambda: svix.connector.list(),
        "integrations": lambda: svix.integration.list(app),
        "ingest": lambda: svix.ingest.source.list(),
        "streaming": lambda: svix.streaming.stream.list(),
        "environment": lambda: svix.environment.export(),
        "destinations": lambda: svix.destination.list(app),
        "pollers": lambda: svix.message.poller.poll(app, "poll_1"),
        "transformations": lambda: svix.endpoint.transformation.get(app, endpoint),
        "all contents": lambda: svix.message.expunge_all_contents(app),
    }
    for name, call in calls.items():
        error = raised(HttpError, call)
        same((error.status_code, error.code), (404, "not_offered"), name)
        assert "does not offer" in error.detail, f"{name}: {error.detail}"


for story in rest.STORIES:
    step(story)


@step
def all_models(svix, receiver):
    """every model was answered, with every field that the SDK knows"""
    same(watch.never_answered(), [], "models that no answer was parsed as")
    same(watch.never_filled(), [], "fields that no answer filled")
    for value in watch.never_taken():
        print(f"        no answer had {value}")


@step
def all_methods(svix, receiver):
    """every method was called or is not offered, with every input that it takes"""
    same((watched.left_out(svix), watched.never_sent()), ([], []), "methods and inputs left out")


step.run(client(), Receiver())
