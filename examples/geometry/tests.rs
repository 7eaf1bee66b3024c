//! The whole study in small.

use std::fs;

use data_diet::Experiment;
use data_diet::geometry::{ErrorBarrierTable, KernelVelocityTable};

use crate::options::Options;
use crate::run;
use crate::study::PARENT;

#[test]
fn the_study_leaves_its_tables_and_a_chart() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        experiment: directory.path().to_owned(),
        epochs: 2,
        parents: 2,
        children: 2,
        spawn_epochs: vec![0, 1],
        score_epoch: 1,
        windows: 2,
        examples: 320,
        ..Options::digits()
    };
    let mut output = Vec::new();
    run(&options, &mut output).unwrap();
    let output = String::from_utf8(output).unwrap();
    assert!(output.contains("clean: 320 digits, true labels, 2 epochs"), "{output}");
    assert!(output.contains("noisy: 320 digits, 32 of the labels wrong"), "{output}");
    for name in ["clean", "noisy"] {
        let experiment = directory.path().join(name);
        assert!(!KernelVelocityTable::open(&experiment, "parent-1").unwrap().rows().is_empty());
        let velocities = KernelVelocityTable::open(&experiment, PARENT).unwrap();
        // The first and the last of three windows of 100, between three snapshots.
        let rows = velocities.rows().iter();
        let rows: Vec<(&str, u32)> = rows.map(|row| (&*row.set, row.first_epoch)).collect();
        let windows = ["window_000", "window_200"];
        let expected = [0, 1].map(|epoch| windows.map(|window| (window, epoch))).concat();
        assert_eq!(rows, expected);
        assert!(velocities.rows().iter().all(|row| row.distance > 0.0 && row.dt == 1.0));
        let barriers = ErrorBarrierTable::open(&experiment).unwrap();
        assert_eq!(barriers.means().len(), 2 * 3);
        assert!(barriers.means().iter().all(|mean| (0.0..=1.0).contains(&mean.error_by_chord)));
        let opened = Experiment::open(&experiment).unwrap();
        let child = opened.run("epoch-1-child-2").unwrap();
        let link = child.ranks().next().unwrap().spawned_from.clone().unwrap();
        assert_eq!((link.run.as_str(), link.step), (PARENT, 10));
        let findings = opened.verify(|_| {}).unwrap().findings;
        assert!(findings.is_empty(), "{findings:?}");
    }
    let chart = fs::read_to_string(directory.path().join("geometry.svg")).unwrap();
    for words in
        ["320 digits", "true labels", "10 % wrong labels", "spawned after epoch", "epoch 1"]
    {
        assert!(chart.contains(words), "{words}");
    }
    assert!(!chart.contains("NaN"));
}

#[test]
fn mnist_is_read_from_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let labels: Vec<u8> = (0..20).map(|row| row % 10).collect();
    for (name, contents) in [
        ("train-images-idx3-ubyte", crate::idx::tests::images_file(20, 4, 4)),
        ("train-labels-idx1-ubyte", crate::idx::tests::labels_file(&labels)),
    ] {
        fs::write(directory.path().join(name), contents).unwrap();
    }
    let options =
        Options { mnist: Some(directory.path().to_owned()), examples: 12, ..Options::digits() };
    let data = crate::data::load(&options).unwrap();
    assert_eq!((data.len(), data.sizes.pixels, data.wrong()), (12, 16, 0));
    let set = data_diet::selection::ExampleSet { name: "some".to_owned(), examples: vec![3, 11] };
    let batch = data.of(&set).unwrap();
    assert_eq!(batch.labels.to_vec1::<u32>().unwrap(), [3, 1]);
    // Pixels 0 to 191 of 12 images: mean 95.5, variance (192^2 - 1) / 12.
    let expected = (49.0 - 95.5) / ((192.0_f32.powi(2) - 1.0) / 12.0).sqrt();
    assert!((batch.inputs.to_vec2::<f32>().unwrap()[0][1] - expected).abs() < 1e-5);
    let noisy = data.with_noise(0.5).unwrap();
    assert_eq!(noisy.wrong(), 6);
    let changed = noisy.set.labels().to_vec1::<u32>().unwrap();
    let before = data.set.labels().to_vec1::<u32>().unwrap();
    assert_eq!(changed.iter().zip(before).filter(|(after, before)| **after != *before).count(), 6);
    let missing = Options { mnist: Some("no/such/place".into()), ..options };
    let error = crate::data::load(&missing).unwrap_err().to_string();
    assert!(error.starts_with("no file train-images-idx3-ubyte"), "{error}");
}
