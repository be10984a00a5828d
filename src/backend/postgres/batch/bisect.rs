//! Finds what fails a group by splitting it.

/// Runs a group; while that says that something in it is bad, its halves, down to single
/// ones. If the first half is good, the second is known to be bad and is split at once. So
/// one bad one among n is found with at most 2·log2(n) + 1 runs (n rounded up to a power of
/// two). Says whether all was good.
///
/// `run` deals with a single one finally, whatever it says.
pub(super) fn search<T>(items: &[T], run: &mut impl FnMut(&[T]) -> bool) -> bool {
    descend(items, false, run)
}

fn descend<T>(items: &[T], known_bad: bool, run: &mut impl FnMut(&[T]) -> bool) -> bool {
    if items.is_empty() {
        return true;
    }
    if items.len() == 1 || !known_bad {
        let good = run(items);
        if good || items.len() == 1 {
            return good;
        }
    }
    #[cfg(feature = "batch")]
    crate::backend::note_split();
    let (first, second) = items.split_at(items.len() / 2);
    let first_is_good = descend(first, false, run);
    descend(second, first_is_good, run);
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(count: usize, bad: &[usize]) -> usize {
        let items: Vec<usize> = (0..count).collect();
        let mut runs = 0;
        let mut settled = vec![0; count];
        search(&items, &mut |part| {
            runs += 1;
            let good = !part.iter().any(|item| bad.contains(item));
            if good || part.len() == 1 {
                for item in part {
                    settled[*item] += 1;
                }
            }
            good
        });
        assert!(settled.iter().all(|times| *times == 1), "{settled:?}");
        runs
    }

    #[test]
    fn all_good_is_one_run() {
        assert_eq!(runs(1000, &[]), 1);
        assert_eq!(runs(0, &[]), 0);
    }

    #[test]
    fn one_bad_one_takes_few_runs_wherever_it_is() {
        for count in [1, 2, 3, 100, 1000] {
            let levels = usize::BITS - (count - 1_usize).leading_zeros();
            for bad in 0..count {
                assert!(
                    runs(count, &[bad]) <= 2 * levels as usize + 1,
                    "{bad} of {count}"
                );
            }
        }
    }

    #[test]
    fn all_bad_is_bounded() {
        let all: Vec<usize> = (0..64).collect();
        assert_eq!(runs(64, &all), 127);
    }
}
