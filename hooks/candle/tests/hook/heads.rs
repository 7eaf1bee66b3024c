//! Several heads of a model in one step.

use candle_core::{Device, Tensor};
use data_diet::Experiment;
use data_diet::observe::{ModelKind, Phase};
use data_diet_candle::DataDietHook;

use crate::fixture::{Fixture, RUN, some_logits};

const BOX: ModelKind = ModelKind::Regression { outputs: 4 };

#[test]
fn heads_have_one_clock_and_one_run_and_tables_of_their_own() {
    let fixture = Fixture::new();
    let builder = fixture.builder().classes(3);
    let mut hook = builder.head("box", BOX).head("objectness", ModelKind::Binary).build().unwrap();
    for _ in 0..2 {
        for _ in 0..3 {
            let boxes = some_logits(2, 4);
            hook.on_head_batch("box", &[0, 1], &boxes, &(&boxes * 0.5).unwrap()).unwrap();
            // Another number of examples, as objects of an image are.
            let score = Tensor::new(&[0.5_f32], &Device::Cpu).unwrap();
            hook.on_head_batch("objectness", &[7], &score, &[1]).unwrap();
            hook.on_step_end(&[0, 1], &some_logits(2, 3), &[0, 1]).unwrap();
        }
        hook.on_epoch_end().unwrap();
        hook.on_head_score_batch("box", &[0], &some_logits(1, 4), &some_logits(1, 4)).unwrap();
    }
    hook.publish().unwrap();
    let report = hook.finish().unwrap();
    report.check().unwrap();
    assert_eq!(report.rows.written, 12);
    let experiment = Experiment::open(fixture.path()).unwrap();
    let heads = experiment.heads().unwrap();
    assert_eq!(heads, ["box", "objectness"].map(|name| fixture.path().join("heads").join(name)));
    let run = Experiment::open(&heads[0]).unwrap().run(RUN).unwrap();
    assert_eq!((run.kind(), run.rows(Phase::Train).unwrap()), (BOX, 12));
    assert_eq!((run.rows(Phase::Score).unwrap(), run.steps().unwrap()), (2, 6));
    assert_eq!(run.epochs(Phase::Score).unwrap(), [1, 2]);
    let run = Experiment::open(&heads[1]).unwrap().run(RUN).unwrap();
    assert_eq!((run.kind(), run.rows(Phase::Train).unwrap()), (ModelKind::Binary, 6));
    assert!(experiment.verify(|_| {}).unwrap().findings.is_empty());
}

#[test]
fn heads_that_are_not_there_or_named_badly() {
    let fixture = Fixture::new();
    let refused = |names: &[&str]| {
        let builder = fixture.builder().classes(3);
        let builder = names.iter().fold(builder, |builder, &name| builder.head(name, BOX));
        builder.build().unwrap_err().to_string()
    };
    assert_eq!(refused(&["box", "box"]), "head: expected each name once, got `box`");
    assert!(refused(&["../box"]).starts_with("head: expected 1 to 128 letters"));
    assert!(!fixture.path().exists(), "nothing is left of a hook that is refused");
    let mut hook = fixture.builder().classes(3).head("box", BOX).build().unwrap();
    let error =
        hook.on_head_batch("mask", &[0], &some_logits(1, 4), &some_logits(1, 4)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "head: expected one that was declared on the builder (box), got `mask`"
    );
    hook.finish().unwrap().check().unwrap();
    let mut disabled = DataDietHook::disabled();
    disabled.on_head_batch("mask", &[0], &some_logits(1, 4), &some_logits(1, 4)).unwrap();
}
