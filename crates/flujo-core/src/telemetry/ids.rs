//! Who a span is: ids derived from the run's id and the span's place in it, so that nobody has to look one up.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use crate::machine::CallId;

/// A trace: all spans of a run, and of its caller when it was given one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(u128);

/// A span, unique within its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(NonZeroU64);

impl TraceId {
    /// From 16 bytes; `None` for zero, which names no trace.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        let id = u128::from_be_bytes(bytes);
        (id != 0).then_some(Self(id))
    }

    /// As 16 bytes, in the order in which they are written.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl SpanId {
    /// From 8 bytes; `None` for zero, which names no span.
    pub fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        NonZeroU64::new(u64::from_be_bytes(bytes)).map(Self)
    }

    /// As 8 bytes, in the order in which they are written.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What goes from one process to the next so that their spans become one trace. Its text form is the value of a W3C
/// `traceparent` header.
///
/// ```
/// use flujo_core::telemetry::SpanContext;
///
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context: SpanContext = text.parse()?;
/// assert!(context.sampled);
/// assert_eq!(context.to_string(), text);
/// # Ok::<(), flujo_core::telemetry::TraceparentError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanContext {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// Whether the span is recorded.
    pub sampled: bool,
}

impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{}-{}-{:02x}",
            self.trace,
            self.span,
            u8::from(self.sampled)
        )
    }
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a traceparent is `00-`, 32 hexadecimal digits of the trace, `-`, 16 of the span, `-` and two of the flags, in lower \
     case, no id all zeros; this one isn't: {0:?}"
)]
pub struct TraceparentError(String);

impl FromStr for SpanContext {
    type Err = TraceparentError;

    /// Also takes versions to come, as the standard asks: what they add stands behind what is known.
    fn from_str(text: &str) -> Result<Self, TraceparentError> {
        parse(text).ok_or_else(|| TraceparentError(text.chars().take(80).collect()))
    }
}

fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.splitn(5, '-');
    let mut part = |digits: usize| {
        let part = parts.next()?;
        let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (part.len() == digits && part.bytes().all(hexadecimal)).then_some(part)
    };
    let version = u8::from_str_radix(part(2)?, 16).ok()?;
    let trace = u128::from_str_radix(part(32)?, 16).ok()?;
    let span = u64::from_str_radix(part(16)?, 16).ok()?;
    let flags = u8::from_str_radix(part(2)?, 16).ok()?;
    if version == 0xff || (version == 0 && parts.next().is_some()) {
        return None;
    }
    Some(SpanContext {
        trace: TraceId::from_bytes(trace.to_be_bytes())?,
        span: SpanId(NonZeroU64::new(span)?),
        sampled: flags & 1 == 1,
    })
}

/// Which runs are recorded: a share of them, decided by the run's id, so that every process decides alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleRate(f64);

/// A share that is none.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("a sample rate is a number from 0 (no run is recorded) to 1 (every run is), not {0}")]
pub struct SampleRateError(f64);

impl SampleRate {
    /// Every run.
    pub const ALL: Self = Self(1.0);

    /// A share from 0 to 1.
    ///
    /// # Errors
    /// [`SampleRateError`] for any other number.
    pub fn new(share: f64) -> Result<Self, SampleRateError> {
        if (0.0..=1.0).contains(&share) {
            Ok(Self(share))
        } else {
            Err(SampleRateError(share))
        }
    }

    /// Whether the run of this id is recorded.
    #[allow(clippy::cast_precision_loss)] // 53 bits are kept, which a float holds exactly
    pub fn takes(self, run: &str) -> bool {
        let place = (hash(run, SAMPLING) >> 11) as f64 / (1u64 << 53) as f64;
        place < self.0
    }
}

const SAMPLING: u64 = 0x5851_f42d_4c95_7f2d;
const TRACE: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];
const RUN: u64 = 0x2545_f491_4f6c_dd1d;
const STEP: u64 = 0xa076_1d64_78bd_642f;
const ATTEMPT: u64 = 0xe703_7ed1_a0b4_28db;
const CALL: u64 = 0x8ebc_6af0_9c88_c6e3;
const LANE: u64 = 0x5899_65cc_7537_4cc3;

/// FNV-1a, then mixed: the same in every process and version.
fn hash(text: &str, seed: u64) -> u64 {
    let folded = text.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(folded)
}

/// The finaliser of splitmix64: every bit of the result depends on every bit given.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Derives the ids of the spans of one machine: a run, or one lane of it.
#[derive(Debug, Clone, Copy)]
pub struct SpanIds {
    trace: TraceId,
    own: SpanId,
    sampled: bool,
}

impl SpanIds {
    /// Of a run. `begun` tells apart the times a run is taken up again; a run without a parent has a trace of its own,
    /// derived from its id.
    pub fn of_run(run: &str, begun: u64, parent: Option<SpanContext>, rate: SampleRate) -> Self {
        let own_trace = TRACE.map(|seed| u128::from(hash(run, seed)));
        Self {
            trace: parent.map_or(TraceId((own_trace[0] << 64 | own_trace[1]).max(1)), |parent| {
                parent.trace
            }),
            own: derived(hash(run, RUN), mix(begun)),
            sampled: parent.is_none_or(|parent| parent.sampled) && rate.takes(run),
        }
    }

    /// The span of the run, or of the lane.
    pub fn own(&self) -> SpanId {
        self.own
    }

    /// Whether its spans are recorded.
    pub fn sampled(&self) -> bool {
        self.sampled
    }

    /// The trace.
    pub fn trace(&self) -> TraceId {
        self.trace
    }

    /// The span of a step, by its record.
    pub fn step(&self, record: u32) -> SpanId {
        self.derive(STEP, u64::from(record))
    }

    /// The span of an attempt at a step.
    pub fn attempt(&self, record: u32, attempt: u32) -> SpanId {
        self.derive(ATTEMPT, u64::from(record) << 32 | u64::from(attempt))
    }

    /// The span of a call of an agent.
    pub fn call(&self, call: CallId) -> SpanId {
        self.derive(CALL, call.0)
    }

    /// The ids of a lane: of the branch or item `index` of the construct with this record.
    #[must_use]
    pub fn lane(&self, record: u32, index: u32) -> Self {
        Self {
            own: self.derive(LANE, u64::from(record) << 32 | u64::from(index)),
            ..*self
        }
    }

    /// What is sent along from inside a span.
    pub fn context(&self, span: SpanId) -> SpanContext {
        SpanContext {
            trace: self.trace,
            span,
            sampled: self.sampled,
        }
    }

    fn derive(&self, what: u64, place: u64) -> SpanId {
        derived(self.own.0.get() ^ what, place)
    }
}

fn derived(key: u64, place: u64) -> SpanId {
    let id = mix(key ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    SpanId(NonZeroU64::new(id).unwrap_or(NonZeroU64::MIN))
}
