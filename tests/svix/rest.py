"""Sends the options and fields of the newest SDK for Python that the stories of drive.py have no use for.

Each has its effect, or is one of the few that inputs.py lists as ignored.
"""

import json
from datetime import datetime, timedelta, timezone

from support import raised, same, until
from svix.api import (
    AppPortalAccessIn,
    ApplicationIn,
    ApplicationListOptions,
    ApplicationPatch,
    BackgroundTaskListOptions,
    BulkExpungeContentsIn,
    BulkReplayIn,
    EndpointIn,
    EndpointListOptions,
    EndpointPatch,
    EndpointUpsertIn,
    EventExampleIn,
    EventTypeImportOpenApiIn,
    EventTypeIn,
    EventTypePatch,
    EventTypeUpsertIn,
    MessageAttemptListAttemptedMessagesOptions,
    MessageAttemptListByEndpointOptions,
    MessageAttemptListByMsgOptions,
    OperationalWebhookEndpointIn,
    OperationalWebhookEndpointSecretIn,
    OperationalWebhookEndpointUpsertIn,
    RecoverIn,
    ReplayIn,
)
from svix.api.endpoint import EndpointGetAttemptStatsOptions, EndpointGetStatsOptions
from svix.api.message_attempt import (
    MessageAttemptGetOptions,
    MessageAttemptListAttemptedDestinationsOptions,
)
from svix.api.operational_webhook_endpoint import OperationalWebhookEndpointListOptions
from svix.exceptions import HttpError
from svix.models import AppPortalCapability, MessageStatus, Ordering, StatusCodeClass

from world import EVENT_TYPE, Customer, an_hour_ago, client, pages

SECRET = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
SCHEMAS = {"1": {"type": "object"}}


def now():
    return datetime.now(timezone.utc)


def ids(listed):
    return [one.id for one in listed.data]


def fields_are(found, **wanted):
    for name, value in wanted.items():
        same(getattr(found, name), value, name)


def event_types(svix, receiver):
    """event types: every field"""
    api = svix.event_type
    api.create(EventTypeIn(name="rest.a", description="", archived=True, deprecated=True))
    fields_are(api.get("rest.a"), archived=True, deprecated=True)
    changed = {"feature_flags": ["x"], "group_name": "g", "schemas": SCHEMAS}
    flags = {"archived": False, "deprecated": False}
    fields_are(api.patch("rest.a", EventTypePatch(**changed, **flags)), **changed, **flags)
    changed = {"feature_flags": ["y"], "group_name": "h", "schemas": SCHEMAS, "archived": True}
    fields_are(api.upsert("rest.a", EventTypeUpsertIn(description="", **changed)), **changed)
    api.delete("rest.a")


def applications(svix, receiver):
    """applications: every field of a patch, every option of the list"""
    api = svix.application
    empty = api.create(ApplicationIn(name="empty", uid="rest-empty")).id
    resting = api.create(ApplicationIn(name="resting", uid="rest-resting")).id
    url = receiver.url("/rest-resting")
    svix.endpoint.create(resting, EndpointIn(url=url, disabled=True))
    patch = {"metadata": {"a": "b"}, "throttle_rate": 7, "uid": "rest-other"}
    fields_are(api.patch(empty, ApplicationPatch(**patch)), **patch)

    def listed(**options):
        found = pages(lambda at: api.list(ApplicationListOptions(iterator=at, **options)))
        return {empty, resting} & set(found)

    same(listed(exclude_apps_with_no_endpoints=True), {resting})
    same(listed(exclude_apps_with_disabled_endpoints=True), {empty})
    same(listed(exclude_apps_with_svix_play_endpoints=True), {empty, resting}, "no effect")
    for one in [empty, resting]:
        api.delete(one)


def endpoints(svix, receiver):
    """endpoints: every field, the order of the list, statistics of a time, a ping with a payload"""
    customer = Customer(svix, receiver, "rest-endpoints")
    app, endpoint, api = customer.app, customer.endpoint, svix.endpoint
    made = api.create(app, EndpointIn(url=receiver.url("/rest"), uid="rest", disabled=True))
    same(made.disabled, True)
    listed = [ids(api.list(app, EndpointListOptions(order=order))) for order in Ordering]
    same((len(listed[0]), listed[0]), (2, listed[1][::-1]))
    body = {
        "url": receiver.url("/rest-other"),
        "description": "changed",
        "throttle_rate": 9,
        "event_types": [EVENT_TYPE],
        "channels": ["eu"],
        "metadata": {"a": "b"},
    }
    patch = EndpointPatch(uid="rest-patched", **body)
    fields_are(api.patch(app, "rest", patch), uid="rest-patched", **body)
    body = {**body, "description": "put", "throttle_rate": 8, "channels": ["us"], "disabled": True}
    put = EndpointUpsertIn(uid="rest-patched", **body)
    fields_are(api.upsert(app, "rest-patched", put), **body)
    api.delete(app, made.id)

    customer.delivered(customer.publish())
    past = {"since": an_hour_ago() - timedelta(hours=3), "until": an_hour_ago() - timedelta(hours=1)}
    present = {"since": an_hour_ago(), "until": now() + timedelta(hours=1)}
    for span, count in [(past, 0), (present, 1)]:
        same(api.get_stats(app, endpoint, EndpointGetStatsOptions(**span)).success, count)
        options = EndpointGetAttemptStatsOptions(**span)
        same(api.get_attempt_stats(app, endpoint, options).success, count)

    api.send_example(app, endpoint, EventExampleIn(event_type="svix.ping", payload={"mine": 1}))
    same(json.loads(receiver.at(customer.path, 2)[1].body), {"mine": 1})


def attempts(svix, receiver):
    """attempts: every option of every list"""
    customer = Customer(svix, receiver, "rest-attempts")
    app, endpoint, api = customer.app, customer.endpoint, svix.message_attempt
    svix.endpoint.create(app, EndpointIn(url=receiver.url("/rest-second"), uid="second"))
    first = customer.publish({"n": 1}, channels=["eu"], tags=["red"])
    second = customer.publish({"n": 2}, channels=["us"], tags=["blue"])
    for message in [first, second]:
        until("both deliveries", lambda: len(api.list_by_msg(app, message.id).data) == 2)

    def messages(**options):
        options = MessageAttemptListAttemptedMessagesOptions(**options)
        return ids(api.list_attempted_messages(app, endpoint, options))

    both = [second.id, first.id]
    same(messages(channel="eu"), [first.id])
    same(messages(event_types=[EVENT_TYPE]), both)
    same(messages(event_types=["a.a"]), [])
    same(messages(after=first.timestamp), both)
    same(messages(before=first.timestamp), [])
    same(messages(expanded_statuses=True), messages(expanded_statuses=False), "no effect")
    listed = pages(
        lambda at: api.list_attempted_messages(
            app, endpoint, MessageAttemptListAttemptedMessagesOptions(limit=1, iterator=at)
        )
    )
    same(listed, both)

    def of_first(**options):
        return ids(api.list_by_msg(app, first.id, MessageAttemptListByMsgOptions(**options)))

    all_of_it = of_first()
    same(len(all_of_it), 2)
    none = []
    for options, wanted in [
        ({"status": MessageStatus.SUCCESS}, all_of_it),
        ({"status": MessageStatus.FAIL}, none),
        ({"status_code_class": StatusCodeClass.CODE2XX}, all_of_it),
        ({"status_code_class": StatusCodeClass.CODE5XX}, none),
        ({"channel": "eu"}, all_of_it),
        ({"channel": "us"}, none),
        ({"tag": "red"}, all_of_it),
        ({"tag": "blue"}, none),
        ({"event_types": [EVENT_TYPE]}, all_of_it),
        ({"event_types": ["a.a"]}, none),
        ({"before": an_hour_ago()}, none),
        ({"after": an_hour_ago()}, all_of_it),
        ({"expanded_statuses": True}, all_of_it),
        ({"expanded_statuses": False}, all_of_it),
    ]:
        same(of_first(**options), wanted, f"{options}")
    listed = pages(
        lambda at: api.list_by_msg(
            app, first.id, MessageAttemptListByMsgOptions(limit=1, iterator=at)
        )
    )
    same(listed, all_of_it)
    shown = MessageAttemptListByEndpointOptions(with_content=True, expanded_statuses=True)
    same(api.list_by_endpoint(app, endpoint, shown).data[0].response, f"seen {customer.path}")
    options = MessageAttemptGetOptions(expanded_statuses=True)
    same(api.get(app, first.id, all_of_it[0], options).id, all_of_it[0])

    def destinations(at):
        # This list has no way back.
        options = MessageAttemptListAttemptedDestinationsOptions(limit=1, iterator=at)
        return api.list_attempted_destinations(app, first.id, options)

    page = destinations(None)
    rest = destinations(page.iterator)
    same((len(page.data), page.done, len(rest.data), rest.done), (1, False, 1, True))
    same({page.data[0].id, rest.data[0].id}, {endpoint, svix.endpoint.get(app, "second").id})


def replays(svix, receiver):
    """replays: every field, the order of the tasks"""
    customer = Customer(svix, receiver, "rest-replays")
    app, endpoint, api = customer.app, customer.endpoint, svix.endpoint
    message = customer.publish({"n": 1}, channels=["eu"], tags=["red"])
    customer.delivered(message)
    past = {"since": an_hour_ago() - timedelta(hours=1), "until": an_hour_ago()}
    present = {"since": an_hour_ago(), "until": now()}

    def sent(task):
        return customer.finished(task).data["messagesSent"]

    same(sent(api.recover(app, endpoint, RecoverIn(**present))), 0, "nothing has failed")
    late = api.create(app, EndpointIn(url=receiver.url("/rest-late"))).id
    same(sent(api.replay_missing(app, late, ReplayIn(**past))), 0)
    same(sent(api.replay_missing(app, late, ReplayIn(**present))), 1)
    receiver.at("/rest-late", 1)
    until("it to be delivered", lambda: api.get_stats(app, late).success == 1)
    ok, failed = StatusCodeClass.CODE2XX, StatusCodeClass.CODE5XX
    for options, count in [
        ({**past}, 0),
        ({**present, "channel": "eu", "tag": "red", "status_code_class": ok}, 1),
        ({**present, "channel": "us"}, 0),
        ({**present, "tag": "blue"}, 0),
        ({**present, "status_code_class": failed}, 0),
    ]:
        same(sent(api.bulk_replay(app, endpoint, BulkReplayIn(**options))), count, f"{options}")
    receiver.at(customer.path, 2)
    listed = [
        ids(svix.background_task.list(BackgroundTaskListOptions(order=order, limit=250)))
        for order in Ordering
    ]
    same(listed[0], listed[1][::-1])


def messages(svix, receiver):
    """messages: retention as the operator has it, payloads deleted at once"""
    customer = Customer(svix, receiver, "rest-messages")
    kept = [
        customer.publish(payload_retention_period=30).id,
        customer.publish(payload_retention_hours=30 * 24).id,
    ]
    body = BulkExpungeContentsIn(ids=[*kept, "unheard-of"])
    found = svix.message.bulk_expunge_content(customer.app, body).results
    wanted = {**dict.fromkeys(kept, "expunged"), "unheard-of": "not-found"}
    same({name: one.value for name, one in found.items()}, wanted)


def portal(svix, receiver):
    """portal access: capabilities, read-only, expiry"""
    customer = Customer(svix, receiver, "rest-portal")
    api = svix.authentication

    def visitor(**options):
        return client(api.app_portal_access(customer.app, AppPortalAccessIn(**options)).token)

    patch = EndpointPatch(description="theirs")
    reader = visitor(read_only=True, expiry=3600)
    same(len(reader.endpoint.list(customer.app).data), 1)
    error = raised(HttpError, lambda: reader.endpoint.patch(customer.app, customer.endpoint, patch))
    same(error.status_code, 403)
    able = [AppPortalCapability.VIEW_BASE, AppPortalCapability.MANAGE_ENDPOINT]
    writer = visitor(capabilities=able)
    same(writer.endpoint.patch(customer.app, customer.endpoint, patch).description, "theirs")
    viewer = visitor(capabilities=able[:1])
    error = raised(HttpError, lambda: viewer.endpoint.get_secret(customer.app, customer.endpoint))
    same(error.status_code, 403)


def operational(svix, receiver):
    """operational webhooks: every field, the order of the list"""
    api = svix.operational_webhook.endpoint
    url = receiver.url("/rest-operational")
    made = api.create(
        OperationalWebhookEndpointIn(url=url, uid="rest-own", secret=SECRET, disabled=True)
    )
    same(api.get_secret(made.id).key, SECRET)
    api.create(OperationalWebhookEndpointIn(url=url, uid="rest-own-2", disabled=True))
    listed = [ids(api.list(OperationalWebhookEndpointListOptions(order=one))) for one in Ordering]
    same((len(listed[0]), listed[0]), (2, listed[1][::-1]))
    body = {
        "url": url,
        "uid": "rest-own",
        "description": "put",
        "disabled": True,
        "event_types": ["endpoint.updated"],
        "metadata": {"a": "b"},
        "throttle_rate": 3,
    }
    fields_are(api.upsert("rest-own", OperationalWebhookEndpointUpsertIn(**body)), **body)
    other = "whsec_" + "B" * 32
    api.rotate_secret(
        made.id, OperationalWebhookEndpointSecretIn(key=other, grace_period_seconds=0)
    )
    same(api.get_secret(made.id).key, other)
    for name in ["rest-own", "rest-own-2"]:
        api.delete(name)


def replacing_event_types(svix, receiver):
    """event types from a document that replaces all others"""
    api = svix.event_type
    spec = {
        "openapi": "3.1.0",
        "info": {"title": "Shop", "version": "1"},
        "webhooks": {"rest.b": {"post": {"description": "only this"}}},
    }
    api.import_openapi(EventTypeImportOpenApiIn(spec=spec, replace_all=True))
    same([one.name for one in api.list().data], ["rest.b"])
    same(api.get(EVENT_TYPE).archived, True)


# The last one leaves nothing that could be published.
STORIES = [
    event_types,
    applications,
    endpoints,
    attempts,
    replays,
    messages,
    portal,
    operational,
    replacing_event_types,
]
