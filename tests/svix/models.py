"""Watches every model that the SDK makes of an answer: required fields, enums, and what is never sent.

The models themselves refuse an answer without a required field or with an unknown value of an enum.
What they cannot say is whether every model was answered at all, and whether a field that the SDK
knows is ever filled; that is counted here.
"""

import enum
import inspect
import typing

import pydantic
import svix.models
import svix.models.common

# What postrider answers begins with one of these; the other models belong to areas of the hosted
# service that it does not offer.
OFFERED = (
    "AggregateEventTypes",
    "AppPortalAccess",
    "AppUsageStats",
    "Application",
    "BackgroundTask",
    "Endpoint",
    "EventType",
    "Message",
    "OperationalWebhook",
    "Recover",
    "Replay",
)
NOT_OFFERED = ("EndpointTransformation",)


def is_offered(name):
    bare = name.removeprefix("ListResponse")
    return bare.startswith(OFFERED) and not bare.startswith(NOT_OFFERED)


class Watch:
    """Notes what is parsed, from the moment it is made."""

    def __init__(self):
        self.seen = {}
        self.values = {}
        original = pydantic.BaseModel.model_validate.__func__
        watch = self

        def model_validate(cls, answer, *arguments, **options):
            parsed = original(cls, answer, *arguments, **options)
            watch.note(cls, answer)
            return parsed

        svix.models.common.BaseModel.model_validate = classmethod(model_validate)

    def note(self, model, answer):
        filled = self.seen.setdefault(model, set())
        for name, field in model.model_fields.items():
            value = answer.get(field.alias or name)
            if value is None:
                continue
            filled.add(name)
            for inner in inner_types(field.annotation):
                if issubclass(inner, enum.Enum):
                    taken = value.values() if isinstance(value, dict) else [value]
                    self.values.setdefault(inner, set()).update(taken)
                elif issubclass(inner, pydantic.BaseModel):
                    for one in value if isinstance(value, list) else [value]:
                        self.note(inner, one)

    def never_answered(self):
        answered = [
            model
            for name, model in vars(svix.models).items()
            if inspect.isclass(model)
            and issubclass(model, pydantic.BaseModel)
            and name.endswith(("Out", "Stats", "Data"))
            and is_offered(name)
        ]
        return sorted(model.__name__ for model in answered if model not in self.seen)

    def never_filled(self):
        return sorted(
            f"{model.__name__}.{name}"
            for model, filled in self.seen.items()
            for name in model.model_fields
            if name not in filled
        )

    def never_taken(self):
        """Values of the enums that no answer had."""
        return sorted(
            f"{kind.__name__}.{value.name}"
            for kind, taken in self.values.items()
            for value in kind
            if value.value not in taken
        )


def inner_types(annotation):
    if inspect.isclass(annotation) and not typing.get_args(annotation):
        return [annotation]
    return [inner for one in typing.get_args(annotation) for inner in inner_types(one)]
