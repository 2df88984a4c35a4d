//! Bodies: of the wrong size, the wrong type, or with a trick inside.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tally_tests::{Client, Login, client::answer};

use super::{assert_calm, assert_error, raw, somebody};
use crate::support::address;

const MEBIBYTE: usize = 1024 * 1024;
const INVALID: &str = "invalid request body";

/// A route that takes a body, with the fields it reads and the types they have.
struct Route {
    method: Method,
    path: &'static str,
    fields: &'static [(&'static str, Kind)],
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
}

fn routes() -> [Route; 4] {
    [
        Route { method: Method::POST, path: "/auth/send-code", fields: &[("email", Kind::Text)] },
        Route {
            method: Method::POST,
            path: "/auth/verify-code",
            fields: &[("email", Kind::Text), ("code", Kind::Text)],
        },
        Route {
            method: Method::PATCH,
            path: "/api/me",
            fields: &[
                ("name", Kind::Text),
                ("avatar_url", Kind::Text),
                ("language", Kind::Text),
                ("timezone", Kind::Text),
                ("profile_description", Kind::Text),
            ],
        },
        Route {
            method: Method::POST,
            path: "/api/tokens",
            fields: &[("name", Kind::Text), ("expires_in_days", Kind::Number)],
        },
    ]
}

impl Route {
    fn request(&self, client: &Client, login: &Login) -> RequestBuilder {
        client.request(self.method.clone(), self.path).bearer_auth(&login.token)
    }

    /// A body that is not refused for what it is.
    fn good(&self) -> Value {
        match self.path {
            "/auth/send-code" => json!({ "email": address("body") }),
            "/auth/verify-code" => json!({ "email": address("body"), "code": "000000" }),
            _ => json!({ "name": "body" }),
        }
    }

    fn good_status(&self) -> u16 {
        match self.path {
            "/auth/verify-code" => 400,
            "/api/tokens" => 201,
            _ => 200,
        }
    }
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_refused() {
    let (client, login) = somebody().await;
    let deep = |open: &str, close: &str| format!("{{\"else\":{}1{}}}", open.repeat(1000), close.repeat(1000));
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", b"".to_vec()),
        ("blanks", b" \r\n\t".to_vec()),
        ("half an object", b"{\"name\":".to_vec()),
        ("not UTF-8", b"{\"name\":\"\xff\xfe\",\"email\":\"\xc3\x28\"}".to_vec()),
        ("a raw NUL", b"{\"name\":\"a\0b\"}".to_vec()),
        ("half a surrogate pair", br#"{"name":"\ud800"}"#.to_vec()),
        ("UTF-16", "{\"name\":\"a\"}".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("a byte order mark", b"\xef\xbb\xbf{\"name\":\"a\"}".to_vec()),
        ("two documents", br#"{"name":"a"} {"name":"b"}"#.to_vec()),
        ("a comment", br#"{"name":"a"/**/}"#.to_vec()),
        ("a form", b"name=a&email=a%40example.org".to_vec()),
        ("arrays 1,000 deep", deep("[", "]").into_bytes()),
        ("objects 1,000 deep", deep("{\"a\":", "}").into_bytes()),
        ("an empty array", b"[]".to_vec()),
        ("an array in the order of the fields", br#"["ada@example.org","000000"]"#.to_vec()),
        ("an array of one", br#"["ada@example.org"]"#.to_vec()),
        ("an array of null", b"[null,null,null,null,null]".to_vec()),
        ("null", b"null".to_vec()),
        ("true", b"true".to_vec()),
        ("a number", b"1e999".to_vec()),
        ("a text", br#""name""#.to_vec()),
    ];
    for route in routes() {
        for (about, body) in &bodies {
            let request = route.request(&client, &login).header("content-type", "application/json");
            let answer = answer(request.body(body.clone())).await;
            assert_error(&answer, 400, INVALID, &format!("{} with {about}", route.path));
        }
    }
    assert_calm().await;
}

#[tokio::test]
async fn a_body_that_two_readers_would_read_differently_is_refused() {
    let (client, login) = somebody().await;
    let nul = "invalid request body: a text contains a NUL character";
    let twice = "invalid request body: a key stands twice in one object";
    for route in routes() {
        let (field, _) = route.fields[0];
        let cases = [
            (format!(r#"{{"{field}":"a\u0000b"}}"#), nul),
            (format!(r#"{{"{field}":"a","else":["\u0000"]}}"#), nul),
            (r#"{"\u0000":1}"#.to_owned(), nul),
            (format!(r#"{{"{field}":"a","{field}":"b"}}"#), twice),
            (format!(r#"{{"{field}":"a","\u{:04x}{}":"b"}}"#, field.as_bytes()[0], &field[1..]), twice),
            (r#"{"else":{"x":1,"x":1}}"#.to_owned(), twice),
        ];
        for (body, sentence) in cases {
            let request = route.request(&client, &login).header("content-type", "application/json");
            let answer = answer(request.body(body.clone())).await;
            assert_error(&answer, 400, sentence, &format!("{} with {body}", route.path));
        }
    }
    assert_calm().await;
}

#[tokio::test]
async fn a_field_of_another_type_is_refused() {
    let (client, login) = somebody().await;
    for route in routes() {
        for (field, kind) in route.fields {
            let wrong = match kind {
                Kind::Text => vec![json!(1), json!(true), json!([]), json!(["a"]), json!({}), json!(1.5)],
                Kind::Number => {
                    vec![
                        json!("30"),
                        json!(true),
                        json!([]),
                        json!({}),
                        json!(1.5),
                        json!(i128::MAX as f64),
                        json!(u64::MAX),
                    ]
                }
            };
            for value in wrong {
                let mut body = route.good();
                body[*field] = value;
                let answer = answer(route.request(&client, &login).json(&body)).await;
                assert_error(&answer, 400, INVALID, &format!("{} with {body}", route.path));
            }
        }
    }
    assert_calm().await;
}

#[tokio::test]
async fn only_json_by_content_type_is_read() {
    let (client, login) = somebody().await;
    let refused = [
        // What a page on another site can make a browser send without asking first.
        "text/plain",
        "text/plain; application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
        "application/jsonp",
        "application/json-seq",
        "application",
        "*/*",
        "",
    ];
    for route in routes() {
        let body = route.good().to_string();
        for content_type in refused {
            let request =
                route.request(&client, &login).header("content-type", content_type).body(body.clone());
            let about = format!("{} as `{content_type}`", route.path);
            assert_error(&answer(request).await, 415, "content type must be application/json", &about);
        }
        let untyped = answer(route.request(&client, &login).body(body.clone())).await;
        assert_error(&untyped, 415, "content type must be application/json", route.path);
        for content_type in
            ["application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"]
        {
            let body = route.good().to_string();
            let request = route.request(&client, &login).header("content-type", content_type).body(body);
            assert_eq!(answer(request).await.status, route.good_status(), "{} as {content_type}", route.path);
        }
    }
    assert_calm().await;
}

/// A JSON object of exactly so many bytes.
fn padded(route: &Route, bytes: usize) -> String {
    let mut body = route.good();
    body["pad"] = json!("");
    let rest = bytes - body.to_string().len();
    body["pad"] = json!("x".repeat(rest));
    body.to_string()
}

#[tokio::test]
async fn a_body_of_one_mebibyte_is_read_and_one_byte_more_is_not() {
    let (client, login) = somebody().await;
    for route in routes() {
        let send = async |bytes: usize| {
            let request = route.request(&client, &login).header("content-type", "application/json");
            answer(request.body(padded(&route, bytes))).await
        };
        assert_eq!(send(MEBIBYTE).await.status, route.good_status(), "{}", route.path);
        assert_error(&send(MEBIBYTE + 1).await, 413, "request body is larger than 1 MiB", route.path);
    }
    assert_calm().await;
}

#[tokio::test]
async fn a_body_without_a_length_is_counted_as_it_comes() {
    let (_, login) = somebody().await;
    for route in routes() {
        let head = format!(
            "{} {} HTTP/1.1\r\nHost: tally\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
            route.method, route.path, login.token
        );
        let chunked = |body: &str| {
            let mut bytes = head.clone().into_bytes();
            for chunk in body.as_bytes().chunks(60_000) {
                bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
            bytes
        };
        let read = raw(&chunked(&padded(&route, MEBIBYTE))).await;
        assert_eq!(read.status, Some(route.good_status()), "{}: {}", route.path, read.text);
        for bytes in [MEBIBYTE + 1, 3 * MEBIBYTE] {
            let refused = raw(&chunked(&padded(&route, bytes))).await;
            assert_eq!(refused.status, Some(413), "{} with {bytes} bytes: {}", route.path, refused.text);
            assert!(
                refused.text.ends_with(r#"{"error":"request body is larger than 1 MiB"}"#),
                "{}",
                refused.text
            );
        }
        // A length that was never sent is not waited for with the memory it names.
        let lying = head.replace("Transfer-Encoding: chunked", "Content-Length: 99999999999999999999");
        assert_eq!(raw(lying.as_bytes()).await.status, Some(400), "{}", route.path);
    }
    assert_calm().await;
}

#[tokio::test]
async fn routes_without_a_body_do_not_mind_one() {
    let (client, login) = somebody().await;
    let (_, token) = client.mint(&login.token, "renews itself").await;
    let huge = "x".repeat(64 * 1024);
    for (path, credential, status) in [
        ("/api/tokens/current/renew", &token, 200),
        ("/api/cli-token", &login.token, 200),
        ("/auth/logout", &login.token, 200),
    ] {
        let request = client.request(Method::POST, path).bearer_auth(credential);
        assert_eq!(answer(request.body(huge.clone())).await.status, status, "{path}");
    }
    assert_calm().await;
}
