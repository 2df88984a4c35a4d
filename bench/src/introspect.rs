//! Introspection over HTTP, as a service in another language asks: one credential in a form, and a
//! hundred in an array.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    Result,
    bare::{Before, Process},
    bench::Bench,
    http::Connection,
    over_http::{CONNECTIONS, OverHttp, Script},
    report::{Figure, Row},
    seed::Seed,
    verify::{WARM_TOKENS, touch},
};

const PATH: &str = "/oauth/introspect";
const SECRET: &str = "a-secret-of-the-bench-and-of-nothing-else";
/// Credentials in an array.
const ARRAY: usize = 100;

/// A random token of a file for each request.
const ONE: &str = r#"
local texts = {}
function init(arguments)
  math.randomseed(os.time() + tonumber(tostring({}):match("0x(%x+)"), 16) % 65536)
  local headers = { ["Authorization"] = "AUTHORIZATION", ["Content-Type"] = "application/x-www-form-urlencoded" }
  for token in io.lines(arguments[1]) do
    texts[#texts + 1] = wrk.format("POST", nil, headers, "token=" .. token)
  end
end
function request() return texts[math.random(#texts)] end
"#;

/// A hundred of them, in one of five hundred bodies that are made before it begins.
const ARRAY_OF: &str = r#"
local texts = {}
function init(arguments)
  math.randomseed(os.time() + tonumber(tostring({}):match("0x(%x+)"), 16) % 65536)
  local headers = { ["Authorization"] = "AUTHORIZATION", ["Content-Type"] = "application/json" }
  local tokens = {}
  for token in io.lines(arguments[1]) do tokens[#tokens + 1] = token end
  for _ = 1, 500 do
    local some = {}
    for place = 1, 100 do some[place] = '"' .. tokens[math.random(#tokens)] .. '"' end
    texts[#texts + 1] = wrk.format("POST", nil, headers, "[" .. table.concat(some, ",") .. "]")
  end
end
function request() return texts[math.random(#texts)] end
"#;

/// Measures the figure.
pub async fn measure(bench: &Bench, seed: &Seed) -> Result<Figure> {
    let mut rows = one(bench, seed).await?;
    rows.extend(array(bench, seed).await?);
    Ok(Figure {
        name: "introspect".to_owned(),
        title: format!("Introspection over HTTP, {} live credentials", seed.tokens.len()),
        command: bench.options.command("introspect"),
        machine: String::new(),
        notes: vec![
            format!("A request is `POST {PATH}` by a client (HTTP Basic) about tokens that were asked about before, any of {}; {CONNECTIONS} connections, wrk, the same script for each side.", WARM_TOKENS.min(seed.tokens.len())),
            "bare handler: as for verification, it answers the same status, headers and body, and does not look at what it was sent.".to_owned(),
            format!("an array: {ARRAY} tokens in one request; the rate is of verdicts, the latency of requests."),
            "Checked: every answer is a success, and the first of each kind says that the credential is active.".to_owned(),
        ],
        rows,
    })
}

async fn one(bench: &Bench, seed: &Seed) -> Result<Vec<Row>> {
    let body = format!("token={}", seed.tokens[0].secret.expose());
    sides(bench, seed, "one credential", ONE, 1, ("application/x-www-form-urlencoded", &body)).await
}

async fn array(bench: &Bench, seed: &Seed) -> Result<Vec<Row>> {
    let tokens: Vec<&str> = seed.tokens.iter().take(ARRAY).map(|token| token.secret.expose()).collect();
    let body = serde_json::to_string(&tokens)?;
    sides(bench, seed, "an array", ARRAY_OF, u64::try_from(tokens.len())?, ("application/json", &body)).await
}

async fn sides(
    bench: &Bench,
    seed: &Seed,
    case: &str,
    script: &str,
    verdicts: u64,
    (content_type, body): (&str, &str),
) -> Result<Vec<Row>> {
    let tokens = &seed.tokens[..WARM_TOKENS.min(seed.tokens.len())];
    let file = seed.write_tokens("introspect", tokens)?;
    let authorization = format!("Basic {}", STANDARD.encode(format!("bench:{SECRET}")));
    let clients = format!("bench:{SECRET}");
    let server = bench.serve_with(&seed.database, &[("TALLY_OAUTH_CLIENTS", clients.as_str())]).await?;
    touch(server.url(), tokens).await?;
    let mut connection = Connection::open(server.url()).await?;
    let like = connection.post_as(&authorization, PATH, content_type, body).await?.expect(200)?;
    if like.body.matches("\"active\":true").count() as u64 != verdicts {
        return Err(format!("a credential is not active: {}", like.body).into());
    }
    let bare = Process::start(&like, Before::Nothing, None)?;
    let script = Script { path: PATH, text: script.replace("AUTHORIZATION", &authorization), verdicts };
    let product = OverHttp::product(server, seed, &script, file.clone());
    let handler = OverHttp::bare("bare handler", bare, seed, &script, file);
    bench.take_turns(case, vec![Box::new(product), Box::new(handler)]).await
}
