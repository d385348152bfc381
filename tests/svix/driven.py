"""Watches which methods of the SDK a script calls, and which of its inputs it sends.

What the script leaves out is found here: a method must be called, or be answered that it is not
offered, and each option and each field of a body that a called method takes must be sent with success.
"""

import functools
import inspect
from dataclasses import fields

import pydantic
from svix.api.common import BaseOptions
from svix.exceptions import HttpError

import sdk
from models import inner_types

# The SDK sends a key of its own with every POST where none is given.
ALWAYS_SENT = {"idempotency_key"}


class Driven:
    """Notes what is called and sent, from the moment it is made."""

    def __init__(self):
        self.methods = {name: types for name, _, types in sdk.methods()}
        self.called = set()
        self.sent = set()
        for name, kind, _ in list(sdk.methods()):
            self.watch(name, kind)

    def watch(self, name, kind):
        method = name.rpartition(".")[2]
        original = getattr(kind, method)

        @functools.wraps(original)
        def watched(*arguments, **named):
            answer = original(*arguments, **named)
            self.called.add(name)
            for value in [*arguments, *named.values()]:
                self.note(value)
            return answer

        setattr(kind, method, watched)

    def note(self, value):
        if isinstance(value, list):
            for one in value:
                self.note(one)
        elif isinstance(value, (BaseOptions, pydantic.BaseModel)):
            for name in inputs_of(type(value)):
                inner = getattr(value, name)
                if inner is not None:
                    self.sent.add(f"{type(value).__name__}.{name}")
                    self.note(inner)

    def left_out(self, client):
        """Methods that were not called and are not answered that they are not offered."""
        found = []
        for name in sorted(set(self.methods) - self.called):
            try:
                sdk.bound(client, name)(**sdk.any_arguments(self.methods[name]))
                found.append(f"{name}: answered")
            except HttpError as error:
                if (error.status_code, error.code) != (404, "not_offered"):
                    found.append(f"{name}: {error.status_code} {error.code}")
            except Exception as error:
                found.append(f"{name}: {error!r}")
        return found

    def never_sent(self):
        """Inputs of the called methods that were never part of a request that succeeded."""
        expected = set()
        for name in self.called:
            for kind in self.methods[name].values():
                expect(kind, expected)
        return sorted(expected - self.sent)


def inputs_of(kind):
    names = [one.name for one in fields(kind)] if issubclass(kind, BaseOptions) else kind.model_fields
    return [name for name in names if name not in ALWAYS_SENT]


def expect(annotation, expected):
    for kind in inner_types(annotation):
        if not inspect.isclass(kind) or not issubclass(kind, (BaseOptions, pydantic.BaseModel)):
            continue
        for name in inputs_of(kind):
            expected.add(f"{kind.__name__}.{name}")
            if issubclass(kind, pydantic.BaseModel):
                expect(kind.model_fields[name].annotation, expected)
