"""Every request of the protocol, and values of its types: one example each, always the same, and strategies.

Both are read off the declarations, so a new request is covered without a line here; a new pattern needs an example.
"""

import base64
import importlib
import pkgutil
from enum import Enum
from typing import Any, Final

import msgspec
from hypothesis import strategies as st
from msgspec import inspect as shape

import protocol
from protocol.approvals import ApproverName, CommitId, Digest
from protocol.names import (
    ACCOUNT_PATTERN,
    AGENT_NAME_PATTERN,
    HOST_PATTERN,
    KEY_PATTERN,
    RECIPIENT_PATTERN,
    STATE_PATH_PATTERN,
)
from protocol.rpc import Call, Request, Watch
from protocol.settings import (
    CommandPattern,
    Icon,
    LineText,
    ModelName,
    Pronouns,
    ServerName,
    VariableName,
    VariableValue,
)

Type = shape.Type


def requests() -> tuple[type[Request], ...]:
    """Every request that is declared anywhere in protocol/, by module and name."""
    return tuple(
        value
        for module in pkgutil.iter_modules(protocol.__path__, "protocol.")
        for value in vars(importlib.import_module(module.name)).values()
        if _is_request(value) and value.__module__ == module.name
    )


def _is_request(value: object) -> bool:
    kinds = (Request, Call, Watch)
    return (
        isinstance(value, type)
        and issubclass(value, Request)
        and value not in kinds
        and not getattr(value, "__parameters__", ())
    )


def _pattern(annotated: Any) -> str:
    metadata = shape.type_info(annotated)
    inner = metadata.type if isinstance(metadata, shape.Metadata) else metadata
    assert isinstance(inner, shape.StrType)
    assert inner.pattern is not None
    return inner.pattern


EXAMPLES: Final = {
    ACCOUNT_PATTERN: "default",
    AGENT_NAME_PATTERN: "iris",
    RECIPIENT_PATTERN: "damocles",
    KEY_PATTERN: "0123456789abcdef" * 2,
    HOST_PATTERN: "*.example.org:443",
    STATE_PATH_PATTERN: "notes/today.md",
    _pattern(ModelName): "haiku",
    _pattern(VariableName): "LANG",
    _pattern(VariableValue): "C.UTF-8",
    _pattern(CommitId): "0123456789abcdef" * 2 + "01234567",
    _pattern(Digest): "0123456789abcdef" * 4,
    _pattern(ApproverName): "laptop",
    _pattern(ServerName): "notes",
    _pattern(LineText): "notes-server",
    _pattern(CommandPattern): "git *",
    _pattern(Icon): "A",
    _pattern(Pronouns): "they/them",
}


def example(of: Any) -> Any:
    """A value of a type, as JSON has it: every field filled, the first of an enum."""
    return _example(shape.type_info(of), "")


def examples(of: Any) -> list[Any]:
    """One value for each kind where there are several (a union, or a struct with one in a field), otherwise one."""
    return _examples(shape.type_info(of))


def _examples(info: Type) -> list[Any]:
    kinds = _alternatives(info)
    if kinds:
        return [_example(one, "") for one in kinds]
    whole = _example(info, "")
    if isinstance(info, shape.StructType):
        for field in info.fields:
            kinds = _alternatives(field.type)
            if kinds:
                return [whole | {field.encode_name: _example(one, field.name)} for one in kinds]
    return [whole]


def _alternatives(info: Type) -> list[Type]:
    """The structs of a union of several."""
    kinds: list[Type] = [one for one in getattr(info, "types", ()) if isinstance(one, shape.StructType)]
    return kinds if len(kinds) > 1 else []


def _example(info: Type, name: str) -> Any:
    match info:
        case shape.Metadata(type=inner):
            return _example(inner, name)
        case shape.StructType():
            return _struct_example(info)
        case shape.UnionType(types=types):
            return _example(next(one for one in types if not isinstance(one, shape.NoneType)), name)
        case shape.VarTupleType(item_type=item) | shape.ListType(item_type=item):
            return _examples(item) if _alternatives(item) else [_example(item, name)]
        case shape.DictType(key_type=key, value_type=value):
            return {_example(key, name): _example(value, name)}
        case _:
            return _leaf_example(info, name)


def _leaf_example(info: Type, name: str) -> Any:
    match info:
        case shape.EnumType(cls=kind):
            return next(iter(kind)).value
        case shape.IntType(ge=least):
            return 1_750_000_000_000 if name.endswith("_ms") else max(least or 0, 1)
        case shape.FloatType():
            return 1.5
        case shape.BoolType():
            return True
        case shape.NoneType():
            return None
        case shape.BytesType():
            return "aGl2ZQ=="
        case shape.StrType(pattern=pattern):
            return EXAMPLES[pattern] if pattern else f"some {name.replace('_', ' ')}".strip()
        case shape.BytesType():
            return "c29tZSBieXRlcw=="
        case _:
            raise AssertionError(f"no example is known for {info}")


def _struct_example(info: shape.StructType) -> dict[str, Any]:
    tag = {} if info.tag_field is None else {info.tag_field: info.tag}
    return tag | {field.encode_name: _example(field.type, field.name) for field in info.fields}


def values(of: Any) -> st.SearchStrategy[Any]:
    """Valid values of a type, as Python has them."""
    return _plain(shape.type_info(of)).map(lambda plain: msgspec.convert(plain, of))


def _plain(info: Type) -> st.SearchStrategy[Any]:
    match info:
        case shape.Metadata(type=inner):
            return _plain(inner)
        case shape.StructType():
            return _plain_struct(info)
        case shape.UnionType(types=types):
            return st.one_of(*map(_plain, types))
        case shape.VarTupleType(item_type=item):
            return st.lists(_plain(item), min_size=info.min_length or 0, max_size=3)
        case shape.DictType(key_type=key, value_type=value):
            return st.dictionaries(_plain(key), _plain(value), max_size=2)
        case _:
            return _plain_leaf(info)


def _plain_struct(info: shape.StructType) -> st.SearchStrategy[Any]:
    required = {field.encode_name: _plain(field.type) for field in info.fields if field.required}
    optional = {field.encode_name: _plain(field.type) for field in info.fields if not field.required}
    tag = {} if info.tag_field is None else {info.tag_field: st.just(info.tag)}
    return st.fixed_dictionaries(tag | required, optional=optional)


def _plain_leaf(info: Type) -> st.SearchStrategy[Any]:
    match info:
        case shape.EnumType(cls=kind):
            return st.sampled_from([one.value for one in kind])
        case shape.IntType(ge=least, le=most):
            return st.integers(least if least is not None else -(2**53), most if most is not None else 2**53)
        case shape.FloatType():
            return st.floats(allow_nan=False, allow_infinity=False)
        case shape.BoolType():
            return st.booleans()
        case shape.NoneType():
            return st.none()
        case shape.StrType(pattern=str(pattern)):
            return st.from_regex(pattern).filter(
                lambda text: info.max_length is None or len(text) <= info.max_length
            )
        case shape.StrType():
            return st.text(min_size=info.min_length or 0, max_size=min(info.max_length or 40, 40))
        case shape.BytesType():
            return st.binary(max_size=40).map(lambda data: base64.b64encode(data).decode())
        case _:
            raise AssertionError(f"no strategy is known for {info}")


def to_plain(value: Any) -> Any:
    """As JSON has it."""
    return msgspec.to_builtins(
        value, enc_hook=lambda other: other.value if isinstance(other, Enum) else str(other)
    )
