//! Taking turns, and what the turns say together.

/// What one side does in its turn.
pub(crate) type Turn<'a, T> = Box<dyn FnMut() -> T + 'a>;

/// Lets all sides take a turn in every round, after one that does not count; each side
/// comes first, last and after each other one equally often, as what ran just before
/// leaves its mark on a machine. Gives the results by side and round.
pub(crate) fn take_turns<T>(rounds: usize, sides: &mut [Turn<'_, T>]) -> Vec<Vec<T>> {
    let mut results: Vec<Vec<T>> = sides.iter().map(|_| Vec::new()).collect();
    let warm_up = usize::from(rounds > 1);
    for round in 0..rounds + warm_up {
        let mut order: Vec<usize> = (0..sides.len()).collect();
        order.rotate_left(round % sides.len());
        if (round / sides.len()) % 2 == 1 {
            order.reverse();
        }
        for side in order {
            let result = sides[side]();
            if round >= warm_up {
                results[side].push(result);
            }
        }
    }
    results
}

/// A value with its quartiles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let last = values.len() - 1;
        Self {
            low: values[last / 4],
            median: f64::midpoint(values[last / 2], values[last.div_ceil(2)]),
            high: values[last - last / 4],
        }
    }

    /// Of the ratios between the two sides in each round.
    pub(crate) fn of_ratios(ours: &[f64], theirs: &[f64]) -> Self {
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
        Self::of(ratios.collect())
    }
}
