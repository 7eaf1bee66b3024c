//! The variables of a network in an order that can be repeated.

use candle_core::Var;
use candle_nn::VarMap;

/// The variables by name. The map that holds them has another order in every process.
pub(crate) fn named_variables(weights: &VarMap) -> Vec<(String, Var)> {
    let map = weights.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut variables: Vec<(String, Var)> =
        map.iter().map(|(name, variable)| (name.clone(), variable.clone())).collect();
    variables.sort_by(|(a, _), (b, _)| a.cmp(b));
    variables
}
