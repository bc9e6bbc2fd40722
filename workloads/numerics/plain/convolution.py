"""Convolutions of one and two dimensions, each result one exact matrix product.

Windows become rows of a matrix. The gradient of the input is the product of windows of the spread
output gradient with the mirrored kernel, so that contributions of overlapping windows are added
inside the product, as integers, and never as floats.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from workloads.numerics.plain import products
from workloads.numerics.plain.grid import exact_sum
from workloads.numerics.registry import Source, define

aten = torch.ops.aten
Tensor = torch.Tensor
Multiply = Callable[[Tensor, Tensor, Tensor | None, int], Tensor]
"""(M, K), (K, N), bias or None, bits -> (M, N) float32."""


def multiply_plainly(a: Tensor, b: Tensor, bias: Tensor | None, bits: int) -> Tensor:
    return products.mm(a, b, bits=bits) if bias is None else products.addmm(bias, a, b, bits=bits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How windows lie on images; one number for each of two dimensions."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int


def windows(x: Tensor, kernel: Sequence[int], stride: list[int], dilation: list[int]) -> Tensor:
    """View of x (N, C, H, W) as (N, C, OH, OW, KH, KW)."""
    counts = [
        (size - step * (k - 1) - 1) // jump + 1
        for size, k, jump, step in zip(x.shape[2:], kernel, stride, dilation, strict=True)
    ]
    if min(counts) < 1:
        raise ValueError(f"a window of {tuple(kernel)} does not fit on {tuple(x.shape[2:])}")
    inner = [x.stride(2 + i) * stride[i] for i in range(2)]
    outer = [x.stride(2 + i) * dilation[i] for i in range(2)]
    return x.as_strided(
        (*x.shape[:2], *counts, *kernel), (x.stride(0), x.stride(1), *inner, *outer)
    )


def padded(x: Tensor, top: Sequence[int], bottom: Sequence[int]) -> Tensor:
    """Zeros around the last two dimensions; negative numbers cut."""
    return functional.pad(x, (top[1], bottom[1], top[0], bottom[0]))


def rows_of(view: Tensor, groups: int) -> list[Tensor]:
    """Windows (N, C, OH, OW, KH, KW) as a matrix (N OH OW, C / groups KH KW) for each group."""
    count = view.shape[1] // groups
    matrices = []
    for group in range(groups):
        own = view[:, group * count : (group + 1) * count].permute(0, 2, 3, 1, 4, 5)
        matrices.append(own.reshape(own.shape[:3].numel(), -1))
    return matrices


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, shape: Shape, multiply: Multiply, bits: int
) -> Tensor:
    """(N, O, OH, OW) of x (N, C, H, W) and weight (O, C / groups, KH, KW)."""
    view = windows(
        padded(x, shape.padding, shape.padding), weight.shape[2:], shape.stride, shape.dilation
    )
    each = weight.shape[0] // shape.groups
    parts = []
    for group, rows in enumerate(rows_of(view, shape.groups)):
        own = slice(group * each, (group + 1) * each)
        columns = weight[own].reshape(each, -1).t()
        parts.append(multiply(rows, columns, None if bias is None else bias[own], bits))
    flat = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
    n, _, height, width = view.shape[:4]
    return flat.reshape(n, height, width, -1).permute(0, 3, 1, 2).contiguous()


def input_gradient(
    gradient: Tensor,
    weight: Tensor,
    size: Sequence[int],
    shape: Shape,
    multiply: Multiply,
    bits: int,
    bias: Tensor | None = None,
) -> Tensor:
    """Gradient (N, C, *size) of the input from that of the output (N, O, OH, OW)."""
    spread = [
        (count - 1) * jump + 1 for count, jump in zip(gradient.shape[2:], shape.stride, strict=True)
    ]
    thin = gradient.new_zeros((*gradient.shape[:2], *spread))
    thin[:, :, :: shape.stride[0], :: shape.stride[1]] = gradient
    reach = [shape.dilation[i] * (weight.shape[2 + i] - 1) for i in range(2)]
    before = [reach[i] - shape.padding[i] for i in range(2)]
    after = [size[i] + reach[i] - spread[i] - before[i] for i in range(2)]
    mirrored = weight.flip([2, 3]).reshape(shape.groups, -1, *weight.shape[1:]).transpose(1, 2)
    swapped = mirrored.reshape(-1, weight.shape[0] // shape.groups, *weight.shape[2:])
    still = Shape(stride=[1, 1], padding=[0, 0], dilation=shape.dilation, groups=shape.groups)
    return forward(padded(thin, before, after), swapped, bias, still, multiply, bits)


def weight_gradient(
    gradient: Tensor, x: Tensor, kernel: Sequence[int], shape: Shape, multiply: Multiply, bits: int
) -> Tensor:
    """Gradient (O, C / groups, KH, KW) of the weight."""
    view = windows(padded(x, shape.padding, shape.padding), kernel, shape.stride, shape.dilation)
    view = view[:, :, : gradient.shape[2], : gradient.shape[3]]
    each = gradient.shape[1] // shape.groups
    parts = []
    for group, rows in enumerate(rows_of(view, shape.groups)):
        own = gradient[:, group * each : (group + 1) * each]
        columns = own.permute(1, 0, 2, 3).reshape(each, -1)
        parts.append(multiply(columns, rows, None, bits))
    return torch.cat(parts).reshape(gradient.shape[1], -1, *kernel)


def _flat(x: Tensor) -> Tensor:
    """(N, C, W) as images of one row."""
    return x.unsqueeze(2) if x.dim() == 3 else x


def _shape(x: Tensor, stride: Any, padding: Any, dilation: Any, groups: int) -> Shape:
    """In two dimensions, whatever it was. Raises `ValueError` for other dimensions."""
    if x.dim() not in (3, 4):
        raise ValueError(f"a canonical convolution has one or two dimensions, not {x.dim() - 2}")
    lead: list[list[int]] = [[1], [0], [1]] if x.dim() == 3 else [[], [], []]
    parts = (stride, padding, dilation)
    a, b, c = (
        head + [int(one) for one in (list(part) * (x.dim() - 2))[: x.dim() - 2]]
        for head, part in zip(lead, parts, strict=True)
    )
    return Shape(stride=a, padding=b, dilation=c, groups=groups)


def _images(s: Source) -> tuple[Any, ...]:
    groups, transposed = s.choose(1, 1, 2, 3), s.choose(False, False, True)
    into, out = groups * s.whole(1, 2), groups * s.whole(1, 2)
    plane = s.choose(1, 2)
    kernel = [s.whole(1, 3) for _ in range(plane)]
    stride, dilation = [s.whole(1, 2)] * plane, [s.whole(1, 2)] * plane
    padding = [s.whole(0, 2)] * plane
    x = s.tensor((s.whole(1, 2), into, *[s.whole(6, 9) for _ in kernel]), spread=2.0)
    first, second = (into, out) if transposed else (out, into)
    weight = s.tensor((first, second // groups, *kernel), spread=1.0)
    bias = s.choose(None, s.tensor((out,), spread=1.0))
    extra = [0] * plane
    return x, weight, bias, stride, padding, dilation, transposed, extra, groups


def _image_gradients(s: Source) -> tuple[Any, ...]:
    x, weight, bias, *rest = _images(s)
    out = convolution(x, weight, bias, *rest, bits=20)
    mask = [s.choose(True, True, False) for _ in range(3)]
    return s.tensor(tuple(out.shape), spread=1.0), x, weight, [out.shape[1]], *rest, mask


@define(aten.convolution.default, example=_images, takes_bits=True)
def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    *,
    bits: int,
    multiply: Multiply = multiply_plainly,
) -> Tensor:
    shape = _shape(x, stride, padding, dilation, groups)
    image, kernel = _flat(x), _flat(weight)
    if transposed:
        extra = [0, *output_padding][-2:]
        size = [
            (image.shape[2 + i] - 1) * shape.stride[i]
            - 2 * shape.padding[i]
            + shape.dilation[i] * (kernel.shape[2 + i] - 1)
            + extra[i]
            + 1
            for i in range(2)
        ]
        out = input_gradient(image, kernel, size, shape, multiply, bits, bias)
    else:
        out = forward(image, kernel, bias, shape, multiply, bits)
    return out.squeeze(2) if x.dim() == 3 else out


@define(aten.convolution_backward.default, example=_image_gradients, takes_bits=True)
def convolution_backward(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
    *,
    bits: int,
    multiply: Multiply = multiply_plainly,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    shape = _shape(x, stride, padding, dilation, groups)
    g, image, kernel = _flat(gradient), _flat(x), _flat(weight)
    gx = gw = gb = None
    if output_mask[0]:
        if transposed:
            gx = forward(g, kernel, None, shape, multiply, bits)
            gx = gx[:, :, : image.shape[2], : image.shape[3]]
        else:
            gx = input_gradient(g, kernel, image.shape[2:], shape, multiply, bits)
        gx = gx.reshape(x.shape)
    if output_mask[1]:
        pair = (image, g) if transposed else (g, image)
        gw = weight_gradient(*pair, kernel.shape[2:], shape, multiply, bits).reshape(weight.shape)
    if output_mask[2]:
        gb = exact_sum(g, [0, 2, 3]).reshape(-1).to(x.dtype)
    return gx, gw, gb
