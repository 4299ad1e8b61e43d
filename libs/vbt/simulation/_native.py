"""The forward kernel as machine code, made from the neural mass's own equations when they are first run.

The scheme is that of `_kernel`: time in blocks, the long tracts of a whole block gathered at once from a ring of the
past, stochastic Heun with both stages seeing the input of their own moment. One run is computed on its own, or as many
runs side by side as a vector register has places; either way a run's numbers are the same to the last bit, because
every operation is (`_lowering`). Shapes are not compiled in: a kernel serves every network of its mass.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import llvmlite.binding as llvm  # type: ignore[import-untyped]
from llvmlite import ir

from vbt.simulation._emission import BLOCK, WORD, Emission, word
from vbt.simulation._equations import Shape, cut
from vbt.simulation._lowering import fused_multiply_add

_compiling = threading.Lock()


class ForwardKernel(Emission):
    """Chunks of Heun steps; each chunk's mean activity and last state.

    A shape that is ``recorded`` also keeps of every step what its derivative needs, one row each: the state, the input
    at its beginning and at its end, the standard normal numbers and the stimulus.
    """

    sizes: ClassVar[tuple[str, ...]] = (
        "regions", "padded", "ring", "step", "chunks", "chunk_steps", "long", "short", "zero", "waveforms",
        "fresh", "shift",
    )  # fmt: skip
    arrays: ClassVar[tuple[str, ...]] = (
        "state", "predicted", "slopes", "parameters", "in_strengths", "time_steps", "history", "delayed", "afferents",
        "signals", "predicted_signals", "rows", "sources", "delays", "weights",
        "short_targets", "short_sources", "short_delays", "short_weights",
        "zero_targets", "zero_sources", "zero_weights",
        "keys", "sigma", "noise", "normals", "amplitudes", "courses", "stimulus", "activity", "means", "ends", "record",
    )  # fmt: skip

    def _body(self) -> None:
        b, size = self.b, self.size
        self.time = self._slot(WORD)
        b.store(size["step"], self.time)
        with b.if_then(b.icmp_signed("!=", size["fresh"], word(0))):
            self._begin()
            # What arrives at the first moment: the last row of the block before it.
            late = b.sub(b.add(size["step"], size["ring"]), word(BLOCK - 1))
            self._gather(late)
            self._carry(word(BLOCK))
        with self._loop(word(0), size["chunks"]) as chunk:
            with self._each_vector() as index:
                self._put(self._constant(0.0), "activity", index)
            blocks = b.sdiv(b.add(size["chunk_steps"], word(BLOCK - 1)), word(BLOCK))
            with self._loop(word(0), blocks) as block:
                left = b.sub(size["chunk_steps"], b.mul(block, word(BLOCK)))
                steps = b.select(b.icmp_signed("<", left, word(BLOCK)), left, word(BLOCK))
                now = b.load(self.time, typ=WORD)
                self._gather(b.add(now, word(1)))
                with self._loop(word(0), steps) as step:
                    self._step(b.add(now, step), step)
                self._carry(steps)
                b.store(b.add(now, steps), self.time)
            self._keep(chunk)

    def _begin(self) -> None:
        """The past is the initial state held constant."""
        e = self.equations
        with self._each_vector() as index:
            state = self._rows("state", e.variables, index)
            sent = self.nodes.emit(e.sent, [*self._rows("parameters", e.leaves, index), *state])
            self._put_rows(sent, "signals", index)
        with self._loop(word(0), self.b.add(self.size["ring"], word(BLOCK))) as column:
            self._write(column)

    def _keep(self, chunk: ir.Value) -> None:
        b, count = self.b, self.equations.variables
        steps = self._splat(b.sitofp(self.size["chunk_steps"], self.number), self.shape.width)
        with self._each_vector() as index:
            mean = b.fdiv(self._get("activity", index, self.shape.width), steps)
            self._put(mean, "means", self._row(chunk, index))
            for v in range(count):
                row = b.add(b.mul(chunk, word(count)), word(v))
                self._put(self._get("state", self._row(v, index), self.shape.width), "ends", self._row(row, index))

    def _carry(self, row: ir.Value) -> None:
        """The last moment of a block is the first of the next."""
        with self._each_vector() as index:
            for c in range(self.equations.channels):
                base = word(c * (BLOCK + 1))
                value = self._get("delayed", self._row(self.b.add(base, row), index), self.shape.width)
                self._put(value, "delayed", self._row(base, index))

    def _step(self, now: ir.Value, step: ir.Value) -> None:
        b, e, width = self.b, self.equations, self.shape.width
        if self.shape.noisy:
            self._draw(now)
        if self.shape.stimulated:
            self._stimulate(now)
        parity = b.and_(now, word(1))
        dt, half = (self._splat(self._scalar("time_steps", word(k)), width) for k in (0, 1))
        nothing = self._constant(0.0)

        def surroundings(index: ir.Value) -> list[ir.Value]:
            stimulus = self._get("stimulus", index, width) if self.shape.stimulated else nothing
            afferents, strengths = (self._rows(name, e.channels, index) for name in ("afferents", "in_strengths"))
            return [*afferents, *strengths, stimulus, *self._of_the_pair("noise", parity, index)]

        self._afferents(now, step, "signals")
        with self._each_vector() as index:
            leaves, state = self._rows("parameters", e.leaves, index), self._rows("state", e.variables, index)
            results = self.nodes.emit(e.first, [*leaves, *state, *surroundings(index), dt])
            self._put_rows(results[: e.variables], "slopes", index)
            self._put_rows(results[e.variables :], "predicted", index)
            self._note(now, 0, [*state, *self._rows("afferents", e.channels, index)], index)
        with b.if_then(b.icmp_signed(">", self.size["zero"], word(0))), self._each_vector() as index:
            leaves, state = self._rows("parameters", e.leaves, index), self._rows("predicted", e.variables, index)
            self._put_rows(self.nodes.emit(e.sent, [*leaves, *state]), "predicted_signals", index)
        self._afferents(b.add(now, word(1)), b.add(step, word(1)), "predicted_signals")
        with self._each_vector() as index:
            leaves = self._rows("parameters", e.leaves, index)
            states = [x for name in ("state", "predicted", "slopes") for x in self._rows(name, e.variables, index)]
            results = self.nodes.emit(e.second, [*leaves, *states, *surroundings(index), half])
            new, signals, activity = cut(results, e.variables, e.channels, 1)
            self._put_rows(new, "state", index)
            self._put_rows(signals, "signals", index)
            normals = self._of_the_pair("normals", parity, index) if self.shape.recorded else []
            stimulus = [self._get("stimulus", index, width)] if self.shape.stimulated else []
            later = [*self._rows("afferents", e.channels, index), *normals, *stimulus]
            self._note(now, e.variables + e.channels, later, index)
            self._put(b.fadd(self._get("activity", index, width), activity[0]), "activity", index)
        self._remember(b.add(now, word(1)))

    def _of_the_pair(self, name: str, parity: ir.Value, index: ir.Value) -> list[ir.Value]:
        """Of each noisy variable the row of an even or of an odd step."""
        rows = [self.b.add(word(2 * k), parity) for k in range(len(self.shape.noisy))]
        return [self._get(name, self._row(row, index), self.shape.width) for row in rows]

    def _note(self, now: ir.Value, first: int, values: Sequence[ir.Value], index: ir.Value) -> None:
        """Rows of this step's record, from ``first`` on."""
        if not self.shape.recorded:
            return
        base = self.b.mul(self.b.sub(now, self.size["step"]), word(self.shape.record_rows))
        for k, value in enumerate(values):
            self._put(value, "record", self._row(self.b.add(base, word(first + k)), index))

    def _draw(self, now: ir.Value) -> None:
        """σ dW of an even step and of the odd one after it."""
        b, width, count = self.b, self.shape.width, len(self.shape.noisy)
        even = b.icmp_signed("==", b.and_(now, word(1)), word(0))
        # A record begins anywhere, and the other half of its first pair is not at hand.
        begun = b.icmp_signed("!=", b.or_(self.size["fresh"], word(int(self.shape.recorded))), word(0))
        first = b.and_(begun, b.icmp_signed("==", now, self.size["step"]))
        words = ir.IntType(32)
        with b.if_then(b.or_(even, first)):
            counter = self._splat(b.trunc(b.lshr(now, word(1)), words), width)
            with self._each_vector() as index:
                for k in range(count):
                    keys = []
                    for half in range(2):
                        place = self._at(self.array["keys"], self._row(half * count + k, index), words)
                        keys.append(b.load(place, align=4, typ=ir.VectorType(words, width)))
                    sigma = self._get("sigma", self._row(k, index), width)
                    for part, normal in enumerate(self.nodes.emit(self.equations.pair, [*keys, counter])):
                        self._put(b.fmul(normal, sigma), "noise", self._row(2 * k + part, index))
                        if self.shape.recorded:
                            self._put(normal, "normals", self._row(2 * k + part, index))

    def _stimulate(self, now: ir.Value) -> None:
        """Every waveform's mean over the step times its size in every region."""
        b, lanes, width = self.b, self.shape.lanes, self.shape.width
        total = self._slot(ir.VectorType(self.number, width))
        since = b.sub(now, self.size["step"])
        with self._each_vector() as index:
            b.store(self._constant(0.0), total)
            with self._loop(word(0), self.size["waveforms"]) as wave:
                at = b.mul(b.add(b.mul(since, self.size["waveforms"]), wave), word(lanes))
                course = (
                    self._splat(self._scalar("courses", at), width) if lanes == 1 else self._get("courses", at, lanes)
                )
                amplitude = self._get("amplitudes", self._row(wave, index), width)
                b.store(fused_multiply_add(b, amplitude, course, b.load(total, typ=total.allocated_type)), total)
            self._put(b.load(total, typ=total.allocated_type), "stimulus", index)


@functools.cache
def is_available() -> bool:
    """Whether the processor multiplies and adds in one instruction; without, JAX is faster."""
    features = llvm.get_host_cpu_features()
    return bool(features.get("fma") or features.get("neon") or features.get("asimd"))


def compiled(kernel: type[Emission], shape: Shape) -> Callable[[int], None]:
    """The machine code of a kernel for a shape, as a function of the address of a table of sizes and addresses.

    Raises
    ------
    CannotLower
        where the mass uses an operation that has no vector instructions here.
    """
    with _compiling:  # or every thread of a batch would compile the same
        return code(kernel, shape)  # type: ignore[arg-type]  # mypy doubts that a class is hashable


@functools.cache
def code(kernel: type[Emission], shape: Shape) -> Callable[[int], None]:
    """`compiled`, not guarded against doing it twice at once."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    with jax.enable_x64(shape.dtype == "float64"):
        text = str(kernel(shape).module)
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
