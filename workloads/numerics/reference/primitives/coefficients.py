"""Coefficients of the polynomials of operator set version 1, highest power first.

Each polynomial interpolates its function at the Chebyshev points of the interval, computed with 50
decimal digits and rounded to float64. The error after each formula is the largest relative error,
over the interval, of the function that the polynomial serves.
"""

LOG2_E = 1.4426950408889634
LN2 = 0.6931471805599453
LN2_HIGH = 0.6931471804855391
"""The first 33 bits of ln 2. Its products with integers below 2^20 are exact in float64."""
LN2_LOW = 7.440617110012397e-11
"""ln 2 - LN2_HIGH."""
SQRT_HALF_BITS = 0x3FE6A09E00000000
"""The bits of sqrt(1/2) in float64, with the low 32 bits cleared."""
TWO_OVER_PI = 0.6366197723675814
HALF_PI = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
"""pi / 2 as a sum of three float64. The first two have 33 bits each, the last has the rest."""
TAIL_SHIFT = 0.25
"""The constant of t = 1 / (1 + a * TAIL_SHIFT) in `TAIL`."""
EXP = (
    2.762511557828763e-06,
    2.4876178959085513e-05,
    0.00019841208732536384,
    0.001388882165071769,
    0.008333333353729397,
    0.0416666668910917,
    0.1666666666664829,
    0.49999999999797773,
    1.0,
)
"""(e^r - 1) / r for |r| <= ln(2) / 2. Error 2^-45."""
LOG = (
    0.14616585424888623,
    0.15331710618210773,
    0.18182889455674947,
    0.22222211130259878,
    0.2857142862600327,
    0.39999999999899444,
    0.666666666666667,
)
"""(ln((1 + s) / (1 - s)) / s - 2) / s^2 in powers of s^2, for |s| <= (sqrt 2 - 1) / (sqrt 2 + 1).
Error 2^-51."""
TAIL = (
    -0.011388984127530222,
    0.06238379914675644,
    -0.12741971125325813,
    0.11492788060424614,
    -0.06576203112908846,
    0.05355738108043999,
    0.034762876399420065,
    0.06511794376480035,
    0.08083234304650104,
    0.09351805530020235,
    0.09973486346819004,
    0.09973558343128353,
)
"""P(Z <= -a) / (t exp(-a^2 / 2)) in powers of t = 1 / (1 + a / 4), for 0 <= a <= 53. Error
2^-30."""
SIN = (
    1.591810123167728e-10,
    -2.5051131455447428e-08,
    2.755731610068312e-06,
    -0.0001984126983675497,
    0.008333333333330946,
    -0.16666666666666666,
)
"""(sin(r) / r - 1) / r^2 in powers of r^2, for |r| <= pi / 4. Error 2^-55."""
COS = (
    2.0700565399124145e-09,
    -2.7556369316769433e-07,
    2.4801585209738462e-05,
    -0.0013888888887276056,
    0.04166666666666468,
)
"""(cos(r) - 1 + r^2 / 2) / r^4 in powers of r^2, for |r| <= pi / 4. Error 2^-48."""
