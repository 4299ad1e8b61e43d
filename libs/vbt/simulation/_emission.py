"""Loops of machine code over regions, lanes and tracts: what the forward kernel and its adjoint are both made of.

Both are networks whose signals travel along tracts and arrive later: `_gather`, `_afferents` and `_remember` serve
either direction of time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numpy as np
from llvmlite import ir

from vbt.simulation._equations import Equations, Shape
from vbt.simulation._lowering import Lowering, fused_multiply_add, scalar_type

BLOCK = 8
# Empty columns before a record and before what comes back of it: vectors may reach that far beyond an end.
LEAD = 64
WORD, _POINTER = ir.IntType(64), ir.PointerType()


class Emission:
    """A function of a table of sizes and addresses, in LLVM's language; subclasses say what its body is.

    Attributes
    ----------
    sizes, arrays : names of the table's entries, in their order
    """

    sizes: ClassVar[tuple[str, ...]]
    arrays: ClassVar[tuple[str, ...]]

    def __init__(self, shape: Shape) -> None:
        self.shape, self.equations, self.block = shape, Equations(shape), self.block_of(shape)
        self.number = scalar_type(shape.dtype)
        self.module = ir.Module("vbt")
        self.module.triple = llvm.get_default_triple()
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [_POINTER]), "run")
        self.b = ir.IRBuilder(function.append_basic_block("entry"))
        self.nodes = Lowering(self.b, shape.width)
        self.table = function.args[0]
        self.entry = self.b.block
        places = self.places()
        self.size = {name: self._entry(places[name], WORD) for name in self.sizes}
        self.array = {name: self._entry(places[name], _POINTER) for name in self.arrays}
        body = function.append_basic_block("body")
        self.b.branch(body)
        self.b.position_at_end(body)
        self._body()
        self.b.ret_void()

    @classmethod
    def places(cls) -> dict[str, int]:
        """Where in the table each size and each address is."""
        return {name: i for i, name in enumerate((*cls.sizes, *cls.arrays))}

    @classmethod
    def block_of(cls, shape: Shape) -> int:
        """Steps whose input along long tracts is gathered at once; those are at least as long."""
        del shape
        return BLOCK

    def _body(self) -> None:
        raise NotImplementedError

    def _entry(self, place: int, kind: ir.Type) -> ir.Value:
        return self.b.load(self._at(self.table, word(place), WORD), typ=kind)

    def _at(self, pointer: ir.Value, index: ir.Value, element: ir.Type | None = None) -> ir.Value:
        return self.b.gep(pointer, [index], source_etype=element or self.number)

    def _slot(self, kind: ir.Type) -> ir.Value:
        with self.b.goto_block(self.entry):
            return self.b.alloca(kind)

    def _get(self, name: str, index: ir.Value, width: int) -> ir.Value:
        return self._read(self._at(self.array[name], index), width)

    def _read(self, pointer: ir.Value, width: int) -> ir.Value:
        return self.b.load(pointer, align=self._alignment, typ=ir.VectorType(self.number, width))

    def _put(self, value: ir.Value, name: str, index: ir.Value) -> None:
        self.b.store(value, self._at(self.array[name], index), align=self._alignment)

    @property
    def _alignment(self) -> int:
        return int(np.dtype(self.shape.dtype).itemsize)

    def _integer(self, name: str, index: ir.Value) -> ir.Value:
        kind = ir.IntType(32)
        return self.b.sext(self.b.load(self._at(self.array[name], index, kind), align=4, typ=kind), WORD)

    def _splat(self, scalar: ir.Value, width: int) -> ir.Value:
        one = self.b.insert_element(ir.Constant(ir.VectorType(scalar.type, width), ir.Undefined), scalar, _index(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
        return self.b.shuffle_vector(one, one, zeros)

    def _constant(self, value: float) -> ir.Value:
        return self.nodes.constant(value, self.shape.dtype)

    def _scalar(self, name: str, index: ir.Value) -> ir.Value:
        return self.b.load(self._at(self.array[name], index), align=self._alignment, typ=self.number)

    @contextlib.contextmanager
    def _loop(self, start: ir.Value, stop: ir.Value, step: int = 1) -> Iterator[ir.Value]:
        b = self.b
        head, body, done = (b.append_basic_block() for _ in range(3))
        before = b.block
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(WORD)
        index.add_incoming(start, before)
        b.cbranch(b.icmp_signed("<", index, stop), body, done)
        b.position_at_end(body)
        yield index
        index.add_incoming(b.add(index, word(step)), b.block)
        b.branch(head)
        b.position_at_end(done)

    def _each_vector(self) -> contextlib.AbstractContextManager[ir.Value]:
        return self._loop(word(0), self.size["padded"], self.shape.width)

    def _row(self, row: ir.Value | int, index: ir.Value) -> ir.Value:
        """Index into an array of rows over all regions and lanes."""
        number = word(row) if isinstance(row, int) else row
        return self.b.add(self.b.mul(number, self.size["padded"]), index)

    def _rows(self, name: str, count: int, index: ir.Value, first: ir.Value | int = 0) -> list[ir.Value]:
        start = word(first) if isinstance(first, int) else first
        rows = [self.b.add(start, word(k)) for k in range(count)]
        return [self._get(name, self._row(row, index), self.shape.width) for row in rows]

    def _put_rows(self, values: Sequence[ir.Value], name: str, index: ir.Value) -> None:
        for k, value in enumerate(values):
            self._put(value, name, self._row(k, index))

    def _per_region(self, index: ir.Value) -> ir.Value:
        return self.b.mul(index, word(self.shape.lanes))

    def _wrapped(self, column: ir.Value) -> ir.Value:
        """A column that may have become negative, back in the ring."""
        return self.b.select(self.b.icmp_signed("<", column, word(0)), self.b.add(column, self.size["ring"]), column)

    def _gather(self, first_moment: ir.Value) -> None:
        """Input along the long tracts at the moments from ``first_moment`` on, from row 1 of ``delayed`` on."""
        b, lanes, size = self.b, self.shape.lanes, self.size
        parts, width = (1, self.block) if lanes == 1 else (self.block, lanes)
        kind = ir.VectorType(self.number, width)
        sums = [[self._slot(kind) for _ in range(parts)] for _ in range(self.equations.channels)]
        column = self._column(first_moment)
        plane = b.mul(size["regions"], b.mul(b.add(size["ring"], word(BLOCK)), word(lanes)))
        with self._loop(word(0), size["regions"]) as region:
            for row in sums:
                for total in row:
                    b.store(ir.Constant(kind, [ir.Constant(self.number, 0.0)] * width), total)
            first, last = self._integer("rows", region), self._integer("rows", b.add(region, word(1)))
            with self._loop(first, last) as edge:
                start = self._wrapped(b.sub(column, self._integer("delays", edge)))
                place = b.add(self._integer("sources", edge), b.mul(start, word(lanes)))
                for c, row in enumerate(sums):
                    at = b.add(b.mul(word(c), size["long"]), edge)
                    if lanes == 1:
                        weight = self._splat(self._scalar("weights", at), width)
                    else:
                        weight = self._get("weights", b.mul(at, word(lanes)), lanes)
                    base = b.add(b.mul(word(c), plane), place)
                    for part, total in enumerate(row):
                        arriving = self._get("history", b.add(base, word(part * width)), width)
                        summed = fused_multiply_add(b, weight, arriving, b.load(total, typ=kind))
                        b.store(summed, total)
            for c, row in enumerate(sums):
                for j in range(self.block):
                    value = b.load(row[0 if lanes == 1 else j], typ=kind)
                    if lanes == 1:
                        value = b.extract_element(value, _index(j))
                    self._put(value, "delayed", self._row(c * (self.block + 1) + j + 1, self._per_region(region)))

    def _afferents(self, moment: ir.Value, row: ir.Value, signals: str) -> None:
        """Input at a moment, ``row`` of its block: along long tracts, then short and instant ones."""
        b, lanes, size = self.b, self.shape.lanes, self.size
        with self._each_vector() as index:
            for c in range(self.equations.channels):
                long = self._get("delayed", self._row(b.add(row, word(c * (self.block + 1))), index), self.shape.width)
                self._put(long, "afferents", self._row(c, index))

        def add(kind: str, edge: ir.Value, arriving: Callable[[int], ir.Value]) -> None:
            target = self._per_region(self._integer(f"{kind}_targets", edge))
            for c in range(self.equations.channels):
                at = b.add(b.mul(word(c), size[kind]), edge)
                weight = self._get(f"{kind}_weights", b.mul(at, word(lanes)), lanes)
                total = self._get("afferents", self._row(c, target), lanes)
                self._put(fused_multiply_add(b, weight, arriving(c), total), "afferents", self._row(c, target))

        column = self._column(moment)
        stride = b.mul(b.add(size["ring"], word(BLOCK)), word(lanes))
        with self._loop(word(0), size["short"]) as edge:
            at = b.mul(self._wrapped(b.sub(column, self._integer("short_delays", edge))), word(lanes))
            source = self._integer("short_sources", edge)

            def remembered(c: int) -> ir.Value:
                row = b.add(b.mul(word(c), size["regions"]), source)
                return self._get("history", b.add(b.mul(row, stride), at), lanes)

            add("short", edge, remembered)
        with self._loop(word(0), size["zero"]) as edge:
            origin = self._per_region(self._integer("zero_sources", edge))
            add("zero", edge, lambda c: self._get(signals, self._row(c, origin), lanes))

    def _column(self, moment: ir.Value) -> ir.Value:
        """Where in the ring a moment is."""
        return self.b.srem(self.b.add(moment, self.size["shift"]), self.size["ring"])

    def _remember(self, moment: ir.Value) -> None:
        """What was sent goes into the ring, its first block also behind its end, so that no slice wraps."""
        column = self._column(moment)
        self._write(column)
        with self.b.if_then(self.b.icmp_signed("<", column, word(BLOCK))):
            self._write(self.b.add(column, self.size["ring"]))

    def _write(self, column: ir.Value) -> None:
        b, lanes, size = self.b, self.shape.lanes, self.size
        stride = b.mul(b.add(size["ring"], word(BLOCK)), word(lanes))
        with self._loop(word(0), size["regions"]) as region:
            for c in range(self.equations.channels):
                signal = self._get("signals", self._row(c, self._per_region(region)), lanes)
                row = b.add(b.mul(word(c), size["regions"]), region)
                self._put(signal, "history", b.add(b.mul(row, stride), b.mul(column, word(lanes))))


class Table:
    """What a kernel is called with: its sizes and arrays by name, and their values and addresses in its order."""

    def __init__(self, kernel: type[Emission]) -> None:
        self._places = kernel.places()
        self._words = np.zeros(len(self._places), np.int64)
        self._values: dict[str, Any] = {}

    def put(self, **values: Any) -> None:
        """Set sizes and arrays; an array's memory must stay where it is."""
        for name, value in values.items():
            self._words[self._places[name]] = value.ctypes.data if isinstance(value, np.ndarray) else value
            self._values[name] = value

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    @property
    def address(self) -> int:
        return int(self._words.ctypes.data)


def word(value: int) -> ir.Constant:
    return ir.Constant(WORD, value)


def _index(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(32), value)
