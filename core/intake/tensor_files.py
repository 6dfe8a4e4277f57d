"""Check that bytes are a safetensors file, without torch and without trusting its header."""

import math
from typing import Any

from core import errors, json_values

MAX_HEADER_BYTES = 10_000_000
MAX_DIMENSIONS = 16
DTYPE_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32}
DTYPE_BITS |= {"I64": 64, "U64": 64, "F64": 64}
UNSUPPORTED_SIGNATURES = {
    b"PK": "a zip archive, as torch.save writes them",
    b"\x80": "a pickle",
    b"\x1f\x8b": "compressed",
}


class _Incomplete(ValueError):
    """The file is not what its header says; the message says where."""


def validate(file_name: str, data: bytes) -> None:
    """Check that bytes are a complete safetensors file: a JSON header, then exactly the tensors it names.

    Raises:
        errors.BundleRejected: they are not.
    """
    for signature, file_type in UNSUPPORTED_SIGNATURES.items():
        if data.startswith(signature) and data[8:9] != b"{":  # the length of a header may start with the same bytes
            raise errors.BundleRejected(
                f"{file_name} is {file_type}; only safetensors are accepted, because they cannot run code."
            )
    try:
        _check_tensors(data)
    except _Incomplete as error:
        raise errors.BundleRejected(
            f"{file_name} is not a complete safetensors file: {error}. Save the bundle again."
        ) from None


def _check_tensors(data: bytes) -> None:
    header, body_bytes = _parse_header(data)
    ranges = sorted(_tensor_range(name, tensor) for name, tensor in header.items() if name != "__metadata__")
    end = 0
    for start, stop, name in ranges:
        if start != end:
            raise _Incomplete(f"tensor {name!r} does not begin where the one before it ends")
        end = stop
    if end != body_bytes:
        raise _Incomplete(f"its header describes {end:,} bytes of tensors, but there are {body_bytes:,}")


def _parse_header(data: bytes) -> tuple[dict[str, Any], int]:
    """Return the header of a safetensors file, and the number of bytes after it."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, MAX_HEADER_BYTES):
        raise _Incomplete("its header is cut off or too long")
    try:
        header = json_values.parse_json(data[8 : 8 + size].decode())
    except ValueError as error:
        raise _Incomplete(f"its header is not JSON ({error})") from None
    if not isinstance(header, dict):
        raise _Incomplete("its header is not a JSON object")
    return header, len(data) - 8 - size


def _tensor_range(name: str, tensor: Any) -> tuple[int, int, str]:
    """Return the start and end of a tensor, if they match its type and shape."""
    try:
        start, stop = tensor["data_offsets"]
        numbers = [start, stop, *tensor["shape"]]
        is_valid = len(tensor["shape"]) <= MAX_DIMENSIONS
        is_valid = is_valid and stop - start == math.prod(tensor["shape"]) * DTYPE_BITS[tensor["dtype"]] // 8
    except (KeyError, TypeError, ValueError):
        is_valid, numbers, start, stop = False, [], 0, 0
    if not is_valid or not all(type(number) is int and number >= 0 for number in numbers):
        raise _Incomplete(f"tensor {name[:100]!r} has an invalid description")
    return start, stop, name
