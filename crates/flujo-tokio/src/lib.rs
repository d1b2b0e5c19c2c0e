//! Part of Flujo.
