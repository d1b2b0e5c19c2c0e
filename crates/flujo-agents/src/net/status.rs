//! What a status code outside 2xx means: what happened, whether trying again makes sense and when.

use std::time::{Duration, SystemTime};

use flujo_core::agent::{AgentError, Retry};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;

use super::Reply;
use crate::payload::excerpt;
use crate::secret::Secret;

/// The most characters of a server's own explanation that a message repeats.
const EXPLANATION: usize = 300;

/// The error of a reply whose status isn't 2xx.
pub(crate) async fn refused(mut reply: Reply, secret: Option<&Secret>) -> AgentError {
    let status = reply.response().status();
    let retry = retry(status, reply.response().headers(), SystemTime::now());
    let place = reply.place();
    let explanation = explanation(&reply.start_of_body().await);
    let explanation = secret.map_or_else(|| explanation.clone(), |secret| secret.strike_out(&explanation));
    let said = if explanation.is_empty() {
        String::new()
    } else {
        format!(" ({explanation})")
    };
    let mut error = AgentError::new(format!("{place} answered {status}{said}{}", cure(status, retry)));
    error.retry = retry;
    error
}

/// Overload and passing faults may mend; a request that is wrong stays wrong.
fn retry(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Retry {
    let passing = status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::CONFLICT
                | StatusCode::TOO_EARLY
        );
    match (passing, retry_after(headers, now)) {
        (false, _) => Retry::Never,
        (true, Some(wait)) => Retry::After(wait),
        (true, None) => Retry::Allowed,
    }
}

/// `retry-after-ms` in milliseconds, or `Retry-After` in seconds or as a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    if let Some(wait) = number("retry-after-ms").and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok())
    {
        return Some(wait);
    }
    if let Some(seconds) = number(RETRY_AFTER.as_str()) {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(headers.get(RETRY_AFTER)?.to_str().ok()?.trim()).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

fn cure(status: StatusCode, retry: Retry) -> String {
    match (status, retry) {
        (status, _) if status.is_redirection() => {
            "; it redirects to another host, which isn't followed: use the final address".to_owned()
        }
        (_, Retry::After(wait)) => format!("; it asks to wait {} s", wait.as_secs_f64()),
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
            "; check the key and what it gives access to".to_owned()
        }
        (StatusCode::NOT_FOUND, _) => "; check the address and, for a model, its name".to_owned(),
        (StatusCode::TOO_MANY_REQUESTS, _) => "; send fewer requests or raise the quota".to_owned(),
        (_, Retry::Never) => "; the request has to be changed".to_owned(),
        (_, Retry::Allowed) => "; the fault is on the server's side".to_owned(),
    }
}

/// What the server says itself: `error.message`, `error`, `message` or `detail` of a JSON body, else the start of a
/// text body. Pages of HTML say nothing.
fn explanation(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: Option<serde_json::Value>,
        message: Option<String>,
        detail: Option<serde_json::Value>,
    }
    if let Ok(refusal) = serde_json::from_slice::<Refusal>(body) {
        let error = refusal.error.as_ref();
        let text = error
            .and_then(|error| error.get("message").unwrap_or(error).as_str().map(str::to_owned))
            .or(refusal.message)
            .or(refusal
                .detail
                .and_then(|detail| detail.as_str().map(str::to_owned)));
        return excerpt(&text.unwrap_or_default(), EXPLANATION);
    }
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('<') {
        String::new()
    } else {
        excerpt(&text, EXPLANATION)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    use super::retry_after;

    fn wait(name: &'static str, value: &'static str, now: SystemTime) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        retry_after(&headers, now)
    }

    #[test]
    fn a_wait_is_read_as_seconds_milliseconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(wait("retry-after", "7", now), Some(Duration::from_secs(7)));
        assert_eq!(
            wait("retry-after-ms", "250", now),
            Some(Duration::from_millis(250))
        );
        let date = wait("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT", now);
        assert_eq!(date, Some(Duration::from_mins(1)));
    }

    #[test]
    fn a_wait_that_makes_no_sense_is_ignored_and_a_past_date_is_no_wait() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(wait("retry-after", "-3", now), None);
        assert_eq!(wait("retry-after", "soon", now), None);
        assert_eq!(
            wait("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT", now),
            Some(Duration::ZERO)
        );
    }
}
