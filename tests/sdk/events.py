"""Reads captured requests with the official Python SDK of CloudEvents.

Reads one request a line, as JSON, from standard input; main.rs writes them. Prints the events that the SDK
made of them, as JSON. The SDK refuses what is not a valid event.
"""

import base64
import json
import sys

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.formats.json import JSONFormat

events = []
for line in sys.stdin:
    request = json.loads(line)
    message = HTTPMessage(request["headers"], base64.b64decode(request["body"]))
    event = from_http_event(message, JSONFormat())
    data = event.get_data()
    events.append(
        {
            "id": event.get_id(),
            "source": event.get_source(),
            "type": event.get_type(),
            "specversion": event.get_specversion(),
            "time": event.get_time().isoformat(),
            "datacontenttype": event.get_datacontenttype(),
            "data": json.loads(data) if isinstance(data, (bytes, str)) else data,
        }
    )
print(json.dumps(events))
