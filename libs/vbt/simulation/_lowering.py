"""Elementwise JAX functions become vector instructions of the processor, through LLVM.

A neural mass is written once, in `jax.numpy`; its jaxpr is walked equation by equation. Every operation rounds as the
standard says and none is rearranged, so a number does not depend on the width of the vector it is computed in. Products
that are added to something once become fused multiply-adds, always.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core as jex
from llvmlite import ir  # type: ignore[import-untyped]

from vbt.simulation import _elementary

_FLOATS = {"float32": ir.FloatType(), "float64": ir.DoubleType()}
_INTEGERS = {"int32": 32, "uint32": 32, "int64": 64, "uint64": 64, "bool": 1}


class CannotLower(Exception):
    """A primitive that has no vector instructions here."""


def scalar_type(dtype: Any) -> ir.Type:
    name = np.dtype(dtype).name
    return _FLOATS[name] if name in _FLOATS else ir.IntType(_INTEGERS[name])


def traced(function: Callable[..., Any], *dtypes: Any) -> Any:
    """The closed jaxpr of a function of scalars."""
    scalars = [jax.ShapeDtypeStruct((), dtype) for dtype in dtypes]  # type: ignore[no-untyped-call]
    return jax.make_jaxpr(function)(*scalars)


class Lowering:
    """Emits closed jaxprs of scalar functions at the builder's position, on vectors of one width.

    ``by_reciprocals`` lets a division be a product with a reciprocal, which may be rounded otherwise but is several
    times as fast where much is divided by the same.
    """

    def __init__(self, builder: ir.IRBuilder, width: int, *, by_reciprocals: bool = False) -> None:
        self.builder, self.width, self.by_reciprocals = builder, width, by_reciprocals

    def vector(self, dtype: Any) -> ir.Type:
        return ir.VectorType(scalar_type(dtype), self.width)

    def constant(self, value: Any, dtype: Any) -> ir.Constant:
        plain = float(value) if np.dtype(dtype).kind == "f" else int(value)
        return ir.Constant(self.vector(dtype), [ir.Constant(scalar_type(dtype), plain)] * self.width)

    def emit(self, closed: Any, arguments: Sequence[ir.Value]) -> list[ir.Value]:
        jaxpr: Any = closed.jaxpr
        values: dict[Any, ir.Value] = dict(zip(jaxpr.invars, arguments, strict=True))
        for variable, const in zip(jaxpr.constvars, closed.consts, strict=True):
            values[variable] = self.constant(np.asarray(const)[()], variable.aval.dtype)
        uses = Counter(a for eqn in jaxpr.eqns for a in eqn.invars if not isinstance(a, jex.Literal))
        uses.update(a for a in jaxpr.outvars if not isinstance(a, jex.Literal))
        self._products: dict[Any, tuple[ir.Value, ir.Value]] = {}
        products = self._products

        def read(atom: Any) -> ir.Value:
            if isinstance(atom, jex.Literal):
                return self.constant(np.asarray(atom.val)[()], atom.aval.dtype)  # type: ignore[attr-defined]
            return values[atom]

        for eqn in jaxpr.eqns:
            operands = [read(atom) for atom in eqn.invars]
            name = eqn.primitive.name
            dtype = np.dtype(eqn.invars[0].aval.dtype) if eqn.invars else None
            fused = None
            if name == "add_any":  # the sum of two cotangents
                name = "add"
            if name in ("add", "sub") and dtype is not None and dtype.kind == "f":
                fused = self._fused(name, eqn.invars, operands, products, uses)
            results = [fused] if fused is not None else self._apply(eqn, operands, dtype)
            if name == "mul" and dtype is not None and dtype.kind == "f":
                products[eqn.outvars[0]] = (operands[0], operands[1])
            values.update(zip(eqn.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _fused(
        self,
        name: str,
        atoms: Sequence[Any],
        operands: Sequence[ir.Value],
        products: dict[Any, tuple[ir.Value, ir.Value]],
        uses: Counter[Any],
    ) -> ir.Value | None:
        for at in (0, 1):
            atom = atoms[at]
            if isinstance(atom, jex.Literal) or atom not in products or uses[atom] != 1:
                continue
            a, b = products[atom]
            other = operands[1 - at]
            if name == "sub" and at == 0:
                other = self.builder.fneg(other)
            if name == "sub" and at == 1:
                a = self.builder.fneg(a)
            return fused_multiply_add(self.builder, a, b, other)
        return None

    def _apply(self, eqn: Any, operands: list[ir.Value], dtype: np.dtype[Any] | None) -> list[ir.Value]:
        name = eqn.primitive.name
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        if inner is not None:
            return self._inner().emit(_closed(inner), operands)
        if name in _elementary.BY_PRIMITIVE:
            closed = _elementary_jaxpr(name, tuple(str(atom.aval.dtype) for atom in eqn.invars))
            return self._inner().emit(closed, operands)
        special = _SPECIAL.get(name)
        if special is not None:
            return [special(self, operands, dtype, eqn.params)]
        if name in _MOVES:
            return [_MOVES[name](*operands)]
        operations = _FLOAT_OPERATIONS if dtype is not None and dtype.kind == "f" else _INTEGER_OPERATIONS
        emit = operations.get(name)
        if name in _COMPARISONS:
            return [self._compared(_COMPARISONS[name], operands, dtype)]
        if emit is None:
            raise CannotLower(f"{name} on {dtype}")
        result = emit(self.builder, *operands)
        if name == "div" and self.by_reciprocals and dtype is not None and dtype.kind == "f":
            result.flags = ["arcp"]
        return [result]

    def _inner(self) -> Lowering:
        return Lowering(self.builder, self.width, by_reciprocals=self.by_reciprocals)

    def _compared(self, operator: str, operands: list[ir.Value], dtype: Any) -> ir.Value:
        if dtype.kind == "f":
            unordered = operator == "!="
            compare = self.builder.fcmp_unordered if unordered else self.builder.fcmp_ordered
            return compare(operator, *operands)
        compare = self.builder.icmp_signed if dtype.kind == "i" else self.builder.icmp_unsigned
        return compare(operator, *operands)

    def _converted(self, value: ir.Value, old: np.dtype[Any], new: np.dtype[Any]) -> ir.Value:
        b, target = self.builder, self.vector(new)
        if old == new or (old.kind in "iu" and new.kind in "iu" and old.itemsize == new.itemsize):
            return value
        if new.kind == "b":
            zero = self.constant(0, old)
            return b.fcmp_unordered("!=", value, zero) if old.kind == "f" else b.icmp_unsigned("!=", value, zero)
        if old.kind == "f" and new.kind == "f":
            return b.fpext(value, target) if new.itemsize > old.itemsize else b.fptrunc(value, target)
        if old.kind == "f":
            return b.fptosi(value, target) if new.kind == "i" else b.fptoui(value, target)
        if new.kind == "f":
            return b.sitofp(value, target) if old.kind == "i" else b.uitofp(value, target)
        if new.itemsize < old.itemsize:
            return b.trunc(value, target)
        return b.sext(value, target) if old.kind == "i" else b.zext(value, target)

    def _integer_power(self, value: ir.Value, exponent: int, dtype: Any) -> ir.Value:
        result, power, left = None, value, abs(exponent)
        while left:
            if left & 1:
                result = power if result is None else self.builder.fmul(result, power)
            left >>= 1
            if left:
                power = self.builder.fmul(power, power)
        one = self.constant(1.0, dtype)
        result = one if result is None else result
        if exponent >= 0:
            return result
        return self.builder.fdiv(one, result, flags=["arcp"] if self.by_reciprocals else ())


@functools.cache
def _elementary_jaxpr(name: str, dtypes: tuple[str, ...]) -> Any:
    return traced(_elementary.BY_PRIMITIVE[name], *dtypes)


def _closed(jaxpr: Any) -> Any:
    return jaxpr if hasattr(jaxpr, "consts") else jex.ClosedJaxpr(jaxpr, ())


def _intrinsic(name: str) -> Callable[..., ir.Value]:
    def call(builder: ir.IRBuilder, *operands: ir.Value) -> ir.Value:
        vector = operands[0].type
        bits = 32 if vector.element == ir.FloatType() else 64
        full = f"llvm.{name}.v{vector.count}f{bits}"
        function = builder.module.globals.get(full)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(vector, [vector] * len(operands)), full)
        return builder.call(function, operands)

    return call


def _extreme(operator: str) -> Callable[..., ir.Value]:
    """JAX's max and min: a NaN on either side is the answer."""

    def emit(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
        first = b.or_(b.fcmp_ordered(operator, x, y), b.fcmp_unordered("uno", x, x))
        return b.select(first, x, y)

    return emit


def _remainder(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """x − trunc(x / y) y in one rounding, with the sign of x as in C."""
    whole = _intrinsic("trunc")(b, b.fdiv(x, y))
    return fused_multiply_add(b, b.fneg(whole), y, x)


fused_multiply_add = _intrinsic("fma")

_FLOAT_OPERATIONS: dict[str, Callable[..., ir.Value]] = {
    "add": lambda b, x, y: b.fadd(x, y),
    "add_any": lambda b, x, y: b.fadd(x, y),
    "sub": lambda b, x, y: b.fsub(x, y),
    "mul": lambda b, x, y: b.fmul(x, y),
    "div": lambda b, x, y: b.fdiv(x, y),
    "neg": lambda b, x: b.fneg(x),
    "square": lambda b, x: b.fmul(x, x),
    "max": _extreme(">"),
    "min": _extreme("<"),
    "abs": _intrinsic("fabs"),
    "sqrt": _intrinsic("sqrt"),
    "floor": _intrinsic("floor"),
    "ceil": _intrinsic("ceil"),
    "rem": _remainder,
}
_INTEGER_OPERATIONS: dict[str, Callable[..., ir.Value]] = {
    "add": lambda b, x, y: b.add(x, y),
    "sub": lambda b, x, y: b.sub(x, y),
    "mul": lambda b, x, y: b.mul(x, y),
    "and": lambda b, x, y: b.and_(x, y),
    "or": lambda b, x, y: b.or_(x, y),
    "xor": lambda b, x, y: b.xor(x, y),
    "not": lambda b, x: b.not_(x),
    "shift_left": lambda b, x, y: b.shl(x, y),
    "shift_right_logical": lambda b, x, y: b.lshr(x, y),
    "shift_right_arithmetic": lambda b, x, y: b.ashr(x, y),
}
_SPECIAL: dict[str, Callable[..., ir.Value]] = {
    "convert_element_type": lambda to, x, dtype, params: to._converted(x[0], dtype, np.dtype(params["new_dtype"])),
    "bitcast_convert_type": lambda to, x, _, params: to.builder.bitcast(x[0], to.vector(params["new_dtype"])),
    "integer_pow": lambda to, x, dtype, params: to._integer_power(x[0], int(params["y"]), dtype),
    "select_n": lambda to, x, _dtype, _params: to.builder.select(x[0], x[2], x[1]),
}
# A complex number is a pair of vectors.
_MOVES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("copy", "copy_p", "stop_gradient", "broadcast_in_dim", "reshape", "squeeze"), lambda x: x),
    "complex": lambda x, y: (x, y),
    "real": lambda z: z[0],
    "imag": lambda z: z[1],
}
_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
