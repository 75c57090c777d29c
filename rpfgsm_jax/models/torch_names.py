"""The names that a checkpoint's pickle may hold beside what it calls for its weights.

They are torch's own list for loading with `weights_only`, and what NumPy and Python add to a record
of a training. `tests/models/test_torch_names.py` compares them with torch's, and says where they
differ.
"""

import itertools

ELEMENTS = {
  "float64": "<f8",
  "float32": "<f4",
  "float16": "<f2",
  "bfloat16": "<u2",
  "complex128": "<c16",
  "complex64": "<c8",
  "int64": "<i8",
  "int32": "<i4",
  "int16": "<i2",
  "int8": "<i1",
  "uint64": "<u8",
  "uint32": "<u4",
  "uint16": "<u2",
  "uint8": "<u1",
  "bool": "<u1",
  "qint32": "<i4",
  "qint8": "<i1",
  "quint8": "<u1",
  "quint4x2": "<u1",
  "quint2x4": "<u1",
}
"""Torch's element types -> NumPy's; bfloat16, unknown to NumPy, by its bits."""

_KINDS = {
  "Double": "float64",
  "Float": "float32",
  "Half": "float16",
  "BFloat16": "bfloat16",
  "Long": "int64",
  "Int": "int32",
  "Short": "int16",
  "Char": "int8",
  "Byte": "uint8",
  "Bool": "bool",
}
_FURTHER_KINDS = {
  "ComplexDouble": "complex128",
  "ComplexFloat": "complex64",
  "QInt32": "qint32",
  "QInt8": "qint8",
  "QUInt8": "quint8",
  "QUInt4x2": "quint4x2",
  "QUInt2x4": "quint2x4",
}
STORAGE_TYPES = {
  **{
    f"torch.{place}{name}Storage": kind
    for place in ("", "cuda.")
    for name, kind in (_KINDS | _FURTHER_KINDS).items()
  },
  "torch.storage.UntypedStorage": "uint8",
}
"""Torch's types of storage -> their element types; the place that they lay in says nothing."""

_OTHER_TYPES = (
  *("bits8", "bits16", "bits1x8", "bits2x4", "bits4x2", "complex32", "float4_e2m1fn_x2"),
  *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
  *("per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric"),
  "per_channel_affine_float_qparams",
)
_PYTHON_TYPES = ("bool", "bytes", "dict", "float", "int", "list", "str", "tuple")
TYPES = {
  *STORAGE_TYPES,
  *(f"torch.{kind}" for kind in (*ELEMENTS, *_OTHER_TYPES)),
  *(f"torch.{sign}int{bits}" for sign, bits in itertools.product(("", "u"), range(1, 8))),
  *(f"builtins.{kind}" for kind in _PYTHON_TYPES),  # what a defaultdict makes
  "numpy.ndarray",
}
"""What stands for itself alone."""

_OTHER_TENSORS = (
  *("qtensor", "sparse_tensor", "nested_tensor", "meta_tensor_no_storage", "wrapper_subclass"),
  "device_tensor_from_numpy",
)
DESCRIBED = {
  *("builtins.bytearray", "builtins.complex", "builtins.set"),
  *("numpy.dtype", "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"),
  *("torch.Tensor", "torch.device", "torch.serialization._get_layout"),
  *("torch.storage.TypedStorage", "torch.storage.UntypedStorage"),
  *(f"torch._utils._rebuild_{kind}" for kind in _OTHER_TENSORS),
  *(
    f"torch.{place}{kind}Tensor"
    for place in ("", "cuda.", "sparse.", "cuda.sparse.")
    for kind in _KINDS
  ),
}
"""What a pickle may call without any effect: it is written down, not made."""
