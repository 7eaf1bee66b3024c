//! Loops over a tensor's values on the host, on several scoped threads if there are enough values.
//! One loop does not justify a dependency on a thread pool.

/// Fewer values than this are done before a thread has started.
const MIN_VALUES_PER_THREAD: usize = 1 << 18;

/// Calls `fill` for every run of whole blocks of `values` with the index of the run's first block.
/// Runs may be on several threads.
pub(crate) fn fill_blocks<T: Send>(
    values: &mut [T],
    block: usize,
    fill: impl Fn(usize, &mut [T]) + Sync,
) {
    if values.is_empty() {
        return;
    }
    let most = values.len() / MIN_VALUES_PER_THREAD;
    let threads = if most < 2 { 1 } else { candle_core::utils::get_num_threads().clamp(1, most) };
    fill_blocks_on(threads, values, block, &fill);
}

fn fill_blocks_on<T: Send>(
    threads: usize,
    values: &mut [T],
    block: usize,
    fill: &(impl Fn(usize, &mut [T]) + Sync),
) {
    let blocks = values.len() / block;
    let each = blocks.div_ceil(threads);
    if each == blocks {
        return fill(0, values);
    }
    std::thread::scope(|scope| {
        let mut runs = values.chunks_mut(each * block).enumerate();
        let own = runs.next();
        for (run, values) in runs {
            scope.spawn(move || fill(run * each, values));
        }
        if let Some((_, values)) = own {
            fill(0, values);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_filled_once_whatever_the_threads() {
        for (threads, blocks) in [(1, 5), (2, 5), (3, 5), (4, 5), (7, 5), (5, 5), (2, 1)] {
            let mut values = vec![0; 3 * blocks];
            fill_blocks_on(threads, &mut values, 3, &|first, values: &mut [usize]| {
                for (at, block) in values.chunks_exact_mut(3).enumerate() {
                    for value in block {
                        *value += 1 + first + at;
                    }
                }
            });
            let expected: Vec<usize> = (0..3 * blocks).map(|at| 1 + at / 3).collect();
            assert_eq!(values, expected, "{threads} threads");
        }
        fill_blocks(&mut [0_u8; 0], 0, |_, _| panic!("nothing to fill"));
    }
}
