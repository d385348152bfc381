//! soundness
