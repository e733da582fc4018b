"""Hypothesis strategies for every class of the wire, read off their fields' types and bounds."""

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from protocols.bundle import (
    Bundle,
    Certificate,
    CertifiedThreshold,
    Golden,
    SampleSpec,
    Stage,
    Variant,
)
from protocols.rollout import Wave
from protocols.schedule import Power, Threshold, default_cascade_schedule

_MOST_ITEMS = 3
_LONGEST_TEXT = 40
_GREATEST_INT = 1 << 53
"""Greater integers are not the same number in every reader of JSON."""


def messages(cls: type[BaseModel]) -> SearchStrategy[Any]:
    """Valid instances of a class of the wire."""
    if cls in _BY_HAND:
        return _BY_HAND[cls]
    return st.deferred(lambda: st.builds(cls, **_fields(cls)))


def _fields(cls: type[BaseModel]) -> dict[str, SearchStrategy[Any]]:
    return {
        name: _values(field.annotation, field.metadata)
        for name, field in cls.model_fields.items()
        if name != "v"
    }


def _values(annotation: object, bounds: list[Any]) -> SearchStrategy[Any]:  # noqa: PLR0911
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(args[0], [*bounds, *_flat(args[1:])])
    if origin in {Union, UnionType}:
        return st.one_of(*(_values(arg, bounds) for arg in args))
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple:
        return _tuples(args, bounds)
    if origin is dict:
        return st.dictionaries(_values(args[0], []), _values(args[1], []), max_size=_MOST_ITEMS)
    if annotation is NoneType:
        return st.none()
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return messages(annotation)
    return _scalars(annotation, bounds)


def _flat(metadata: tuple[Any, ...]) -> list[Any]:
    """Take the bounds out of the `Field(...)` of an annotation."""
    return [b for m in metadata for b in (m.metadata if isinstance(m, FieldInfo) else [m])]


def _tuples(args: tuple[Any, ...], bounds: list[Any]) -> SearchStrategy[Any]:
    if args[-1] is not Ellipsis:
        return st.tuples(*(_values(arg, []) for arg in args))
    least = next((b.min_length for b in bounds if isinstance(b, MinLen)), 0)
    return st.lists(_values(args[0], []), min_size=least, max_size=least + _MOST_ITEMS).map(tuple)


def _scalars(annotation: object, bounds: list[Any]) -> SearchStrategy[Any]:
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        return _integers(bounds)
    if annotation is float:
        return _floats(bounds)
    if annotation is str:
        return _texts(bounds)
    raise TypeError(f"no strategy for {annotation}")


def _integers(bounds: list[Any]) -> SearchStrategy[int]:
    low, high = -_GREATEST_INT, _GREATEST_INT
    for bound in bounds:
        match bound:
            case Ge(ge=int() as least):
                low = least
            case Le(le=int() as most):
                high = most
            case Lt(lt=int() as below):
                high = below - 1
            case _:
                raise TypeError(f"no integers for {bound}")
    return st.integers(low, high)


def _floats(bounds: list[Any]) -> SearchStrategy[float]:
    low: float | None = None
    high: float | None = None
    for bound in bounds:
        match bound:
            case Ge(ge=int() | float() as number) | Gt(gt=int() | float() as number):
                low = number
            case Le(le=int() | float() as number) | Lt(lt=int() | float() as number):
                high = number
            case _:
                raise TypeError(f"no numbers for {bound}")
    return st.floats(
        low,
        high,
        exclude_min=any(isinstance(bound, Gt) for bound in bounds),
        exclude_max=any(isinstance(bound, Lt) for bound in bounds),
        allow_nan=False,
        allow_infinity=False,
    )


def _texts(bounds: list[Any]) -> SearchStrategy[str]:
    for bound in bounds:
        if pattern := getattr(bound, "pattern", None):
            return st.from_regex(pattern, fullmatch=True).filter(lambda text: "\n" not in text)
    longest = next((b.max_length for b in bounds if isinstance(b, MaxLen)), _LONGEST_TEXT)
    return st.text(max_size=min(longest, _LONGEST_TEXT))


_LINES = st.floats(-1e6, 1e6)


@st.composite
def _thresholds(draw: st.DrawFn) -> Threshold:
    falling = draw(st.booleans())
    lines = sorted(draw(st.lists(_LINES, min_size=5, max_size=5)), reverse=falling)
    drawn = [draw(st.sampled_from([line, None])) for line in lines]
    return Threshold(enter=(drawn[0], drawn[1], drawn[2], drawn[3]), hard=drawn[4], falling=falling)


def _powers() -> SearchStrategy[Power]:
    levels = st.lists(st.floats(0, 100), min_size=2, max_size=2).map(sorted)
    return levels.map(lambda two: Power(apply_percent=two[0], resume_percent=two[1]))


@st.composite
def _variants(draw: st.DrawFn) -> Variant:
    parts = {name: draw(values) for name, values in _fields(Variant).items()}
    return Variant(**{**parts, "scores": draw(st.integers(0, len(parts["outputs"]) - 1))})


def _waves() -> SearchStrategy[Wave]:
    """Waves of a share, or of a number of devices."""
    shares = st.floats(0, 100, exclude_min=True)
    return st.builds(Wave, percent=shares) | st.builds(Wave, count=st.integers(1, 1 << 20))


@st.composite
def bundles(draw: st.DrawFn) -> Bundle:
    """Bundles whose stages, gates and schedule fit together."""
    names = tuple(f"stage-{n}" for n in range(draw(st.integers(1, 3))))
    stages = []
    for place, name in enumerate(names):
        sources = ["request", *(f"stage:{earlier}" for earlier in names[:place])]
        stages.append(draw(messages(Stage)).with_(name=name, reads=draw(st.sampled_from(sources))))
    gates = st.dictionaries(
        st.sampled_from(names), st.tuples(messages(CertifiedThreshold)), max_size=len(names)
    )
    certificates = st.builds(Certificate, **{**_fields(Certificate), "gates": gates})
    return Bundle(
        name=draw(_values(*_name())),
        version=draw(st.integers(1, 99)),
        created_ts=draw(st.floats(0, 2e9)),
        input=draw(messages(SampleSpec)),
        output=draw(messages(SampleSpec)),
        classes=draw(st.none() | st.integers(1, 1000)),
        labels=draw(st.lists(st.text(max_size=9), max_size=_MOST_ITEMS).map(tuple)),
        stages=tuple(stages),
        certificates=tuple(draw(st.lists(certificates, max_size=2))),
        golden=draw(messages(Golden)),
        schedule=default_cascade_schedule(names, draw(st.integers(1, 8))),
    )


def _name() -> tuple[object, list[Any]]:
    field = Bundle.model_fields["name"]
    return field.annotation, field.metadata


_BY_HAND: dict[type[BaseModel], SearchStrategy[Any]] = {
    Power: _powers(),
    Threshold: _thresholds(),
    Variant: _variants(),
    Wave: _waves(),
    Bundle: bundles(),
}
"""Classes whose fields must agree with each other."""
