//! Transformations: what they make, what they refuse, and what they cost.
