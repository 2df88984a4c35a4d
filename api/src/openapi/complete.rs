//! Completes what annotations say of a route by what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use utoipa::openapi::{
    Components, OpenApi, PathItem, RefOr, Response, Schema, SecurityRequirement,
    path::{HttpMethod, Operation, ParameterIn},
    schema::{AdditionalProperties, ArrayItems, SchemaType, Type},
};

use super::components::{self, ACKNOWLEDGED, BEARER, CONSOLE_COOKIE, COOKIE, CSRF, REQUEST_ID, REVOCATION};
use crate::error::Family;

/// What a request without a body, a parameter or a credential can be answered too.
const ALWAYS: [StatusCode; 2] = [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE];
const WITH_BODY: [StatusCode; 4] = [
    StatusCode::BAD_REQUEST,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
];
const WITH_KEY: [StatusCode; 3] =
    [StatusCode::BAD_REQUEST, StatusCode::CONFLICT, StatusCode::UNPROCESSABLE_ENTITY];

type Schemas = BTreeMap<String, RefOr<Schema>>;

pub fn complete(document: &mut OpenApi) {
    let OpenApi { paths, components: Some(shared), .. } = document else { return };
    let mut asked = BTreeSet::new();
    for (path, item) in &mut paths.paths {
        for (method, operation) in operations(item) {
            operation.tags = Some(vec![tag(path).to_owned()]);
            guard(&method, operation);
            refuse(path, &method, operation);
            share(shared, operation);
            collect_asked(operation, &mut shared.schemas, &mut asked);
        }
    }
    // A field of an answer that may be null is there: one that is left out is never null. In a
    // request null and absent mean the same.
    for (_, schema) in shared.schemas.iter_mut().filter(|(name, _)| !asked.contains(*name)) {
        require_nullable(schema);
    }
}

pub fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let all = [
        (HttpMethod::Get, &mut item.get),
        (HttpMethod::Post, &mut item.post),
        (HttpMethod::Put, &mut item.put),
        (HttpMethod::Patch, &mut item.patch),
        (HttpMethod::Delete, &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Routes stand together by the thing they are about: the first word of the path behind its family.
fn tag(path: &str) -> &str {
    let mut words = path.split('/').skip(1);
    match (words.next(), words.next()) {
        (Some(family @ ("auth" | "oauth")), _) => family,
        (Some("api" | "v1"), Some(thing)) => thing,
        _ => "operations",
    }
}

/// A route that does not say otherwise is guarded, and cookies are good for it.
fn guard(method: &HttpMethod, operation: &mut Operation) {
    operation.security.get_or_insert_with(|| {
        let none: [&str; 0] = [];
        let by_cookie = |name| {
            let cookie = SecurityRequirement::new(name, none);
            if is_read(method) { cookie } else { cookie.add(CSRF, none) }
        };
        vec![SecurityRequirement::new(BEARER, none), by_cookie(COOKIE), by_cookie(CONSOLE_COOKIE)]
    });
}

fn is_read(method: &HttpMethod) -> bool {
    *method == HttpMethod::Get
}

/// Adds the refusals that follow from what the route takes, and the family's body to all of them.
fn refuse(path: &str, method: &HttpMethod, operation: &mut Operation) {
    let family = Family::of(path);
    let guarded =
        operation.security.iter().flatten().all(|requirement| *requirement != SecurityRequirement::default());
    let names: Vec<&str> = operation.parameters.iter().flatten().filter_map(name).collect();
    let mut statuses = ALWAYS.to_vec();
    statuses.extend(guarded.then_some(StatusCode::UNAUTHORIZED));
    // Whoever changes something says from where, if a browser does.
    statuses.extend((guarded || !is_read(method)).then_some(StatusCode::FORBIDDEN));
    statuses.extend((!names.is_empty()).then_some(StatusCode::BAD_REQUEST));
    statuses.extend(operation.request_body.iter().flat_map(|_| WITH_BODY));
    statuses.extend(names.iter().filter(|name| **name == "Idempotency-Key").flat_map(|_| WITH_KEY));

    let responses = &mut operation.responses.responses;
    for (status, response) in responses.iter_mut() {
        let Ok(status) = status.parse::<StatusCode>() else { continue };
        let RefOr::T(own) = response else { continue };
        if !status.is_client_error() && !status.is_server_error() {
            continue;
        }
        if own.description.is_empty() && own.content.is_empty() {
            *response = RefOr::Ref(family.response(status));
        } else {
            family.fill(status, own);
        }
    }
    for status in statuses {
        responses.entry(status.as_str().to_owned()).or_insert_with(|| RefOr::Ref(family.response(status)));
    }
}

/// Puts what is said once for all routes in the place of what an annotation only names.
fn share(shared: &Components, operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(own) = parameter
            && own.parameter_in == ParameterIn::Header
            && shared.parameters.contains_key(&own.name)
        {
            *parameter = components::parameter_ref(&own.name);
        }
    }
    operation.parameters.get_or_insert_default().push(components::parameter_ref(REQUEST_ID));
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(Response { headers, .. }) = response else { continue };
        headers.insert(REQUEST_ID.to_owned(), components::header_ref(REQUEST_ID));
        if headers.contains_key(REVOCATION) {
            headers.insert(ACKNOWLEDGED.to_owned(), components::header_ref(ACKNOWLEDGED));
        }
        for (name, header) in headers.iter_mut().filter(|(name, _)| shared.headers.contains_key(*name)) {
            *header = components::header_ref(name);
        }
    }
}

fn name(parameter: &RefOr<utoipa::openapi::path::Parameter>) -> Option<&str> {
    match parameter {
        RefOr::T(parameter) => Some(&parameter.name),
        RefOr::Ref(_) => None,
    }
}

/// Collects the names of the schemas that a request's body is made of.
fn collect_asked(operation: &mut Operation, schemas: &mut Schemas, asked: &mut BTreeSet<String>) {
    let Some(RefOr::T(body)) = &mut operation.request_body else { return };
    let contents = body.content.values_mut().filter_map(|content| match content {
        RefOr::T(content) => content.schema.as_mut(),
        RefOr::Ref(_) => None,
    });
    let mut found = Vec::new();
    contents.for_each(|schema| names_in(schema, &mut found));
    while let Some(name) = found.pop() {
        if let Some(schema) = schemas.get_mut(&name)
            && asked.insert(name)
        {
            names_in(schema, &mut found);
        }
    }
}

fn names_in(schema: &mut RefOr<Schema>, found: &mut Vec<String>) {
    match schema {
        RefOr::Ref(reference) => {
            found.extend(reference.ref_location.strip_prefix("#/components/schemas/").map(str::to_owned));
        }
        RefOr::T(schema) => parts(schema).into_iter().for_each(|part| names_in(part, found)),
    }
}

fn require_nullable(schema: &mut RefOr<Schema>) {
    let RefOr::T(schema) = schema else { return };
    if let Schema::Object(object) = schema {
        let nullable = object.properties.iter().filter(|(_, property)| is_nullable(property));
        let missing: Vec<String> =
            nullable.map(|(name, _)| name).filter(|name| !object.required.contains(name)).cloned().collect();
        object.required.extend(missing);
        object.required.sort_unstable();
    }
    parts(schema).into_iter().for_each(require_nullable);
}

fn is_nullable(schema: &RefOr<Schema>) -> bool {
    let is_null = |schema_type: &SchemaType| match schema_type {
        SchemaType::Type(one) => *one == Type::Null,
        SchemaType::Array(several) => several.contains(&Type::Null),
        SchemaType::AnyValue => false,
    };
    match schema {
        RefOr::T(Schema::Object(object)) => is_null(&object.schema_type),
        RefOr::T(Schema::Array(array)) => is_null(&array.schema_type),
        RefOr::T(Schema::OneOf(one_of)) => one_of.items.iter().any(is_nullable),
        RefOr::T(Schema::AnyOf(any_of)) => any_of.items.iter().any(is_nullable),
        RefOr::T(_) | RefOr::Ref(_) => false,
    }
}

/// The schemas that a schema is made of.
fn parts(schema: &mut Schema) -> Vec<&mut RefOr<Schema>> {
    match schema {
        Schema::Object(object) => {
            let rest = object.additional_properties.iter_mut().filter_map(|rest| match rest.as_mut() {
                AdditionalProperties::RefOr(schema) => Some(schema),
                AdditionalProperties::FreeForm(_) => None,
            });
            object.properties.values_mut().chain(rest).collect()
        }
        Schema::Array(array) => match &mut array.items {
            ArrayItems::RefOrSchema(items) => vec![items],
            ArrayItems::False => Vec::new(),
        },
        Schema::OneOf(one_of) => one_of.items.iter_mut().collect(),
        Schema::AnyOf(any_of) => any_of.items.iter_mut().collect(),
        Schema::AllOf(all_of) => all_of.items.iter_mut().collect(),
        _ => Vec::new(),
    }
}
