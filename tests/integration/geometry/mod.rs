//! The tables of training's geometry: written in parts, read back, and damaged.

mod damage;
mod tables;
