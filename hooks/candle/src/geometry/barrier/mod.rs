//! How far error and loss rise on the straight line between two networks.
//!
//! What a barrier is stands in [`data_diet::geometry::barrier`]; here a model is moved along the line and measured.

mod branch;
mod line;
mod pairs;
mod risk;
mod set;
mod siblings;

pub use branch::Branch;
pub use line::{Grid, Line, curve};
pub use pairs::ErrorBarrier;
pub use risk::Risk;
pub use set::LabelledSet;
pub use siblings::Siblings;
