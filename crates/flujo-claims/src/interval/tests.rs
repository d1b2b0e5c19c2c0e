//! The median and its interval against known ranks.

use super::Median;

fn counted(to: u32) -> Vec<f64> {
    (1..=to).map(f64::from).collect()
}

/// The ranks for 95 % in the tables of the binomial distribution.
#[test]
fn the_bounds_are_the_ranks_of_the_binomial_distribution() {
    for (size, low, high) in [
        (6, 1.0, 6.0),
        (10, 2.0, 9.0),
        (20, 6.0, 15.0),
        (30, 10.0, 21.0),
        (50, 18.0, 33.0),
    ] {
        let median = Median::of(&counted(size)).unwrap();
        assert_eq!((median.low, median.high), (low, high), "of {size}");
    }
}

#[test]
fn a_small_sample_has_its_ends_as_bounds() {
    let median = Median::of(&[3.0, 1.0, 2.0]).unwrap();
    assert_eq!((median.low, median.value, median.high), (1.0, 2.0, 3.0));
    let one = Median::of(&[7.0]).unwrap();
    assert_eq!((one.low, one.value, one.high), (7.0, 7.0, 7.0));
}

#[test]
fn the_middle_of_an_even_sample_lies_between_its_two() {
    let even = Median::of(&[4.0, 1.0, 2.0, 3.0]).unwrap();
    assert_eq!((even.low, even.value, even.high), (1.0, 2.5, 4.0));
}

#[test]
fn nothing_comes_of_nothing_or_of_no_numbers() {
    assert_eq!(Median::of(&[]), None);
    assert_eq!(Median::of(&[1.0, f64::NAN]), None);
}
