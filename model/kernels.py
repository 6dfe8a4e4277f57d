"""Keeps the GPU's own convolutions, in Triton: what lies between two layers with weights never leaves the chip.

Pictures are [N, height, width, channels]; weights are a matrix whose rows are a window's numbers in the same order.
Each sum is made in the same order wherever a picture lies in its batch. Imported only where there is a GPU.
"""

from __future__ import annotations

import triton
import triton.language as tl

EACH = 0  # one sum for each place
ROWS = 1  # then the largest of 2 x 2 places, which are four rows of the product
COLUMNS = 2  # the same, but the four are columns: one window of 4 x 4 for all, with weights of zero where one has none


@triton.jit(do_not_specialize=["total"])  # type: ignore[untyped-decorator]
def first(
    pixels: tl.tensor,
    scale: tl.tensor,
    shift: tl.tensor,
    weights: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,
    total: tl.tensor,
    height: tl.constexpr,
    width: tl.constexpr,
    channels: tl.constexpr,
    rows: tl.constexpr,
) -> None:
    """The first layer, from bytes: (pixel * scale + shift), a 3x3 convolution over zeros at the rim, ReLU."""
    place = tl.program_id(0) * rows + tl.arange(0, rows)
    part = tl.arange(0, 32)  # of the 27 numbers of a window, and five that count nothing
    y = (place % (height * width)) // width
    x = place % width
    y = y[:, None] + (part // 9 - 1)[None, :]
    x = x[:, None] + (part // 3 % 3 - 1)[None, :]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width) & (part < 27)[None, :] & (place < total)[:, None]
    picture = place // (height * width) * (height * width)
    seen = tl.load(pixels + (picture[:, None] + y * width + x) * 3 + (part % 3)[None, :], mask=inside, other=0)
    seen = seen.to(tl.float32) * tl.load(scale + part)[None, :] + tl.load(shift + part)[None, :]
    column = tl.arange(0, channels)
    matrix = tl.load(weights + part[:, None] * channels + column[None, :])
    sums = tl.dot(tl.where(inside, seen, 0.0).to(matrix.dtype), matrix) + tl.load(bias + column)[None, :]
    there = (place < total)[:, None]
    tl.store(
        out + place[:, None] * channels + column[None, :],
        tl.maximum(sums, 0.0, tl.PropagateNan.ALL).to(matrix.dtype),
        mask=there,
    )


@triton.jit(do_not_specialize=["total"])  # type: ignore[untyped-decorator]
def convolve(
    pictures: tl.tensor,
    weights: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,
    total: tl.tensor,
    height: tl.constexpr,
    width: tl.constexpr,
    out_height: tl.constexpr,
    out_width: tl.constexpr,
    rim: tl.constexpr,
    pool: tl.constexpr,
    inside: tl.constexpr,
    outside: tl.constexpr,
    rows: tl.constexpr,
    step: tl.constexpr,
) -> None:
    """A 3x3 convolution over a rim of zeros and ReLU, with or without the largest of 2 x 2 after it."""
    side: tl.constexpr = 4 if pool == 2 else 3
    columns: tl.constexpr = 4 * outside if pool == 2 else outside
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    place = row // 4 if pool == 1 else row
    y = place % (out_height * out_width) // out_width
    x = place % out_width
    if pool != 0:
        y = y * 2
        x = x * 2
    if pool == 1:
        y = y + row % 4 // 2
        x = x + row % 2
    y = y - rim
    x = x - rim
    start = (place // (out_height * out_width) * height + y) * width + x
    channel = tl.arange(0, step)
    column = tl.arange(0, columns)
    sums = tl.zeros((rows, columns), tl.float32)
    for i in range(side * side * inside // step):
        part = i // (inside // step)
        down = part // side
        right = part % side
        there = (y + down >= 0) & (y + down < height) & (x + right >= 0) & (x + right < width) & (place < total)
        at = (start + down * width + right) * inside + i % (inside // step) * step
        seen = tl.load(pictures + at[:, None] + channel[None, :], mask=there[:, None], other=0.0)
        matrix = tl.load(weights + (i * step + channel)[:, None] * columns + column[None, :])
        sums = tl.dot(seen, matrix, sums)
    many: tl.constexpr = rows // 4 if pool == 1 else rows
    if pool != 0:
        sums = tl.max(tl.reshape(sums, (many, 4, outside)), axis=1)
    place = tl.program_id(0) * many + tl.arange(0, many)
    column = tl.arange(0, outside)
    sums = tl.maximum(sums + tl.load(bias + column)[None, :], 0.0, tl.PropagateNan.ALL)
    to = out + place[:, None] * outside + column[None, :]
    tl.store(to, sums.to(out.dtype.element_ty), mask=(place < total)[:, None])
