"""What the installed SDKs can call and send, read from the SDKs themselves.

The newest for Python is asked by introspection; the sources of the others are read. A source that is
not written as expected ends in an error: nothing is left out in silence.
"""

import enum
import inspect
import json
import pathlib
import re
import typing
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone

import pydantic
import svix.models
from svix.api import Svix, SvixOptions
from svix.api.common import ApiBaseSync, BaseOptions

from models import inner_types


@dataclass
class Call:
    """One request that an SDK makes."""

    name: str
    method: str
    path: str
    query: set = field(default_factory=set)
    headers: set = field(default_factory=set)
    # The name of the model that is sent.
    body: str | None = None


@dataclass
class Sdk:
    name: str
    calls: list
    # By model and field: the model that the field holds, or None.
    models: dict


def methods(kind=Svix, at=()):
    """Every method of the newest SDK for Python: its name, its class, and its arguments' types."""
    for name, member in inspect.getmembers(kind):
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            inner = typing.get_type_hints(member.fget)["return"]
            yield from methods(inner, (*at, name))
        elif inspect.isfunction(member):
            types = typing.get_type_hints(member)
            types.pop("return")
            yield ".".join((*at, name)), kind, types


def bound(client, name):
    """The method of a client that has this name, such as `message.create`."""
    for part in name.split("."):
        client = getattr(client, part)
    return client


def any_arguments(types):
    """Arguments that a method takes, with every option set and an empty body."""
    return {name: any_value(kind) for name, kind in types.items()}


def any_value(kind):
    for one in inner_types(kind):
        if one is type(None):
            continue
        if typing.get_origin(kind) is list or (kind is not one and "List[" in str(kind)):
            return ["x"]
        if issubclass(one, BaseOptions):
            hints = typing.get_type_hints(one)
            return one(**{option.name: any_value(hints[option.name]) for option in fields(one)})
        if issubclass(one, pydantic.BaseModel):
            return one.model_construct()
        if issubclass(one, enum.Enum):
            return next(iter(one))
        if issubclass(one, datetime):
            return datetime.now(timezone.utc)
        if issubclass(one, (bool, int)):
            return one(1)
        if issubclass(one, str):
            return "x"
    raise TypeError(f"no value for {kind}")


class Caught(Exception):
    pass


def newest_python():
    def catch(self, **request):
        raise Caught(request)

    original = ApiBaseSync._request_sync
    ApiBaseSync._request_sync = catch
    client = Svix("token", SvixOptions(server_url="http://nowhere.invalid"))
    calls = []
    try:
        for name, _, types in methods():
            try:
                bound(client, name)(**any_arguments(types))
                raise AssertionError(f"{name} makes no request")
            except Caught as caught:
                request = caught.args[0]
            sent = [
                one.__name__
                for kind in types.values()
                for one in inner_types(kind)
                if issubclass(one, pydantic.BaseModel)
            ]
            assert bool(sent) == ("json_body" in request), name
            calls.append(
                Call(
                    name,
                    request["method"].upper(),
                    request["path"],
                    set(request.get("query_params") or ()),
                    set(request.get("header_params") or ()),
                    sent[0] if sent else None,
                )
            )
    finally:
        ApiBaseSync._request_sync = original
    models = {}
    for model in vars(svix.models).values():
        if inspect.isclass(model) and issubclass(model, pydantic.BaseModel):
            models[model.__name__] = {
                one.alias or name: inner_model(one.annotation)
                for name, one in model.model_fields.items()
            }
    return Sdk("Python", calls, models)


def inner_model(annotation):
    for one in inner_types(annotation):
        if issubclass(one, pydantic.BaseModel):
            return one.__name__
    return None


def sources(directory, pattern):
    found = sorted(pathlib.Path(directory).glob(pattern))
    assert found, f"nothing is at {directory}/{pattern}"
    return [path.read_text() for path in found if path.name not in ("__init__.py", "mod.rs")]


def older_python(tools):
    [client] = tools.glob("venv-older/lib/python3*/site-packages/svix/internal/openapi_client")
    calls = []
    for text in sources(client / "api", "*/*.py"):
        request, _, _ = text.partition("def _parse_response")
        name = re.search(r"async def request_asyncio|def request_sync", text) and re.search(
            r'url = "\{\}(/[^"]*)"', request
        )
        if not name:
            raise AssertionError(f"no request is in {text[:500]}")
        body = re.search(r"json_body: \"?(\w+)", request)
        calls.append(
            Call(
                name[1],
                re.search(r'"method": "(\w+)"', request)[1].upper(),
                name[1],
                set(re.findall(r'params\["(\w+)"\] =', request)),
                set(re.findall(r'headers\["([\w-]+)"\] =', request)),
                body and body[1],
            )
        )
    models = {}
    for text in sources(client / "models", "*.py"):
        for name, rest in re.findall(r"^class (\w+):\n(.*?)(?=^class |\Z)", text, re.M | re.S):
            to_dict = re.search(r"def to_dict\(.*?return field_dict", rest, re.S)
            if not to_dict:
                continue
            types = dict(re.findall(r"^    (\w+): (.+)$", rest, re.M))
            keys = re.findall(r'field_dict\["(\w+)"\] = (\w+)', to_dict[0])
            keys += re.findall(r'^ +"(\w+)": (\w+),$', to_dict[0], re.M)
            models[name] = {
                key: next(iter(re.findall(r'"(\w+)"', types.get(variable, ""))), None)
                for key, variable in keys
            }
    return Sdk("Python, older", calls, models)


def javascript(tools):
    source = tools / "node_modules/svix/src"
    calls = []
    for text in sources(source / "api", "*.ts"):
        pieces = text.split("new SvixRequest(")
        for before, piece in zip(pieces, pieces[1:]):
            start = re.match(r'\s*HttpMethod\.(\w+),\s*"([^"]+)"', piece)
            query = re.findall(r"setQueryParams\(\{(.*?)\}\)", piece, re.S)
            body = re.search(r"setBody\(\s*(\w+)Serializer", piece)
            assert bool(body) == ("setBody(" in piece), piece
            calls.append(
                Call(
                    re.findall(r"public (?:async )?(\w+)\(", before)[-1],
                    start[1],
                    start[2],
                    set(re.findall(r"^\s*(\w+):", "\n".join(query), re.M))
                    | set(re.findall(r'setQueryParam\(\s*"(\w+)"', piece)),
                    set(re.findall(r'setHeaderParam\(\s*"([\w-]+)"', piece)),
                    body and body[1],
                )
            )
    models = {}
    for text in sources(source / "models", "*.ts"):
        for name, rest in re.findall(r"^export const (\w+)Serializer = \{(.*?)^\};", text, re.M | re.S):
            _, _, sent = rest.partition("_toJsonObject(self")
            pieces = re.split(r"^      (\w+):", sent, flags=re.M)[1:]
            models[name] = {
                key: next(iter(re.findall(r"(\w+)Serializer", value)), None)
                for key, value in zip(pieces[::2], pieces[1::2])
            }
    return Sdk("JavaScript", calls, models)


def rust(tools):
    source = pathlib.Path((tools / "rust-sdk").read_text().strip()) / "src"
    texts = sources(source / "models", "*.rs")
    known = {name for text in texts for name in re.findall(r"^pub (?:struct|enum) (\w+)", text, re.M)}
    models = {}
    for text in texts:
        for name, rest in re.findall(r"^pub struct (\w+) \{(.*?)^\}", text, re.M | re.S):
            models[name] = {}
            for attributes, one, kind in re.findall(
                r"((?:^    (?:#\[.*|///.*)\n)*)^    pub (\w+): (.+?),$", rest, re.M
            ):
                renamed = re.search(r'rename = "(\w+)"', attributes)
                inner = [word for word in re.findall(r"\w+", kind) if word in known]
                models[name][renamed[1] if renamed else one] = inner[0] if inner else None
    calls = []
    for text in sources(source / "api", "*.rs"):
        pieces = text.split("::Request::new(")
        for before, piece in zip(pieces, pieces[1:]):
            start = re.match(r'\s*http::Method::(\w+),\s*"([^"]+)"', piece)
            name, arguments = re.findall(r"pub async fn (\w+)\((.*?)\) ->", before, re.S)[-1]
            types = dict(re.findall(r"(\w+): (\w+)", arguments))
            body = re.search(r"with_body_param\((\w+)\)", piece)
            calls.append(
                Call(
                    name,
                    start[1],
                    start[2],
                    set(re.findall(r'with_(?:optional_)?query_param\(\s*"(\w+)"', piece)),
                    set(re.findall(r'with_optional_header_param\(\s*"([\w-]+)"', piece)),
                    body and types[body[1]],
                )
            )
    return Sdk("Rust", calls, models)


def installed(tools):
    """All of them, from where `prepare` installs."""
    return [newest_python(), older_python(tools), javascript(tools), rust(tools)]
