//! Web origins: scheme, host and port (RFC 6454 section 6.2).

use url::Url;

/// An origin as browsers send it.
///
/// # Errors
/// What is wrong with the text, worded to stand behind the setting's name.
pub fn parse(text: &str) -> Result<String, String> {
    if text == "*" {
        return Err("holds `*`, which browsers refuse together with credentials; name each origin".to_owned());
    }
    // What stands before an `@` is a secret to somebody, so it is not shown.
    let shown = text.rsplit('@').next().unwrap_or_default();
    let wrong = || format!("holds `{shown}`, which is not an origin such as https://app.example.org");
    let url = Url::parse(text).map_err(|_| wrong())?;
    let bare =
        url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    match url.scheme() {
        "http" | "https" if bare && url.has_host() => Ok(url.origin().ascii_serialization()),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_brought_to_the_form_browsers_send() {
        assert_eq!(parse("HTTPS://App.Example.org:443/").as_deref(), Ok("https://app.example.org"));
        assert_eq!(parse("http://localhost:3000").as_deref(), Ok("http://localhost:3000"));
    }

    #[test]
    fn what_is_not_an_origin_is_refused() {
        for text in [
            "",
            "*",
            "app.example.org",
            "https://app.example.org/path",
            "https://u@app.example.org",
            "file:///x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
