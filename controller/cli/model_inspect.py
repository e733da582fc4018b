"""`ctl model inspect`: what a model file is made of."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import words
from controller.cli.modelfiles import Model, model_file
from controller.cli.output import Column, Format, Output, note, out, print_facts, print_json, table
from controller.cli.running import Running

if TYPE_CHECKING:
    from controller.compress.anatomy import Anatomy, OperatorFacts, TensorFacts
    from controller.compress.measure import ModelFile
    from controller.compress.profile import Profile


@dataclass(frozen=True, slots=True)
class _Found:
    """All that a look at a model has found. None: not asked for, or not to be told."""

    anatomy: "Anatomy"
    delegated: frozenset[int] | None
    delegate_fault: str | None
    runtime: str | None
    profile: "Profile | None"


@dataclass(frozen=True, slots=True)
class _Row:
    """One operator, and what was found out by running it."""

    operator: "OperatorFacts"
    delegated: bool | None
    time_us: float | None


def inspect(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    model: Model,
    *,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also time every operator, cut out as a model.")
    ] = False,
    tensors: Annotated[bool, typer.Option("--tensors", help="Also list every tensor.")] = False,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw bytes and MACs of every layer.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Take the place of a file that is there.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Show what a model is made of: operators, parameters, multiply-accumulates, bytes, memory.

    The file is taken apart here; it runs in a process of its own, to find what the XNNPACK
    delegate takes of it.

    Example: ctl model inspect large.tflite --profile --svg large.svg
    """
    from controller.compress.plots import layer_chart  # noqa: PLC0415
    from controller.compress.sources import check_free, write_all  # noqa: PLC0415

    file = model_file(ctx, model)
    if svg is not None:
        check_free([svg], force=force)
    found = _look(file, profile=profile)
    if svg is not None:
        times = None if found.profile is None else found.profile.operator_us
        write_all({svg: layer_chart(found.anatomy, times).encode()})
    if output is Format.JSON:
        print_json(_document(found))
    else:
        _print(found, tensors=tensors)


def _look(file: "ModelFile", *, profile: bool) -> _Found:
    from controller.compress.anatomy import dissect  # noqa: PLC0415
    from controller.compress.delegation import delegated  # noqa: PLC0415
    from controller.compress.errors import CompressError  # noqa: PLC0415
    from controller.compress.graph import Graph  # noqa: PLC0415
    from controller.compress.measure import partition  # noqa: PLC0415
    from controller.compress.profile import profile as time_operators  # noqa: PLC0415

    content = file.path.read_bytes()
    anatomy = dissect(content, file.name)
    taken, fault, runtime, timed = None, None, None, None
    with Running("Asking the interpreter", 100) as running:
        try:
            nodes = partition(file)
            runtime = nodes.runtime
            taken = delegated(Graph.read(content, file.name), nodes)
        except CompressError as error:  # a file that does not run here can be looked at still
            fault = str(error)
        if profile:
            timed = time_operators(
                content,
                file.name,
                on_runs=lambda share: running.at("Timing operators", int(share * 100), 100),
            )
    return _Found(anatomy, taken, fault, runtime, timed)


def _rows(found: _Found) -> list[_Row]:
    taken, profile = found.delegated, found.profile
    return [
        _Row(
            operator,
            None if taken is None else operator.number in taken,
            None if profile is None else profile.operator_us[operator.number],
        )
        for operator in found.anatomy.operators
    ]


def _document(found: _Found) -> dict[str, object]:
    anatomy, taken, profile = found.anatomy, found.delegated, found.profile
    return {
        "model": anatomy.name,
        "runtime": found.runtime,
        "subgraphs": anatomy.subgraphs,
        "parameters": anatomy.parameters,
        "nonzero": anatomy.nonzero,
        "macs": anatomy.macs,
        "bytes": anatomy.bytes,
        "arena_computed": anatomy.arena,
        "delegated_operators": None if taken is None else sorted(taken),
        "delegate_fault": found.delegate_fault,
        "profile": None
        if profile is None
        else {
            "method": "each operator cut out as a model of its own; medians, one thread",
            "operator_us": profile.operator_us,
            "sum_us": profile.sum_us,
            "whole_us": profile.whole_us,
        },
        "operators": anatomy.operators,
        "tensors": anatomy.tensors,
    }


def _print(found: _Found, *, tensors: bool) -> None:
    print_facts(_facts(found), Format.TABLE, None)
    out().print()
    out().print(table(_rows(found), _columns(found)))
    if tensors:
        out().print()
        out().print(table(found.anatomy.tensors, _TENSOR_COLUMNS))
    if found.delegate_fault is not None:
        note(f"It does not run here: {found.delegate_fault}", style="yellow")
    if found.profile is not None:
        note(
            "Times are medians of operators cut out as models of their own. Each pays for its own "
            "call, and a delegate may fuse in the whole what is separate here: shares are what "
            "they tell."
        )


def _facts(found: _Found) -> Iterator[tuple[str, object]]:
    anatomy, profile = found.anatomy, found.profile
    parts, arena = anatomy.bytes, anatomy.arena
    yield "Model", anatomy.name
    yield "Size", f"{words.size(parts.total)} ({parts.total:,} bytes)"
    yield "Weights", _part(parts.weights, parts.total)
    yield "Biases", _part(parts.biases, parts.total)
    yield "Constants", f"{_part(parts.constants, parts.total)}, shapes and tables"
    yield "Overhead", f"{_part(parts.overhead, parts.total)}, names, scales, options, metadata"
    zeros = 1 - anatomy.nonzero / anatomy.parameters if anatomy.parameters else 0
    yield "Parameters", f"{anatomy.parameters:,}, {anatomy.nonzero:,} not zero ({zeros:.1%} zeros)"
    yield "MACs", f"{anatomy.macs:,}"
    without = f"{words.size(arena.sum_bytes)} without reuse"
    peak = f"{words.size(arena.peak_bytes)} at operator {arena.peak_operator}"
    yield "Arena", f"{peak} (computed; {without})"
    yield "Delegated", _delegated(found)
    if profile is not None:
        summed = f"{profile.sum_us:.4g} us summed over operators"
        yield "Time", f"{profile.whole_us:.4g} us whole, {summed}"
    if anatomy.subgraphs > 1:
        yield "Subgraphs", f"{anatomy.subgraphs}; only the first is taken apart"


def _part(count_bytes: int, total: int) -> str:
    return f"{words.size(count_bytes)} ({count_bytes / total:.1%})"


def _delegated(found: _Found) -> str | None:
    taken, operators = found.delegated, found.anatomy.operators
    if taken is None:
        return None
    left = sorted({o.kind for o in operators if o.number not in taken})
    rest = f"; not: {', '.join(left)}" if left else ""
    return f"{len(taken)} of {len(operators)} operators by XNNPACK ({found.runtime}){rest}"


def _columns(found: _Found) -> "list[Column[_Row]]":
    columns: list[Column[_Row]] = [
        Column("#", lambda r: r.operator.number, right=True),
        Column("OPERATOR", lambda r: r.operator.kind),
        Column("OUTPUT", lambda r: r.operator.output),
        Column("WEIGHTS", lambda r: _weights(r.operator.weights)),
        Column("SCALES", lambda r: _scales(r.operator.weights)),
        Column("PARAMETERS", lambda r: _count(r.operator.parameters), right=True),
        Column("NOT ZERO", lambda r: _count(r.operator.nonzero), right=True),
        Column("MACS", lambda r: _count(r.operator.macs), right=True),
        Column("BYTES", lambda r: _count(r.operator.constant_bytes), right=True),
        Column("XNNPACK", lambda r: None if r.delegated is None else _YES[r.delegated]),
    ]
    profile = found.profile
    if profile is not None:
        total = profile.sum_us
        columns += [
            Column("US", lambda r: None if r.time_us is None else f"{r.time_us:.4g}", right=True),
            Column(
                "SHARE",
                lambda r: None if r.time_us is None else f"{r.time_us / total:.1%}",
                right=True,
            ),
        ]
    return [*columns, Column("NAME", lambda r: r.operator.name, wrap=True)]


_YES = {True: "yes", False: "no"}


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _weights(tensor: "TensorFacts | None") -> str:
    return "" if tensor is None else f"{tensor.type}[{','.join(map(str, tensor.shape))}]"


def _scales(tensor: "TensorFacts | None") -> str:
    if tensor is None or tensor.quantization is None:
        return ""
    return f"{tensor.scales} {tensor.quantization}"


_TENSOR_COLUMNS: "list[Column[TensorFacts]]" = [
    Column("#", lambda t: t.number, right=True),
    Column("ROLE", lambda t: t.role),
    Column("TENSOR", _weights),
    Column("SCALES", _scales),
    Column("NOT ZERO", lambda t: None if t.nonzero is None else f"{t.nonzero:,}", right=True),
    Column("BYTES", lambda t: _count(t.stored_bytes), right=True),
    Column("SHARED WITH", lambda t: ", ".join(t.shared_with), wrap=True),
    Column("NAME", lambda t: t.name, wrap=True),
]
