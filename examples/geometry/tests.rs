//! The whole study in small.

use data_diet::{ErrorBarrierTable, Experiment, KernelVelocityTable};

use crate::{PARENT, Plan, run};

#[test]
fn the_study_leaves_its_tables() {
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan {
        epochs: 2,
        spawn_epochs: vec![0, 1],
        score_epoch: 1,
        examples: 320,
        ..Plan::new(directory.path())
    };
    run(&plan).unwrap();
    for name in ["clean", "noisy"] {
        let experiment = directory.path().join(name);
        let velocities = KernelVelocityTable::open(&experiment, PARENT).unwrap();
        // Three windows of 100, between three snapshots.
        assert_eq!(velocities.rows().len(), 3 * 2);
        assert!(velocities.rows().iter().all(|row| row.distance > 0.0 && row.dt == 1.0));
        let barriers = ErrorBarrierTable::open(&experiment).unwrap();
        assert_eq!(barriers.means().len(), 2 * 3);
        assert!(barriers.means().iter().all(|mean| (0.0..=1.0).contains(&mean.error_by_chord)));
        let child = Experiment::open(&experiment).unwrap().run("epoch-1-order-2").unwrap();
        let link = child.ranks().next().unwrap().spawned_from.clone().unwrap();
        assert_eq!((link.run.as_str(), link.step), (PARENT, 10));
    }
}
