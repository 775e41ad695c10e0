//! The measurement of tilings, on an emulated GPU.

use cuda::device::Host;
use cuda::kernels::measured::Candidate;
use cuda::sweep;

fn candidates(lines: &[&str]) -> Vec<Candidate> {
    lines.iter().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn candidates_are_timed_and_the_fastest_of_each_product_is_found() {
    let mut host = match Host::new(4) {
        Ok(host) => host,
        Err(error) => return skip::skip!(Gxx, "{error}"),
    };
    let all = candidates(&["5 7 3 32x32 1", "5 7 3 32x32 3", "5 7 3 32x16 4", "40 16 1 32x16 1"]);
    let timed = sweep::run(&mut host, &all, || true).unwrap();
    assert_eq!(timed.iter().map(|timed| timed.candidate).collect::<Vec<_>>(), all);
    assert!(timed.iter().all(|timed| timed.microseconds > 0.0), "{timed:?}");
    let fastest = sweep::fastest(&timed);
    assert_eq!(fastest.len(), 2);
    let least = timed[..3].iter().map(|timed| timed.microseconds).fold(f64::INFINITY, f64::min);
    assert_eq!(fastest[0].microseconds, least);
    let mut left = 3;
    let mut go_on = || {
        left -= 1;
        left >= 0
    };
    let whole = sweep::run(&mut host, &all, &mut go_on).unwrap().len();
    assert_eq!(whole, 3, "the second product is not timed");
}

#[test]
fn a_candidate_with_another_result_is_not_the_fastest() {
    // A part of K is left out where it is split.
    let edit = |name: &str, text: &str| match name {
        "split_k_reduce.cu" => text.replace("split < args.splits", "split < args.splits - 1"),
        "tile.cuh" => text.replace("rank = 1; rank < N;", "rank = 1; rank < N - 1;"),
        _ => text.to_owned(),
    };
    let mut host = match Host::new(4) {
        Ok(host) => host.edited(edit),
        Err(error) => return skip::skip!(Gxx, "{error}"),
    };
    let all = candidates(&["5 7 6 32x32 1", "5 7 6 32x32 2", "5 7 6 32x32 3"]);
    let timed = sweep::run(&mut host, &all, || true).unwrap();
    assert_eq!(timed.iter().map(sweep::Timed::is_right).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(sweep::fastest(&timed)[0].candidate, all[0]);
}
