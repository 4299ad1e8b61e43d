"""The forward kernel's adjoint as machine code: a network again, whose signals run back along the same tracts.

A step's derivative is its equations' own (`AdjointEquations`), with the state and the input that the forward kernel has
recorded. What a region sent is answered for by everybody who received it: λs_j(t) = Σ_i W_ij λa_i(t + d_ij), with λa
the cotangent of the input. That is the sum along delayed tracts that the forward kernel takes, with sources and targets
exchanged and delays negative, so the same loops do it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from llvmlite import ir  # type: ignore[import-untyped]

from vbt.simulation._emission import BLOCK, LEAD, WORD, Emission, word
from vbt.simulation._equations import AdjointEquations, Shape, cut
from vbt.simulation._lowering import Lowering, fused_multiply_add


class AdjointKernel(Emission):
    """The steps of one record, last first.

    ``signals`` and their ``history`` are the cotangents of the input along tracts with a delay, ``pending`` the part of
    the next moment's. ``history`` begins with `LEAD` columns of nothing and the record's moments from its second on,
    ``past`` with as many and what was sent up to its first, which is in column ``start``. Derivatives by what is the
    same in all steps are added to what is there. ``tract_*`` are all tracts with a delay, by source.
    """

    sizes: ClassVar[tuple[str, ...]] = (
        "regions", "padded", "ring", "shift", "chunks", "chunk_steps", "long", "short", "zero", "tracts", "start",
        "by_weights",
    )  # fmt: skip
    arrays: ClassVar[tuple[str, ...]] = (
        "record", "parameters", "in_strengths", "time_steps", "sigma", "past",
        "history", "delayed", "afferents", "signals", "pending", "arrived",
        "rows", "sources", "delays", "weights",
        "short_targets", "short_sources", "short_delays", "short_weights",
        "zero_targets", "zero_sources", "zero_weights", "zero_sums",
        "tract_rows", "tract_targets", "tract_delays", "tract_sums",
        "state", "predicted", "slopes", "sent", "predicted_sent", "means", "ends",
        "parameter_sums", "strength_sums", "sigma_sums",
    )  # fmt: skip

    def __init__(self, shape: Shape) -> None:
        self.adjoint = AdjointEquations(shape)
        super().__init__(shape)

    @classmethod
    def block_of(cls, shape: Shape) -> int:
        """A full vector also of a single run: backwards nobody minds that more tracts count as short ones."""
        return 2 * BLOCK if shape.lanes == 1 else BLOCK

    def _body(self) -> None:
        b, size = self.b, self.size
        # Nobody holds a gradient to its last bit.
        self.nodes = Lowering(b, self.shape.width, by_reciprocals=True)
        self.time = self._slot(WORD)
        everything = b.mul(size["chunks"], size["chunk_steps"])
        b.store(b.add(everything, word(LEAD - 1)), self.time)
        with self._loop(word(0), size["chunks"]) as done:
            chunk = b.sub(b.sub(size["chunks"], word(1)), done)
            with self._each_vector() as index:
                count = self.equations.variables
                ends = self._rows("ends", count, index, b.mul(chunk, word(count)))
                state = self._rows("state", count, index)
                self._put_rows([b.fadd(x, y) for x, y in zip(state, ends, strict=True)], "state", index)
            blocks = b.sdiv(b.add(size["chunk_steps"], word(self.block - 1)), word(self.block))
            with self._loop(word(0), blocks) as block:
                left = b.sub(size["chunk_steps"], b.mul(block, word(self.block)))
                steps = b.select(b.icmp_signed("<", left, word(self.block)), left, word(self.block))
                now = b.load(self.time, typ=WORD)
                self._gather(b.sub(now, word(self.block - 1)))
                with self._loop(word(0), steps) as step:
                    self._step(b.sub(now, step), b.sub(word(self.block), step), chunk)
                b.store(b.sub(now, steps), self.time)
        with b.if_then(b.icmp_signed("!=", size["by_weights"], word(0))):
            self._correlate(everything)

    def _step(self, now: ir.Value, row: ir.Value, chunk: ir.Value) -> None:
        """From the moment at a step's end, in column ``now`` and ``row`` of its block, to that at its beginning."""
        b, e, width = self.b, self.equations, self.shape.width
        dt, half = (self._splat(self._scalar("time_steps", word(k)), width) for k in (0, 1))
        record = b.mul(b.sub(now, word(LEAD)), word(self.shape.record_rows))
        # By the signals sent at the step's end.
        self._afferents(now, row, "pending")
        with self._each_vector() as index:
            seen, rest = self._seen(record, index)
            mean = self._get("means", self._row(chunk, index), width)
            turned = [*self._rows("state", e.variables, index), *self._rows("afferents", e.channels, index), mean]
            results = self.nodes.emit(self.adjoint.second, [*seen, *rest, dt, half, *turned])
            sums, state, predicted, slopes, arrived, sent = cut(
                results, self.adjoint.sums, e.variables, e.variables, e.variables, e.channels, e.channels
            )
            self._add(sums, index)
            for values, name in (
                (state, "state"),
                (predicted, "predicted"),
                (slopes, "slopes"),
                (arrived, "arrived"),
                (sent, "sent"),
            ):
                self._put_rows(values, name, index)
            pending = self._rows("pending", e.channels, index)
            self._put_rows([b.fadd(x, y) for x, y in zip(pending, arrived, strict=True)], "signals", index)
        self._remember(now)
        self._along_instant_tracts("arrived", "sent", "predicted_sent")
        with self._each_vector() as index:
            seen, rest = self._seen(record, index)
            turned = [
                x
                for name, count in (("slopes", e.variables), ("predicted", e.variables), ("predicted_sent", e.channels))
                for x in self._rows(name, count, index)
            ]
            results = self.nodes.emit(self.adjoint.first, [*seen, *rest, dt, half, *turned])
            sums, state, arrived, sent = cut(results, self.adjoint.sums, e.variables, e.channels, e.channels)
            self._add(sums, index)
            before = self._rows("state", e.variables, index)
            self._put_rows([b.fadd(x, y) for x, y in zip(before, state, strict=True)], "state", index)
            self._put_rows(arrived, "pending", index)
            self._put_rows(sent, "sent", index)
        self._along_instant_tracts("pending", "sent", None)

    def _seen(self, record: ir.Value, index: ir.Value) -> tuple[list[ir.Value], list[ir.Value]]:
        """Parameters and what is recorded of a step; strengths and noise amplitudes."""
        e = self.equations
        rows = self._rows("record", self.shape.record_rows, index, record)
        if not self.shape.stimulated:
            rows.append(self._constant(0.0))
        rest = [*self._rows("in_strengths", e.channels, index), *self._rows("sigma", len(self.shape.noisy), index)]
        return [*self._rows("parameters", e.leaves, index), *rows], rest

    def _add(self, values: Sequence[ir.Value], index: ir.Value) -> None:
        """Derivatives by what is the same in all steps, to their sums."""
        e = self.equations
        parts = cut(values, e.leaves, e.channels, len(self.shape.noisy))
        for name, part in zip(("parameter_sums", "strength_sums", "sigma_sums"), parts, strict=True):
            for k, value in enumerate(part):
                if not isinstance(value, ir.Constant):  # nothing depends on it
                    place = self._row(k, index)
                    self._put(self.b.fadd(self._get(name, place, self.shape.width), value), name, place)

    def _along_instant_tracts(self, arrived: str, sent: str, returned: str | None) -> None:
        """Back along the tracts without delay, and the derivative by their weights."""
        b, lanes, size = self.b, self.shape.lanes, self.size
        if returned is not None:
            with self._each_vector() as index:
                nothing = [self._constant(0.0)] * self.equations.channels
                self._put_rows(nothing, returned, index)
        with self._loop(word(0), size["zero"]) as edge:
            source = self._per_region(self._integer("zero_targets", edge))
            target = self._per_region(self._integer("zero_sources", edge))
            for c in range(self.equations.channels):
                at = b.mul(b.add(b.mul(word(c), size["zero"]), edge), word(lanes))
                turned = self._get(arrived, self._row(c, target), lanes)
                if returned is not None:
                    weight, place = self._get("zero_weights", at, lanes), self._row(c, source)
                    total = fused_multiply_add(b, weight, turned, self._get(returned, place, lanes))
                    self._put(total, returned, place)
                signal = self._get(sent, self._row(c, source), lanes)
                total = fused_multiply_add(b, signal, turned, self._get("zero_sums", at, lanes))
                self._put(total, "zero_sums", at)

    def _correlate(self, steps: ir.Value) -> None:
        """By the weights of the delayed tracts: Σ λa_i(t) s_j(t − d_ij) over the moments of the record.

        In vectors, last ones first, and several sums at once; what they reach before the first moment is zero.
        """
        b, lanes, size, width = self.b, self.shape.lanes, self.size, self.shape.width
        kind = ir.VectorType(self.number, width)
        together = 4
        sums = [self._slot(kind) for _ in range(together)]
        stride = b.mul(b.add(size["ring"], word(BLOCK)), word(lanes))
        last = b.mul(b.add(steps, word(LEAD)), word(lanes))
        turns = b.sdiv(b.add(b.mul(steps, word(lanes)), word(together * width - 1)), word(together * width))
        for c in range(self.equations.channels):
            plane = b.mul(b.mul(word(c), size["regions"]), stride)
            with self._loop(word(0), size["regions"]) as region:
                first, final = self._integer("tract_rows", region), self._integer("tract_rows", b.add(region, word(1)))
                with self._loop(first, final) as edge:
                    arrived = b.add(b.add(plane, self._integer("tract_targets", edge)), last)
                    delay = b.sub(self._integer("tract_delays", edge), b.sub(size["start"], word(LEAD - 1)))
                    sent = b.sub(b.add(b.add(plane, b.mul(region, stride)), last), b.mul(delay, word(lanes)))
                    for total in sums:
                        b.store(ir.Constant(kind, [ir.Constant(self.number, 0.0)] * width), total)
                    with self._loop(word(1), b.add(turns, word(1))) as turn:
                        back = b.mul(turn, word(together * width))
                        for k, total in enumerate(sums):
                            by = b.sub(word(k * width), back)
                            left = self._get("history", b.add(arrived, by), width)
                            right = self._get("past", b.add(sent, by), width)
                            b.store(fused_multiply_add(b, left, right, b.load(total, typ=kind)), total)
                    at = b.mul(b.add(b.mul(word(c), size["tracts"]), edge), word(width))
                    found = self._get("tract_sums", at, width)
                    for total in sums:
                        found = b.fadd(found, b.load(total, typ=kind))
                    self._put(found, "tract_sums", at)
