//! Progress bars on standard error: shown on a terminal, silent when it is a file or a pipe.

use std::borrow::Cow;

use candle_core::Tensor;
use data_diet_candle::DataDietHook;
use indicatif::{ProgressBar, ProgressStyle};

use super::Result;

/// A bar over training steps, with the loss, the result on the test set and what the hook has recorded
/// beside it.
#[derive(Debug)]
pub(crate) struct Meter {
    bar: ProgressBar,
    /// The losses of this epoch, still on their device: reading one waits for the device, so they
    /// are read once an epoch.
    losses: Vec<Tensor>,
    figures: String,
}

impl Meter {
    pub(crate) fn new(steps: usize) -> Self {
        let bar = ProgressBar::new(steps as u64);
        let template = "{prefix:<16} {bar:24.cyan/dim} {percent:>3} %  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        Self::on(bar)
    }

    pub(crate) fn on(bar: ProgressBar) -> Self {
        Self { bar, losses: Vec::new(), figures: String::new() }
    }

    /// Another meter on the same bar, for what is trained at the same time.
    #[allow(dead_code, reason = "not every example trains side by side")]
    pub(crate) fn another(&self) -> Self {
        Self::on(self.bar.clone())
    }

    /// Says what is trained now.
    pub(crate) fn label(&mut self, what: impl Into<Cow<'static, str>>) {
        self.figures.clear();
        self.bar.set_prefix(what);
    }

    pub(crate) fn step(&mut self, loss: &Tensor, hook: &DataDietHook) {
        self.losses.push(loss.detach());
        self.bar.inc(1);
        if self.bar.is_hidden() {
            return;
        }
        let mut message = self.figures.clone();
        if hook.is_enabled() {
            message += &hook.status().to_string();
        }
        self.bar.set_message(message);
    }

    /// Something that is not a training step is done.
    #[allow(dead_code, reason = "not every example does anything else")]
    pub(crate) fn advance(&self) {
        self.bar.inc(1);
    }

    /// A batch has been looked at without training on it.
    pub(crate) fn looked(&self, hook: &DataDietHook) {
        self.bar.inc(1);
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{}{}", self.figures, hook.status()));
        }
    }

    /// The mean loss of the epoch, shown with what the test set says.
    pub(crate) fn epoch(&mut self, test: &str) -> Result<f32> {
        let loss = Tensor::stack(&self.losses, 0)?.mean_all()?.to_scalar()?;
        self.losses.clear();
        self.figures = format!("loss {loss:.4}  test {test}  ");
        Ok(loss)
    }

    /// Takes the bar off the terminal.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
