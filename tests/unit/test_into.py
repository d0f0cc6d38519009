"""Rows as the caller's own types."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import subprocess
import sys
import types
import typing
import uuid
from collections.abc import Callable
from typing import Any

import attrs
import msgspec
import pydantic
import pytest

from millpond.errors import DataError
from millpond.into import maker
from millpond.rows import Row, row_type

NOON = dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)
SECRET = "hunter2"


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class User:
    id: int
    name: str


class NamedUser(typing.NamedTuple):
    id: int
    name: str


class DictUser(typing.TypedDict):
    id: int
    name: str


@attrs.define
class AttrsUser:
    id: int
    name: str


class StructUser(msgspec.Struct):
    id: int
    name: str


class ModelUser(pydantic.BaseModel):
    id: int
    name: str


@pydantic.dataclasses.dataclass
class CheckedUser:
    id: int
    name: str


CLASSES: list[Callable[..., Any]] = [User, NamedUser, DictUser, AttrsUser, StructUser, ModelUser, CheckedUser]
every_class = pytest.mark.parametrize("into", CLASSES, ids=lambda into: into.__name__)


@every_class
def test_a_row_becomes_an_object(into: Any) -> None:
    assert maker(into, ("id", "name"))((1, "a")) == into(id=1, name="a")


@every_class
def test_columns_find_their_fields_by_name_in_any_order(into: Any) -> None:
    assert maker(into, ("name", "id"))(("a", 1)) == into(id=1, name="a")


@every_class
def test_a_row_of_the_facade_serves_like_a_tuple(into: Any) -> None:
    assert maker(into, ("id", "name"))(row_type(("id", "name"))((1, "a"))) == into(id=1, name="a")


@every_class
def test_a_missing_column_is_named(into: Any) -> None:
    with pytest.raises(DataError, match=rf"no column for {into.__name__}\.name"):
        maker(into, ("id",))((1,))


@every_class
def test_an_extra_column_is_named(into: Any) -> None:
    with pytest.raises(DataError, match=f"{into.__name__} has no field for column born, died") as error:
        maker(into, ("id", "name", "born", "died"))
    assert error.value.detail == "columns: id, name, born, died; fields: id, name"
    assert "AS" in str(error.value.hint)


@every_class
def test_two_columns_of_one_name_are_refused(into: Any) -> None:
    with pytest.raises(DataError, match="more than one column is named id"):
        maker(into, ("id", "name", "id"))


@every_class
def test_a_value_that_does_not_fit_names_column_and_field_and_never_the_value(into: Any) -> None:
    with pytest.raises(DataError) as error:
        maker(into, ("id", "name"))((SECRET, "a"))
    assert str(error.value) == f"column 'id' of type TEXT does not fit field {into.__name__}.id: int"
    assert SECRET not in "".join(error.value.__notes__)
    assert error.value.__suppress_context__, "the cause would show the value"


@every_class
def test_null_where_there_must_be_something_is_refused(into: Any) -> None:
    with pytest.raises(DataError, match=r"column 'name' of type NULL does not fit field \w+\.name: str"):
        maker(into, ("id", "name"))((1, None))


@every_class
def test_makers_are_kept(into: Any) -> None:
    assert maker(into, ("id", "name")) is maker(into, ("id", "name"))
    assert maker.cache_info().maxsize == 1_000


@dataclasses.dataclass(kw_only=True)
class Everything:
    when: dt.datetime
    day: dt.date
    at: dt.time
    key: uuid.UUID
    price: decimal.Decimal
    colour: Colour
    level: Level
    done: bool
    ratio: float
    data: bytes
    tags: list[str]
    extra: dict[str, int]
    place: pathlib.Path
    late: dt.datetime | None = None
    either: int | str = 0
    anything: Any = None


STORED = {
    "when": "2026-01-02T12:00:00+00:00",
    "day": "2026-01-02",
    "at": "12:30",
    "key": "12345678-1234-5678-1234-567812345678",
    "price": "1.10",
    "colour": "red",
    "level": 3,
    "done": 1,
    "ratio": 2,
    "data": b"\0",
    "tags": '["a","b"]',
    "extra": '{"a":1}',
    "place": "a/b",
}
READ = Everything(
    when=NOON,
    day=dt.date(2026, 1, 2),
    at=dt.time(12, 30),
    key=uuid.UUID("12345678-1234-5678-1234-567812345678"),
    price=decimal.Decimal("1.10"),
    colour=Colour.RED,
    level=Level.HIGH,
    done=True,
    ratio=2.0,
    data=b"\0",
    tags=["a", "b"],
    extra={"a": 1},
    place=pathlib.Path("a/b"),
)


def test_values_become_what_the_annotations_say() -> None:
    found = maker(Everything, tuple(STORED))(tuple(STORED.values()))
    assert found == READ
    assert type(found.ratio) is float
    assert found.done is True


def test_values_that_are_of_their_type_already_stay_as_they_are() -> None:
    """A converter of the database may have made them."""
    values = {name: getattr(READ, name) for name in STORED}
    assert maker(Everything, tuple(values))(tuple(values.values())) == READ


@pytest.mark.parametrize("name", STORED)
def test_each_kind_of_value_is_refused_where_it_does_not_fit(name: str) -> None:
    wrong: dict[str, Any] = STORED | {name: object()}
    with pytest.raises(DataError, match=rf"column '{name}' of type object does not fit field Everything\.{name}: "):
        maker(Everything, tuple(wrong))(tuple(wrong.values()))


def one(hint: Any, value: object) -> Any:
    """What a field with this annotation is made of a value."""
    into = dataclasses.make_dataclass("Holder", [("field", hint)])
    return maker(into, ("field",))((value,)).field


UserId = typing.NewType("UserId", int)


@pytest.mark.parametrize(
    ("hint", "value", "made"),
    [
        (dt.datetime, 1_767_355_200, NOON),
        (dt.datetime, 1_767_355_200.0, NOON),
        (dt.datetime, "2026-01-02 12:00:00", dt.datetime(2026, 1, 2, 12)),  # noqa: DTZ001  # naive text stays naive
        (dt.datetime, "2026-01-02T12:00:00Z", NOON),
        (dt.date, 1_767_355_200, dt.date(2026, 1, 2)),
        (dt.date, "2026-01-02T12:00:00+00:00", dt.date(2026, 1, 2)),
        (dt.date, NOON, dt.date(2026, 1, 2)),
        (uuid.UUID, uuid.UUID(int=5).bytes, uuid.UUID(int=5)),
        (decimal.Decimal, 0.1, decimal.Decimal("0.1")),
        (decimal.Decimal, 3, decimal.Decimal(3)),
        (int, 3.0, 3),
        (bool, 0, False),
        (tuple[int, ...], "[1,2]", (1, 2)),
        (set[int], "[1,1]", {1}),
        (frozenset[int], "[1]", frozenset({1})),
        (collections.abc.Sequence[int], "[1]", [1]),
        (collections.abc.Mapping[str, int], b'{"a":1}', {"a": 1}),
        (list, "[1]", [1]),
        (DictUser, '{"id":1,"name":"a"}', {"id": 1, "name": "a"}),
        (int | None, None, None),
        (int | None, 4, 4),
        (typing.Optional[Colour], "red", Colour.RED),  # noqa: UP045  # the older way of writing it
        (typing.Union[dt.date, None], None, None),  # noqa: UP007  # the older way of writing it
        (int | str, "either", "either"),
        (typing.Any | None, None, None),
        (typing.Literal["a", "b"], "b", "b"),
        (UserId, 7, 7),
        (typing.Annotated[int, "of a user"], 7, 7),
        (typing.Any, b"any", b"any"),
        (object, b"any", b"any"),
        (typing.SupportsInt, 1.5, 1.5),
        (None, None, None),
    ],
)  # fmt: skip
def test_annotations_and_what_they_take(hint: Any, value: object, made: object) -> None:
    found = one(hint, value)
    assert found == made
    assert type(found) is type(made)


@pytest.mark.parametrize(
    ("hint", "value", "said"),
    [
        (dt.datetime, SECRET, "TEXT does not fit field Holder.field: datetime"),
        (dt.datetime, 1e300, "REAL does not fit field Holder.field: datetime"),
        (dt.datetime, 2**62, "INTEGER does not fit field Holder.field: datetime"),
        (dt.date, "2026-01-02" + SECRET, "TEXT does not fit field Holder.field: date"),
        (dt.date, "2026-13-02", "TEXT does not fit field Holder.field: date"),
        (dt.time, SECRET, "TEXT does not fit field Holder.field: time"),
        (uuid.UUID, SECRET, "TEXT does not fit field Holder.field: UUID"),
        (uuid.UUID, b"short", "BLOB does not fit field Holder.field: UUID"),
        (decimal.Decimal, SECRET, "TEXT does not fit field Holder.field: Decimal"),
        (Colour, SECRET, "TEXT does not fit field Holder.field: Colour"),
        (bool, 2, "INTEGER does not fit field Holder.field: bool"),
        (int, 1.5, "REAL does not fit field Holder.field: int"),
        (int, "5", "TEXT does not fit field Holder.field: int"),
        (float, "5", "TEXT does not fit field Holder.field: float"),
        (str, 5, "INTEGER does not fit field Holder.field: str"),
        (str, b"x", "BLOB does not fit field Holder.field: str"),
        (list, '"text"', "TEXT does not fit field Holder.field: list"),
        (list[str], '{"a":1}', "TEXT does not fit field Holder.field: list[str]"),
        (dict[str, int], "[]", "TEXT does not fit field Holder.field: dict[str, int]"),
        (dict, "{" + SECRET, "TEXT does not fit field Holder.field: dict"),
        (list, "[" * 100_000, "TEXT does not fit field Holder.field: list"),
        (dt.datetime | None, SECRET, "TEXT does not fit field Holder.field: datetime | None"),
        (typing.Literal["a"], SECRET, "TEXT does not fit field Holder.field: Literal['a']"),
        (dt.timedelta, 5.0, "REAL does not fit field Holder.field: timedelta"),
        (User, '{"id":1}', "TEXT does not fit field Holder.field: User"),
    ],
)
def test_values_that_do_not_fit_and_what_is_said(hint: Any, value: object, said: str) -> None:
    with pytest.raises(DataError) as error:
        one(hint, value)
    assert str(error.value) == f"column 'field' of type {said}"


def test_fields_with_defaults_need_no_column() -> None:
    @dataclasses.dataclass
    class Message:
        id: int
        body: str = "empty"
        tags: list[str] = dataclasses.field(default_factory=list)
        length: int = dataclasses.field(init=False, default=0)

    class Point(typing.NamedTuple):
        x: int
        y: int = 5

    @attrs.define
    class Note:
        id: int
        tags: list[str] = attrs.field(factory=list)

    class Partial(typing.TypedDict):
        id: int
        name: typing.NotRequired[str]

    class Struct(msgspec.Struct):
        id: int
        name: str = "none"

    class Model(pydantic.BaseModel):
        id: int
        name: str = "none"

    assert maker(Message, ("id",))((1,)) == Message(1)
    assert maker(Message, ("tags", "id"))(('["a"]', 1)) == Message(1, tags=["a"])
    assert maker(Point, ("x",))((1,)) == Point(1, 5)
    assert maker(Note, ("id",))((1,)) == Note(1)
    assert maker(Partial, ("id",))((1,)) == {"id": 1}
    assert maker(Struct, ("id",))((1,)) == Struct(1)
    assert maker(Model, ("id",))((1,)) == Model(id=1)
    with pytest.raises(DataError, match="no field for column length"):
        maker(Message, ("id", "length"))


def test_what_only_goes_by_name_is_given_by_name() -> None:
    @dataclasses.dataclass(frozen=True, slots=True)
    class Mixed:
        id: int
        name: str = dataclasses.field(kw_only=True)

    @attrs.define(kw_only=True)
    class Named:
        id: int

    assert maker(Mixed, ("name", "id"))(("a", 1)) == Mixed(1, name="a")
    assert maker(Named, ("id",))((1,)) == Named(id=1)


def test_attrs_fields_go_by_their_alias_and_their_own_converters() -> None:
    @attrs.define
    class Private:
        _token: str
        count: int = attrs.field(converter=int)

    found = maker(Private, ("token", "count"))(("t", "5"))
    assert found == Private("t", 5)


def test_a_namedtuple_without_annotations_takes_anything() -> None:
    pair = collections.namedtuple("pair", "a b")
    assert maker(pair, ("a", "b"))((1, None)) == (1, None)


def test_inherited_fields_are_fields() -> None:
    @dataclasses.dataclass
    class Admin(User):
        since: dt.date

    assert maker(Admin, ("id", "name", "since"))((1, "a", "2026-01-02")) == Admin(1, "a", dt.date(2026, 1, 2))


def test_an_objection_of_the_class_itself_is_the_callers_own() -> None:
    @dataclasses.dataclass
    class Positive:
        n: int

        def __post_init__(self) -> None:
            if self.n < 0:
                raise ArithmeticError("mine")

    with pytest.raises(ArithmeticError, match="mine"):
        maker(Positive, ("n",))((-1,))


def test_annotations_that_nobody_can_resolve_are_told() -> None:
    @dataclasses.dataclass
    class Lost:
        id: "NotThere"  # type: ignore[name-defined]  # noqa: F821  # that is the case tested

    with pytest.raises(DataError, match="the annotations of Lost cannot be read: NotThere is not known"):
        maker(Lost, ("id",))


def test_annotations_as_text_are_read() -> None:
    @dataclasses.dataclass
    class Message:
        sent: "dt.datetime | None"

    assert maker(Message, ("sent",))((None,)) == Message(None)
    assert maker(Message, ("sent",))((0,)) == Message(dt.datetime.fromtimestamp(0, dt.UTC))


def test_msgspec_converts_by_its_own_rules() -> None:
    class Event(msgspec.Struct, rename="camel"):
        event_id: int
        sent_at: dt.datetime
        colour: Colour | None = None

    made = maker(Event, ("eventId", "sentAt", "colour"))
    assert made(("5", "2026-01-02T12:00:00Z", None)) == Event(5, NOON)
    with pytest.raises(DataError) as error:
        made((5, "2026-01-02T12:00:00Z", SECRET))
    assert str(error.value) == "column 'colour' of type TEXT does not fit field Event.colour: Colour | None"
    with pytest.raises(DataError, match=r"no column for Event\.eventId; Event has no field for column event_id"):
        maker(Event, ("event_id", "sentAt"))


def test_an_objection_to_a_whole_msgspec_struct_names_the_class() -> None:
    class Range(msgspec.Struct):
        low: int
        high: int

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError(SECRET)

    with pytest.raises(DataError) as error:
        maker(Range, ("low", "high"))((2, 1))
    assert str(error.value) == "a row does not fit Range"


def test_pydantic_converts_by_its_own_rules() -> None:
    class Event(pydantic.BaseModel):
        id: int = pydantic.Field(alias="eventId")
        sent: dt.datetime = pydantic.Field(validation_alias=pydantic.AliasChoices("sent", "sent_at"))
        first: int = pydantic.Field(0, validation_alias=pydantic.AliasPath("numbers", 0))
        tags: pydantic.Json[list[str]] = []

    made = maker(Event, ("eventId", "sent_at", "tags"))
    found = made(("5", "2026-01-02T12:00:00Z", '["a"]'))
    assert (found.id, found.sent, found.tags) == (5, NOON, ["a"])
    with pytest.raises(DataError) as error:
        made((SECRET, "2026-01-02T12:00:00Z", "[]"))
    assert str(error.value) == "column 'eventId' of type TEXT does not fit field Event.id: int"
    assert error.value.detail == "pydantic: int_parsing"
    with pytest.raises(DataError, match="no field for column id"):
        maker(Event, ("id", "sent"))


def test_pydantic_models_that_take_names_and_extras_take_them() -> None:
    class Open(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow", populate_by_name=True)
        id: int = pydantic.Field(alias="openId")

    class Named(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(populate_by_name=True)
        id: int = pydantic.Field(alias="openId")

    assert maker(Open, ("id", "more"))((1, 2)).model_dump() == {"id": 1, "more": 2}
    assert maker(Named, ("id",))((1,)).id == 1
    assert maker(Named, ("openId",))((1,)).id == 1


def test_an_objection_to_a_whole_model_names_the_class() -> None:
    class Range(pydantic.BaseModel):
        low: int
        high: int

        @pydantic.model_validator(mode="after")
        def _ordered(self) -> typing.Self:
            if self.low > self.high:
                raise ValueError(SECRET)
            return self

    with pytest.raises(DataError) as error:
        maker(Range, ("low", "high"))((2, 1))
    assert str(error.value) == "a row does not fit Range"
    assert SECRET not in "".join(error.value.__notes__)


@pytest.mark.parametrize(
    ("into", "value", "made"),
    [
        (int, 5, 5),
        (str, "a", "a"),
        (float, 5, 5.0),
        (bytes, b"a", b"a"),
        (bool, 1, True),
        (dt.datetime, "2026-01-02T12:00:00Z", NOON),
        (dt.date, "2026-01-02", dt.date(2026, 1, 2)),
        (dt.time, "12:00", dt.time(12)),
        (uuid.UUID, str(uuid.UUID(int=1)), uuid.UUID(int=1)),
        (decimal.Decimal, "1.5", decimal.Decimal("1.5")),
        (Colour, "red", Colour.RED),
        (Level, 3, Level.HIGH),
    ],
)
def test_a_scalar_type_takes_the_only_column(into: Any, value: object, made: object) -> None:
    found = maker(into, ("n",))((value,))
    assert found == made
    assert type(found) is type(made)
    assert maker(into, ("n",))((None,)) is None


def test_a_scalar_type_and_more_columns_or_another_value_are_refused() -> None:
    with pytest.raises(DataError, match="into=int takes rows of one column, but there are 2: a, b"):
        maker(int, ("a", "b"))
    with pytest.raises(DataError, match="into=int takes rows of one column, but there are 0"):
        maker(int, ())
    with pytest.raises(DataError) as error:
        maker(int, ("n",))((SECRET,))
    assert str(error.value) == "column 'n' of type TEXT does not fit into=int"


def test_plain_containers_take_any_row() -> None:
    names = ("id", "id", "n")
    row = row_type(names)((1, 2, 3))
    assert maker(dict, names)(row) == {"id": 1, "n": 3}
    assert list(maker(dict, ("b", "a"))((1, 2))) == ["b", "a"]
    assert type(maker(tuple, names)(row)) is tuple
    assert maker(list, names)(row) == [1, 2, 3]
    assert maker(Row, names)(row).keys() == names


@pytest.mark.parametrize("into", [types.SimpleNamespace, object, complex, set])
def test_other_types_are_refused(into: Any) -> None:
    with pytest.raises(DataError, match=f"into={into.__name__} is none of the types") as error:
        maker(into, ("a",))
    assert "dataclass" in str(error.value.hint)


def test_what_a_typed_dict_makes_is_a_plain_dict() -> None:
    assert type(maker(DictUser, ("id", "name"))((1, "a"))) is dict


def test_a_primary_line_is_held_to_its_length() -> None:
    names = tuple(f"a_rather_long_column_{i}" for i in range(100))
    for into in (User, int):
        with pytest.raises(DataError) as error:
            maker(into, names)
        assert len(str(error.value)) <= 160


def test_no_library_is_imported_before_its_classes_are_used() -> None:
    code = (
        "import sys, dataclasses; from millpond.into import maker\n"
        "@dataclasses.dataclass\nclass A:\n    a: int\n"
        "assert maker(A, ('a',))((1,)) == A(1)\n"
        "print(*{'attr', 'attrs', 'msgspec', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == ""
