//! A tower layer around a service of one's own: whoever comes without a good token does not come in.

use std::{
    mem,
    task::{Context, Poll},
};

use futures::future::{BoxFuture, Either, Ready, ready};
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use tally_domain::credential::Plaintext;
use tower::{Layer, Service};

use super::{Unverified, Verifier};
use crate::request::{bearer, strip_identity};

/// Lets only those requests through that carry a good token (`Authorization: Bearer mul_…`), and puts
/// a [`Verified`](super::Verified) into their extensions. Everybody else is answered as the server's guard answers:
/// 401, 403 for a suspended account, 503 when it cannot be known.
///
/// Identity headers that a client sent are removed; what stands in the extensions is the only word on
/// who it is.
#[derive(Clone)]
pub struct VerifierLayer(Verifier);

impl VerifierLayer {
    #[must_use]
    pub const fn new(verifier: Verifier) -> Self {
        Self(verifier)
    }
}

impl<S> Layer<S> for VerifierLayer {
    type Service = VerifierService<S>;

    fn layer(&self, inner: S) -> VerifierService<S> {
        VerifierService { verifier: self.0.clone(), inner }
    }
}

type Answer<Outgoing, Error> = Result<Response<Outgoing>, Error>;

/// A service behind a [`VerifierLayer`].
#[derive(Clone)]
pub struct VerifierService<S> {
    verifier: Verifier,
    inner: S,
}

impl<S, Incoming, Outgoing> Service<Request<Incoming>> for VerifierService<S>
where
    S: Service<Request<Incoming>, Response = Response<Outgoing>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    Incoming: Send + 'static,
    Outgoing: From<&'static str> + Send,
{
    type Response = Response<Outgoing>;
    type Error = S::Error;
    // From memory it is the service's own future, and a refusal by form alone is no future at all.
    type Future = Either<
        S::Future,
        Either<Ready<Answer<Outgoing, S::Error>>, BoxFuture<'static, Answer<Outgoing, S::Error>>>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        strip_identity(request.headers_mut());
        let refused = |refusal: Refusal| Either::Right(Either::Left(ready(Ok(refusal.response()))));
        let token = match bearer(request.headers()) {
            Ok(Some(token)) => token,
            Ok(None) => return refused(Refusal::Missing),
            Err(_) => return refused(Refusal::Unverified(Unverified::Invalid)),
        };
        if let Some(verified) = self.verifier.remembered(token) {
            request.extensions_mut().insert(verified);
            return Either::Left(self.inner.call(request));
        }
        // The one that said it was ready is the one that is called.
        let next = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, next);
        let (verifier, token) = (self.verifier.clone(), Plaintext::new(token));
        Either::Right(Either::Right(Box::pin(async move {
            match verifier.verify(token.expose()).await {
                Ok(verified) => {
                    request.extensions_mut().insert(verified);
                    inner.call(request).await
                }
                Err(error) => Ok(Refusal::Unverified(error).response()),
            }
        })))
    }
}

/// Why a request does not come in.
#[derive(Clone, Copy)]
enum Refusal {
    /// It carries nothing.
    Missing,
    Unverified(Unverified),
}

impl Refusal {
    /// In the words of the server's guard.
    fn response<B: From<&'static str>>(self) -> Response<B> {
        const INVALID: &str = "Bearer realm=\"tallystick\", error=\"invalid_token\"";
        let (status, body, header) = match self {
            // RFC 6750 section 3: a request without credentials gets no error code.
            Self::Missing => (
                StatusCode::UNAUTHORIZED,
                r#"{"error":"missing authorization"}"#,
                Some((WWW_AUTHENTICATE, "Bearer realm=\"tallystick\"")),
            ),
            Self::Unverified(Unverified::Invalid) => {
                (StatusCode::UNAUTHORIZED, r#"{"error":"invalid token"}"#, Some((WWW_AUTHENTICATE, INVALID)))
            }
            Self::Unverified(Unverified::Session) => (
                StatusCode::UNAUTHORIZED,
                r#"{"error":"invalid token: a session is not accepted here, a personal access token is"}"#,
                Some((WWW_AUTHENTICATE, INVALID)),
            ),
            Self::Unverified(Unverified::Suspended) => {
                (StatusCode::FORBIDDEN, r#"{"error":"account disabled"}"#, None)
            }
            Self::Unverified(Unverified::Unavailable) => (
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"error":"the service cannot answer right now"}"#,
                Some((RETRY_AFTER, "1")),
            ),
        };
        let mut response = Response::new(B::from(body));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
