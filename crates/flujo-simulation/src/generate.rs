//! Cases drawn at random.
