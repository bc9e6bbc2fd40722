"""Reference definition of convolutions in one and two dimensions. Each result is one exact matrix
product.

The windows of the input are the rows of a matrix, ordered by place and then by channel. The
gradient of the input is a product of two factors: windows of the output gradient, spread by the
stride, and the mirrored kernel. Contributions of overlapping windows are therefore added as
integers inside the product, and never as floats.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from workloads.numerics.reference.operators import products
from workloads.numerics.reference.primitives.grid import exact_sum
from workloads.numerics.registry import Source, define

aten = torch.ops.aten
Tensor = torch.Tensor
Multiply = Callable[[Tensor, Tensor, Tensor | None, int], Tensor]
"""(M, K), (K, N), bias or None, bits -> (M, N) float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Placement of windows on images. Each list has one number for each of the two dimensions, in
    pixels."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int


Gather = Callable[[Tensor, list[int], list[int], Shape], list[Tensor]]
"""(padded images (N, C, H, W), kernel size [KH, KW], windows [down, across], shape) -> for each
group, the windows as a matrix (N * down * across, KH * KW * C / groups)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """The operations that a convolution is made of. Kernels replace them with faster ones of the
    same bits."""

    multiply: Multiply
    gather: Gather
    total: Callable[[Tensor], Tensor]
    """(N, C, H, W) -> exact sums of the channels, float64."""


def multiply_plainly(a: Tensor, b: Tensor, bias: Tensor | None, bits: int) -> Tensor:
    """The reference definition of `Means.multiply`. Raises `NotFinite`."""
    return products.mm(a, b, bits=bits) if bias is None else products.addmm(bias, a, b, bits=bits)


def places(x: Tensor, kernel: Sequence[int], stride: list[int], dilation: list[int]) -> list[int]:
    """Number of windows down and across x (N, C, H, W). Raises `ValueError` if no window fits."""
    counts = [
        (size - step * (k - 1) - 1) // jump + 1
        for size, k, jump, step in zip(x.shape[2:], kernel, stride, dilation, strict=True)
    ]
    if min(counts) < 1:
        raise ValueError(f"a window of {tuple(kernel)} does not fit on {tuple(x.shape[2:])}")
    return counts


def windows(x: Tensor, kernel: Sequence[int], stride: list[int], dilation: list[int]) -> Tensor:
    """x (N, C, H, W) as a view (N, C, OH, OW, KH, KW). Raises `ValueError` if no window fits."""
    counts = places(x, kernel, stride, dilation)
    inner = [x.stride(2 + i) * stride[i] for i in range(2)]
    outer = [x.stride(2 + i) * dilation[i] for i in range(2)]
    return x.as_strided(
        (*x.shape[:2], *counts, *kernel), (x.stride(0), x.stride(1), *inner, *outer)
    )


def gather_plainly(x: Tensor, kernel: list[int], counts: list[int], shape: Shape) -> list[Tensor]:
    """The reference definition of `Means.gather`."""
    view = windows(x, kernel, shape.stride, shape.dilation)[:, :, : counts[0], : counts[1]]
    return [
        own.permute(0, 2, 3, 4, 5, 1).reshape(x.shape[0] * counts[0] * counts[1], -1)
        for own in view.chunk(shape.groups, 1)
    ]


def total_plainly(x: Tensor) -> Tensor:
    """The reference definition of `Means.total`. Raises `NotFinite`."""
    return exact_sum(x, [0, 2, 3])


PLAIN = Means(multiply=multiply_plainly, gather=gather_plainly, total=total_plainly)


def padded(x: Tensor, top: Sequence[int], bottom: Sequence[int]) -> Tensor:
    """x with zeros around the last two dimensions. Negative padding removes rows and columns."""
    return functional.pad(x, (top[1], bottom[1], top[0], bottom[0]))


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, shape: Shape, means: Means, bits: int
) -> Tensor:
    """Convolution of x (N, C, H, W) with weight (O, C / groups, KH, KW): (N, O, OH, OW). Raises
    `ValueError` if no window fits, and `NotFinite`."""
    image, kernel = padded(x, shape.padding, shape.padding), list(weight.shape[2:])
    counts = places(image, kernel, shape.stride, shape.dilation)
    each = weight.shape[0] // shape.groups
    parts = []
    for group, rows in enumerate(means.gather(image, kernel, counts, shape)):
        own = slice(group * each, (group + 1) * each)
        columns = weight[own].permute(0, 2, 3, 1).reshape(each, -1).t()
        parts.append(means.multiply(rows, columns, None if bias is None else bias[own], bits))
    flat = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
    return flat.reshape(x.shape[0], *counts, -1).permute(0, 3, 1, 2).contiguous()


def input_gradient(
    gradient: Tensor,
    weight: Tensor,
    size: Sequence[int],
    shape: Shape,
    means: Means,
    bits: int,
    bias: Tensor | None = None,
) -> Tensor:
    """Gradient (N, C, *size) of the input, from the gradient (N, O, OH, OW) of the output. Raises
    `NotFinite`."""
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
    return forward(padded(thin, before, after), swapped, bias, still, means, bits)


def weight_gradient(
    gradient: Tensor, x: Tensor, kernel: list[int], shape: Shape, means: Means, bits: int
) -> Tensor:
    """Gradient (O, C / groups, KH, KW) of the weight. Raises `NotFinite`."""
    image = padded(x, shape.padding, shape.padding)
    each = gradient.shape[1] // shape.groups
    parts = []
    for group, rows in enumerate(means.gather(image, kernel, list(gradient.shape[2:]), shape)):
        own = gradient[:, group * each : (group + 1) * each]
        columns = own.permute(1, 0, 2, 3).reshape(each, -1)
        parts.append(means.multiply(columns, rows, None, bits))
    flat = torch.cat(parts).reshape(gradient.shape[1], *kernel, -1)
    return flat.permute(0, 3, 1, 2).contiguous()


def _flat(x: Tensor) -> Tensor:
    """x (N, C, W) as images of one row, (N, C, 1, W). Images stay as they are."""
    return x.unsqueeze(2) if x.dim() == 3 else x


def _shape(x: Tensor, stride: Any, padding: Any, dilation: Any, groups: int) -> Shape:
    """The placement of windows in two dimensions. Raises `ValueError` unless x has one or two image
    dimensions."""
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
    means: Means = PLAIN,
) -> Tensor:
    """Convolution or transposed convolution of x, (N, C, W) or (N, C, H, W): float32 with O
    channels.

    Raises `ValueError` for other dimensions or if no window fits, and `NotFinite`. `bits`:
    magnitude bits of the factors of each product.
    """
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
        out = input_gradient(image, kernel, size, shape, means, bits, bias)
    else:
        out = forward(image, kernel, bias, shape, means, bits)
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
    means: Means = PLAIN,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, weight and bias. None for a gradient that `output_mask` does not ask for.
    Raises `NotFinite`."""
    shape = _shape(x, stride, padding, dilation, groups)
    g, image, kernel = _flat(gradient), _flat(x), _flat(weight)
    gx = gw = gb = None
    if output_mask[0]:
        if transposed:
            gx = forward(g, kernel, None, shape, means, bits)
            gx = gx[:, :, : image.shape[2], : image.shape[3]]
        else:
            gx = input_gradient(g, kernel, image.shape[2:], shape, means, bits)
        gx = gx.reshape(x.shape)
    if output_mask[1]:
        pair = (image, g) if transposed else (g, image)
        gw = weight_gradient(*pair, list(kernel.shape[2:]), shape, means, bits).reshape(
            weight.shape
        )
    if output_mask[2]:
        gb = means.total(g).reshape(-1).to(x.dtype)
    return gx, gw, gb
