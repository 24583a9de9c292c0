"""Matrix products inside compiled kernels: the BLAS that torch brings (MKL on x86), or else the one SciPy brings.

Both are called by address, so that a kernel can multiply without holding the interpreter's lock and without the
microseconds that a call through a tensor library costs.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@functools.cache
def addresses() -> tuple[int, int]:
    """Where sgemm is, and a function that limits its threads for the calling thread (0 if there is none)."""
    for library in sorted((Path(torch.__file__).parent / "lib").glob("*torch_cpu*")):
        try:
            loaded = ctypes.CDLL(str(library))
            return _address(loaded.sgemm_), _address(loaded.MKL_Set_Num_Threads_Local)
        except (OSError, AttributeError):
            continue
    from scipy.linalg import cython_blas

    capsule = cython_blas.__pyx_capi__["sgemm"]
    ctypes.pythonapi.PyCapsule_GetName.restype = ctypes.c_char_p
    ctypes.pythonapi.PyCapsule_GetName.argtypes = [ctypes.py_object]
    ctypes.pythonapi.PyCapsule_GetPointer.restype = ctypes.c_void_p
    ctypes.pythonapi.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    name = ctypes.pythonapi.PyCapsule_GetName(capsule)
    return int(ctypes.pythonapi.PyCapsule_GetPointer(capsule, name)), 0


def _address(function: object) -> int:
    value = ctypes.cast(function, ctypes.c_void_p).value  # type: ignore[arg-type]
    assert value is not None
    return value


@intrinsic
def limit_threads(typing_context, address, threads):  # type: ignore[no-untyped-def]
    """Call MKL_Set_Num_Threads_Local; returns what was set before."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        i32 = ir.IntType(32)
        function = builder.inttoptr(arguments[0], ir.FunctionType(i32, [i32]).as_pointer())
        result = builder.call(function, [builder.trunc(arguments[1], i32)])
        return builder.sext(result, ir.IntType(64))

    return types.int64(types.int64, types.int64), generate


@intrinsic
def multiply_add(typing_context, address, x, w, kept, y):  # type: ignore[no-untyped-def]
    """y = x w + kept y for C-contiguous float32 x `[M, K]`, w `[K, N]`, y `[M, N]`; where `kept` is 0, y is not read.

    Fortran's sgemm reads the same memory as the transposed problem, y' = w' x' + kept y'.
    """
    matrix = types.float32[:, ::1]

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        i8, i32, real = ir.IntType(8), ir.IntType(32), ir.FloatType()
        arrays = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip([matrix] * 3, [arguments[1], arguments[2], arguments[4]], strict=True)
        ]
        (rows, inner), (_, columns) = (cgutils.unpack_tuple(builder, array.shape) for array in arrays[:2])
        m, n, k = (cgutils.alloca_once_value(builder, builder.trunc(size, i32)) for size in (columns, rows, inner))
        one = cgutils.alloca_once_value(builder, ir.Constant(real, 1.0))
        beta = cgutils.alloca_once_value(builder, arguments[3])
        plain = cgutils.alloca_once_value(builder, ir.Constant(i8, ord("N")))
        x_data, w_data, y_data = (array.data for array in arrays)
        given = [plain, plain, m, n, k, one, w_data, m, x_data, k, beta, y_data, m]
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in given])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), given)
        return context.get_dummy_value()

    return types.void(types.int64, matrix, matrix, types.float32, matrix), generate
