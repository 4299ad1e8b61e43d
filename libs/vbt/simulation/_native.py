"""The forward kernel as machine code, made from the neural mass's own equations when they are first run.

The scheme is that of `_kernel`: time in blocks, the long tracts of a whole block gathered at once from a ring of the
past, stochastic Heun with both stages seeing the input of their own moment. One run is computed on its own, or as many
runs side by side as a vector register has places; either way a run's numbers are the same to the last bit, because
every operation is (`_lowering`). Shapes are not compiled in: a kernel serves every network of its mass.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numpy as np
from llvmlite import ir

from vbt.simulation._equations import Equations, Shape, cut
from vbt.simulation._lowering import Lowering, fused_multiply_add, scalar_type

BLOCK = 8
_WORD, _POINTER = ir.IntType(64), ir.PointerType()

_SIZES = ("regions", "padded", "ring", "step", "chunks", "chunk_steps", "long", "short", "zero", "waveforms", "fresh")
_ARRAYS = (
    "state", "predicted", "slopes", "parameters", "in_strengths", "time_steps", "history", "delayed", "afferents",
    "signals", "predicted_signals", "rows", "sources", "delays", "weights",
    "short_targets", "short_sources", "short_delays", "short_weights",
    "zero_targets", "zero_sources", "zero_weights",
    "keys", "sigma", "noise", "amplitudes", "courses", "stimulus", "activity", "means", "ends",
)  # fmt: skip
_compiling = threading.Lock()
_PLACES = {name: i for i, name in enumerate((*_SIZES, *_ARRAYS))}


class _Emission:
    """The loops around the equations."""

    def __init__(self, shape: Shape) -> None:
        self.shape, self.equations = shape, Equations(shape)
        self.number = scalar_type(shape.dtype)
        self.module = ir.Module("vbt")
        self.module.triple = llvm.get_default_triple()
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [_POINTER]), "run")
        self.b = ir.IRBuilder(function.append_basic_block("entry"))
        self.nodes = Lowering(self.b, shape.width)
        self.table = function.args[0]
        self.entry = self.b.block
        self.size = {name: self._table(name, _WORD) for name in _SIZES}
        self.array = {name: self._table(name, _POINTER) for name in _ARRAYS}
        body = function.append_basic_block("body")
        self.time = self._slot(_WORD)
        self.b.branch(body)
        self.b.position_at_end(body)
        self._body()
        self.b.ret_void()

    # Small pieces of code

    def _table(self, name: str, kind: ir.Type) -> ir.Value:
        return self.b.load(self._at(self.table, _word(_PLACES[name]), _WORD), typ=kind)

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
        return self.b.sext(self.b.load(self._at(self.array[name], index, kind), align=4, typ=kind), _WORD)

    def _splat(self, scalar: ir.Value, width: int) -> ir.Value:
        one = self.b.insert_element(ir.Constant(ir.VectorType(scalar.type, width), ir.Undefined), scalar, _index(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
        return self.b.shuffle_vector(one, one, zeros)

    def _scalar(self, name: str, index: ir.Value) -> ir.Value:
        return self.b.load(self._at(self.array[name], index), align=self._alignment, typ=self.number)

    @contextlib.contextmanager
    def _loop(self, start: ir.Value, stop: ir.Value, step: int = 1) -> Iterator[ir.Value]:
        b = self.b
        head, body, done = (b.append_basic_block() for _ in range(3))
        before = b.block
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(_WORD)
        index.add_incoming(start, before)
        b.cbranch(b.icmp_signed("<", index, stop), body, done)
        b.position_at_end(body)
        yield index
        index.add_incoming(b.add(index, _word(step)), b.block)
        b.branch(head)
        b.position_at_end(done)

    def _each_vector(self) -> contextlib.AbstractContextManager[ir.Value]:
        return self._loop(_word(0), self.size["padded"], self.shape.width)

    def _row(self, row: ir.Value | int, index: ir.Value) -> ir.Value:
        """Index into an array of rows over all regions and lanes."""
        number = _word(row) if isinstance(row, int) else row
        return self.b.add(self.b.mul(number, self.size["padded"]), index)

    def _rows(self, name: str, count: int, index: ir.Value) -> list[ir.Value]:
        return [self._get(name, self._row(k, index), self.shape.width) for k in range(count)]

    def _per_region(self, index: ir.Value) -> ir.Value:
        return self.b.mul(index, _word(self.shape.lanes))

    def _wrapped(self, column: ir.Value) -> ir.Value:
        """A column that may have become negative, back in the ring."""
        return self.b.select(self.b.icmp_signed("<", column, _word(0)), self.b.add(column, self.size["ring"]), column)

    # The scheme

    def _body(self) -> None:
        b, size = self.b, self.size
        b.store(size["step"], self.time)
        with b.if_then(b.icmp_signed("!=", size["fresh"], _word(0))):
            self._begin()
            # What arrives at the first moment: the last row of the block before it.
            late = b.sub(b.add(size["step"], size["ring"]), _word(BLOCK - 1))
            self._gather(late)
            self._carry(_word(BLOCK))
        with self._loop(_word(0), size["chunks"]) as chunk:
            with self._each_vector() as index:
                self._put(self.nodes.constant(0.0, self.shape.dtype), "activity", index)
            blocks = b.sdiv(b.add(size["chunk_steps"], _word(BLOCK - 1)), _word(BLOCK))
            with self._loop(_word(0), blocks) as block:
                left = b.sub(size["chunk_steps"], b.mul(block, _word(BLOCK)))
                steps = b.select(b.icmp_signed("<", left, _word(BLOCK)), left, _word(BLOCK))
                now = b.load(self.time, typ=_WORD)
                self._gather(b.add(now, _word(1)))
                with self._loop(_word(0), steps) as step:
                    self._step(b.add(now, step), step)
                self._carry(steps)
                b.store(b.add(now, steps), self.time)
            self._keep(chunk)

    def _begin(self) -> None:
        """The past is the initial state held constant."""
        e = self.equations
        with self._each_vector() as index:
            state = self._rows("state", e.variables, index)
            for c, signal in enumerate(self.nodes.emit(e.sent, [*self._rows("parameters", e.leaves, index), *state])):
                self._put(signal, "signals", self._row(c, index))
        with self._loop(_word(0), self.b.add(self.size["ring"], _word(BLOCK))) as column:
            self._write(column)

    def _keep(self, chunk: ir.Value) -> None:
        b, count = self.b, self.equations.variables
        steps = self._splat(b.sitofp(self.size["chunk_steps"], self.number), self.shape.width)
        with self._each_vector() as index:
            mean = b.fdiv(self._get("activity", index, self.shape.width), steps)
            self._put(mean, "means", self._row(chunk, index))
            for v in range(count):
                row = b.add(b.mul(chunk, _word(count)), _word(v))
                self._put(self._get("state", self._row(v, index), self.shape.width), "ends", self._row(row, index))

    def _gather(self, first_moment: ir.Value) -> None:
        """Input along the long tracts at the moments from ``first_moment`` on, into rows 1 to BLOCK of ``delayed``."""
        b, lanes, size = self.b, self.shape.lanes, self.size
        parts, width = (1, BLOCK) if lanes == 1 else (BLOCK, lanes)
        kind = ir.VectorType(self.number, width)
        sums = [[self._slot(kind) for _ in range(parts)] for _ in range(self.equations.channels)]
        column = b.srem(first_moment, size["ring"])
        plane = b.mul(size["regions"], b.mul(b.add(size["ring"], _word(BLOCK)), _word(lanes)))
        with self._loop(_word(0), size["regions"]) as region:
            for row in sums:
                for total in row:
                    b.store(ir.Constant(kind, [ir.Constant(self.number, 0.0)] * width), total)
            first, last = self._integer("rows", region), self._integer("rows", b.add(region, _word(1)))
            with self._loop(first, last) as edge:
                start = self._wrapped(b.sub(column, self._integer("delays", edge)))
                place = b.add(self._integer("sources", edge), b.mul(start, _word(lanes)))
                for c, row in enumerate(sums):
                    at = b.add(b.mul(_word(c), size["long"]), edge)
                    if lanes == 1:
                        weight = self._splat(self._scalar("weights", at), BLOCK)
                    else:
                        weight = self._get("weights", b.mul(at, _word(lanes)), lanes)
                    base = b.add(b.mul(_word(c), plane), place)
                    for part, total in enumerate(row):
                        arriving = self._get("history", b.add(base, _word(part * width)), width)
                        summed = fused_multiply_add(b, weight, arriving, b.load(total, typ=kind))
                        b.store(summed, total)
            for c, row in enumerate(sums):
                for j in range(BLOCK):
                    value = b.load(row[0 if lanes == 1 else j], typ=kind)
                    if lanes == 1:
                        value = b.extract_element(value, _index(j))
                    self._put(value, "delayed", self._row(c * (BLOCK + 1) + j + 1, self._per_region(region)))

    def _carry(self, row: ir.Value) -> None:
        """The last moment of a block is the first of the next."""
        with self._each_vector() as index:
            for c in range(self.equations.channels):
                base = _word(c * (BLOCK + 1))
                value = self._get("delayed", self._row(self.b.add(base, row), index), self.shape.width)
                self._put(value, "delayed", self._row(base, index))

    def _step(self, now: ir.Value, step: ir.Value) -> None:
        b, e, width = self.b, self.equations, self.shape.width
        if self.shape.noisy:
            self._draw(now)
        if self.shape.stimulated:
            self._stimulate(now)
        parity = b.and_(now, _word(1))
        dt, half = (self._splat(self._scalar("time_steps", _word(k)), width) for k in (0, 1))
        nothing = self.nodes.constant(0.0, self.shape.dtype)

        def surroundings(index: ir.Value) -> list[ir.Value]:
            stimulus = self._get("stimulus", index, width) if self.shape.stimulated else nothing
            kicks = [
                self._get("noise", self._row(b.add(_word(2 * k), parity), index), width)
                for k in range(len(self.shape.noisy))
            ]
            return [
                *self._rows("afferents", e.channels, index),
                *self._rows("in_strengths", e.channels, index),
                stimulus,
                *kicks,
            ]

        self._afferents(now, step, "signals", 0)
        with self._each_vector() as index:
            leaves, state = self._rows("parameters", e.leaves, index), self._rows("state", e.variables, index)
            results = self.nodes.emit(e.first, [*leaves, *state, *surroundings(index), dt])
            for v in range(e.variables):
                self._put(results[v], "slopes", self._row(v, index))
                self._put(results[e.variables + v], "predicted", self._row(v, index))
        with b.if_then(b.icmp_signed(">", self.size["zero"], _word(0))), self._each_vector() as index:
            leaves, state = self._rows("parameters", e.leaves, index), self._rows("predicted", e.variables, index)
            for c, signal in enumerate(self.nodes.emit(e.sent, [*leaves, *state])):
                self._put(signal, "predicted_signals", self._row(c, index))
        self._afferents(now, step, "predicted_signals", 1)
        with self._each_vector() as index:
            leaves = self._rows("parameters", e.leaves, index)
            states = [x for name in ("state", "predicted", "slopes") for x in self._rows(name, e.variables, index)]
            results = self.nodes.emit(e.second, [*leaves, *states, *surroundings(index), half])
            new, signals, activity = cut(results, e.variables, e.channels, 1)
            for v, value in enumerate(new):
                self._put(value, "state", self._row(v, index))
            for c, value in enumerate(signals):
                self._put(value, "signals", self._row(c, index))
            self._put(b.fadd(self._get("activity", index, width), activity[0]), "activity", index)
        self._remember(b.srem(b.add(now, _word(1)), self.size["ring"]))

    def _remember(self, column: ir.Value) -> None:
        """What was sent goes into the ring, its first block also behind its end, so that no slice wraps."""
        self._write(column)
        with self.b.if_then(self.b.icmp_signed("<", column, _word(BLOCK))):
            self._write(self.b.add(column, self.size["ring"]))

    def _write(self, column: ir.Value) -> None:
        b, lanes, size = self.b, self.shape.lanes, self.size
        stride = b.mul(b.add(size["ring"], _word(BLOCK)), _word(lanes))
        with self._loop(_word(0), size["regions"]) as region:
            for c in range(self.equations.channels):
                signal = self._get("signals", self._row(c, self._per_region(region)), lanes)
                row = b.add(b.mul(_word(c), size["regions"]), region)
                self._put(signal, "history", b.add(b.mul(row, stride), b.mul(column, _word(lanes))))

    def _afferents(self, now: ir.Value, step: ir.Value, signals: str, stage: int) -> None:
        """Input at the step's beginning (stage 0) or end (1): long tracts, then short and instant ones."""
        b, lanes, size = self.b, self.shape.lanes, self.size
        with self._each_vector() as index:
            for c in range(self.equations.channels):
                row = b.add(step, _word(c * (BLOCK + 1) + stage))
                long = self._get("delayed", self._row(row, index), self.shape.width)
                self._put(long, "afferents", self._row(c, index))

        def add(kind: str, edge: ir.Value, arriving: Callable[[int], ir.Value]) -> None:
            target = self._per_region(self._integer(f"{kind}_targets", edge))
            for c in range(self.equations.channels):
                at = b.add(b.mul(_word(c), size[kind]), edge)
                weight = self._get(f"{kind}_weights", b.mul(at, _word(lanes)), lanes)
                total = self._get("afferents", self._row(c, target), lanes)
                self._put(fused_multiply_add(b, weight, arriving(c), total), "afferents", self._row(c, target))

        column = b.srem(b.add(now, _word(stage)), size["ring"])
        stride = b.mul(b.add(size["ring"], _word(BLOCK)), _word(lanes))
        with self._loop(_word(0), size["short"]) as edge:
            at = b.mul(self._wrapped(b.sub(column, self._integer("short_delays", edge))), _word(lanes))
            source = self._integer("short_sources", edge)

            def remembered(c: int) -> ir.Value:
                row = b.add(b.mul(_word(c), size["regions"]), source)
                return self._get("history", b.add(b.mul(row, stride), at), lanes)

            add("short", edge, remembered)
        with self._loop(_word(0), size["zero"]) as edge:
            origin = self._per_region(self._integer("zero_sources", edge))
            add("zero", edge, lambda c: self._get(signals, self._row(c, origin), lanes))

    def _draw(self, now: ir.Value) -> None:
        """σ dW of an even step and of the odd one after it."""
        b, width, count = self.b, self.shape.width, len(self.shape.noisy)
        even = b.icmp_signed("==", b.and_(now, _word(1)), _word(0))
        first = b.and_(b.icmp_signed("!=", self.size["fresh"], _word(0)), b.icmp_signed("==", now, self.size["step"]))
        words = ir.IntType(32)
        with b.if_then(b.or_(even, first)):
            counter = self._splat(b.trunc(b.lshr(now, _word(1)), words), width)
            with self._each_vector() as index:
                for k in range(count):
                    keys = []
                    for word in range(2):
                        place = self._at(self.array["keys"], self._row(word * count + k, index), words)
                        keys.append(b.load(place, align=4, typ=ir.VectorType(words, width)))
                    sigma = self._get("sigma", self._row(k, index), width)
                    for part, noise in enumerate(self.nodes.emit(self.equations.pair, [*keys, counter, sigma])):
                        self._put(noise, "noise", self._row(2 * k + part, index))

    def _stimulate(self, now: ir.Value) -> None:
        """Every waveform's mean over the step times its size in every region."""
        b, lanes, width = self.b, self.shape.lanes, self.shape.width
        total = self._slot(ir.VectorType(self.number, width))
        since = b.sub(now, self.size["step"])
        with self._each_vector() as index:
            b.store(self.nodes.constant(0.0, self.shape.dtype), total)
            with self._loop(_word(0), self.size["waveforms"]) as wave:
                at = b.mul(b.add(b.mul(since, self.size["waveforms"]), wave), _word(lanes))
                course = (
                    self._splat(self._scalar("courses", at), width) if lanes == 1 else self._get("courses", at, lanes)
                )
                amplitude = self._get("amplitudes", self._row(wave, index), width)
                b.store(fused_multiply_add(b, amplitude, course, b.load(total, typ=total.allocated_type)), total)
            self._put(b.load(total, typ=total.allocated_type), "stimulus", index)


def _word(value: int) -> ir.Constant:
    return ir.Constant(_WORD, value)


def _index(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(32), value)


@functools.cache
def is_available() -> bool:
    """Whether the processor multiplies and adds in one instruction; without, JAX is faster."""
    features = llvm.get_host_cpu_features()
    return bool(features.get("fma") or features.get("neon") or features.get("asimd"))


def compiled(shape: Shape) -> Callable[[int], None]:
    """The machine code for a shape, as a function of the address of a table of sizes and addresses.

    Raises
    ------
    CannotLower
        where the mass uses an operation that has no vector instructions here.
    """
    with _compiling:  # or every thread of a batch would compile the same
        return code(shape)


@functools.cache
def code(shape: Shape) -> Callable[[int], None]:
    """`compiled`, not guarded against doing it twice at once."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    with jax.enable_x64(shape.dtype == "float64"):
        text = str(_Emission(shape).module)
    features = llvm.get_host_cpu_features().flatten()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=2, jit=True
    )
    module = llvm.parse_assembly(text)
    module.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    passes = llvm.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(module, passes)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(engine.get_function_address("run"))
    return _Code(engine, function)


@dataclass(frozen=True)
class _Code:
    """The code lives as long as its engine."""

    engine: Any
    function: Callable[[int], None]

    def __call__(self, table: int) -> None:
        self.function(table)
