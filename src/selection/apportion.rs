//! Divides a total among groups in whole numbers.

/// Divides `total` in proportion to `weights`, with no share above its group's room: shares are
/// rounded down, and the largest remainders get one more, earlier groups first. A group whose share
/// would exceed its room is filled, and the rest is divided among the others in the same way.
///
/// The shares add up to `total`, or to all the room if that is less.
pub(super) fn apportion(total: usize, weights: &[usize], rooms: &[usize]) -> Vec<usize> {
    let mut shares = vec![0; weights.len()];
    let mut left = total.min(rooms.iter().sum());
    let mut open: Vec<usize> = (0..weights.len()).filter(|&group| rooms[group] > 0).collect();
    while left > 0 {
        let weight: u128 = open.iter().map(|&group| weights[group] as u128).sum();
        // In integers: a product of two lengths fits in 128 bits.
        let parts = open.iter().map(|&group| {
            let part = left as u128 * weights[group] as u128;
            (group, (part / weight) as usize, part % weight)
        });
        let mut parts: Vec<(usize, usize, u128)> = parts.collect();
        let whole: usize = parts.iter().map(|&(_, part, _)| part).sum();
        parts.sort_by(|a, b| b.2.cmp(&a.2).then(a.0.cmp(&b.0)));
        parts.iter_mut().take(left - whole).for_each(|(_, part, _)| *part += 1);
        if parts.iter().all(|&(group, part, _)| part <= rooms[group]) {
            for (group, part, _) in parts {
                shares[group] = part;
            }
            break;
        }
        for (group, _, _) in parts.into_iter().filter(|&(group, part, _)| part > rooms[group]) {
            shares[group] = rooms[group];
            left -= rooms[group];
        }
        open.retain(|&group| shares[group] == 0);
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::apportion;

    #[test]
    fn shares_by_hand() {
        assert_eq!(apportion(7, &[1, 1, 1], &[9, 9, 9]), [3, 2, 2]);
        assert_eq!(apportion(9, &[1, 1, 1], &[1, 9, 9]), [1, 4, 4]);
        assert_eq!(apportion(9, &[1, 1, 1, 1], &[1, 0, 3, 9]), [1, 0, 3, 5]);
        // 10 * 5/8, 2/8, 1/8 = 6.25, 2.5, 1.25: the remaining one goes to the largest remainder.
        assert_eq!(apportion(10, &[5, 2, 1], &[50, 20, 10]), [6, 3, 1]);
        assert_eq!(apportion(5, &[], &[]), [0; 0]);
        assert_eq!(apportion(5, &[3, 4], &[1, 2]), [1, 2]);
    }

    proptest! {
        #[test]
        fn shares_add_up_and_fit(groups in prop::collection::vec((1..50_usize, 0..20_usize), 1..9), total in 0..200_usize) {
            let (weights, rooms): (Vec<_>, Vec<_>) = groups.into_iter().unzip();
            let shares = apportion(total, &weights, &rooms);
            prop_assert_eq!(shares.iter().sum::<usize>(), total.min(rooms.iter().sum()));
            prop_assert!(shares.iter().zip(&rooms).all(|(share, room)| share <= room));
            // Equal weights: a group with two fewer than another has no room left.
            let equal = apportion(total, &vec![1; rooms.len()], &rooms);
            for (a, room) in equal.iter().zip(&rooms) {
                prop_assert!(equal.iter().all(|b| b <= &(a + 1) || a == room), "{:?} {:?}", equal, rooms);
            }
            // No group is full: each is within one of its exact share.
            if shares.iter().zip(&rooms).all(|(share, room)| share < room) {
                let weight: usize = weights.iter().sum();
                for (share, of) in shares.iter().zip(&weights) {
                    let exact = (total * of) as f64 / weight as f64;
                    prop_assert!((*share as f64 - exact).abs() < 1.0);
                }
            }
        }
    }
}
