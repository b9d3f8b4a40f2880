//! The exponential function, the logarithm and their kin as Java's `StrictMath` computes them, to the last bit.
//!
//! The algorithm is that of fdlibm; C libraries have since taken others, which differ in the last place.

const LN_2: f64 = std::f64::consts::LN_2;
/// The natural logarithm of 2 in two parts, the first without its last 32 bits.
const LN_2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN_2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
/// Beyond these the result is infinite, or zero.
const OVERFLOW: f64 = f64::from_bits(0x4086_2e42_fefa_39ef);
const UNDERFLOW: f64 = f64::from_bits(0xc087_4910_d52d_3051);
const TERMS: [f64; 5] = [
    f64::from_bits(0x3fc5_5555_5555_553e),
    f64::from_bits(0xbf66_c16c_16be_bd93),
    f64::from_bits(0x3f11_566a_af25_de2c),
    f64::from_bits(0xbebb_bd41_c5d2_6bf1),
    f64::from_bits(0x3e66_3769_72be_a4d0),
];

/// `e` to the power of `x`.
pub(super) fn exp(x: f64) -> f64 {
    if x.is_nan() || x > OVERFLOW {
        return if x.is_nan() { x } else { f64::INFINITY };
    }
    if x < UNDERFLOW {
        return 0.0;
    }
    let (mut high, mut low, mut power, mut rest) = (0.0, 0.0, 0_i32, x);
    if x.abs() > 0.5 * LN_2 {
        if x.abs() < 1.5 * LN_2 {
            power = if x < 0.0 { -1 } else { 1 };
            high = x - f64::from(power) * LN_2_HIGH;
            low = f64::from(power) * LN_2_LOW;
        } else {
            power = (x / LN_2 + if x < 0.0 { -0.5 } else { 0.5 }) as i32;
            high = x - f64::from(power) * LN_2_HIGH;
            low = f64::from(power) * LN_2_LOW;
        }
        rest = high - low;
    } else if x.abs() < 2.0_f64.powi(-28) {
        return 1.0 + x;
    }
    let square = rest * rest;
    let [p1, p2, p3, p4, p5] = TERMS;
    let correction = rest - square * (p1 + square * (p2 + square * (p3 + square * (p4 + square * p5))));
    if power == 0 {
        return 1.0 - ((rest * correction) / (correction - 2.0) - rest);
    }
    let value = 1.0 - ((low - (rest * correction) / (2.0 - correction)) - high);
    scaled(value, power)
}

/// `value` times two to the power of `power`, exact where the result is a normal number.
fn scaled(value: f64, power: i32) -> f64 {
    match power {
        -1021..=1023 => value * 2.0_f64.powi(power),
        1024.. => value * 2.0 * 2.0_f64.powi(power - 1),
        _ => value * 2.0_f64.powi(power + 1000) * 2.0_f64.powi(-1000),
    }
}

/// The hyperbolic cosine.
pub(super) fn cosh(x: f64) -> f64 {
    let size = x.abs();
    if size < 0.5 * LN_2 {
        let rest = size.exp_m1();
        let whole = 1.0 + rest;
        return if size < 2.0_f64.powi(-55) { whole } else { 1.0 + (rest * rest) / (whole + whole) };
    }
    if size < 22.0 {
        let whole = exp(size);
        return 0.5 * whole + 0.5 / whole;
    }
    if size <= OVERFLOW {
        return 0.5 * exp(size);
    }
    // The result may be finite a little beyond: in two steps.
    let half = exp(0.5 * size);
    0.5 * half * half
}

const LOG_TERMS: [f64; 7] = [
    f64::from_bits(0x3fe5_5555_5555_5593),
    f64::from_bits(0x3fd9_9999_9997_fa04),
    f64::from_bits(0x3fd2_4924_9422_9359),
    f64::from_bits(0x3fcc_71c5_1d8e_78af),
    f64::from_bits(0x3fc7_4664_96cb_03de),
    f64::from_bits(0x3fc3_9a09_d078_c69f),
    f64::from_bits(0x3fc2_f112_df3e_5244),
];

/// The natural logarithm.
pub(super) fn log(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 || x.is_infinite() {
        return if x == 0.0 { f64::NEG_INFINITY } else { x };
    }
    // Numbers below the normal ones are made normal first.
    let (x, mut power) = if x < f64::MIN_POSITIVE { (x * 2.0_f64.powi(54), -54) } else { (x, 0) };
    let bits = x.to_bits();
    let high = (bits >> 32) as i32;
    power += (high >> 20) - 1023;
    let high = high & 0x000f_ffff;
    let carry = (high + 0x9_5f64) & 0x10_0000;
    let mantissa = f64::from_bits((((high | (carry ^ 0x3ff0_0000)) as u64) << 32) | (bits & 0xffff_ffff));
    power += carry >> 20;
    let fraction = mantissa - 1.0;
    let (whole, rest) = (f64::from(power) * LN_2_HIGH, f64::from(power) * LN_2_LOW);
    if (0x000f_ffff & (2 + high)) < 3 {
        if fraction == 0.0 {
            return whole + rest;
        }
        let square = fraction * fraction * (0.5 - 0.333_333_333_333_333_3 * fraction);
        return if power == 0 { fraction - square } else { whole - ((square - rest) - fraction) };
    }
    let s = fraction / (2.0 + fraction);
    let z = s * s;
    let w = z * z;
    let [l1, l2, l3, l4, l5, l6, l7] = LOG_TERMS;
    let r = z * (l1 + w * (l3 + w * (l5 + w * l7))) + w * (l2 + w * (l4 + w * l6));
    if ((high - 0x6_147a) | (0x6_b851 - high)) > 0 {
        let half = 0.5 * fraction * fraction;
        return match power {
            0 => fraction - (half - s * (half + r)),
            _ => whole - ((half - (s * (half + r) + rest)) - fraction),
        };
    }
    match power {
        0 => fraction - s * (fraction - r),
        _ => whole - ((s * (fraction - r) - rest) - fraction),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `StrictMath` gives.
    #[test]
    fn values_are_javas() {
        for (x, expected) in [
            (0.0, 1.0),
            (1.0, 2.718_281_828_459_045_5),
            (-1.0, 0.367_879_441_171_442_33),
            (710.0, f64::INFINITY),
            (-800.0, 0.0),
            (f64::NEG_INFINITY, 0.0),
        ] {
            assert_eq!(exp(x), expected, "exp({x})");
        }
        assert!(exp(f64::NAN).is_nan());
        assert_eq!(cosh(0.0), 1.0);
        assert_eq!(cosh(-1.0), cosh(1.0));
        assert_eq!(cosh(1.0), 1.543_080_634_815_244);
        assert_eq!(cosh(f64::INFINITY), f64::INFINITY);
        for (x, expected) in [(1.0, 0.0), (0.0, f64::NEG_INFINITY), (2.0, LN_2), (3.0, 1.098_612_288_668_109_6)] {
            assert_eq!(log(x), expected, "log({x})");
        }
        assert!(log(-1.0).is_nan());
    }

    #[test]
    fn values_are_near_those_of_the_platform() {
        for i in -7000..7000 {
            let x = f64::from(i) / 10.0;
            let (ours, theirs) = (exp(x), x.exp());
            assert!((ours - theirs).abs() <= theirs * f64::EPSILON, "exp({x}): {ours} {theirs}");
            let (ours, theirs) = (log(theirs), theirs.ln());
            assert!((ours - theirs).abs() <= theirs.abs() * f64::EPSILON, "log(exp({x})): {ours} {theirs}");
        }
    }
}
