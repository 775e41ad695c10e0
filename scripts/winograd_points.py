"""Measures the rounding error of Winograd's algorithm in float32 for several pairs of interpolation points.

    python scripts/winograd_points.py            needs numpy

Prints errors relative to float64 for random maps and kernels, in units of the float32 epsilon: of the algorithm
(relative L2, and the largest error over the rms) and of the direct convolution. First F(4x4, 3x3) over 32 channels,
then F(4, 4) along a row over 224 values, which is a 7x7 convolution of 16 channels. The points in
impls/cpu/src/kernels/winograd.rs and rows.rs were chosen with this script.
"""

import sys

if "--help" in sys.argv or "-h" in sys.argv:
    sys.exit(print(__doc__))

import numpy as np  # noqa: E402 (the help needs none)

CHANNELS, TILES, OUTPUTS = 32, 200, 8
EPSILON = np.finfo(np.float32).eps
ROW_VALUES, ROW_TILES = 224, 2000
PAIRS = [(1, 2), (0.5, 1), (0.5, 1.5), (0.5, 2), (0.625, 1.25), (0.625, 1.5), (0.75, 1.5), (2**-0.5, 2**0.5)]
ROW_PAIRS = [
    (0.5, 1, 2),
    (0.25, 0.75, 1.25),
    (0.25, 0.75, 1.5),
    (0.25, 0.875, 1.5),
    (0.375, 0.875, 1.5),
    (0.3125, 0.875, 1.625),
    (0.25, 0.875, 1.75),
]


def transforms(points, taps=3):
    """The matrices B^T, G and A^T for kernels of `taps` taps, with the given finite points and infinity."""
    n = len(points) + 1
    rows, weights = [], []
    for p in points:
        polynomial, norm = np.poly1d([1.0]), 1.0
        for q in points:
            if q != p:
                polynomial, norm = polynomial * np.poly1d([1, -q]), norm * (p - q)
        coefficients = list(polynomial.c[::-1])
        rows.append(coefficients + [0.0] * (n - len(coefficients)))
        weights.append([p**power / norm for power in range(taps)])
    polynomial = np.poly1d([1.0])
    for q in points:
        polynomial = polynomial * np.poly1d([1, -q])
    rows.append(list(polynomial.c[::-1]))
    weights.append([0.0] * (taps - 1) + [1.0])
    last = n - taps
    outputs = np.array([[p**power for p in points] + [float(power == last)] for power in range(last + 1)])
    return np.array(rows), np.array(weights), outputs


def rounded(matrix, x):
    """matrix @ x along the second-to-last axis, as a sequence of multiply-adds that are each rounded to float32."""
    out = np.zeros((*x.shape[:-2], len(matrix), x.shape[-1]), np.float32)
    for row, coefficients in enumerate(matrix.astype(np.float32)):
        for column, c in enumerate(coefficients):
            if c:
                out[..., row, :] = out[..., row, :].astype(float) + x[..., column, :].astype(float) * float(c)
    return out


def both_axes(matrix, x):
    """Applies `rounded` along the last two axes."""
    transposed = lambda y: np.swapaxes(y, -1, -2)
    return transposed(rounded(matrix, transposed(rounded(matrix, x))))


def errors(points, rng):
    rows, weights, outputs = transforms(points)
    n, m = len(points) + 1, len(points) - 1
    maps = rng.standard_normal((TILES, CHANNELS, n, n)).astype(np.float32)
    kernels = rng.standard_normal((OUTPUTS, CHANNELS, 3, 3)).astype(np.float32)
    u = np.einsum("ia,okab,jb->okij", weights, kernels.astype(float), weights).astype(np.float32)
    v = both_axes(rows, maps)
    products = np.zeros((TILES, OUTPUTS, n, n), np.float32)
    for k in range(CHANNELS):
        products = (products + v[:, None, k].astype(float) * u[None, :, k]).astype(np.float32)
    got = both_axes(outputs, products)
    want = np.zeros((TILES, OUTPUTS, m, m))
    direct = np.zeros((TILES, OUTPUTS, m, m), np.float32)
    for y in range(3):
        for x in range(3):
            window = maps[:, :, y : y + m, x : x + m].astype(float)
            want += np.einsum("tkyx,ok->toyx", window, kernels[:, :, y, x].astype(float))
            for k in range(CHANNELS):
                direct = (direct + window[:, None, k] * kernels[None, :, k, y, x, None, None]).astype(np.float32)
    relative = lambda y: np.linalg.norm(y - want) / np.linalg.norm(want) / EPSILON
    largest = np.abs(got - want).max() / np.sqrt((want**2).mean()) / EPSILON
    return relative(got), largest, relative(direct)


def row_errors(points, rng):
    rows, weights, outputs = transforms(points, taps=4)
    maps = rng.standard_normal((ROW_TILES, len(rows), ROW_VALUES)).astype(np.float32)
    kernels = rng.standard_normal((OUTPUTS, 4, ROW_VALUES)).astype(np.float32)
    u = np.einsum("ia,oak->oik", weights, kernels.astype(float)).astype(np.float32)
    v = rounded(rows, maps)
    products = np.zeros((ROW_TILES, OUTPUTS, len(rows)), np.float32)
    for k in range(ROW_VALUES):
        products = (products + v[:, None, :, k].astype(float) * u[None, :, :, k]).astype(np.float32)
    got = rounded(outputs, products[..., None])[..., 0]
    want, direct = np.zeros(got.shape), np.zeros(got.shape, np.float32)
    for tap in range(4):
        window = maps[:, tap : tap + len(outputs)].astype(float)
        want += np.einsum("txk,ok->tox", window, kernels[:, tap].astype(float))
        for k in range(ROW_VALUES):
            direct = (direct + window[:, None, :, k] * kernels[None, :, tap, k, None]).astype(np.float32)
    relative = lambda y: np.linalg.norm(y - want) / np.linalg.norm(want) / EPSILON
    largest = np.abs(got - want).max() / np.sqrt((want**2).mean()) / EPSILON
    return relative(got), largest, relative(direct)


def main():
    rng = np.random.default_rng(0)
    print(f"{'points':>16} {'L2':>7} {'largest':>8} {'direct':>7}   (float32 epsilons)")
    for p, q in PAIRS:
        l2, largest, direct = errors([0, p, -p, q, -q], rng)
        print(f"{p:7.3f} {q:7.3f}  {l2:7.2f} {largest:8.1f} {direct:7.2f}")
    print(f"\n{'points':>25} {'L2':>7} {'largest':>8} {'direct':>7}")
    for pairs in ROW_PAIRS:
        l2, largest, direct = row_errors([sign * p for p in pairs for sign in (1, -1)], rng)
        print(f"{' '.join(f'{p:8.4f}' for p in pairs)} {l2:7.2f} {largest:8.1f} {direct:7.2f}")


if __name__ == "__main__":
    main()
