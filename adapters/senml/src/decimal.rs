//! Numbers as they are written: `mantissa × 10^exponent`, added exactly.

use std::fmt;

/// Significant digits that are kept; a double has 17, a 64-bit integer 20.
const DIGITS_MAX: u32 = 34;
/// Powers of ten beyond which nothing is a double.
const EXPONENT_MAX: i32 = 400;

/// An exact decimal number of up to 34 digits; what is written with more loses its last ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// Not divisible by ten, except zero.
    mantissa: i128,
    exponent: i32,
}

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self { mantissa: 0, exponent: 0 };

    /// `mantissa × 10^exponent`, or `None` when it is out of range.
    #[must_use]
    pub fn new(mantissa: i128, exponent: i32) -> Option<Self> {
        let (mut mantissa, mut exponent) = (mantissa, exponent);
        while mantissa.unsigned_abs() >= 10_u128.pow(DIGITS_MAX) || (mantissa != 0 && mantissa % 10 == 0) {
            mantissa /= 10;
            exponent = exponent.checked_add(1)?;
        }
        if mantissa == 0 {
            return Some(Self::ZERO);
        }
        (-EXPONENT_MAX..=EXPONENT_MAX).contains(&exponent).then_some(Self { mantissa, exponent })
    }

    /// Reads a number as JSON writes it.
    //= RFC8259 6
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (significand, exponent) = match text.split_once(['e', 'E']) {
            Some((significand, exponent)) => (significand, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, digits) = significand.strip_prefix('-').map_or((false, significand), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let (mut mantissa, mut dropped, mut fraction_digits) = (0_i128, 0_i32, 0_i32);
        for (place, digit) in whole.bytes().chain(fraction.bytes()).enumerate() {
            let digit = char::from(digit).to_digit(10)?;
            fraction_digits += i32::from(place >= whole.len());
            if mantissa.unsigned_abs() >= 10_u128.pow(DIGITS_MAX) {
                dropped = dropped.checked_add(1)?;
            } else {
                mantissa = mantissa * 10 + i128::from(digit);
            }
        }
        let exponent = exponent.checked_sub(fraction_digits)?.checked_add(dropped)?;
        let number = Self::new(if negative { -mantissa } else { mantissa }, exponent)?;
        number.to_f64().is_finite().then_some(number)
    }

    /// The shortest number that reads back as `value`; `None` for what is not finite.
    pub(crate) fn from_f64(value: f64) -> Option<Self> {
        value.is_finite().then(|| format!("{value:e}")).and_then(|text| Self::parse(&text))
    }

    /// The shortest number that reads back as `value`; `None` for what is not finite.
    pub(crate) fn from_f32(value: f32) -> Option<Self> {
        value.is_finite().then(|| format!("{value:e}")).and_then(|text| Self::parse(&text))
    }

    /// The nearest double.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        format!("{}e{}", self.mantissa, self.exponent).parse().unwrap_or(f64::NAN)
    }

    /// The integer, where it is one that fits.
    #[must_use]
    pub fn to_integer(self) -> Option<i128> {
        let power = u32::try_from(self.exponent).ok()?;
        self.mantissa.checked_mul(10_i128.checked_pow(power)?)
    }

    pub(crate) const fn parts(self) -> (i128, i32) {
        (self.mantissa, self.exponent)
    }

    /// The exact sum; where it has too many digits, the last ones of the finer number are lost. `None` when it is out
    /// of range.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        let (high, mut low) = if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        if high.mantissa == 0 || low.mantissa == 0 {
            return Some(if high.mantissa == 0 { low } else { high });
        }
        while low.mantissa != 0 {
            let sum = u32::try_from(high.exponent - low.exponent)
                .ok()
                .and_then(|power| high.mantissa.checked_mul(10_i128.checked_pow(power)?))
                .and_then(|aligned| aligned.checked_add(low.mantissa));
            if let Some(mantissa) = sum {
                return Self::new(mantissa, low.exponent);
            }
            low = Self { mantissa: low.mantissa / 10, exponent: low.exponent + 1 };
        }
        Some(high)
    }

    /// Whether it is smaller than `bound`.
    pub(crate) fn is_below(self, bound: i128) -> bool {
        match self.to_integer() {
            Some(integer) => integer < bound,
            // With an exponent below zero the whole part decides, cut towards zero.
            None if self.exponent < 0 => {
                let power = self.exponent.unsigned_abs();
                let whole = 10_i128.checked_pow(power).map_or(0, |power| self.mantissa / power);
                whole < bound
            }
            None => self.mantissa < 0,
        }
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self::new(i128::from(value), 0).unwrap_or(Self::ZERO)
    }
}

/// As JSON writes it, without an exponent where that is short.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PLAIN_DIGITS_MAX: usize = 40;
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let digits = self.mantissa.unsigned_abs().to_string();
        let power = usize::try_from(self.exponent.unsigned_abs()).unwrap_or(usize::MAX);
        if digits.len().saturating_add(power) > PLAIN_DIGITS_MAX {
            return write!(f, "{sign}{digits}e{}", self.exponent);
        }
        if self.exponent >= 0 {
            return write!(f, "{sign}{digits}{:0<power$}", "");
        }
        let padded = format!("{digits:0>width$}", width = power + 1);
        let (whole, fraction) = padded.split_at(padded.len() - power);
        write!(f, "{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    //! Decimal arithmetic.

    use super::Decimal;

    fn number(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn what_is_read_is_written() {
        for (read, written) in [
            ("0", "0"),
            ("-0", "0"),
            ("1.30", "1.3"),
            ("0.14e1", "1.4"),
            ("1.276020076001e+09", "1276020076.001"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("0.001", "0.001"),
            ("1e-30", "0.000000000000000000000000000001"),
            ("1e300", "1e300"),
            ("-2.5E-50", "-25e-51"),
        ] {
            assert_eq!(number(read).to_string(), written, "{read}");
        }
    }

    #[test]
    fn sums_are_exact() {
        for (a, b, sum) in [
            ("1554381569.992", "0.004", "1554381569.996"),
            ("0.1", "0.2", "0.3"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("5", "-5", "0"),
            ("1e300", "1", "1e300"),
            ("1e300", "-1e-300", "1e300"),
            ("1554381569.992", "0.1000000000000000000000000000000001", "1554381570.092"),
        ] {
            assert_eq!(number(a).plus(number(b)).unwrap().to_string(), sum);
            assert_eq!(number(b).plus(number(a)).unwrap().to_string(), sum);
        }
    }

    #[test]
    fn what_no_double_says_is_no_number() {
        for text in ["1e309", "-1e999999999999", "1e400000"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_bound_is_compared_to_the_whole() {
        let below = |text: &str| number(text).is_below(1 << 28);
        assert_eq!(
            ["268435455.999", "268435456", "-1e300", "1e300", "0.5"].map(below),
            [true, false, true, false, true]
        );
    }
}
