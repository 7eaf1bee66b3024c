//! Error barriers: how far error and loss rise on the straight line between two networks.
//!
//! [`data_diet::geometry::barrier`] defines a barrier; here a model is moved along the line and
//! measured.

mod branch;
mod line;
mod pairs;
mod risk;
mod set;
mod siblings;

pub use branch::Branch;
pub use line::{AlphaGrid, Line, curve};
pub use pairs::ErrorBarrier;
pub use risk::Risk;
pub use set::LabeledSet;
pub use siblings::Siblings;
