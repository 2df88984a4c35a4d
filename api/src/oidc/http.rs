//! Requests to issuers: no redirects, and bounded in time and size.

use std::{pin::Pin, time::Duration};

use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use reqwest::redirect::Policy;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(6);
/// The longest answers are key sets: a few KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// A client for one issuer.
pub struct HttpClient(reqwest::Client);

/// Why there was no answer. No URL is shown: it may be the door to somebody's data.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("the request was not answered")]
    Unanswered(#[source] reqwest::Error),
    #[error("the answer is larger than {} KiB", ANSWER_BYTES_MAX / 1024)]
    TooLarge,
}

impl HttpClient {
    /// `https_only`: what an issuer with a certificate names is asked with one too.
    ///
    /// # Errors
    /// When the machine has no certificates to trust.
    pub fn new(https_only: bool) -> Result<Self, reqwest::Error> {
        reqwest::Client::builder()
            // An endpoint that sends elsewhere would send the client's secret there.
            .redirect(Policy::none())
            .no_proxy()
            .https_only(https_only)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .build()
            .map(Self)
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let unanswered = |error: reqwest::Error| HttpError::Unanswered(error.without_url());
        let request = request.try_into().map_err(unanswered)?;
        let mut answer = self.0.execute(request).await.map_err(unanswered)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unanswered)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(HttpError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = HttpResponse::new(body);
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

impl<'c> AsyncHttpClient<'c> for HttpClient {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}
