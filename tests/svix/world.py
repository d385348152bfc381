"""What the scripts with the newest SDK for Python work with: clients, pages, and a customer."""

import os
from datetime import datetime, timedelta, timezone

from support import same, until
from svix.api import ApplicationIn, EndpointIn, MessageIn, Svix, SvixOptions
from svix.models import BackgroundTaskStatus, MessageStatus

SERVER_URL = os.environ["SERVER_URL"]
LOSING_URL = os.environ["LOSING_URL"]
TOKEN = os.environ["TOKEN"]

TIMEOUT_SECONDS = 60.0
EVENT_TYPE = "invoice.paid"


def client(token=TOKEN, url=SERVER_URL, kind=Svix):
    return kind(token, SvixOptions(server_url=url, timeout=TIMEOUT_SECONDS))


def an_hour_ago():
    return datetime.now(timezone.utc) - timedelta(hours=1)


def pages(fetch):
    """All pages forwards by `iterator`, then back from the last by `prev_iterator`: the same ones."""
    forwards = [fetch(None)]
    while not forwards[-1].done:
        forwards.append(fetch(forwards[-1].iterator))
    ids = [[getattr(one, "id", None) or one.name for one in page.data] for page in forwards]
    page = forwards[-1]
    for wanted in reversed(ids[:-1]):
        page = fetch(page.prev_iterator)
        same([getattr(one, "id", None) or one.name for one in page.data], wanted, "a page backwards")
    return [one for page in ids for one in page]


class Customer:
    """An application with an endpoint of its own at the receiver."""

    def __init__(self, svix, receiver, name, **endpoint):
        self.svix = svix
        self.receiver = receiver
        self.path = f"/{name}"
        self.app = svix.application.create(ApplicationIn(name=name, uid=name)).id
        body = EndpointIn(url=receiver.url(self.path), **endpoint)
        self.endpoint = svix.endpoint.create(self.app, body).id

    def publish(self, payload=None, event_type=EVENT_TYPE, **fields):
        message = MessageIn(event_type=event_type, payload=payload or {"n": 1}, **fields)
        return self.svix.message.create(self.app, message)

    def delivered(self, message, status=MessageStatus.SUCCESS):
        """Waits until the message's delivery has this status."""

        def look():
            found = self.svix.message_attempt.list_attempted_destinations(self.app, message.id).data
            return found[0] if found and found[0].status == status else None

        return until(f"{message.id} to be {status.name}", look)

    def finished(self, task):
        """Waits until a background task of the application has ended."""

        def look():
            found = self.svix.background_task.get(task.id)
            return found if found.status != BackgroundTaskStatus.RUNNING else None

        return until(f"the end of {task.id}", look)
