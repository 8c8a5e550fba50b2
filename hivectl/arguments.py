"""Command-line arguments derived from a request's fields: the required are positional, the others options."""

import argparse
import enum
import types
from collections.abc import Mapping
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from protocol.names import RequestKey
from protocol.problem import Problem, Refused
from protocol.rpc import Request
from runtime.clock import new_request_key
from runtime.faults import in_plain_words


def add_arguments(
    parser: argparse.ArgumentParser,
    request: type[Request],
    supplied: frozenset[str],
    about: Mapping[str, str],
    plain: frozenset[str] = frozenset(),
) -> None:
    """Give *parser* one argument for each field of *request* that is not supplied by the command itself.

    `about` says what a field is for where its type does not; `plain` are optional fields that need no flag.
    """
    for field in msgspec.structs.fields(request):
        if field.name in supplied or _is_key(field):
            continue
        kind, choices, said = _kind(field.type)
        help_text = about.get(field.name, said)
        flag = "--" + field.name.replace("_", "-")
        several = "+" if get_origin(_bare(field.type)) is tuple else None
        if field.required:
            parser.add_argument(field.name, type=kind, choices=choices, help=help_text, nargs=several)
        elif field.name in plain:
            parser.add_argument(field.name, type=kind, choices=choices, help=help_text, nargs="?")
        elif kind is bool:
            parser.add_argument(
                flag,
                dest=field.name,
                action=argparse.BooleanOptionalAction,
                default=field.default,
                help=help_text,
            )
        else:
            parser.add_argument(
                flag,
                dest=field.name,
                type=kind,
                choices=choices,
                nargs=several,
                metavar=None if choices else "N" if kind is whole_number else field.name.upper(),
                help=help_text,
            )


def build_request(request: type[Request], values: argparse.Namespace, supplied: dict[str, Any]) -> Request:
    """Make the request from parsed arguments. Refused(malformed) names the argument whose rule is broken."""
    given: dict[str, Any] = dict(supplied)
    for field in msgspec.structs.fields(request):
        if field.name in given:
            continue
        if _is_key(field):
            given[field.name] = new_request_key()
            continue
        value = getattr(values, field.name, None)
        if value is not None:
            given[field.name] = value
    try:
        return msgspec.convert({"op": request.operation(), **given}, request)
    except msgspec.ValidationError as error:
        reason, _, place = in_plain_words(str(error)).partition(" - at ")
        name = place.strip("`").removeprefix("$.") or "arguments"
        raise Refused(Problem.MALFORMED, f"{name}: {reason[0].lower()}{reason[1:]}") from None


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!a} is no whole number") from None


def _is_key(field: msgspec.structs.FieldInfo) -> bool:
    return bool(field.type == RequestKey)


def _bare(annotation: Any) -> Any:
    """The type without its rules."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _kind(annotation: Any) -> tuple[Any, list[str] | None, str | None]:
    """The argparse type, the choices and the help of one field's type."""
    if get_origin(annotation) is Annotated:
        inner, *metas = get_args(annotation)
        kind, choices, _ = _kind(inner)
        described = (
            meta.description for meta in metas if isinstance(meta, msgspec.Meta) and meta.description
        )
        return kind, choices, next(described, None)
    if get_origin(annotation) in (types.UnionType, Union):
        return _kind(next(member for member in get_args(annotation) if member is not type(None)))
    if get_origin(annotation) is tuple:
        return _kind(get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, enum.StrEnum):
        return str, [member.value for member in annotation], None
    if annotation in (int, bool):
        return whole_number if annotation is int else bool, None, None
    return str, None, None
